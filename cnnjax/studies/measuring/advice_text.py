"""Advice as text: a table of the candidates, and which one to use."""

from __future__ import annotations

import math

from cnnjax.studies.measuring.advice import Advice, Tried, repaid_after
from cnnjax.telling.layout import row

HEAD = ("strategy", "examples/s", "ms/update", "ready (s)", "break-even")
WIDTHS = (31, 10, 9, 9, 13)
NOTE = "break-even: updates until the best has made up for its longer compilation"


def advice_lines(advice: Advice) -> list[str]:
    """Return the advice as a table; the last line says what to use."""
    best = advice.best
    lines = [row(HEAD, WIDTHS)]
    for one in advice.tried:
        step = 1e3 * one.step_seconds.median
        cells = (_rate(advice, one), f"{step:.3g}", f"{one.build_seconds:.2f}")
        even = "the best" if one is best else _break_even(best, one)
        lines.append(row((str(one.candidate), *cells, even), WIDTHS))
    return [*lines, NOTE, advice_line(advice)]


def advice_line(advice: Advice) -> str:
    """Say in one line what to use, and why."""
    best = advice.best
    others = [one for one in advice.tried if one is not best]
    line = f"use {best.candidate}: {_rate(advice, best)} examples/s"
    if not others:
        return line
    next_one = min(others, key=lambda one: one.step_seconds.median)
    line += f", {next_one.candidate} {_rate(advice, next_one)}"
    paid_off = [repaid_after(best, one) for one in others]
    worst = max((n for n in paid_off if n < math.inf), default=0.0)
    if worst == 0:
        return line
    return f"{line}; its longer compilation pays off after {math.ceil(worst):,} updates"


def _break_even(best: Tried, one: Tried) -> str:
    """Return when the best overtakes another, which may be slightly faster."""
    after = repaid_after(best, one)
    if after == math.inf:  # the best is ready first, until the other catches up
        return f"until {math.ceil(repaid_after(one, best)):,}"
    return "at once" if after == 0 else f"{math.ceil(after):,}"


def _rate(advice: Advice, one: Tried) -> str:
    return f"{advice.batch_size / one.step_seconds.median:,.0f}"
