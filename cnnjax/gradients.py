"""Gradient rules: from the loss of one example to the mean gradient of a batch.

Every rule here computes, for the loss l and the weights w of a batch,

    mean loss = sum_i w_i l(params, x_i, y_i, key_i) / sum_i w_i

and its gradient. `serial_value_and_grad` says so plainly and is the reference; the
others are compared with it. Adding a constant factor here would go unnoticed later:
Adam divides it away.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax

from cnnjax.trees import at_least_float32, zeros_like_output
from cnnjax.types import Batch, LossFn, Metrics, Params, ValueAndGradFn


def serial_value_and_grad(loss_fn: LossFn) -> ValueAndGradFn:
    """Go through the batch one example at a time and add up: the reference.

    Returns `value_and_grad(params, batch) -> (Metrics, grads)`; grads are shaped and
    typed like params.
    """
    example_value_and_grad = jax.value_and_grad(loss_fn, has_aux=True)

    def value_and_grad(params: Params, batch: Batch) -> tuple[Metrics, Params]:
        def weighted(example: Batch) -> tuple[dict, Params]:
            (loss, metrics), grads = example_value_and_grad(
                params, example.inputs, example.labels, example.keys
            )
            values = {"loss": loss, **metrics}, grads
            return jax.tree.map(
                lambda value: (
                    value.astype(at_least_float32(value.dtype)) * example.weights
                ),
                values,
            )

        def add(sums, example: Batch):
            return jax.tree.map(jnp.add, sums, weighted(example)), None

        zeros = zeros_like_output(weighted, jax.tree.map(lambda a: a[0], batch))
        sums, _ = lax.scan(add, zeros, batch)
        weight = batch.weights.sum(dtype=sums[0]["loss"].dtype)
        means, grads = jax.tree.map(lambda s: s / weight, sums)
        grads = jax.tree.map(lambda g, p: g.astype(p.dtype), grads, params)
        return Metrics(means, weight), grads

    return value_and_grad


def batch_value_and_grad(loss_fn: LossFn) -> ValueAndGradFn:
    """Differentiate the weighted mean loss of the whole batch at once.

    Returns `value_and_grad(params, batch) -> (Metrics, grads)`; grads are shaped and
    typed like params.
    """

    def mean_loss(params: Params, batch: Batch) -> tuple[jax.Array, Metrics]:
        losses, metrics = jax.vmap(loss_fn, in_axes=(None, 0, 0, 0))(
            params, batch.inputs, batch.labels, batch.keys
        )
        weights = batch.weights.astype(at_least_float32(losses.dtype))
        weight = weights.sum()
        means = {
            name: jnp.sum(values.astype(weights.dtype) * weights) / weight
            for name, values in {"loss": losses, **metrics}.items()
        }
        return means["loss"], Metrics(means, weight)

    def value_and_grad(params: Params, batch: Batch) -> tuple[Metrics, Params]:
        (_, metrics), grads = jax.value_and_grad(mean_loss, has_aux=True)(params, batch)
        return metrics, grads

    return value_and_grad
