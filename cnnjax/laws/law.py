"""The law of equal gradients, with a bound for the errors that rounding explains.

"Equal to 1e-5 of the largest entry" does not hold if gradients cancel: after training,
the terms of a sum are far larger than the sum, and each term is rounded. So the error
is compared with the size of the terms. With fractions f_i = w_i / sum of w, and g_i(y)
the gradient of example i at label y, the terms of a leaf have the size

    A = max over its entries of sum_i f_i |g_i(y_i)|,

and the law is, for each leaf of every strategy's gradient of a batch of n examples,

    max |actual - exact| <= (r u + n v) A + C,

where u is the unit roundoff of the arithmetic, v that of the sums over examples (in at
least float32), and r = 16 the number of roundings in the computation of one example's
gradient. n v A bounds the error of adding n terms in any order (Higham, "Accuracy and
Stability of Numerical Algorithms", 2nd edition, 2002, section 4.2). Two more
cancellations enter A:

- An example's own gradient is proportional to a difference between prediction and
  target; if these agree, only rounding is left. So A is also computed with the labels
  of other examples of the batch, and the largest A is used.
- The derivative of a saturated unit is a difference, too. A is computed from gradients
  in which such differences do not cancel (see `majorant`).

The computed sum of a unit in the forward pass is the exact sum for weights and inputs
that differ by rounding (Higham, section 3.1). C is how much such a difference changes
the gradients: for parameters p and inputs x, and random signs d and e,

    C = max over entries, d, e of
        sum_i f_i |g_i(p + c u d p, x_i + c u e x_i) - g_i(p, x_i)|,

with c = sqrt(k), where k is the number of products in the longest sum, whose rounding
errors add up to about sqrt(k) u (Higham and Mary, "A New Approach to Probabilistic
Rounding Error Analysis", 2019, doi 10.1137/18M1226312). C is large if large terms
cancel in the forward pass, or if a unit is so near the corner of a ReLU, or a tie in a
pool, that rounding decides on which side it falls.

The exact gradient is the serial reference, one example at a time, added up with
compensated summation (Neumaier, "Rundungsfehleranalyse einiger Verfahren zur Summation
endlicher Summen", 1974, https://doi.org/10.1002/zamm.19740540106). `benchmarks/law.py`
measures the ratios of error to bound.
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

from cnnjax.base.trees import at_least_float32, widen, zeros_like
from cnnjax.gradients import padding, reductions
from cnnjax.gradients.shares import canonical, ready
from cnnjax.laws.majorant import without_cancelling
from cnnjax.laws.nearby import longest_sum, neighbours
from cnnjax.models.contract import ValuesFn, checked
from cnnjax.types import Batch, LossFn, Params

# Unit roundoff u of the arithmetic, by its dtype.
ROUNDOFF = {"bfloat16": 2.0**-9, "float32": 2.0**-24, "float64": 2.0**-53}
INSIDE = 16.0  # r: roundings in the computation of one example's gradient
SHIFTS = (1, 5)  # rolls of the labels, for the gradients at other labels


class Exact(NamedTuple):
    """The exact means of a batch, and the bounds of rounding errors."""

    # ({metric: mean}, gradient), as NumPy arrays in float64.
    values: tuple[dict[str, np.ndarray], PyTree[np.ndarray]]
    bounds: tuple[dict[str, float], PyTree[float]]  # for each leaf, in its unit


# exact_fn(params, batch) -> Exact
ExactFn = Callable[[Params, Batch], Exact]


def make_exact(
    loss_fn: LossFn,
    *,
    dtype: str,
    reduction: reductions.ReductionFn = reductions.mean,
) -> ExactFn:
    """Build `exact(params, batch)`, with which every strategy's results are compared.

    `dtype` is that of the arithmetic. The reduction is applied to each per-example
    gradient before it is added, as in `gradients.serial_share`; its metrics are
    averaged, too.
    """
    values_fn = checked(loss_fn)
    exact_terms = _terms_of(values_fn, reduction)
    large_terms = _terms_of(without_cancelling(values_fn), reduction)

    @jax.jit
    def sums(params: Params, batch: Batch) -> tuple[PyTree, PyTree]:
        """Return the sum over the examples, and its accumulated rounding error."""

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
        """Return the sum of the absolute values of the terms."""

        def add(size: PyTree, example: Batch):
            own = large_terms(params, example)
            return jax.tree.map(lambda s, t: s + jnp.abs(t), size, own), None

        examples = _at_fractions(batch)
        return lax.scan(add, _zeros(large_terms, params, examples), examples)[0]

    @jax.jit
    def changes(params: Params, batch: Batch, moved: tuple[Params, Array]) -> PyTree:
        """Return the sum of the absolute changes with other params and inputs."""
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
        # Subnormal numbers may be flushed to 0.
        tiny = count * float(wide.tiny)

        def bound(size: float, change: float, kind: str) -> float:
            of_sum = max(ROUNDOFF[wide.dtype.name], ROUNDOFF[kind])
            unit = INSIDE * ROUNDOFF[dtype] + count * of_sum
            return unit * size + change + tiny

        kinds = _kinds_of_sums(exact_terms, params, batch)
        return Exact(values, jax.tree.map(bound, size, change, kinds))

    return exact


# terms(params, example) -> its terms of the means and of the gradient, widened.
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
    """Return the batch with weights f_i = w_i / sum of w."""
    filled, _ = ready(batch)
    fractions = filled.weights / padding.nonzero(padding.total_weight(filled))
    return filled._replace(weights=fractions)


def _zeros(terms: TermsFn, params: Params, examples: Batch) -> PyTree:
    first = jax.tree.map(lambda a: a[0], examples)
    return zeros_like(jax.eval_shape(terms, params, first))


def _kinds_of_sums(terms: TermsFn, params: Params, batch: Batch) -> PyTree:
    """Return the type in which each leaf is added up; for booleans it is float32."""
    first = jax.tree.map(lambda a: a[0], canonical(batch))
    shapes = jax.eval_shape(terms, params, first._replace(weights=1.0))
    return jax.tree.map(lambda shape: shape.dtype.name, shapes)


def _largest(sums: Iterable[PyTree]) -> PyTree:
    """Return the largest entry of each leaf, over all of these trees."""
    return jax.tree.map(
        lambda *leaves: max(float(np.max(leaf, initial=0)) for leaf in leaves), *sums
    )


def _lost(lost: Array, total: Array, term: Array, new: Array) -> Array:
    """Add to `lost` the rounding error of new = total + term."""
    larger = jnp.abs(total) >= jnp.abs(term)
    return lost + jnp.where(larger, (total - new) + term, (term - new) + total)


def as_float64(array: Array | np.ndarray) -> np.ndarray:
    """Return an array of any type as a NumPy array of float64."""
    return np.asarray(array).astype(np.float64)
