"""The shares of the per-example rule, which computes gradients under `vmap`."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array

from cnnjax.base.trees import typed_like, widen
from cnnjax.gradients.reductions import Reduced, ReductionFn
from cnnjax.gradients.shares import Means, Share, ShareFn, weighted
from cnnjax.models.contract import checked
from cnnjax.types import Batch, LossFn, Params


def example_share(loss_fn: LossFn) -> ShareFn:
    """Compute the share of each example in the gradient under `vmap`, then add them up.

    The weight is in the loss, so that the sum directly follows the per-example
    gradients: XLA then sees that they are only added, and usually does not materialise
    them. (If they are weighted afterwards, XLA materialises all of them, which is 5 to
    20 times slower on a CPU.) So its cost is not that of having per-example gradients.
    """
    values_fn = checked(loss_fn)

    def fraction_of_loss(params: Params, example: Batch) -> tuple[Array, Means]:
        _, values = values_fn(params, example.inputs, example.labels, example.keys)
        shares = {
            name: weighted(value, example.weights) for name, value in values.items()
        }
        return shares["loss"], shares

    rows_of = jax.vmap(jax.value_and_grad(fraction_of_loss, has_aux=True), (None, 0))

    def share(params: Params, batch: Batch, total: Array) -> Share:
        fractions = batch.weights / total
        (_, means), rows = rows_of(params, batch._replace(weights=fractions))
        means, grads = jax.tree.map(lambda values: values.sum(axis=0), (means, rows))
        return Share(means, grads, {})

    return share


def per_example_share(loss_fn: LossFn, reduction: ReductionFn) -> ShareFn:
    """Form the per-example gradients, reduce each of them, then add them up.

    Here they are materialised: they take the memory of the parameters times the batch.
    `factors` has norms and clipping that avoid this for large layers.
    """
    example_value_and_grad = jax.value_and_grad(checked(loss_fn), has_aux=True)

    def reduce_example(params: Params, example: Batch) -> tuple[Means, Reduced]:
        (_, values), grads = example_value_and_grad(
            params, example.inputs, example.labels, example.keys
        )
        reduced = reduction(grads)
        return {**values, **reduced.metrics}, reduced

    def share(params: Params, batch: Batch, total: Array) -> Share:
        values, reduced = jax.vmap(reduce_example, (None, 0))(params, batch)
        fractions = batch.weights / total

        def add_up(leaf: Array) -> Array:
            wide = widen(leaf)
            return jnp.tensordot(
                fractions.astype(wide.dtype), wide, axes=1, precision="highest"
            )

        means, grads = jax.tree.map(add_up, (values, reduced.grads))
        return Share(means, typed_like(grads, params), reduced.kept)

    return share
