"""Reductions: what is done with each per-example gradient before the sum.

A reduction does not know that there is a batch: the gradient rules apply it to each
example.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from cnnjax.base.arguments import real_number
from cnnjax.base.trees import at_least_float32
from cnnjax.types import Params


class Reduced(NamedTuple):
    """The result of a reduction of the gradient of one example."""

    grads: Params  # to be added up, in the type of the gradient or a wider one
    metrics: dict[str, Float[Array, ""]]  # to be averaged, like the loss
    kept: dict[str, PyTree]  # to be returned for each example, not averaged


ReductionFn = Callable[[Params], Reduced]
# What a reduction needs of a per-example gradient. "changes": it does more than scale
# the gradient or keep it, so it needs the gradient itself before the sum.
Needs = Literal["nothing", "norm", "gradient", "changes"]


@dataclass(frozen=True)
class Reduction:
    """A reduction as a value: what it does, and what it needs from a gradient rule.

    Call it with the gradient of one example. Your own reduction only needs `reduce`.
    """

    reduce: ReductionFn
    needs: Needs = "changes"
    # If it needs "norm": the factor for the gradient, as a function of its norm.
    factor_of: Callable[[Array], Array] = jnp.ones_like

    def __call__(self, grads: Params) -> Reduced:
        """Reduce the gradient of one example."""
        return self.reduce(grads)


# Far above the values whose squares underflow in float32, so that norms are accurate.
LEAST_MAX_NORM = 1e-12


def _with_norm(grads: Params) -> Reduced:
    norm = global_norm(grads)
    return Reduced(grads, {"grad_norm": norm}, {"grad_norm": norm})


# Add the gradient up as it is; keep nothing.
mean = Reduction(lambda grads: Reduced(grads, {}, {}), "nothing")
# Add the gradient up as it is; keep its norm, and average that as a metric.
norms = Reduction(_with_norm, "norm")
# Add the gradient up as it is; keep all of it.
full = Reduction(lambda grads: Reduced(grads, {}, {"grads": grads}), "gradient")


def clipped(max_norm: float) -> Reduction:
    """Build the reduction that shortens a gradient to `max_norm` if it is longer.

        g -> g min(1, max_norm / |g|)

    Each per-example gradient is clipped before the sum, so that no example moves the
    mean by more than max_norm / n, as differential privacy requires (Abadi et al.,
    "Deep Learning with Differential Privacy", 2016, arXiv:1607.00133). Clipping the
    mean gradient is not the same.

    Raises:
        InputError: a `max_norm` below `LEAST_MAX_NORM`.
    """
    max_norm = check_max_norm(max_norm)

    def factor_of(norms: Array) -> Array:
        return clip_factor(norms, max_norm=max_norm)

    def reduce(grads: Params) -> Reduced:
        norm = global_norm(grads)
        factor = factor_of(norm)
        # In the factor's type: rounded to bfloat16, it could be longer than max_norm.
        shortened = jax.tree.map(lambda g: g.astype(factor.dtype) * factor, grads)
        return Reduced(shortened, {"grad_norm": norm}, {"grad_norm": norm})

    return Reduction(reduce, "norm", factor_of)


# By name: functions of a norm to clip to, which only *clipped* uses.
REDUCTIONS: dict[str, Callable[[float], Reduction]] = {
    "norms": lambda _: norms,
    "clipped": clipped,
    "full": lambda _: full,
}


def global_norm(grads: Params) -> Float[Array, ""]:
    """Return sqrt(sum of g^2), the Euclidean norm over all entries of all leaves.

    Entries are not scaled first: in float32, a norm above 1.8e19 is infinite, and
    entries below 1e-19 count as 0.
    """
    leaves = jax.tree.leaves(grads)
    wide = [leaf.astype(at_least_float32(leaf.dtype)) for leaf in leaves]
    return jnp.sqrt(sum((jnp.sum(jnp.square(leaf)) for leaf in wide), jnp.float32(0)))


def check_max_norm(max_norm: float) -> float:
    """Return a norm that gradients can be clipped to, as a float.

    Raises:
        InputError: `max_norm` is not a number, or below `LEAST_MAX_NORM`.
    """
    what = f"max_norm of at least {LEAST_MAX_NORM}"
    return real_number(what, max_norm, lambda norm: norm >= LEAST_MAX_NORM)


def clip_factor(
    norms: Float[Array, "*batch"], *, max_norm: float
) -> Float[Array, "*batch"]:
    """Return min(1, max_norm / norm): 1 for a norm of 0, 0 for inf, NaN for NaN."""
    return jnp.where(norms <= max_norm, jnp.ones_like(norms), max_norm / norms)
