"""Where a run came to: its losses and accuracies at the end, over all its seeds."""

from __future__ import annotations

import math
from typing import NamedTuple

from cnnjax.studies.reproduction.findings import RunFindings

METRICS = ("train_loss", "test_loss", "test_accuracy")


class End(NamedTuple):
    """A metric at an epoch of one run, over the seeds that are trained."""

    metric: str
    epoch: int
    numbers: tuple[float, ...]  # of the seeds whose value is one
    num_seeds: int  # that have a value, number or not

    @property
    def mean(self) -> float | None:
        """Return the mean of the numbers; None: there are none."""
        return math.fsum(self.numbers) / len(self.numbers) if self.numbers else None


def ends_of(findings: RunFindings) -> list[End]:
    """Return what a run came to at its last epoch, and at those that siblings name.

    These are the epochs at which a test accuracy of any run of its system was
    published: so that runs without published figures can be held against the others.
    A run without accuracies, a regression, has losses only.
    """
    trained = findings.trained
    if not trained:
        return []
    last = trained[0].job.recipe.epochs
    named = {
        figure.epoch
        for run in findings.system.runs
        for figure in run.figures
        if figure.metric == "test_accuracy" and figure.epoch is not None
    }
    ends = []
    for epoch in sorted({epoch for epoch in named if epoch < last} | {last}):
        lines = [n for one in trained for n in one.lines if n.get("epoch") == epoch]
        for metric in METRICS:
            values = [line[metric] for line in lines if metric in line]
            numbers = tuple(value for value in values if value is not None)
            if numbers or (values and metric.endswith("loss")):
                ends.append(End(metric, epoch, numbers, len(values)))
    return ends
