"""Faults of a computed gradient: its scale, its sign, its type."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array

from cnnjax.faults.fault import Builder, Fault, of_value_and_grad
from cnnjax.faults.needs import SEVERAL_EXAMPLES, Needs
from cnnjax.types import Batch, Metrics, Params, ValueAndGradFn


def of_gradient(
    change: Callable[[Array, Batch], Array],
) -> Callable[[Builder], Builder]:
    """Build the `corrupt` that changes each leaf of the gradient, given the batch."""

    def wrong(right: ValueAndGradFn) -> ValueAndGradFn:
        def value_and_grad(params: Params, batch: Batch) -> tuple[Metrics, Params]:
            metrics, grads = right(params, batch)
            return metrics, jax.tree.map(lambda g: change(g, batch), grads)

        return value_and_grad

    return of_value_and_grad(wrong)


def take_sum(grad: Array, batch: Batch) -> Array:
    """Multiply by the weight of the batch: the mean becomes a sum."""
    return grad * batch.weights.sum().astype(grad.dtype)


def divide_by_size(grad: Array, batch: Batch) -> Array:
    """Divide by the size of the batch, padding included, instead of its weight."""
    return take_sum(grad, batch) / batch.weights.size


def reverse(grad: Array, batch: Batch) -> Array:
    """Change the sign."""
    return -grad


def halve_precision(grad: Array, batch: Batch) -> Array:
    """Round to bfloat16."""
    return grad.astype(jnp.bfloat16)


FAULTS = (
    Fault(
        name="sum_instead_of_mean",
        summary="Gradients are summed over the batch, not averaged.",
        seen="A loss with reduction='sum', or psum instead of pmean; Adam hides it.",
        needs=Needs(recipe=(SEVERAL_EXAMPLES,)),
        corrupt=of_gradient(take_sum),
        parts=("gradient",),
    ),
    Fault(
        name="mean_over_padding_too",
        summary="The sum is divided by the padded size of the batch, not by its "
        "weight.",
        seen="jnp.mean over a masked batch: a short batch takes a smaller step.",
        needs=Needs(recipe=(SEVERAL_EXAMPLES,)),
        corrupt=of_gradient(divide_by_size),
        parts=("gradient", "padding"),
    ),
    Fault(
        name="reversed_gradient",
        summary="The gradient has the wrong sign: the loss rises.",
        seen="Adding updates that should be subtracted, or the reverse.",
        corrupt=of_gradient(reverse),
        parts=("gradient",),
    ),
    Fault(
        name="gradients_in_half_precision",
        summary="Gradients are returned in bfloat16, with 2 to 3 digits.",
        seen="A cast for the all-reduce, or to save memory, that is never undone.",
        corrupt=of_gradient(halve_precision),
        parts=("gradient",),
    ),
)
