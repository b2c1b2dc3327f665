"""The runs of a folder as a table, and their test curves in one picture."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from cnnjax.base.printable import printable
from cnnjax.results.fields import read_epochs
from cnnjax.results.listing import Listed, varied
from cnnjax.results.plain import plain
from cnnjax.telling.axes import label_epochs, literal, log_y, scale_of, word
from cnnjax.telling.layout import WIDTH, row, wrap
from cnnjax.telling.text import metric_text

HEAD = ("run", "epochs", "seeds", "test", "train s")
MOST_NAME, MOST_CURVES = 40, 20


def listing_lines(runs: Sequence[Listed]) -> list[str]:
    """Return a table of the runs, what differs in their settings, and what is wrong."""
    rows = [HEAD, *map(_cells, runs)]
    widths = [max(len(cells[place]) for cells in rows) for place in range(len(HEAD))]
    lines = [row(cells, widths) for cells in rows]
    whole = [run for run in runs if run.state != "damaged"]
    if different := varied(whole):
        lines += ["", "what differs:"]
        for name, values in different.items():
            lines.append(wrap(f"  {name}", indent="    "))
            told: dict[str, list[str]] = {}
            for run, value in zip(whole, values, strict=True):
                told.setdefault(_shown(value), []).append(run.name)
            for value, names in told.items():
                lines.append(wrap(f"    {value}: {', '.join(names)}", indent="      "))
    for run in runs:
        if run.why:
            lines += ["", wrap(f"{run.name} cannot be read: {run.why}")]
    return lines


def listing_json(run: Listed) -> dict[str, Any]:
    """Return a run as JSON has it."""
    return plain({**run._asdict(), "path": str(run.path)})


def draw_listing(runs: Sequence[Listed], *, title: str) -> bytes | None:
    """Draw the test curves of all runs as a PNG, a line each; None: there are none.

    Of several seeds it is their mean; of more than 20 runs, those with the best scores.
    """
    shown = _best([run for run in runs if run.state != "damaged"])
    curves = {run.name: _curves(run) for run in shown}
    measures = [
        name
        for name in ("loss", "accuracy")
        if any(of.get(name) for of in curves.values())
    ]
    if not measures:
        return None
    figure = Figure(figsize=(5 * len(measures), 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(literal(title))
    for index, measure in enumerate(measures):
        axes = figure.add_subplot(1, len(measures), index + 1)
        for number, (name, of) in enumerate(curves.items()):
            points = of.get(measure, [])
            form = ".-" if number < 10 else ".--"
            if points:
                (line,) = axes.plot(*zip(*points, strict=True), form)
                line.set(color=f"C{number % 10}", label=literal(name))
        label_epochs(axes)
        axes.set_ylabel(f"test {word(measure)}")
        if measure == "loss":
            log_y(axes)
        axes.grid(alpha=0.3)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2)
    png = io.BytesIO()
    figure.savefig(png, format="png", dpi=110)
    return png.getvalue()


def _cells(run: Listed) -> tuple[str, ...]:
    name = printable(run.name)
    name = name if len(name) <= MOST_NAME else f"...{name[3 - MOST_NAME :]}"
    if run.score is None:
        score = run.state
    else:
        score = metric_text(run.metric.removeprefix("test_"), run.score)
        score += " (diverged)" * (run.state == "diverged")
    seconds = "" if run.train_seconds is None else f"{run.train_seconds:.1f}"
    whole = run.state != "damaged"
    counts = (str(run.epochs), str(run.seeds)) if whole else ("", "")
    return (name, *counts, score, seconds)


def _shown(value: Any) -> str:
    """Return a setting's value, short enough for a line."""
    told = printable("none" if value is None else str(value))
    return told if len(told) <= WIDTH // 2 else f"{told[: WIDTH // 2 - 3]}..."


def _best(runs: Sequence[Listed]) -> list[Listed]:
    def rank(run: Listed) -> float:
        if run.score is None:
            return math.inf
        return -run.score if run.metric == "test_accuracy" else run.score

    kept = sorted(runs, key=rank)[:MOST_CURVES]
    return [run for run in runs if run in kept]


def _curves(run: Listed) -> dict[str, list[tuple[int, float]]]:
    """Return (epoch, mean over the seeds) of each test metric."""
    of: dict[str, dict[int, list[float]]] = {}
    for line in read_epochs(run.path) if (run.path / "metrics.jsonl").exists() else []:
        for measure in ("loss", "accuracy"):
            value = line.get(f"test_{measure}", line.get(f"validation_{measure}"))
            if value is not None and math.isfinite(value):
                of.setdefault(measure, {}).setdefault(line["epoch"], []).append(value)
    return {
        measure: [
            (epoch, scale_of(measure) * sum(values) / len(values))
            for epoch, values in sorted(points.items())
        ]
        for measure, points in of.items()
    }
