"""Flags that the benchmarks share: the data to read, and where the rows go."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import _paths  # noqa: F401
import reference
from absl import flags
from results import Results

from cnnjax.experiments.experiment import Experiment

FLAGS = flags.FLAGS
flags.DEFINE_string(
    "dataset",
    None,
    "Dataset. Default: with --data_dir the recipe's, else one that needs no files.",
)
flags.DEFINE_string("data_dir", None, "Folder that holds the dataset's files.")
flags.DEFINE_string("out", None, "JSON lines file to append the rows to.")


def results() -> Results:
    """Return the file of --out; without --out, nothing is kept.

    Raises:
        InputError: the file cannot be written.
    """
    return Results(FLAGS.out)


def prepare(recipe: str, *, batch_size: int | None, **changes: Any) -> Experiment:
    """Prepare a recipe on the data that the flags name: see `reference.prepare`."""
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
