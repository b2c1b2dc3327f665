"""Draw the measurements as SVG."""

from __future__ import annotations

import io
import itertools
from collections.abc import Sequence
from statistics import median
from typing import Any

import matplotlib as mpl
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from cnnjax.telling.axes import MOST, few, literal, log_y

Row = dict[str, Any]  # a line of a results file
OURS = "#0f766e"
PEERS = ("#7c8594", "#b45309", "#6d28d9", "#0369a1")

# Text stays text, and the same numbers give the same file.
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "cnnjax",
    "font.size": 9,
}

# For each question of `scaling`: the labels of both axes, and the ideal curve.
AXES = {
    "strong": ("devices", "ms per update", lambda x, x0, y0: y0 * x0 / x),
    "weak": ("devices", "ms per update", lambda x, x0, y0: y0),
    "batch": ("examples per update", "ms per update", lambda x, x0, y0: y0 * x / x0),
    "filters": ("filters", "ms per update", lambda x, x0, y0: y0 * x / x0),
    "units": ("units", "ms per update", lambda x, x0, y0: y0 * x / x0),
    "examples": ("examples", "s per epoch", lambda x, x0, y0: y0 * x / x0),
}


def draw_scaling(rows: Sequence[Row], *, question: str) -> bytes:
    """Draw measured times, and the ideal line through the first point."""
    x_label, y_label, ideal = AXES[question]
    per_epoch = question == "examples"
    unit = 1.0 if per_epoch else 1e3
    times = [row["round_seconds" if per_epoch else "step_seconds"] for row in rows]
    x = [row["x"] for row in rows]
    y = [unit * time["median"] for time in times]
    figure = Figure(figsize=(3.6, 2.7), layout="constrained")
    axes = figure.subplots()
    low = [unit * (time["median"] - time["low"]) for time in times]
    high = [unit * (time["high"] - time["median"]) for time in times]
    axes.errorbar(x, y, yerr=[low, high], fmt="o-", color=OURS, label="measured")
    line = [ideal(value, x[0], y[0]) for value in x]
    axes.plot(x, line, "--", color="black", lw=1, label="ideal")
    axes.set_xscale("log")
    doubled = x if len(x) <= MOST else x[::-3][::-1]
    ticks = few(min(x), max(x)) if per_epoch else doubled
    axes.set_xticks(ticks, [f"{value:,g}" for value in ticks])
    axes.xaxis.minorticks_off()
    log_y(axes)
    virtual = rows[0]["virtual"] and question in ("strong", "weak")
    axes.set_xlabel(f"virtual CPU {x_label}" if virtual else x_label)
    axes.set_ylabel(y_label)
    axes.grid(alpha=0.3, which="both")
    axes.legend()
    return _svg(figure)


def draw_accuracy(rows: Sequence[Row]) -> bytes:
    """Draw test error by seconds of training: medians over seeds, and their range."""
    figure = Figure(figsize=(3.6, 3.5), layout="constrained")
    axes = figure.subplots()
    peers = itertools.cycle(PEERS)
    lines = iter(("-", "--", ":"))
    for row in rows:
        colour = OURS if row["ours"] else next(peers)
        style = next(lines, "-.") if row["ours"] else "-"
        by_epoch = list(zip(*row["curves"], strict=True))
        seconds = [median(p["train_seconds"] for p in epoch) for epoch in by_epoch]
        errors = [[100 * (1 - p["accuracy"]) for p in epoch] for epoch in by_epoch]
        name = literal(row["contender"])
        axes.plot(
            *(seconds, list(map(median, errors))),
            style,
            color=colour,
            lw=1.8,
            label=name,
        )
        low, high = list(map(min, errors)), list(map(max, errors))
        axes.fill_between(seconds, low, high, color=colour, alpha=0.18, lw=0)
    log_y(axes)
    axes.set_xlim(left=0)
    axes.set_xlabel("seconds of training")
    axes.set_ylabel("test error (%)")
    axes.grid(alpha=0.3)
    figure.legend(loc="outside lower center", ncols=1, fontsize="small")
    return _svg(figure)


def _svg(figure: Figure) -> bytes:
    FigureCanvasSVG(figure)
    file = io.BytesIO()
    with mpl.rc_context(STYLE):
        figure.savefig(file, format="svg", metadata={"Date": None})
    return file.getvalue()
