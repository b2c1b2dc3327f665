"""The table of a run's epochs: one row per epoch, or fewer if many are fast."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from cnnjax.telling.layout import row, wrap
from cnnjax.training.records import EpochRecord

MOST_FAST_ROWS = 40  # per run, for epochs that take less than SLOW_SECONDS
SLOW_SECONDS = 1.0
TIMES = {"seconds": 7, "examples/s": 10, "lr": 8}  # the last columns, and their widths


class Column(NamedTuple):
    """The head of a metric: a title above the names of its columns."""

    title: str
    names: tuple[str, ...] = ("train", "test")
    width: int = 7


NAMES = {"validation": "held"}  # what is short enough for the columns
COLUMNS = {
    "accuracy": Column("accuracy %", width=6),
    "grad_norm": Column("grad", ("norm",)),  # in training only
}


class EpochTable:
    """The table of a run's epochs: a head, then one row per epoch that is shown.

    Shown are the first epoch, the last, the first whose loss is not finite, all that
    take a second or more, and every n-th of the faster ones.
    """

    def __init__(self, epochs: int) -> None:
        """Begin the table of a run with this many epochs."""
        self._epochs, self._stride = epochs, -(-epochs // MOST_FAST_ROWS)
        self._shown, self._earlier, self._diverged = 0, 0, False

    def lines(self, record: EpochRecord) -> list[str]:
        """Return the lines to print for an epoch: often none."""
        news = record.diverged and not self._diverged
        self._diverged |= record.diverged
        ends = record.epoch in (1, self._epochs)
        slow = record.seconds >= SLOW_SECONDS
        if not (ends or news or slow or record.epoch % self._stride == 0):
            return []
        head = [] if self._shown else head_lines(record)
        self._shown += 1
        return [*head, epoch_row(record), *(warning(record) if news else [])]

    def skip(self, records: Sequence[EpochRecord]) -> None:
        """Count the epochs of an earlier start, which has shown them."""
        self._earlier = len(records)
        self._diverged = any(record.diverged for record in records)

    def left_out(self, *, kept: bool, epochs: int | None = None) -> list[str]:
        """Say that some epochs are not shown; `kept`: metrics.jsonl has them all.

        `epochs` are as many as there were; None: all that were planned.

        >>> EpochTable(200).left_out(kept=True)
        ['0 of 200 epochs are shown; metrics.jsonl has them all']
        """
        epochs = (self._epochs if epochs is None else epochs) - self._earlier
        if self._shown == epochs:
            return []
        where = "metrics.jsonl has them all" if kept else "--workdir=DIR keeps them all"
        return [f"{self._shown} of {epochs} epochs are shown; {where}"]


def head_lines(record: EpochRecord) -> list[str]:
    """Return the head of the table: the metrics, then the names of their columns."""
    titles, names = ["     "], ["epoch"]
    for column in map(_column, _metrics(record)):
        width = len(column.names) * (column.width + 2) - 2
        titles.append(f" {column.title} ".center(width, "-"))
        shown = [NAMES.get(record.part, n) if n == "test" else n for n in column.names]
        names += [f"{name:>{column.width}}" for name in shown]
    names += [f"{name:>{width}}" for name, width in TIMES.items()]
    return ["  ".join(titles), "  ".join(names)]


def epoch_row(record: EpochRecord) -> str:
    """Return the row of an epoch: training and test metrics, then times."""
    cells, widths = [f"{record.epoch:>5}"], [5]
    for name in _metrics(record):
        column = _column(name)
        for _, of in zip(column.names, (record.train, record.test or {}), strict=False):
            cells.append(_cell(name, of.get(name)))
            widths.append(column.width)
    cells += [_seconds(record.seconds), f"{record.examples_per_second:,.0f}"]
    cells.append(f"{record.learning_rate:.3g}")
    return row(cells, [*widths, *TIMES.values()])


def warning(record: EpochRecord, *, of: str = "") -> list[str]:
    """Return a warning if a loss of the epoch is not finite, else no lines.

    `of` names the run, if there are several.
    """
    if not record.diverged:
        return []
    name, loss = "loss", record.train["loss"]
    if math.isfinite(loss) and record.test is not None:
        name, loss = f"{record.part} loss", record.test["loss"]
    line = f"{of}warning: the {name} of epoch {record.epoch} is {loss}: the run has "
    return [wrap(f"{line}diverged; a lower learning rate may help")]


def _metrics(record: EpochRecord) -> list[str]:
    return sorted(record.train, key=lambda name: name != "loss")


def _column(name: str) -> Column:
    return COLUMNS.get(name, Column(name))


def _seconds(value: float) -> str:
    """Format seconds with three significant digits, if they fit the column.

    >>> [_seconds(value) for value in (0.0, 0.000123, 0.00123, 0.2442, 8.2, 99.99, 1e3)]
    ['0', '0.00012', '0.00123', '0.244', '8.20', '100', '1,000']
    """
    if value >= 100:
        text = f"{value:,.0f}"
        return text if len(text) <= TIMES["seconds"] else f"{value:.1e}"
    if value < 0.001:
        return f"{value:.5f}" if value else "0"
    return f"{value:#.3g}".rstrip(".")


def _cell(name: str, value: float | None) -> str:
    """Format a metric for its column; None: it was not measured.

    >>> _cell("loss", 1.37722), _cell("loss", 123456.0), _cell("accuracy", 0.98)
    ('1.3772', '1.2e+05', '98.00')
    """
    if value is None:
        return "-"
    text = f"{100 * value:.2f}" if name == "accuracy" else f"{value:.4f}"
    width = _column(name).width
    return text if len(text) <= width else f"{float(text):.{width - 5}g}"
