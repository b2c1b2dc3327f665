"""The final metrics of a run as a table: one row per epoch, one column per metric."""

from __future__ import annotations

from collections.abc import Sequence

from cnnjax.studies.reporting.words import (
    NOT_A_NUMBER,
    NOTHING,
    counted,
    range_text,
    table,
    value_text,
)
from cnnjax.studies.reproduction.ends import METRICS, End


def ends_table(ends: Sequence[End]) -> str:
    """Return the table and a line above it as Markdown; "" if there are no values."""
    if not ends:
        return ""
    by_place = {(end.epoch, end.metric): end for end in ends}
    metrics = [name for name in METRICS if name in {end.metric for end in ends}]
    rows = []
    for epoch in dict.fromkeys(end.epoch for end in ends):
        cells = [_cell(by_place.get((epoch, metric))) for metric in metrics]
        n = max(end.num_seeds for end in ends if end.epoch == epoch)
        rows.append([str(epoch), *cells, str(n)])
    head = ("ours, after epoch", *(name.replace("_", " ") for name in metrics), "n")
    several = any(end.num_seeds > 1 for end in ends)
    line = "Of the one seed that is trained:"
    if several:
        line = "Means over n seeds, and from the lowest to the highest:"
    return f"{line}\n\n{table(head, rows)}"


def _cell(end: End | None) -> str:
    if end is None:
        return NOTHING
    lost = end.num_seeds - len(end.numbers)
    told = f"{NOT_A_NUMBER} in {lost} of {counted(end.num_seeds, 'seed')}"
    if end.mean is None:
        return told
    words = value_text(end.metric, end.mean)
    bounds = range_text(end.metric, (min(end.numbers), max(end.numbers)))
    words += f" ({bounds})" if bounds != words else ""
    return f"{words}; {told}" if lost else words
