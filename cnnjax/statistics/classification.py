"""How good the predicted classes and probabilities are: by class, and in all."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import scipy
from jaxtyping import Float, Int

from cnnjax.base.arguments import at_least
from cnnjax.base.errors import expect
from cnnjax.types import NO_PREDICTION

BINS = 15


class PerClass(NamedTuple):
    """Of each class: how many examples it has, and how well they are recognized.

    A share of nothing is NaN: of a class that nobody has, or that is never predicted.
    """

    support: Int[np.ndarray, " classes"]  # examples of this class
    recall: Float[np.ndarray, " classes"]  # share of them that is predicted as such
    precision: Float[np.ndarray, " classes"]  # share right of those predicted as such


class Calibration(NamedTuple):
    """Predicted probabilities in bins, beside how often they are right."""

    error: float  # expected calibration error: mean |confidence - accuracy|
    count: Int[np.ndarray, " bins"]
    confidence: Float[np.ndarray, " bins"]  # mean of the bin; NaN: it is empty
    accuracy: Float[np.ndarray, " bins"]


def wilson(right: int, total: int) -> tuple[float, float]:
    """Return the 95 % interval of a share by Wilson (1927), as SciPy computes it.

    >>> low, high = wilson(98, 100)
    >>> print(f"{low:.4f} {high:.4f}")
    0.9300 0.9945

    Raises:
        InputError: a total below 1, or more right than there are.
    """
    total = at_least(1)("total", total)
    expect(f"right from 0 to {total}", right, 0 <= right <= total)
    interval = scipy.stats.binomtest(right, total).proportion_ci(0.95, method="wilson")
    return float(interval.low), float(interval.high)


def confusion(
    labels: Int[np.ndarray, " examples"],
    predictions: Int[np.ndarray, " examples"],
    *,
    num_classes: int,
) -> Int[np.ndarray, "classes columns"]:
    """Count the examples by their class (row) and the class predicted (column).

    One more column, the last, counts those without a prediction.
    """
    table = np.zeros((num_classes, num_classes + 1), np.int64)
    columns = np.where(predictions == NO_PREDICTION, num_classes, predictions)
    np.add.at(table, (labels, columns), 1)
    return table


def per_class(table: Int[np.ndarray, "classes columns"]) -> PerClass:
    """Return how well each class of a confusion table is recognized."""
    right, support = np.diagonal(table), table.sum(axis=1)
    predicted = table.sum(axis=0)[: len(table)]
    return PerClass(support, _share(right, support), _share(right, predicted))


def calibration(
    probabilities: Float[np.ndarray, "examples classes"],
    labels: Int[np.ndarray, " examples"],
    *,
    bins: int = BINS,
) -> Calibration:
    """Compare the largest probability of each example with how often it is right.

    The expected calibration error of Guo et al. (2017): the mean over all examples of
    the distance between confidence and accuracy in `bins` equal bins from 0 to 1.
    Examples whose probabilities are not numbers are left out.
    """
    bins = at_least(1)("bins", bins)
    known = np.isfinite(probabilities).all(axis=1)
    probabilities, labels = probabilities[known], labels[known]
    sure = probabilities.max(axis=1, initial=0.0)
    right = probabilities.argmax(axis=1) == labels
    place = np.minimum((sure * bins).astype(int), bins - 1)
    count = np.bincount(place, minlength=bins)
    confidence = _share(np.bincount(place, sure, bins), count)
    accuracy = _share(np.bincount(place, right, bins), count)
    apart = np.nansum(count * np.abs(confidence - accuracy))
    return Calibration(float(apart / max(1, len(labels))), count, confidence, accuracy)


def _share(part: np.ndarray, of: np.ndarray) -> np.ndarray:
    return np.divide(part, of, out=np.full(of.shape, np.nan), where=of > 0)
