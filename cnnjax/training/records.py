"""The record of one epoch of training."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import optax

from cnnjax.types import Metrics

# What is looked at after an epoch: test examples, or those held out to choose by.
Part = Literal["test", "validation"]
# means_fn(metrics of the updates of an epoch) -> {metric: value for the epoch}
MeansFn = Callable[[Metrics], Mapping[str, float]]


@dataclass(frozen=True, kw_only=True)
class EpochRecord:
    """The result of an epoch; losses in nats (cross-entropy) or squared units (MSE)."""

    epoch: int  # epochs completed, from 1
    step: int  # updates completed
    learning_rate: float  # of the epoch's first update
    train: Mapping[str, float]  # means over the epoch, computed before each update
    test: Mapping[str, float] | None  # after the epoch; None: not evaluated
    seconds: float  # of the training calls
    examples_per_second: float
    steps: Metrics  # the same means for each update: arrays of shape [steps]
    part: Part = "test"  # whose examples `test` was measured on

    @property
    def diverged(self) -> bool:
        """Whether the training loss or the test loss is not finite."""
        losses = (self.train["loss"], (self.test or {}).get("loss", 0.0))
        return not all(map(math.isfinite, losses))

    def to_json(self) -> dict[str, Any]:
        """Return the record as a flat dictionary, one line of metrics.jsonl."""
        return {
            "epoch": self.epoch,
            "step": self.step,
            "learning_rate": self.learning_rate,
            **{f"train_{name}": value for name, value in self.train.items()},
            **{f"{self.part}_{name}": of for name, of in (self.test or {}).items()},
            "seconds": self.seconds,
            "examples_per_second": self.examples_per_second,
        }

    def to_csv(self) -> list[str]:
        """Return one line per update: step, weight, loss and the other metrics.

        Steps count from 1; values are for the parameters before the update. The first
        epoch starts with a header line.
        """
        means = {"loss": self.steps.means["loss"], **self.steps.means}  # loss first
        names = ["step", "weight", *means]
        columns = [self.steps.weight, *means.values()]
        first = self.step - len(self.steps.weight) + 1
        lines = [
            ",".join(map(repr, [first + row, *map(float, values)]))
            for row, values in enumerate(zip(*columns, strict=True))
        ]
        return lines if self.epoch > 1 else [",".join(names), *lines]


def epoch_means(steps: Metrics) -> dict[str, float]:
    """Average the updates of an epoch: sum_t w_t m_t / sum_t w_t, in float64."""
    weight = np.asarray(steps.weight, np.float64)
    return {
        name: float(np.sum(np.asarray(values, np.float64) * weight) / weight.sum())
        for name, values in steps.means.items()
    }


def make_record(
    epoch: int,
    steps: Metrics,
    test: Mapping[str, float] | None,
    seconds: float,
    *,
    schedule: optax.Schedule,
    means_fn: MeansFn = epoch_means,
    part: Part = "test",
) -> EpochRecord:
    """Build the record of an epoch of one run from the metrics of its updates."""
    num_steps = len(steps.weight)
    return EpochRecord(
        epoch=epoch,
        step=epoch * num_steps,
        learning_rate=float(np.asarray(schedule((epoch - 1) * num_steps))),
        train=means_fn(steps),
        test=test,
        seconds=seconds,
        examples_per_second=float(np.sum(steps.weight)) / seconds,
        steps=steps,
        part=part,
    )
