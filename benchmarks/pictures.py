"""Draw the measurements as SVG."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

Row = dict[str, Any]  # a line of a results file
OURS, PEER, TUNED = "tab:blue", "0.45", "0.7"

# Text stays text, and the same numbers give the same file.
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "cnnjax",
    "font.size": 10,
}

# For each question of `scaling`: the labels of both axes, and the ideal curve.
AXES = {
    "strong": ("devices", "ms per update", lambda x, x0, y0: y0 * x0 / x),
    "weak": ("devices", "ms per update", lambda x, x0, y0: y0),
    "batch": ("examples per update", "ms per update", lambda x, x0, y0: y0 * x / x0),
    "filters": ("filters", "ms per update", lambda x, x0, y0: y0 * x / x0),
    "examples": ("examples", "s per epoch", lambda x, x0, y0: y0 * x / x0),
}


def draw_rates(rows: Sequence[Row]) -> bytes:
    """Draw examples per second as bars with quartiles, cnnjax's in colour."""
    figure = Figure(figsize=(8, 0.9 + 0.28 * len(rows)), layout="constrained")
    axes = figure.subplots()
    for place, row in enumerate(reversed(rows)):
        rate = row["examples_per_second"]
        spread = [[rate["median"] - rate["low"]], [rate["high"] - rate["median"]]]
        colour = OURS if row["ours"] else TUNED if row["tuned"] else PEER
        axes.barh(place, rate["median"], xerr=spread, color=colour, height=0.75)
    axes.set_yticks(range(len(rows)), [row["contender"] for row in reversed(rows)])
    axes.set_xlabel("examples per second: median and quartiles over rounds")
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.grid(axis="x", alpha=0.3)
    return _svg(figure)


def draw_scaling(rows: Sequence[Row], *, question: str) -> bytes:
    """Draw measured times, and the ideal line through the first point."""
    x_label, y_label, ideal = AXES[question]
    per_epoch = question == "examples"
    unit = 1.0 if per_epoch else 1e3
    times = [row["round_seconds" if per_epoch else "step_seconds"] for row in rows]
    x = [row["x"] for row in rows]
    y = [unit * time["median"] for time in times]
    figure = Figure(figsize=(6, 3.6), layout="constrained")
    axes = figure.subplots()
    low = [unit * (time["median"] - time["low"]) for time in times]
    high = [unit * (time["high"] - time["median"]) for time in times]
    axes.errorbar(x, y, yerr=[low, high], fmt="o-", color=OURS, label="measured")
    line = [ideal(value, x[0], y[0]) for value in x]
    axes.plot(x, line, "--", color="black", lw=1, label="ideal")
    axes.set_xscale("log", base=10 if per_epoch else 2)
    axes.set_yscale("log")
    axes.set_xticks(x, [f"{value:g}" for value in x])
    axes.xaxis.minorticks_off()
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter("{x:g}")
    virtual = rows[0]["virtual"] and question in ("strong", "weak")
    axes.set_xlabel(f"virtual CPU {x_label}" if virtual else x_label)
    axes.set_ylabel(y_label)
    axes.grid(alpha=0.3, which="both")
    axes.legend()
    return _svg(figure)


def draw_accuracy(rows: Sequence[Row]) -> bytes:
    """Draw test error against seconds of training, with one thin line per seed."""
    figure = Figure(figsize=(8, 4), layout="constrained")
    axes = figure.subplots()
    peers = iter(("0.2", "0.5", "0.75"))
    for row in rows:
        colour = OURS if row["ours"] else next(peers, "0.8")
        for index, curve in enumerate(row["curves"]):
            seconds = [point["train_seconds"] for point in curve]
            errors = [100 * (1 - point["accuracy"]) for point in curve]
            name = row["contender"] if index == 0 else None
            axes.plot(seconds, errors, ".-", color=colour, lw=0.9, label=name)
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter("{x:g}")
    axes.set_xlabel("seconds of training")
    axes.set_ylabel("test error, %")
    axes.grid(alpha=0.3, which="both")
    axes.legend()
    return _svg(figure)


def _svg(figure: Figure) -> bytes:
    FigureCanvasSVG(figure)
    file = io.BytesIO()
    with mpl.rc_context(STYLE):
        figure.savefig(file, format="svg", metadata={"Date": None})
    return file.getvalue()
