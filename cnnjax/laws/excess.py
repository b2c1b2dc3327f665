"""The error of a result relative to the bounds of `laws.law`, in numbers and words."""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Array, PyTree

from cnnjax.laws.comparison import largest_error
from cnnjax.laws.law import Exact, as_float64
from cnnjax.types import Metrics, Params


class Excess(NamedTuple):
    """The largest ratios of error to bound: above 1 the law is broken. Never NaN."""

    means: float  # over the reported metrics
    grads: float  # over all leaves of the gradient


def excess(metrics: Metrics, grads: Params, exact: Exact) -> Excess:
    """Return max |actual - exact| / bound, of the metrics and of the gradient.

    It is infinite if NaNs or infinities differ; if structures, shapes or names of
    leaves differ; and if a metric is missing (except the mean norm, which not every
    strategy reports).
    """
    means, exact_grads = exact.values
    bounds = exact.bounds
    if metrics.means.keys() != _expected_means(metrics, exact).keys():
        return Excess(math.inf, math.inf)
    if jax.tree.structure(grads) != jax.tree.structure(exact_grads):
        return Excess(math.inf, math.inf)
    of_means = [_ratio(m, means[k], bounds[0][k]) for k, m in metrics.means.items()]
    of_grads = jax.tree.map(_ratio, grads, exact_grads, bounds[1])
    return Excess(max(of_means), max(jax.tree.leaves(of_grads), default=0.0))


def unequal(metrics: Metrics, grads: Params, exact: Exact) -> str | None:
    """Describe errors beyond the bounds; None: rounding explains all differences."""
    found = excess(metrics, grads, exact)
    means = _relative_error(metrics.means, _expected_means(metrics, exact))
    of_grads = _relative_error(grads, exact.values[1])
    errors = means if found.means > 1 else 0.0, of_grads if found.grads > 1 else 0.0
    return "; ".join(objections(found, errors)) or None


def objections(found: Excess, errors: tuple[float, float]) -> list[str]:
    """Describe errors beyond the bounds, with their ratios to the bounds."""
    told = []
    for what, times, error in zip(("metrics", "gradient"), found, errors, strict=True):
        if math.inf in (times, error):
            told.append(f"{what} of another kind, or not finite")
        elif times > 1:
            told.append(f"{what} off by {error:.1e}, {times:.1e} times the bound")
    return told


def _expected_means(metrics: Metrics, exact: Exact) -> dict[str, np.ndarray]:
    """Return the exact means, without the mean norm if it is not reported."""
    optional = set() if "grad_norm" in metrics.means else {"grad_norm"}
    return {name: m for name, m in exact.values[0].items() if name not in optional}


def _relative_error(actual: PyTree, exact: PyTree) -> float:
    try:
        return largest_error(jax.tree.map(as_float64, actual), exact)
    except ValueError:  # another structure, or shape
        return math.inf


def _ratio(actual: Array, exact: np.ndarray, bound: float) -> float:
    if np.shape(actual) != exact.shape:
        return math.inf
    finite = np.isfinite(exact)
    own = as_float64(actual)
    if not np.array_equal(own[~finite], exact[~finite], equal_nan=True):
        return math.inf
    error = np.max(np.abs(own[finite] - exact[finite]), initial=0.0)
    if not np.isfinite(error):
        return math.inf
    return float(error / bound) if bound > 0 else 0.0
