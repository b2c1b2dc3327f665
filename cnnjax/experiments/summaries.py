"""The results of one run, of several seeds together, and of each of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cnnjax.experiments.experiment import Experiment
from cnnjax.experiments.runs import Run
from cnnjax.experiments.seed_run import SeedRun
from cnnjax.models.stack import layer_rows
from cnnjax.results import schema
from cnnjax.statistics import MeanInterval, mean_interval


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What the runs of several seeds have in common."""

    metric: str  # accuracy, or loss where there is none
    interval: MeanInterval | None  # of the finite ones; None: there is none
    not_finite: list[int]  # seeds whose metric is not finite
    diverged: list[int]  # seeds that the mean leaves out, with those

    def values(self) -> dict[str, Any]:
        """Return the fields of result.json."""
        interval = self.interval
        return {
            f"test_{self.metric}": interval and interval.mean,
            f"test_{self.metric}_over_seeds": interval and interval._asdict(),
            "seeds_not_finite": self.not_finite,
            "seeds_diverged": self.diverged,
        }


def summarize(ended: Sequence[SeedRun]) -> Summary:
    """Average the tests of the seeds that did not diverge, where they are finite."""
    metric = "accuracy" if "accuracy" in ended[0].run.test else "loss"
    scores = {one.seed: one.run.test[metric] for one in ended}
    diverged = [one.seed for one in ended if one.run.diverged]
    not_finite = [s for s, score in scores.items() if not math.isfinite(score)]
    left_out = {*diverged, *not_finite}
    finite = [score for seed, score in scores.items() if seed not in left_out]
    return Summary(
        metric=metric,
        interval=mean_interval(finite) if finite else None,
        not_finite=not_finite,
        diverged=diverged,
    )


def seed_record(ended: SeedRun) -> dict[str, Any]:
    """Return the line of seeds.jsonl about one seed."""
    run = ended.run
    values = {
        "seed": ended.seed,
        **{f"test_{name}": value for name, value in run.test.items()},
        "dead_classes": ended.dead_classes,
        "diverged": run.diverged,
        "test_no_prediction": run.no_prediction,
        "train_seconds": float(sum(record.seconds for record in run.records)),
    }
    return schema.record(schema.SEED, values)


def epochs_of(experiment: Experiment, run: Run) -> int:
    """Return the epochs that were made; of a run that diverged, those planned."""
    early = experiment.loop.patience is not None and run.divergence is None
    return len(run.records) if early else experiment.loop.epochs


def measures(
    experiment: Experiment, run: Run, *, train_seconds: float | None
) -> dict[str, Any]:
    """Return the fields of result.json that one run alone has."""
    rows = layer_rows(experiment.recipe.model)
    trained_on = experiment.examples_per_epoch * epochs_of(experiment, run)
    stopped = {} if run.divergence is None else run.divergence._asdict()
    return {
        **{f"test_{name}": value for name, value in run.test.items()},
        **({"best_epoch": run.best_epoch} if run.best_epoch is not None else {}),
        "epochs": epochs_of(experiment, run),
        "examples_per_second": train_seconds and trained_on / train_seconds,
        "diverged": run.diverged,
        **({"divergence": stopped} if stopped else {}),
        "test_no_prediction": run.no_prediction,
        "parameters": sum(row.parameters for row in rows),
        "macs_per_example": sum(row.macs for row in rows),
    }
