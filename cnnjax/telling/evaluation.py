"""How good a run is on examples, as text."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cnnjax.base.printable import printable
from cnnjax.loaded.evaluation import Evaluation
from cnnjax.telling.layout import WIDTH, row, wrap
from cnnjax.telling.text import metric_text

HEAD = ("class", "examples", "right", "recall %", "precision %")
MOST_NAME = 14  # characters of a class's name in a table
WIDTHS = (MOST_NAME, 8, 7, 8, 11)
CELL = 5  # columns of one count


def evaluation_lines(found: Evaluation) -> list[str]:
    """Say how good the predictions are: in all, by class, and which are confused."""
    total = len(found.labels)
    if not found.classifies:
        return [f"{total:,} examples", f"loss      {metric_text('loss', found.loss)}"]
    low, high = found.interval
    lines = [
        f"loss      {metric_text('loss', found.loss)}",
        wrap(
            f"accuracy  {metric_text('accuracy', found.accuracy)}: {found.right:,} of "
            f"{total:,} right; 95 % interval {100 * low:.2f} to {100 * high:.2f} % "
            "(Wilson)",
            indent=" " * 10,
        ),
        wrap(
            "calibration error "
            f"{metric_text('accuracy', found.calibration.error)}: how far the "
            "predicted probabilities are from how often they are right, on average",
            indent=" " * 10,
        ),
    ]
    return [*lines, "", *_per_class(found), "", *_confusion(found)]


def _per_class(found: Evaluation) -> list[str]:
    of, table = found.per_class, found.confusion
    lines = [f"{row(HEAD, WIDTHS)}  most often taken for"]
    for index, name in enumerate(found.class_names):
        others = np.array(table[index])
        others[index] = 0
        worst = int(others.argmax())
        taken = f"{_column(found, worst)} ({others[worst]})" if others[worst] else "-"
        cells = (
            _short(name),
            f"{of.support[index]:,}",
            f"{table[index, index]:,}",
            _percent(of.recall[index]),
            _percent(of.precision[index]),
        )
        lines.append(f"{row(cells, WIDTHS)}  {taken}")
    return lines


def _confusion(found: Evaluation) -> list[str]:
    """Return the table of classes and predicted classes, if it fits the terminal."""
    table, names = found.confusion, found.class_names
    lost = bool(table[:, -1].any())
    table = table if lost else table[:, :-1]
    columns = [str(index) for index in range(len(names))] + ["none"] * lost
    if MOST_NAME + CELL * len(columns) > WIDTH:
        return [f"the confusion table of {len(names)} classes is in --json"]
    lines = [f"{'':<{MOST_NAME}}" + "".join(f"{c:>{CELL}}" for c in columns)]
    for index, counts in enumerate(table):
        cells = "".join(f"{count or '.':>{CELL}}" for count in counts.tolist())
        lines.append(f"{_numbered(index, names):<{MOST_NAME}}{cells}")
    return ["confusion: each row is a class, each column what was predicted", *lines]


def _numbered(index: int, names: Sequence[str]) -> str:
    name = _short(names[index])
    return name if name == str(index) else _short(f"{index} {name}")


def _column(found: Evaluation, index: int) -> str:
    named = index < len(found.class_names)
    return _short(found.class_names[index]) if named else "nothing"


def _short(name: str) -> str:
    name = printable(name)
    return name if len(name) < MOST_NAME else f"{name[: MOST_NAME - 2]}~"


def _percent(share: float) -> str:
    return "-" if np.isnan(share) else f"{100 * share:.2f}"
