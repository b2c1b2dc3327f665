"""Flags of what is timed: which data it reads, and where its rows go."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import _paths  # noqa: F401
import reference
from absl import flags
from results import Results

from cnnjax.experiments.experiment import Experiment

FLAGS = flags.FLAGS
flags.DEFINE_string("dataset", None, "Data set. Default: the recipe's; else digits.")
flags.DEFINE_string("data_dir", None, "Folder that holds the data set's files.")
flags.DEFINE_string("out", None, "File of JSON lines that the rows are appended to.")


def results() -> Results:
    """Return the file of --out, or what keeps nothing.

    Raises:
        InputError: the file cannot be written.
    """
    return Results(FLAGS.out)


def prepare(recipe: str, *, batch_size: int | None, **changes: Any) -> Experiment:
    """Prepare a recipe on the data of the flags: see `reference.prepare`."""
    return reference.prepare(
        recipe,
        batch_size=batch_size,
        dataset=FLAGS.dataset,
        data_dir=FLAGS.data_dir,
        **changes,
    )


def write(experiment: Experiment, folder: Path) -> None:
    """Write the case of an experiment: see `reference.write`."""
    reference.write(experiment, folder, data_dir=FLAGS.data_dir)
