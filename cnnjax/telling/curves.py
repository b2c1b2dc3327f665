"""The curves of a run; Matplotlib, which is slow to import, comes with the first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def draw_run(lines: Sequence[Mapping[str, Any]], *, title: str) -> bytes:
    """Draw the curves of one seed or several as a PNG, from metrics.jsonl."""
    from cnnjax.telling.plots import draw_curves, draw_seeds

    draw = draw_seeds if "seed" in lines[-1] else draw_curves
    return draw(lines, title=title)
