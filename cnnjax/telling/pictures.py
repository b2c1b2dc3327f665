"""Pictures of how good a run is: confusion, calibration, the worst mistakes."""

from __future__ import annotations

import io
import math

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from cnnjax.loaded.evaluation import Evaluation
from cnnjax.telling.axes import literal
from cnnjax.types import NO_PREDICTION

MOST_WRITTEN = 20  # classes, up to which counts are written into the cells
COLUMNS = 6  # of a sheet of mistakes


def draw_confusion(found: Evaluation, *, title: str) -> bytes:
    """Draw the confusion table as a PNG: shares of each class as shades."""
    table = found.confusion
    table = table if table[:, -1].any() else table[:, :-1]
    shares = table / np.maximum(1, table.sum(axis=1, keepdims=True))
    side = min(12.0, 3.0 + 0.45 * len(table))
    figure = _figure(side, side, title)
    axes = figure.add_subplot()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    names = [*map(literal, found.class_names)]
    columns = [*names, "none"][: table.shape[1]]
    small = "small" if len(table) <= MOST_WRITTEN else 5
    turned = 90 if max(map(len, columns)) > 2 else 0
    axes.set_xticks(range(len(columns)), columns, rotation=turned, fontsize=small)
    axes.set_yticks(range(len(names)), names, fontsize=small)
    axes.set_xlabel("predicted")
    axes.set_ylabel("class")
    for (of, as_), count in np.ndenumerate(table):
        if count and len(table) <= MOST_WRITTEN:
            colour = "white" if shares[of, as_] > 0.5 else "black"
            where = {"ha": "center", "va": "center", "fontsize": 7}
            axes.text(as_, of, f"{count}", color=colour, **where)
    return _png(figure)


def draw_calibration(found: Evaluation, *, title: str) -> bytes:
    """Draw how often predictions are right, by their probability, as a PNG."""
    of = found.calibration
    figure = _figure(5.0, 5.2, title)
    top, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    top.plot([0, 100], [0, 100], "--", color="grey", label="as it should be")
    there = of.count > 0
    style = {"color": "tab:blue", "label": f"calibration error {100 * of.error:.2f} %"}
    top.plot(100 * of.confidence[there], 100 * of.accuracy[there], "o-", **style)
    top.set_ylabel("right (%)")
    top.legend()
    top.grid(alpha=0.3)
    edges = np.linspace(0, 100, len(of.count) + 1)
    below.bar(edges[:-1], of.count, width=np.diff(edges), align="edge", alpha=0.6)
    below.set_ylabel("examples")
    below.set_xlabel("probability of the predicted class (%)")
    return _png(figure)


def draw_mistakes(found: Evaluation, *, title: str) -> bytes | None:
    """Draw the most confident mistakes as a PNG; None: there are none, or no images."""
    chosen = found.mistakes(5 * COLUMNS)
    if not len(chosen) or found.inputs.ndim != 4:
        return None
    rows = math.ceil(len(chosen) / COLUMNS)
    figure = _figure(1.5 * COLUMNS, 0.5 + 1.85 * rows, title)
    shares, names = found.probabilities, found.class_names
    for place, index in enumerate(chosen):
        axes = figure.add_subplot(rows, COLUMNS, place + 1)
        image = np.clip(found.inputs[index], 0, 255).astype(np.uint8)
        grey = image.shape[-1] == 1
        axes.imshow(image[..., 0] if grey else image, cmap="gray" if grey else None)
        axes.set_axis_off()
        guess = found.predictions[index]
        lost = guess == NO_PREDICTION
        share = 0 if lost else 100 * shares[index, guess]
        said = "nothing" if lost else f"{names[guess]} ({share:.0f} %)"
        told = f"{names[found.labels[index]]}, taken for\n{said}"
        axes.set_title(literal(told), fontsize=8)
    return _png(figure)


def _figure(width: float, height: float, title: str) -> Figure:
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(literal(title), fontsize="medium")
    return figure


def _png(figure: Figure) -> bytes:
    png = io.BytesIO()
    figure.savefig(png, format="png", dpi=120)
    return png.getvalue()
