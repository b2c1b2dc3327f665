"""Choose which runs share a picture, and draw their curves."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from cnnjax.studies.reproduction.findings import RunFindings
from cnnjax.studies.reproduction.others import Others
from cnnjax.telling.plots import Curve, Panel, Points, draw_panels

METRICS = ("train_loss", "test_loss", "train_accuracy", "test_accuracy")


class Picture(NamedTuple):
    """A picture of one published run, with its corrections on the left."""

    name: str  # file name: "C_batch_8.png"
    title: str
    group: tuple[RunFindings, ...]  # in the order of the panels

    def draw(self, others: Others) -> bytes:
        """Draw it as a PNG."""
        panels = [_panel(findings, others) for findings in self.group]
        return draw_panels(panels, title=self.title)


def pictures_of(findings: Sequence[RunFindings]) -> dict[tuple[str, str], Picture]:
    """Return the picture of each run that has one, by (system, run).

    A run with corrections shares one picture with them; any other has its own. Only
    trained runs are drawn.
    """
    pictures = {}
    for one in findings:
        if one.run.corrects is not None:
            continue
        healthy = [
            other
            for other in findings
            if other.system.letter == one.system.letter
            and other.run.corrects == one.run.name
        ]
        group = tuple(part for part in (*healthy, one) if _has_curves(part))
        if group:
            letter, name = one.system.letter, one.run.name
            title = f"{letter}. {one.run.title}"
            picture = Picture(f"{letter}_{name}.png", title, group)
            pictures[letter, name] = picture
    return pictures


def _has_curves(findings: RunFindings) -> bool:
    return any(
        name in line
        for one in findings.trained
        for line in one.lines
        for name in METRICS
    )


def _panel(findings: RunFindings, others: Others) -> Panel:
    """Return all recorded and published curves of a run, loss above accuracy."""
    run = findings.run
    figures = [f for f in run.figures if f.epoch is not None and f.source == "reported"]
    published = {figure.metric for figure in figures}
    kept = {name for one in findings.trained for line in one.lines for name in line}
    names = [name for name in METRICS if name in kept | published]
    curves = []
    for metric in names:
        points = [(f.epoch, f.value) for f in figures if f.metric == metric]
        curves.append(
            Curve(
                metric,
                [_points(one.lines, metric) for one in findings.trained],
                [(epoch, value) for epoch, value in points if epoch is not None],
                others.get((findings.system.letter, run.name, metric), {}),
            )
        )
    words = f"with its fault{'s'[: len(run.faults) - 1]}" if run.faults else ""
    if run.corrects is not None:
        words = "corrected"
    return Panel(f"{run.name}\n{words}".strip(), curves)


def _points(lines: Iterable[Mapping], metric: str) -> Points:
    return [(line["epoch"], line[metric]) for line in lines if metric in line]
