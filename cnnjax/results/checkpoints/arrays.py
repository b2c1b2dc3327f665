"""Named arrays in a folder, by Orbax, which is imported only when it is used."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from cnnjax.results.checkpoints.snapshot import named, nested
from cnnjax.results.folders import named_in_utf8


def write(folder: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write arrays into a new folder. Process 0 does it alone.

    Raises:
        OSError, ValueError: it cannot be written; something partial may be left.
    """
    import orbax.checkpoint as ocp

    with _checkpointer() as checkpointer, named_in_utf8(folder) as path:
        checkpointer.save(path, args=ocp.args.PyTreeSave(nested(arrays)))
    # It says where, with the path of somebody's home; nothing reads it.
    (folder / "commit_success.txt").unlink(missing_ok=True)


def read(folder: Path) -> dict[str, np.ndarray]:
    """Read the arrays of a folder; they are new, and read-only.

    Raises:
        Exception: the folder is damaged: whatever Orbax raises then.
    """
    with _checkpointer() as checkpointer, named_in_utf8(folder) as path:
        tree = checkpointer.restore(path)
    arrays = {name: np.array(leaf, copy=True) for name, leaf in named(tree).items()}
    for array in arrays.values():
        array.flags.writeable = False
    return arrays


@contextlib.contextmanager
def _checkpointer() -> Iterator[Any]:
    """Open Orbax's checkpointer, quiet, and for this process alone."""
    import orbax.checkpoint as ocp

    logging.getLogger("absl").addFilter(_is_not_orbax)  # one that is there counts once
    alone: dict[str, Any] = {}
    if jax.process_count() > 1:
        alone["multiprocessing_options"] = ocp.options.MultiprocessingOptions(
            primary_host=jax.process_index(),
            active_processes={jax.process_index()},
            barrier_sync_key_prefix="cnnjax_checkpoint",
        )
    handler = ocp.PyTreeCheckpointHandler(**alone)
    with ocp.Checkpointer(handler, **alone) as checkpointer:
        yield checkpointer


def _is_not_orbax(record: logging.LogRecord) -> bool:
    return "orbax" not in record.pathname
