"""Pictures of a run."""

from __future__ import annotations

import io
import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from cnnjax.telling.axes import label_epochs, literal, log_y, scale_of, word

Points = Sequence[tuple[int, float | None]]  # (epoch, value); None: not a number
COLOURS = {"train": "tab:blue", "test": "tab:orange", "validation": "tab:purple"}
WORDS = {
    "train": "training examples, during the epoch",
    "test": "test examples",
    "validation": "validation examples",
}


class Curve(NamedTuple):
    """The values of one metric by epoch."""

    metric: str  # "train_loss", "test_accuracy": a part and a measure
    seeds: Sequence[Points]
    published: Points = ()
    others: Mapping[str, Points] = {}  # by name: other curves to compare with

    @property
    def part(self) -> str:
        """Return "train" or "test"."""
        return self.metric.partition("_")[0]

    @property
    def measure(self) -> str:
        """Return what is measured, such as "loss"."""
        return self.metric.partition("_")[2]


class Panel(NamedTuple):
    """One run among those that a picture compares."""

    title: str
    curves: Sequence[Curve]


def draw_curves(lines: Sequence[Mapping[str, Any]], *, title: str) -> bytes:
    """Draw loss and accuracy by epoch as a PNG, from the lines of metrics.jsonl.

    A regression has no accuracy, so none is drawn. If per-example gradient norms were
    recorded, their mean is drawn too.
    """
    others = ("accuracy", "grad_norm")
    names = ["loss", *(name for name in others if f"train_{name}" in lines[0])]
    figure = Figure(figsize=(5 * len(names), 4), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(literal(title))
    for index, name in enumerate(names):
        axes = figure.add_subplot(1, len(names), index + 1)
        for part, marker in (("train", "."), ("test", "o"), ("validation", "o")):
            points = _numbers(
                [
                    (line["epoch"], line[f"{part}_{name}"])
                    for line in lines
                    if f"{part}_{name}" in line
                ],
                name,
            )
            if points:
                style = f"{marker}-" if len(points) <= 50 else "-"
                colour = COLOURS[part]
                epochs, values = zip(*points, strict=True)
                axes.plot(epochs, values, style, color=colour, label=WORDS[part])
        label_epochs(axes)
        axes.set_ylabel(word(name))
        if name == "loss":
            log_y(axes)
        axes.grid(alpha=0.3)
        if axes.lines:
            axes.legend()
    png = io.BytesIO()
    figure.savefig(png, format="png", dpi=120)
    return png.getvalue()


def draw_seeds(lines: Sequence[Mapping[str, Any]], *, title: str) -> bytes:
    """Draw every seed's test curve and their mean as a PNG, from metrics.jsonl.

    Each line has a "seed". If only the last epoch was tested, points are drawn.
    """
    part = "validation" if "validation_loss" in lines[-1] else "test"
    names = [n for n in ("loss", "accuracy") if f"{part}_{n}" in lines[-1]]
    figure = Figure(figsize=(5 * len(names), 4), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(literal(title))
    for index, name in enumerate(names):
        axes = figure.add_subplot(1, len(names), index + 1)
        tested: dict[int, list[float]] = {}
        for seed in sorted({line["seed"] for line in lines}):
            own = [li for li in lines if li["seed"] == seed and f"{part}_{name}" in li]
            epochs = [line["epoch"] for line in own]
            values = [scale_of(name) * line[f"{part}_{name}"] for line in own]
            axes.plot(epochs, values, ".-", color="tab:blue", alpha=0.35, linewidth=1)
            for epoch, value in zip(epochs, values, strict=True):
                tested.setdefault(epoch, []).append(value)
        means = [sum(values) / len(values) for values in tested.values()]
        axes.plot(list(tested), means, "o-", color="tab:orange", label="mean of seeds")
        axes.plot([], [], ".-", color="tab:blue", alpha=0.35, label="a seed")
        label_epochs(axes)
        axes.set_ylabel(f"test {word(name)}")
        if name == "loss":
            log_y(axes)
        axes.grid(alpha=0.3)
        axes.legend()
    png = io.BytesIO()
    figure.savefig(png, format="png", dpi=120)
    return png.getvalue()


def draw_panels(panels: Sequence[Panel], *, title: str) -> bytes:
    """Draw runs side by side as a PNG: one column per run, one row per measure.

    If a run has several seeds, each is a thin line and their mean a thick one;
    published points are crosses. The panels of a row share their axes. Values that are
    not numbers are left out; so is a measure without any numbers, unless none has any.
    There must be at least one curve.
    """
    curves = [curve for panel in panels for curve in panel.curves]
    told = [curve for curve in curves if any(map(_numbers, curve.seeds))]
    measures = list(dict.fromkeys(curve.measure for curve in told or curves))
    size = (1 + 4.2 * len(panels), 1.3 + 2.9 * len(measures))
    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(literal(textwrap.fill(title, 45 * len(panels))))
    shape = (len(measures), len(panels))
    grid = figure.subplots(*shape, sharex="all", sharey="row", squeeze=False)
    for column, panel in enumerate(panels):
        grid[0, column].set_title(literal(panel.title), fontsize="medium")
        label_epochs(grid[-1, column])
        for row, measure in enumerate(measures):
            own = [curve for curve in panel.curves if curve.measure == measure]
            _draw_curves_of(grid[row, column], own)
    for row, measure in enumerate(measures):
        grid[row, 0].set_ylabel(word(measure))
        for axes in grid[row] if measure != "accuracy" else ():
            log_y(axes)
    handles = _legend(curves)
    figure.legend(
        handles=handles, loc="outside lower center", ncols=1 if len(panels) == 1 else 2
    )
    png = io.BytesIO()
    figure.savefig(png, format="png", dpi=110)
    return png.getvalue()


def _draw_curves_of(axes: Axes, curves: Sequence[Curve]) -> None:
    """Draw the curves of one measure of one run."""
    axes.grid(alpha=0.3)
    for curve in curves:
        colour = COLOURS.get(curve.part, "tab:green")
        by_epoch: dict[int, list[float]] = {}
        for seed in curve.seeds:
            points = _numbers(seed, curve.measure)
            for epoch, value in points:
                by_epoch.setdefault(epoch, []).append(value)
            if len(curve.seeds) > 1 and points:
                axes.plot(*zip(*points, strict=True), color=colour, alpha=0.3, lw=0.8)
        means = [(e, sum(v) / len(v)) for e, v in sorted(by_epoch.items())]
        if means:
            style = ".-" if len(means) <= 30 else "-"
            axes.plot(*zip(*means, strict=True), style, color=colour, lw=2)
        for other in curve.others.values():
            points = _numbers(other, curve.measure)
            axes.plot(*zip(*points, strict=True), "--", color="black", lw=1.2)
        if points := _numbers(curve.published, curve.measure):
            marks = axes.plot(
                *zip(*points, strict=True), "X", color=colour, ms=8, zorder=5
            )
            marks[0].set_markeredgecolor("white")


def _legend(curves: Sequence[Curve]) -> list[Line2D]:
    """Return one legend entry for each kind of line in the picture."""
    parts = dict.fromkeys(curve.part for curve in curves if curve.seeds)
    handles = [
        Line2D([], [], color=COLOURS.get(part, "tab:green"), lw=2, label=WORDS[part])
        for part in parts
    ]
    if any(len(curve.seeds) > 1 for curve in curves):
        label = "one seed (thick: their mean)"
        handles.append(Line2D([], [], color="grey", lw=0.8, label=label))
    if any(_numbers(curve.published) for curve in curves):
        marker = Line2D([], [], color="grey", ls="", marker="X", label="published")
        handles.append(marker)
    for name in dict.fromkeys(name for curve in curves for name in curve.others):
        handles.append(
            Line2D([], [], color="black", ls="--", lw=1.2, label=literal(name))
        )
    return handles


def _numbers(points: Points, measure: str = "") -> list[tuple[int, float]]:
    """Return the points that are numbers, as an axis of the measure shows them."""
    scale = scale_of(measure)
    return [(e, scale * v) for e, v in points if v is not None and math.isfinite(v)]
