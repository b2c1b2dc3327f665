"""A published run as text for a terminal, and as JSON."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

from cnnjax.studies.published.run import Figure, Number, PublishedRun, System
from cnnjax.telling.layout import command, wrap

INDENT = "    "


def run_lines(run: PublishedRun, *, all_figures: bool) -> list[str]:
    """Describe a run; the last lines are the command that trains it.

    With `all_figures`, every figure is listed with its range, source and remarks; else
    there are remarks only on figures with the same name.
    """
    corrects = f" (corrects {run.corrects})" if run.corrects else ""
    lines = [wrap(f"  {run.name}: {run.title}{corrects}")]
    lines += _paragraph(run.explanation)
    remark, shown = "", run.figures if all_figures else headlines(run)
    times = Counter((figure.what, figure.epoch) for figure in shown)
    for figure in shown:
        lines.append(wrap(f"{INDENT}{figure_line(figure)}"))
        twice = times[figure.what, figure.epoch] > 1  # the remark says how they differ
        if (all_figures or twice) and figure.remark != remark:  # once per curve
            remark = figure.remark
            lines += _paragraph(f"({remark})" if remark else "")
        if all_figures and figure.why_out:
            lines += _paragraph(f"(if out of range: {figure.why_out})")
    return [*lines, command(command_of(run), indent=INDENT)]


def headlines(run: PublishedRun) -> list[Figure]:
    """Choose the end of each published curve and the time; else one expected range."""
    curves: dict[str, list[Figure]] = {}
    for figure in run.figures:
        if figure.source == "reported" and figure.metric.startswith(
            ("train_", "test_")
        ):
            curves.setdefault(figure.what, []).append(figure)
    if not curves:
        return [figure for figure in run.figures if figure.value is None][:1]
    # Two points are two runs of the report, or two versions, that one of ours covers.
    return [f for points in curves.values() for f in points[-1 if points[2:] else 0 :]]


def figure_line(figure: Figure) -> str:
    """Return a figure without its remark."""
    value = "-" if figure.value is None else _number(figure, figure.value)
    epoch = "" if figure.epoch is None else f", epoch {figure.epoch}"
    line = f"{figure.what}{epoch}: {value}"
    if figure.band is not None:
        low, high = (_number(figure, end) for end in figure.band)
        line += f", exactly {low}" if low == high else f", within {low} to {high}"
    return f"{line}  [{figure.source}]"


def command_of(run: PublishedRun) -> list[str]:
    """Return the command that trains a run, as a list of words."""
    return ["python", "scripts/train.py", *run.flags()]


def as_json(system: System, run: PublishedRun) -> dict[str, Any]:
    """Return a run with types that JSON has; a published NaN becomes "nan"."""
    figures = [dict(vars(figure)) for figure in run.figures]
    for figure in figures:
        if figure["value"] is not None and math.isnan(figure["value"]):
            figure["value"] = "nan"
    return {
        "system": system.letter,
        **vars(run),
        "changes": dict(run.changes),
        "figures": figures,
    }


def _paragraph(text: str) -> list[str]:
    return [wrap(INDENT + text, indent="")] if text else []


def _number(figure: Figure, value: Number) -> str:
    if figure.metric.endswith("_accuracy"):
        return f"{100 * value:.2f} %"
    if float(value).is_integer():
        return f"{value:,.0f}"
    return f"{value:.8g}"
