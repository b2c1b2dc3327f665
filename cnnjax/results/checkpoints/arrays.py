"""Named arrays in a folder, by Orbax, which is imported only when it is used."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from cnnjax.results.checkpoints.snapshot import named, nested
from cnnjax.results.folders import named_in_utf8

OS_ERROR = re.compile(r"os_error_code='(\d+)'")  # TensorStore's text of a refusal


def write(folder: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write arrays into a new folder. Process 0 does it alone.

    Raises:
        OSError, ValueError: it cannot be written; something partial may be left.
    """
    import orbax.checkpoint as ocp

    with _checkpointer() as checkpointer, named_in_utf8(folder) as path:
        try:
            checkpointer.save(path, args=ocp.args.PyTreeSave(nested(arrays)))
        except ValueError as error:
            if (code := OS_ERROR.search(str(error))) is None:
                raise
            number = int(code[1])
            raise OSError(number, os.strerror(number), str(folder)) from error
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

    _quiet()
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


def _quiet() -> None:
    """Let what fails be said once, by the exception.

    Orbax leaves its event loop while other arrays are still being written. Each of them
    that fails then says so on stderr, from a thread of C++ or when it is collected.
    """
    for name, wanted in (("absl", _is_not_orbax), ("asyncio", _is_no_task_of_orbax)):
        logging.getLogger(name).addFilter(wanted)  # one that is there counts once
    if sys.unraisablehook is not _unraisable:
        _others.append(sys.unraisablehook)
        sys.unraisablehook = _unraisable


_others: list[Callable[[Any], Any]] = []  # the hook before ours, last
_asked = threading.local()


def _unraisable(told: Any) -> None:
    late = isinstance(told.exc_value, RuntimeError) and told.object is None
    if late and str(told.exc_value) == "Event loop is closed":
        return
    if getattr(_asked, "now", False):  # a hook that was put over ours calls ours
        sys.__unraisablehook__(told)
        return
    _asked.now = True
    try:
        _others[-1](told)
    finally:
        _asked.now = False


def _is_not_orbax(record: logging.LogRecord) -> bool:
    return "orbax" not in record.pathname


def _is_no_task_of_orbax(record: logging.LogRecord) -> bool:
    return "orbax" not in record.getMessage()
