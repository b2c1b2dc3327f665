"""Check that a contender's gradients equal the reference's before it is timed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from case import Tree, load_tree
from contenders import ContenderError, Process, Task

from cnnjax.laws.comparison import TOLERANCES, largest_error


def checked(
    process: Process, expected: dict[Task, Tree], *, folder: Path
) -> dict[str, Any]:
    """Compare a contender's result with the reference; return the contender's facts.

    Raises:
        ContenderError: it fails, or its gradients differ from the reference's.
    """
    told = process.answer()
    if process.entry.task == "peak":
        return {**told, "gradient_error": None}
    to = folder / "result.npz"
    process.ask(do="result", to=str(to))
    try:
        error = largest_error(load_tree(to), expected[process.entry.task])
    except ValueError as mismatch:
        raise ContenderError(f"not like the reference: {mismatch}") from mismatch
    task = process.entry.task
    if not error <= TOLERANCES["bfloat16" if task == "bfloat16" else "float32"]:
        raise ContenderError(f"gradients off by {error:.1e}: not timed")
    return {**told, "gradient_error": error}
