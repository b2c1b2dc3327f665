"""No contender is timed before its gradients are the reference's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from case import Tree, load_tree
from contenders import ContenderError, Process, Task

from cnnjax.comparison import TOLERANCES, largest_error
from cnnjax.timing import steps_that_fill


def checked(
    process: Process,
    expected: dict[Task, Tree],
    *,
    folder: Path,
    round_seconds: float,
) -> dict[str, Any]:
    """Hold a contender's result against the reference; say how many steps a round has.

    Raises:
        ContenderError: it fails, or its gradients are not the reference's.
    """
    facts = process.answer()
    error = None
    if process.entry.task != "peak":
        to = folder / "result.npz"
        process.ask(do="result", to=str(to))
        try:
            error = largest_error(load_tree(to), expected[process.entry.task])
        except ValueError as mismatch:
            raise ContenderError(f"not the reference's: {mismatch}") from mismatch
        if not error <= TOLERANCES["float32"]:
            raise ContenderError(f"gradients off by {error:.1e}: not timed")
    steps = steps_that_fill(process.run, round_seconds)
    return {**facts, "gradient_error": error, "steps": steps}
