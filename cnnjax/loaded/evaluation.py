"""Predictions of a trained network on labelled examples, and how good they are."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Num

from cnnjax.base.errors import expect
from cnnjax.experiments.experiment import objective_of
from cnnjax.experiments.recipe import Recipe
from cnnjax.gradients.objective import Objective
from cnnjax.results.plain import plain
from cnnjax.statistics.classification import (
    Calibration,
    PerClass,
    calibration,
    confusion,
    per_class,
    wilson,
)
from cnnjax.training.evaluation import map_examples
from cnnjax.types import NO_PREDICTION, HostParams, Params


class Evaluation(NamedTuple):
    """How good a network is on labelled examples; each example counts once."""

    loss: float  # mean over the examples: nats or squared units
    inputs: Num[np.ndarray, "examples *example"]  # raw, not copied
    labels: np.ndarray  # classes or targets, in the order of the examples
    outputs: Float[np.ndarray, "examples outputs"]  # logits, or predicted targets
    class_names: tuple[str, ...]  # empty: a regression

    @property
    def classifies(self) -> bool:
        """Whether classes are predicted."""
        return bool(self.class_names)

    @property
    def predictions(self) -> Int[np.ndarray, " examples"]:
        """Return the class of the largest logit; NO_PREDICTION where one is NaN."""
        lost = np.isnan(self.outputs).any(axis=1)
        return np.where(lost, NO_PREDICTION, np.argmax(self.outputs, axis=1))

    @property
    def probabilities(self) -> Float[np.ndarray, "examples classes"]:
        """Return the softmax of the logits."""
        return np.asarray(jax.nn.softmax(jnp.asarray(self.outputs)))

    @property
    def right(self) -> int:
        """Return how many examples are predicted right."""
        return int(np.sum(self.predictions == self.labels))

    @property
    def accuracy(self) -> float:
        """Return the share of the examples that is predicted right."""
        return self.right / len(self.labels)

    @property
    def interval(self) -> tuple[float, float]:
        """Return the 95 % interval of the accuracy: see `wilson`."""
        return wilson(self.right, len(self.labels))

    @property
    def confusion(self) -> Int[np.ndarray, "classes columns"]:
        """Count the examples by class and class predicted; the last column: neither."""
        return confusion(
            self.labels, self.predictions, num_classes=len(self.class_names)
        )

    @property
    def per_class(self) -> PerClass:
        """Return recall and precision of each class."""
        return per_class(self.confusion)

    @property
    def calibration(self) -> Calibration:
        """Return how far the probabilities can be believed."""
        return calibration(self.probabilities, self.labels)

    def mistakes(self, most: int) -> Int[np.ndarray, " mistakes"]:
        """Return the examples that are wrong with the largest probability, by index."""
        wrong = np.flatnonzero(self.predictions != self.labels)
        sure = np.nan_to_num(self.probabilities.max(axis=1), nan=1.0)
        return wrong[np.argsort(-sure[wrong], kind="stable")][:most]

    def to_json(self) -> dict[str, Any]:
        """Return everything but the single examples, as JSON has it."""
        own: dict[str, Any] = {"examples": len(self.labels), "loss": self.loss}
        if self.classifies:
            own |= {
                "accuracy": self.accuracy,
                "right": self.right,
                "interval": list(self.interval),
                "no_prediction": int(np.sum(self.predictions == NO_PREDICTION)),
                "class_names": list(self.class_names),
                "confusion": self.confusion.tolist(),
                "recall": self.per_class.recall.tolist(),
                "precision": self.per_class.precision.tolist(),
                "calibration_error": self.calibration.error,
            }
        return plain(own)


@functools.cache
def built(recipe: Recipe) -> Objective:
    """Return the network of a recipe, once: a new one would be compiled anew."""
    return objective_of(recipe)


@functools.partial(jax.jit, static_argnums=0)
def _each(
    apply_fn: Callable[..., Array], params: Params, inputs: Num[Array, "n *example"]
) -> Float[Array, "n outputs"]:
    return map_examples(functools.partial(apply_fn, params), inputs)


def outputs_of(
    apply_fn: Callable[..., Array],
    params: Params | HostParams,
    inputs: Num[np.ndarray, "n *example"],
) -> Float[np.ndarray, "n outputs"]:
    """Apply a network to a stack of raw examples.

    Raises:
        InputError: there are none.
    """
    expect("at least one example", len(inputs), len(inputs) > 0)
    return np.asarray(_each(apply_fn, params, jax.device_put(inputs)), np.float32)
