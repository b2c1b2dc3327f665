"""Measure how busy the machine is with other programs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import psutil

BUSY = 0.10  # fraction of all cores; more distorts the measurements


def busy_fraction(seconds: float = 1.0) -> float:
    """Return the used fraction of all cores; call it while nothing of ours runs."""
    return psutil.cpu_percent(interval=seconds) / 100


def busy_note(rows: Iterable[Mapping[str, Any]]) -> str:
    """Say by how much the machine was busy while rows were measured; "": it was not."""
    most = max((value for row in rows for value in row.get("busy", [])), default=0.0)
    return f"the machine was busy with other work: up to {most:.0%}" * (most > BUSY)


def warning(before: float, after: float) -> str | None:
    """Return a warning if the machine was busy with other programs, else None."""
    if max(before, after) <= BUSY:
        return None
    return (
        f"WARNING: other programs used {before:.0%} of the cores before and "
        f"{after:.0%} after this run: its figures were taken on a busy machine"
    )
