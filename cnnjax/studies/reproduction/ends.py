"""A run's losses and accuracies at the end, over all its seeds."""

from __future__ import annotations

import math
from typing import NamedTuple

from cnnjax.studies.reproduction.findings import RunFindings

METRICS = ("train_loss", "test_loss", "test_accuracy")


class End(NamedTuple):
    """A metric of one run at one epoch, over the trained seeds."""

    metric: str
    epoch: int
    numbers: tuple[float, ...]  # without the seeds whose value is not a number
    num_seeds: int  # with a value, number or not

    @property
    def mean(self) -> float | None:
        """Return the mean of the numbers; None: there are none."""
        return math.fsum(self.numbers) / len(self.numbers) if self.numbers else None


def ends_of(findings: RunFindings) -> list[End]:
    """Return a run's metrics at its last epoch and at epochs published for its system.

    The latter are the epochs for which a test accuracy of any run of the system was
    published, so that runs without published figures can be compared with the others.
    A regression has losses only.
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
