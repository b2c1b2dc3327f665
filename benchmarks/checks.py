"""No contender is timed before its gradients are the reference's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from case import Tree, load_tree
from contenders import ContenderError, Process, Task

from cnnjax.laws.comparison import TOLERANCES, largest_error


def checked(
    process: Process, expected: dict[Task, Tree], *, folder: Path
) -> dict[str, Any]:
    """Hold a contender's result against the reference; return what it says of itself.

    Raises:
        ContenderError: it fails, or its gradients are not the reference's.
    """
    told = process.answer()
    if process.entry.task == "peak":
        return {**told, "gradient_error": None}
    to = folder / "result.npz"
    process.ask(do="result", to=str(to))
    try:
        error = largest_error(load_tree(to), expected[process.entry.task])
    except ValueError as mismatch:
        raise ContenderError(f"not the reference's: {mismatch}") from mismatch
    if not error <= TOLERANCES["float32"]:
        raise ContenderError(f"gradients off by {error:.1e}: not timed")
    return {**told, "gradient_error": error}
