"""Format text, numbers and tables for Markdown."""

from __future__ import annotations

import html
import math
import re
from collections.abc import Iterable, Sequence

from cnnjax.base.printable import printable
from cnnjax.statistics import MeanInterval
from cnnjax.studies.published.run import Number
from cnnjax.studies.reproduction.verdicts import is_count

NOTHING = "-"
UNIT = r"( ?(%|s|MiB|times))?"
NUMBER = re.compile(  # or two of them, and what stands behind in parentheses
    rf"\**[<>~+-]?\d[\d.,:e+-]*{UNIT}(( to | / | of )[\d.,]+{UNIT})?( \([^()]*\))?\**"
)
NOT_A_NUMBER = "not a number"
# What begins a heading, a list or a line; and what emphasises: no underscore in a word.
BEGINS = re.compile(r"#|=|[-+](?=[-\s]|$)|\d{1,9}[.)](?=\s|$)")
EMPHASIS = re.compile(r"(?<![^\W_])_|_(?![^\W_])")


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table; cells are text already. Numbers stand on the right."""
    rows = [list(cells) for cells in rows]
    marks = [_alignment([cells[at] for cells in rows]) for at in range(len(head))]
    lines = [head, marks, *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _alignment(cells: Sequence[str]) -> str:
    told = [cell for cell in cells if cell not in ("", NOTHING, NOT_A_NUMBER)]
    return "---:" if told and all(map(NUMBER.fullmatch, told)) else "---"


def text(words: str) -> str:
    """Escape words so that Markdown shows them literally, even in a table cell."""
    words = html.escape(printable(" ".join(words.split())), quote=False)
    for mark in "\\|*`[]~":
        words = words.replace(mark, _entity(mark))
    words = EMPHASIS.sub(_entity("_"), words)
    if match := BEGINS.match(words):
        at = match.end() - 1
        words = f"{words[:at]}{_entity(words[at])}{words[at + 1 :]}"
    return words


def _entity(mark: str) -> str:
    return f"&#{ord(mark)};"


def code(words: str) -> str:
    """Return words as a piece of code, in as many backticks as it takes.

    None, or words that would end a table's cell, are shown as text.
    """
    words = printable(" ".join(words.split()))
    if not words or "|" in words:
        return text(words)
    runs = [len(run) for run in re.findall("`+", words)]
    ticks = "`" * next(n for n in range(1, len(runs) + 2) if n not in runs)
    pad = " " if "`" in words else ""
    return f"{ticks}{pad}{words}{pad}{ticks}"


def fold(summary: str, content: str) -> str:
    """Return what a click on its summary opens."""
    begin = f"<details>\n<summary>{text(summary)}</summary>"
    return f"{begin}\n\n{content}\n\n</details>"


def counted(number: int, noun: str) -> str:
    """Return a number with its noun.

    >>> counted(1, "seed"), counted(2, "seed")
    ('1 seed', '2 seeds')
    """
    return f"{number:,} {noun}{'s' * (number != 1)}"


def value_text(metric: str, value: Number | None, *, digits: int = 5) -> str:
    """Format the value of a metric for people; `digits` applies to losses.

    >>> value_text("test_accuracy", 0.9868), value_text("train_seconds", 1556.7)
    ('98.68 %', '1,556.7 s')
    >>> value_text("train_loss", 0.00014451810), value_text("parameters", 57.0)
    ('0.00014452', '57')
    """
    if value is None:
        return NOTHING
    if math.isnan(value):
        return NOT_A_NUMBER
    if "accuracy" in metric:
        return f"{100 * value:.2f} %"
    if metric.endswith("seconds"):
        return f"{value:,.1f} s" if value >= 10 else f"{value:.3g} s"
    return f"{value:,.0f}" if is_count(metric) else f"{value:,.{digits}g}"


def ours_text(metric: str, ours: MeanInterval | None, *, num_seeds: int) -> str:
    """Format our mean over seeds with its 95 % interval (Student's)."""
    if ours is None:
        return NOT_A_NUMBER if num_seeds else NOTHING
    mean = value_text(metric, ours.mean)
    if ours.student is None:  # one seed, or all equal
        return mean if ours.n == 1 else f"{mean} (n = {ours.n})"
    bounds = range_text(metric, ours.student)
    return (
        f"{mean} (n = {ours.n})"
        if bounds == mean
        else f"{mean} ({bounds}, n = {ours.n})"
    )


def range_text(metric: str, bounds: tuple[Number, Number]) -> str:
    """Format two bounds, with their unit once.

    >>> range_text("test_accuracy", (0.95, 0.97)), range_text("step", (57.0, 57.0))
    ('95.00 to 97.00 %', '57')
    """
    low, high = (value_text(metric, bound) for bound in bounds)
    unit = low.rpartition(" ")[2] if " " in low else ""
    if low == high:
        return low
    return f"{low.removesuffix(unit).rstrip()} to {high}"
