"""The law of equal gradients, with a bound that rounding keeps and a fault does not.

"Equal to 1e-5 of the largest entry" is false where gradients cancel: after training,
the terms of a sum are far larger than the sum, and each term is rounded. So an error is
measured against what is added up. With fractions f_i = w_i / sum of w, and g_i(y) the
gradient of example i at label y, the terms of a leaf have the size

    A = max over its entries of sum_i f_i |g_i(y_i)|,

and the law says, for a batch of n examples, of a leaf of every strategy's gradient,

    max |actual - exact| <= (r u + n v) A + C,

where u is the unit roundoff of the arithmetic, v that of the sums over examples
(float32 at least), and r = 16 the roundings that one example's gradient goes through at
its own size: n v A bounds the error of adding n terms in any order (Higham, "Accuracy
and Stability of Numerical Algorithms", 2nd edition, 2002, section 4.2). An example's
gradient is a difference, too, of what is predicted and what is wanted, and where both
agree only rounding is left of it. So A is also taken with the labels of other examples
of the batch, and the largest of these counts. So is the derivative of a saturated unit
a difference: A is taken of gradients in which those do not cancel (see `majorant`).

The sum of a unit is the exact one of weights and inputs that differ by rounding
(Higham, section 3.1). So C is what such a difference makes of the gradients: for
parameters p and inputs x, and directions d and e of signs,

    C = max over entries, d, e of
        sum_i f_i |g_i(p + c u d p, x_i + c u e x_i) - g_i(p, x_i)|,

with c = sqrt(k), for k products in the longest sum, whose roundings add up to about
sqrt(k) (Higham and Mary, "A New Approach to Probabilistic Rounding Error Analysis",
2019, doi 10.1137/18M1226312). It is large where large terms cancel on the way forward,
and where a unit is so near to the corner of a ReLU, or to a tie of a pool, that
rounding decides on which side it falls.

The exact gradient is the serial reference's, one example at a time, added up with
compensation (Neumaier, "Rundungsfehleranalyse einiger Verfahren zur Summation endlicher
Summen", 1974, https://doi.org/10.1002/zamm.19740540106). `benchmarks/law.py` measures
the ratios of error to bound.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, PyTree

from cnnjax.base.trees import at_least_float32, widen, zeros_like_output
from cnnjax.gradients import padding, reductions
from cnnjax.gradients.shares import canonical, ready
from cnnjax.laws.majorant import without_cancelling
from cnnjax.laws.nearby import longest_sum, neighbours
from cnnjax.models.contract import ValuesFn, checked
from cnnjax.types import Batch, LossFn, Params

# Unit roundoff of an arithmetic, by its dtype.
ROUNDOFF = {"bfloat16": 2.0**-9, "float32": 2.0**-24, "float64": 2.0**-53}
INSIDE = 16.0  # r: roundings of an example's gradient, at its own size
SHIFTS = (1, 5)  # of the labels, for the gradients at other labels


class Exact(NamedTuple):
    """The means of a batch, and how far from them right ones may be."""

    # Of loss and metrics, and the gradient: NumPy arrays, float64.
    values: tuple[dict[str, np.ndarray], PyTree[np.ndarray]]
    bounds: tuple[dict[str, float], PyTree[float]]  # of each leaf, in its unit


# exact_fn(params, batch) -> Exact
ExactFn = Callable[[Params, Batch], Exact]


def make_exact(
    loss_fn: LossFn,
    *,
    dtype: str,
    reduction: reductions.ReductionFn = reductions.mean,
) -> ExactFn:
    """Build what every strategy's means and gradient are compared with.

    `dtype` is that of the arithmetic. The reduction is done to the gradient of each
    example before it is added, as in `gradients.serial_share`; its metrics are means,
    too.
    """
    values_fn = checked(loss_fn)
    exact_terms = _terms_of(values_fn, reduction)
    large_terms = _terms_of(without_cancelling(values_fn), reduction)

    @jax.jit
    def sums(params: Params, batch: Batch) -> tuple[PyTree, PyTree]:
        """Return the sum over the examples, and what it lost by rounding."""

        def add(carried: tuple[PyTree, PyTree], example: Batch):
            total, lost = carried
            own = exact_terms(params, example)
            new = jax.tree.map(jnp.add, total, own)
            return (new, jax.tree.map(_lost, lost, total, own, new)), None

        examples = _at_fractions(batch)
        zeros = _zeros(exact_terms, params, examples)
        return lax.scan(add, (zeros, zeros), examples)[0]

    @jax.jit
    def sizes(params: Params, batch: Batch) -> PyTree:
        """Return the sum of absolute values."""

        def add(size: PyTree, example: Batch):
            own = large_terms(params, example)
            return jax.tree.map(lambda s, t: s + jnp.abs(t), size, own), None

        examples = _at_fractions(batch)
        return lax.scan(add, _zeros(large_terms, params, examples), examples)[0]

    @jax.jit
    def changes(params: Params, batch: Batch, moved: tuple[Params, Array]) -> PyTree:
        """Return the sum of absolute values of what other params and inputs change."""
        other_params, other_inputs = moved

        def add(size: PyTree, examples: tuple[Batch, Batch]):
            own, other = examples
            before, after = exact_terms(params, own), exact_terms(other_params, other)
            change = jax.tree.map(lambda b, a: jnp.abs(a - b), before, after)
            return jax.tree.map(jnp.add, size, change), None

        examples = _at_fractions(batch)
        both = examples, _at_fractions(batch._replace(inputs=other_inputs))
        return lax.scan(add, _zeros(exact_terms, params, examples), both)[0]

    def exact(params: Params, batch: Batch) -> Exact:
        total, lost = sums(params, batch)
        values = jax.tree.map(
            lambda t, c: np.asarray(as_float64(t) + as_float64(c)), total, lost
        )
        labels = [batch.labels]
        labels += [jnp.roll(batch.labels, shift, axis=0) for shift in SHIFTS]
        size = _largest(sizes(params, batch._replace(labels=own)) for own in labels)
        step = math.sqrt(longest_sum(params)) * ROUNDOFF[dtype]
        near = neighbours((params, batch.inputs), step)
        change = _largest(changes(params, batch, moved) for moved in near)
        count = int(np.count_nonzero(batch.weights))
        wide = np.finfo(at_least_float32(dtype))
        # What is smaller than normal numbers may count as 0.
        tiny = count * float(wide.tiny)

        def bound(size: float, change: float, kind: str) -> float:
            of_sum = max(ROUNDOFF[wide.dtype.name], ROUNDOFF[kind])
            unit = INSIDE * ROUNDOFF[dtype] + count * of_sum
            return unit * size + change + tiny

        kinds = _kinds_of_sums(exact_terms, params, batch)
        return Exact(values, jax.tree.map(bound, size, change, kinds))

    return exact


# terms(params, example) -> what it adds to the means and to the gradient: both wide.
TermsFn = Callable[[Params, Batch], PyTree]


def _terms_of(values_fn: ValuesFn, reduction: reductions.ReductionFn) -> TermsFn:
    gradient = jax.grad(values_fn, has_aux=True)

    def terms(params: Params, example: Batch) -> PyTree:
        grads, values = gradient(params, example.inputs, example.labels, example.keys)
        reduced = reduction(grads)
        own = {**values, **reduced.metrics}, reduced.grads
        return jax.tree.map(lambda v: widen(v) * example.weights, own)

    return terms


def _at_fractions(batch: Batch) -> Batch:
    """Return the batch with each example's weight as a fraction of that of all."""
    filled, _ = ready(batch)
    fractions = filled.weights / padding.nonzero(padding.total_weight(filled))
    return filled._replace(weights=fractions)


def _zeros(terms: TermsFn, params: Params, examples: Batch) -> PyTree:
    return zeros_like_output(terms, params, jax.tree.map(lambda a: a[0], examples))


def _kinds_of_sums(terms: TermsFn, params: Params, batch: Batch) -> PyTree:
    """Return the type that each leaf is added up in: float32 for truth values."""
    first = jax.tree.map(lambda a: a[0], canonical(batch))
    shapes = jax.eval_shape(terms, params, first._replace(weights=1.0))
    return jax.tree.map(lambda shape: shape.dtype.name, shapes)


def _largest(sums: Iterable[PyTree]) -> PyTree:
    """Return the largest entry of each leaf, of all of these trees."""
    return jax.tree.map(
        lambda *leaves: max(float(np.max(leaf, initial=0)) for leaf in leaves), *sums
    )


def _lost(lost: Array, total: Array, term: Array, new: Array) -> Array:
    """Add to `lost` what rounding took from the sum of a total and a term."""
    larger = jnp.abs(total) >= jnp.abs(term)
    return lost + jnp.where(larger, (total - new) + term, (term - new) + total)


def as_float64(array: Array | np.ndarray) -> np.ndarray:
    """Return an array of any type as NumPy's, in float64."""
    return np.asarray(array).astype(np.float64)
