"""Laws about the metrics and gradients that a strategy returns.

Each law is a function of a case. It returns None, or one line about what is wrong. Two
results of right strategies for the same mean, one of n examples and one of at most 2n,
differ by at most three bounds b(n): the error of each is at most its own bound, and
b(2n) = (r u + 2 n v) A + C <= 2 b(n) (see `law`).
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from cnnjax.laws import batches
from cnnjax.laws.cases import Case
from cnnjax.laws.excess import unequal
from cnnjax.laws.law import Exact, as_float64
from cnnjax.types import Params

# Lengths of the steps along which the loss must fall, relative to |params|.
STEPS = (2.0**-2, 2.0**-4, 2.0**-6, 2.0**-8)


def gradients_equal_the_reference(case: Case) -> str | None:
    """Compare metrics and gradients with the exact ones, for four batches.

        max |actual - exact| <= (r u + n v) A + C    for each leaf: see `law`

    The batches are the one given, and a full, a short and a nearly empty one.
    """
    own = case.examples
    tried = case.batch, own, batches.short(own), batches.nearly_empty(own)
    for batch in tried:
        wrong = unequal(*case.value_and_grad(batch), case.exact(batch))
        if wrong is not None:
            return f"{wrong}, for a batch {batches.told(batch)}"
    return None


def mean_not_sum(case: Case) -> str | None:
    """Check that g(batch + batch) = g(batch), with every example repeated."""
    metrics, grads = case.value_and_grad(batches.twice(case.examples))
    wrong = unequal(metrics, grads, _as_returned(case))
    return wrong and f"every example taken twice: {wrong}"


def weights_weigh(case: Case) -> str | None:
    """Check that g = sum_i w_i g_i / sum_i w_i, with the mean computed in NumPy."""
    batch, (metrics, grads) = case.examples, case.returned
    each = [
        case.truth.of_one(case.params, *jax.tree.map(lambda a, i=i: a[i], example))
        for i in range(batches.size_of(batch))
        for example in [(batch.inputs, batch.labels, batch.keys)]
    ]
    weights = np.asarray(batch.weights, np.float64)

    def average(*values: Array) -> np.ndarray:
        own = [*map(as_float64, values)]
        return np.asarray(np.average(own, axis=0, weights=weights))

    mean = jax.tree.map(average, *each)
    wrong = unequal(metrics, grads, Exact(mean, case.expected.bounds))
    if wrong is not None:
        return f"unequal weights: {wrong}"
    total, reported = float(weights.sum()), float(metrics.weight)
    near = abs(reported - total) <= len(weights) * np.finfo(np.float32).eps * total
    return None if near else f"reports the weight {reported:g} for that of {total:g}"


def weight_zero_removes_an_example(case: Case) -> str | None:
    """Check that g(batch + examples at weight 0) = g(batch)."""
    metrics, grads = case.value_and_grad(batches.followed_by_padding(case.examples))
    wrong = unequal(metrics, grads, _as_returned(case))
    return wrong and f"padding added: {wrong}"


def permutation_changes_nothing(case: Case) -> str | None:
    """Check that g(permuted batch) = g(batch)."""
    metrics, grads = case.value_and_grad(batches.permuted(case.examples))
    wrong = unequal(metrics, grads, _as_returned(case))
    return wrong and f"examples in another order: {wrong}"


def structure_and_dtype_are_kept(case: Case) -> str | None:
    """Compare the gradient's structure, shapes and dtypes with the parameters'."""
    grads, params = case.returned[1], case.params
    structures = [jax.tree.structure(tree) for tree in (grads, params)]
    if structures[0] != structures[1]:
        return f"gradient of structure {structures[0]} for {structures[1]}"
    named = jax.tree_util.tree_leaves_with_path(params)
    for (path, right), own in zip(named, jax.tree.leaves(grads), strict=True):
        if (own.shape, own.dtype) != (right.shape, right.dtype):
            where = jax.tree_util.keystr(path)
            kinds = [f"{leaf.dtype}{list(leaf.shape)}" for leaf in (own, right)]
            return f"gradient {where} is {kinds[0]}, and its parameter {kinds[1]}"
    return None


def loss_falls(case: Case) -> str | None:
    """Check that L(p - t g) < L(p + t g) for a small step t against the gradient.

    The difference is 2 t |g|^2 except for terms of third order, so the curvature of the
    loss does not matter.
    """
    params, grads = case.params, case.returned[1]
    length = _length(grads)
    if length == 0 or not np.isfinite(length):
        return None  # no direction to test
    for step in STEPS:
        t = step * (_length(params) or 1.0) / length
        down, up = (
            float(case.truth.mean_loss(_moved(params, grads, by), case.examples))
            for by in (-t, t)
        )
        if not down > up:
            return None
    return "the loss rises against the gradient"


def _as_returned(case: Case) -> Exact:
    """Return the strategy's own results for `examples`, with three times the bounds."""
    metrics, grads = case.returned
    values = jax.tree.map(as_float64, (metrics.means, grads))
    return Exact(values, jax.tree.map(lambda bound: 3 * bound, case.expected.bounds))


def _length(tree: Params) -> float:
    leaves = [as_float64(leaf).ravel() for leaf in jax.tree.leaves(tree)]
    return float(np.linalg.norm(np.concatenate(leaves)))


def _moved(params: Params, grads: Params, by: float) -> Params:
    return jax.tree.map(
        lambda p, g: jnp.asarray(as_float64(p) + by * as_float64(g), p.dtype),
        params,
        grads,
    )
