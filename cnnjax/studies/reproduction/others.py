"""Named curves, other than runs, that a published run is compared with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from cnnjax.data.dataset import Dataset
from cnnjax.studies.published.bias_only import bias_only_curve
from cnnjax.studies.reproduction.findings import RunFindings
from cnnjax.telling.plots import Points

# By (system, run, metric): named curves that a run is compared with.
Others = Mapping[tuple[str, str, str], Mapping[str, Points]]


def others_of(
    findings: Iterable[RunFindings], datasets: Mapping[str, Dataset]
) -> Others:
    """Return the other curves to draw with some runs, if their dataset is available.

    System E's entropy is compared with that of ten output biases without a network, in
    the unit of our loss: the mean over the images; the report has a tenth of the sum.
    """
    others: dict[tuple[str, str, str], dict[str, Points]] = {}
    for one in findings:
        run, recipe = one.run, one.run.settled()
        there = datasets.get(recipe.dataset)
        if "entropy_reported_as_loss" in run.faults and there is not None:
            labels = there.train.labels[: recipe.num_train]
            last = max((f.epoch or 0 for f in run.figures), default=0)
            curve = bias_only_curve(labels, epochs=max(last, recipe.epochs))
            unit = 10 / len(labels)
            points = [(epoch + 1, unit * float(v)) for epoch, v in enumerate(curve)]
            place = (one.system.letter, run.name, "train_loss")
            others[place] = {"ten biases, no network": points}
    return others
