"""Pictures of a run."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator


def draw_curves(lines: Sequence[Mapping[str, Any]], *, title: str) -> bytes:
    """Draw loss and accuracy by epoch as a PNG, from the lines of metrics.jsonl.

    Where there is no accuracy (a regression) it is left out; where there is a norm of
    each example's gradient, its mean is drawn, too.
    """
    others = ("accuracy", "grad_norm")
    names = ["loss", *(name for name in others if f"train_{name}" in lines[0])]
    figure = Figure(figsize=(5 * len(names), 4), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title)
    for index, name in enumerate(names):
        axes = figure.add_subplot(1, len(names), index + 1)
        for part, marker in (("train", "."), ("test", "o")):
            points = [
                (line["epoch"], line[f"{part}_{name}"])
                for line in lines
                if f"{part}_{name}" in line
            ]
            if points:
                style = f"{marker}-" if len(points) <= 50 else "-"
                label = "train, running" if part == "train" else "test"
                axes.plot(*zip(*points, strict=True), style, label=label)
        axes.set_xlabel("epoch")
        axes.set_ylabel(name)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        if name == "loss":
            axes.set_yscale("log")
            axes.yaxis.set_major_formatter("{x:g}")
            axes.yaxis.set_minor_formatter("{x:g}")
        axes.grid(alpha=0.3)
        axes.legend()
    png = io.BytesIO()
    figure.savefig(png, format="png", dpi=120)
    return png.getvalue()


def draw_seeds(lines: Sequence[Mapping[str, Any]], *, title: str) -> bytes:
    """Draw every seed's test curve as a PNG, and their mean, from metrics.jsonl.

    Lines carry a "seed". Where nothing was tested but the end, there are points.
    """
    names = [n for n in ("loss", "accuracy") if f"test_{n}" in lines[-1]]
    figure = Figure(figsize=(5 * len(names), 4), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title)
    for index, name in enumerate(names):
        axes = figure.add_subplot(1, len(names), index + 1)
        tested: dict[int, list[float]] = {}
        for seed in sorted({line["seed"] for line in lines}):
            own = [li for li in lines if li["seed"] == seed and f"test_{name}" in li]
            epochs = [line["epoch"] for line in own]
            values = [line[f"test_{name}"] for line in own]
            axes.plot(epochs, values, ".-", color="tab:blue", alpha=0.35, linewidth=1)
            for epoch, value in zip(epochs, values, strict=True):
                tested.setdefault(epoch, []).append(value)
        means = [sum(values) / len(values) for values in tested.values()]
        axes.plot(list(tested), means, "o-", color="tab:orange", label="mean of seeds")
        axes.plot([], [], ".-", color="tab:blue", alpha=0.35, label="a seed")
        axes.set_xlabel("epoch")
        axes.set_ylabel(f"test {name}")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        axes.legend()
    png = io.BytesIO()
    figure.savefig(png, format="png", dpi=120)
    return png.getvalue()
