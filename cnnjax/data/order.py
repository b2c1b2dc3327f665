"""The examples of each update: a pure function of (key, epoch)."""

from __future__ import annotations

from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Int, Key

from cnnjax.base.arguments import at_least, instance_of, whole_number
from cnnjax.base.errors import expect
from cnnjax.types import Batch, Count, Examples

Shuffle = Literal["every_epoch", "once", "never"]


def epoch_order(
    key: Key[Array, ""],
    epoch: Count,
    *,
    num_examples: int,
    shuffle: Shuffle,
) -> Int[Array, " examples"]:
    """Return the order of the examples in one epoch, as int32 indices.

    It is independent of other epochs: the order of epoch 7 is the same whether or not
    epochs 0 to 6 were run. Each example occurs once (sampling without replacement).
    """
    if shuffle == "never":
        return jnp.arange(num_examples, dtype=jnp.int32)
    epoch_key = jax.random.fold_in(key, 0 if shuffle == "once" else epoch)
    return jax.random.permutation(epoch_key, num_examples).astype(jnp.int32)


def num_batches(num_examples: int, batch_size: int) -> int:
    """Return the number of updates per epoch, including a short last batch."""
    return -(-num_examples // batch_size)


def take_batch(
    examples: Examples,
    order: Int[Array, " examples"],
    index: Count,
    *,
    batch_size: int,
) -> Batch:
    """Gather batch number `index` of an epoch; it has no keys yet.

    A short last batch is padded with copies of the last example at weight 0. These are
    real values, so that the discarded gradients are not NaN.

    Raises:
        InputError: not `Examples`, a batch size below 1, or an order that is not one
            array of 1 to `examples` integers; and, unless they are traced, an order
            with other indices than those of the examples, or an index past the epoch.
    """
    instance_of(Examples)("examples", examples)
    batch_size = at_least(1)("batch_size", batch_size)
    _check_order(order, held=len(examples.labels))
    if not isinstance(index, Tracer):
        last = num_batches(order.size, batch_size) - 1
        whole_number(f"index from 0 to {last}", index, least=0, most=last)
    positions = index * batch_size + jnp.arange(batch_size, dtype=jnp.int32)
    rows = order[jnp.minimum(positions, order.size - 1)]
    return Batch(
        inputs=jnp.asarray(examples.inputs)[rows],
        labels=jnp.asarray(examples.labels)[rows],
        weights=(positions < order.size).astype(jnp.float32),
        keys=None,
    )


def take_from_window(
    window: Examples,
    start: Count,
    index: Count,
    *,
    num_examples: int,
    batch_size: int,
) -> Batch:
    """Gather batch number `index` of an epoch from a part of it: see `take_batch`.

    `window` has examples in the order of the epoch, from place `start` on, and all
    those of the batch. `num_examples` is their number in the whole epoch.
    """
    positions = index * batch_size + jnp.arange(batch_size, dtype=jnp.int32)
    rows = jnp.minimum(positions, num_examples - 1) - start
    return Batch(
        inputs=jnp.asarray(window.inputs)[rows],
        labels=jnp.asarray(window.labels)[rows],
        weights=(positions < num_examples).astype(jnp.float32),
        keys=None,
    )


def example_keys(
    key: Key[Array, ""], step: Count, *, batch_size: int
) -> Key[Array, " batch"]:
    """Make one key per example from (key, step, position in the global batch)."""
    step_key = jax.random.fold_in(key, step)
    return jax.vmap(jax.random.fold_in, in_axes=(None, 0))(
        step_key, jnp.arange(batch_size)
    )


def _check_order(order: Int[Array, " examples"], *, held: int) -> None:
    """Raise InputError unless `order` has indices of `held` examples."""
    dtype, shape = getattr(order, "dtype", None), getattr(order, "shape", None)
    whole = dtype is not None and jnp.issubdtype(dtype, jnp.integer)
    got = order if dtype is None else dtype  # a list has no dtype
    expect("an order: one array of whole numbers", got, whole)
    what = f"an order of 1 to {held} examples, as many as there are"
    expect(what, shape, len(order.shape) == 1 and 1 <= order.size <= held)
    if isinstance(order, Tracer) or not getattr(order, "is_fully_addressable", True):
        return
    numbers = np.asarray(order)
    low, high = int(numbers.min()), int(numbers.max())
    inside = low >= 0 and high < held
    expect(f"an order of examples from 0 to {held - 1}", (low, high), inside)
