"""Gradient rules: from the loss of one example to the mean gradient of a batch.

Every rule computes, for the loss l and the weights w of a batch,

    mean loss = sum_i w_i l(params, x_i, y_i, key_i) / sum_i w_i

and its gradient. A rule is written as a *share*: what some examples add to the mean
over all, which is the same sum over those examples only, divided by the weight of all.
Shares add up. The entire batch is its own share; the shares of microbatches, or of
devices, are added; and a part that is all padding has a share of zero, where its own
mean would be NaN.

`serial_share` is the plainest form and the reference; the others are compared with it.
An excess constant factor would go unnoticed later: Adam divides it away.

`per_example` has the shares that form per-example gradients, `factored` those that use
the factors of each layer's gradient.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, PyTree

from cnnjax.base.settings import typed_keys
from cnnjax.base.trees import typed_like, widen, zeros_like
from cnnjax.gradients import padding, reductions
from cnnjax.models.contract import alone, check_params, checked
from cnnjax.types import Batch, LossFn, Metrics, Params, ValueAndGradFn

Means = dict[str, Float[Array, ""]]
Each = dict[str, PyTree]


class Share(NamedTuple):
    """What some examples add to the means over all, and the values kept for each."""

    means: Means
    grads: Params  # shaped and typed like params
    each: Each  # {name: leaves of shape [batch, ...]}: concatenated, never added


# share(params, batch, total) -> Share, where `total` is the weight of all examples.
ShareFn = Callable[[Params, Batch, Float[Array, ""]], Share]
# examine(params, batch) -> (Metrics, grads, each): means, and values of each example.
ExamineFn = Callable[[Params, Batch], tuple[Metrics, Params, Each]]


def serial_share(
    loss_fn: LossFn, reduction: reductions.ReductionFn = reductions.mean
) -> ShareFn:
    """Go through the batch one example at a time, and add up: the reference.

        sum_i w_i r(grad l(params, x_i, y_i, key_i)) / total

    The reduction r is applied to each per-example gradient before it is added.
    """
    example_value_and_grad = jax.value_and_grad(checked(loss_fn), has_aux=True)

    def share(params: Params, batch: Batch, total: Array) -> Share:
        def of_example(example: Batch) -> tuple[tuple[Means, Params], Each]:
            (_, values), grads = example_value_and_grad(
                params, example.inputs, example.labels, example.keys
            )
            reduced = reduction(grads)
            own = {**values, **reduced.metrics}, reduced.grads
            fraction = example.weights / total
            added = jax.tree.map(lambda v: weighted(v, fraction), own)
            return added, reduced.kept

        def add(sums, example: Batch):
            added, kept = of_example(example)
            return jax.tree.map(jnp.add, sums, added), kept

        first = jax.tree.map(lambda a: a[0], batch)
        zeros, _ = zeros_like(jax.eval_shape(of_example, first))
        (means, grads), each = lax.scan(add, zeros, batch)
        return Share(means, typed_like(grads, params), each)

    return share


def batch_share(loss_fn: LossFn) -> ShareFn:
    """Differentiate the loss of the batch, sum_i w_i l(params, x_i, ...) / total."""
    values_of = jax.vmap(checked(loss_fn), in_axes=(None, 0, 0, 0))

    def share(params: Params, batch: Batch, total: Array) -> Share:
        def weighted_loss(params: Params) -> tuple[Array, Means]:
            _, values = values_of(params, batch.inputs, batch.labels, batch.keys)
            sums = {
                name: jnp.sum(weighted(value, batch.weights))
                for name, value in values.items()
            }
            means = {name: s / total.astype(s.dtype) for name, s in sums.items()}
            return means["loss"], means

        (_, means), grads = jax.value_and_grad(weighted_loss, has_aux=True)(params)
        return Share(means, grads, {})

    return share


def value_and_grad_of(share: ShareFn) -> ValueAndGradFn:
    """Build `value_and_grad(params, batch) -> (Metrics, grads)` from a share.

    The share of the entire batch in itself is the mean.
    """

    def value_and_grad(params: Params, batch: Batch) -> tuple[Metrics, Params]:
        batch, total, unit = _begin(params, batch)
        with alone():
            means, grads, _ = share(params, batch, padding.nonzero(total))
        return Metrics(means, total * unit), grads

    return value_and_grad


def with_per_example(share: ShareFn) -> ExamineFn:
    """Build `examine(params, batch) -> (Metrics, grads, each)` from a share.

    It returns the means, and the values that the share keeps for each example. The
    entries of examples at weight 0 are meaningless: see `padding.harmless`.
    """

    def examine(params: Params, batch: Batch) -> tuple[Metrics, Params, Each]:
        batch, total, unit = _begin(params, batch)
        with alone():
            means, grads, each = share(params, batch, padding.nonzero(total))
        return Metrics(means, total * unit), grads, each

    return examine


def _begin(params: Params, batch: Batch) -> tuple[Batch, Array, Array]:
    """Return the batch after `ready`, its total weight, and the unit of the weight."""
    check_params(params)
    batch, unit = ready(batch)
    return batch, padding.total_weight(batch), unit


def each_over(share: ShareFn) -> Callable[[Params, Batch, Each], Each]:
    """Compile `each(params, batch, old)`: the values kept for each example, no means.

    The result overwrites `old`, the result for an earlier batch of the same shapes,
    which is donated. Per-example gradients take the memory of the parameters times the
    batch: on a CPU, allocating new memory costs more than computing them.
    """
    examine = with_per_example(share)

    def each(params: Params, batch: Batch, old: Each) -> Each:
        del old  # donated: the results take its place
        return examine(params, batch)[2]

    return jax.jit(each, donate_argnums=2, keep_unused=True)


def canonical(batch: Batch) -> Batch:
    """Return a batch in the form that every rule takes: typed keys, wide weights.

    Weights are float64 if jax_enable_x64 is set, else float32.

    Raises:
        InputError: a batch that `padding.check_batch` refuses, or keys that are not
            threefry keys.
    """
    batch = padding.check_batch(batch)
    weights = jnp.asarray(batch.weights, jax.dtypes.canonicalize_dtype("float64"))
    return batch._replace(weights=weights, keys=typed_keys(batch.keys))


def ready(batch: Batch, *, multiple: int = 1) -> tuple[Batch, Float[Array, ""]]:
    """Prepare a batch for division; return it, and the unit of its weights.

    The batch is canonical, padded to a multiple of `multiple`, with weights near 1 and
    safe values in its padding.

    Raises:
        InputError: a batch that `canonical` refuses.
    """
    padded = padding.pad_batch(canonical(batch), multiple)
    batch, unit = padding.near_one(padded)
    return padding.harmless(batch), unit


def serial_value_and_grad(loss_fn: LossFn) -> ValueAndGradFn:
    """Go through the batch one example at a time: the reference of every strategy."""
    return value_and_grad_of(serial_share(loss_fn))


def batch_value_and_grad(loss_fn: LossFn) -> ValueAndGradFn:
    """Differentiate the weighted mean loss of the batch at once."""
    return value_and_grad_of(batch_share(loss_fn))


def weighted(values: Array, weights: Array) -> Array:
    """Return values times weights, in float32 or wider."""
    wide = widen(values)
    return wide * weights.astype(wide.dtype)
