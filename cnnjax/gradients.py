"""Gradient rules: from the loss of one example to the mean gradient of a batch.

Every rule computes, for the loss l and the weights w of a batch,

    mean loss = sum_i w_i l(params, x_i, y_i, key_i) / sum_i w_i

and its gradient. It is written as the *share* that some examples have in the mean of
all: the same sum over those examples, divided by the weight of all. Shares add up. A
whole batch is its own share; the shares of microbatches, or of devices, are added; and
a part that is all padding has a share of zero, where a mean of it would be NaN.

`serial_share` says so plainly and is the reference; the others are compared with it. A
constant factor too much would go unnoticed later: Adam divides it away.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from cnnjax.trees import at_least_float32, zeros_like_output
from cnnjax.types import Batch, LossFn, Metrics, Params, ValueAndGradFn

Means = dict[str, Float[Array, ""]]

# share(params, batch, total) -> (means, grads): what the batch adds to the mean over
# all examples, whose weight is `total`. Grads are shaped and typed like params.
ShareFn = Callable[[Params, Batch, Float[Array, ""]], tuple[Means, Params]]


def serial_share(loss_fn: LossFn) -> ShareFn:
    """Go through the batch one example at a time and add up: the reference."""
    example_value_and_grad = jax.value_and_grad(loss_fn, has_aux=True)

    def share(params: Params, batch: Batch, total: Array) -> tuple[Means, Params]:
        def weighted(example: Batch) -> tuple[Means, Params]:
            (loss, metrics), grads = example_value_and_grad(
                params, example.inputs, example.labels, example.keys
            )
            values = {"loss": loss, **metrics}, grads
            return jax.tree.map(lambda value: _widen(value) * example.weights, values)

        def add(sums, example: Batch):
            return jax.tree.map(jnp.add, sums, weighted(example)), None

        zeros = zeros_like_output(weighted, jax.tree.map(lambda a: a[0], batch))
        sums, _ = lax.scan(add, zeros, batch)
        means, grads = jax.tree.map(lambda s: s / total.astype(s.dtype), sums)
        return means, jax.tree.map(lambda g, p: g.astype(p.dtype), grads, params)

    return share


def batch_share(loss_fn: LossFn) -> ShareFn:
    """Differentiate the weighted sum of the losses of all examples at once."""

    def share(params: Params, batch: Batch, total: Array) -> tuple[Means, Params]:
        def weighted_loss(params: Params) -> tuple[Array, Means]:
            losses, metrics = jax.vmap(loss_fn, in_axes=(None, 0, 0, 0))(
                params, batch.inputs, batch.labels, batch.keys
            )
            means = {
                name: jnp.sum(_widen(values) * batch.weights) / total
                for name, values in {"loss": losses, **metrics}.items()
            }
            return means["loss"], means

        (_, means), grads = jax.value_and_grad(weighted_loss, has_aux=True)(params)
        return means, grads

    return share


def example_share(loss_fn: LossFn) -> ShareFn:
    """Form the share of each example in the gradient, under `vmap`, then add them up.

    The weight is in the loss, so that the sum follows the rows at once: XLA then sees
    that the rows are only added, and mostly never forms them. (Weighting the rows
    instead makes it form them all, 5 to 20 times slower on a CPU.) So this is a rule,
    not a measurement of per-example gradients.
    """

    def fraction_of_loss(params: Params, example: Batch) -> tuple[Array, Means]:
        loss, metrics = loss_fn(params, example.inputs, example.labels, example.keys)
        values = {"loss": loss, **metrics}
        shares = {
            name: _widen(value) * example.weights for name, value in values.items()
        }
        return shares["loss"], shares

    rows_of = jax.vmap(jax.value_and_grad(fraction_of_loss, has_aux=True), (None, 0))

    def share(params: Params, batch: Batch, total: Array) -> tuple[Means, Params]:
        fractions = batch.weights / total
        (_, means), rows = rows_of(params, batch._replace(weights=fractions))
        return jax.tree.map(lambda values: values.sum(axis=0), (means, rows))

    return share


def microbatched(share: ShareFn, *, size: int) -> ShareFn:
    """Take a rule's share `size` examples at a time, and add: less memory, same sum.

    A batch that is no multiple of `size` is filled up with copies at weight 0.
    """

    def total_share(params: Params, batch: Batch, total: Array) -> tuple[Means, Params]:
        parts = jax.tree.map(
            lambda a: a.reshape(-1, size, *a.shape[1:]), pad_batch(batch, size)
        )

        def add(sums, part: Batch):
            return jax.tree.map(jnp.add, sums, share(params, part, total)), None

        first = jax.tree.map(lambda a: a[0], parts)
        zeros = zeros_like_output(share, params, first, total)
        sums, _ = lax.scan(add, zeros, parts)
        return sums

    return total_share


def pad_batch(batch: Batch, multiple: int) -> Batch:
    """Fill a batch up to a multiple with copies of its last example, at weight 0."""
    size = batch.weights.shape[0]
    missing = -size % multiple
    if missing == 0:
        return batch
    rows = jnp.minimum(jnp.arange(size + missing), size - 1)
    padded = jax.tree.map(lambda a: a[rows], batch)
    real = jnp.arange(size + missing) < size
    return padded._replace(weights=jnp.where(real, padded.weights, 0))


def whole(share: ShareFn) -> ValueAndGradFn:
    """Take the share of the whole batch in itself: the mean.

    Returns `value_and_grad(params, batch) -> (Metrics, grads)`.
    """

    def value_and_grad(params: Params, batch: Batch) -> tuple[Metrics, Params]:
        total = total_weight(batch)
        means, grads = share(params, batch, total)
        return Metrics(means, total), grads

    return value_and_grad


def total_weight(batch: Batch) -> Float[Array, ""]:
    """Add up the weights of a batch, in float64 where JAX has it."""
    return batch.weights.sum(dtype=jax.dtypes.canonicalize_dtype("float64"))


def serial_value_and_grad(loss_fn: LossFn) -> ValueAndGradFn:
    """Go through the batch one example at a time: the reference of every strategy."""
    return whole(serial_share(loss_fn))


def batch_value_and_grad(loss_fn: LossFn) -> ValueAndGradFn:
    """Differentiate the weighted mean loss of the whole batch at once."""
    return whole(batch_share(loss_fn))


def _widen(values: Array) -> Array:
    return values.astype(at_least_float32(values.dtype))
