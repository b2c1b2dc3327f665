"""Which examples each update sees: a pure function of (key, epoch)."""

from __future__ import annotations

from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, Key

from cnnjax.arguments import at_least
from cnnjax.errors import expect
from cnnjax.types import Batch, Count, Examples

Shuffle = Literal["every_epoch", "once", "never"]


def epoch_order(
    key: Key[Array, ""],
    epoch: Count,
    *,
    num_examples: int,
    shuffle: Shuffle,
) -> Int[Array, " examples"]:
    """Return the order in which one epoch visits the examples, as int32 indices.

    Nothing is remembered between epochs: the order of epoch 7 is the same whether or
    not epochs 0 to 6 were run. Sampling is without replacement.
    """
    if shuffle == "never":
        return jnp.arange(num_examples, dtype=jnp.int32)
    epoch_key = jax.random.fold_in(key, 0 if shuffle == "once" else epoch)
    return jax.random.permutation(epoch_key, num_examples).astype(jnp.int32)


def num_batches(num_examples: int, batch_size: int) -> int:
    """Return the updates of an epoch, the last short batch included."""
    return -(-num_examples // batch_size)


def take_batch(
    examples: Examples,
    order: Int[Array, " examples"],
    index: Count,
    *,
    batch_size: int,
) -> Batch:
    """Gather batch number `index` of an epoch; it carries no keys yet.

    Where the examples run out the batch is filled up with copies of the last one, at
    weight 0: real values, so that nothing in a discarded gradient can be NaN.

    Raises:
        InputError: a batch of no size, or an order of none or more than the examples.
    """
    batch_size = at_least(1)("batch_size", batch_size)
    held = len(examples.labels)
    what = f"an order of 1 to {held} examples, as many as there are"
    expect(what, order.shape, order.ndim == 1 and 1 <= order.size <= held)
    positions = index * batch_size + jnp.arange(batch_size, dtype=jnp.int32)
    rows = order[jnp.minimum(positions, order.size - 1)]
    return Batch(
        inputs=jnp.asarray(examples.inputs)[rows],
        labels=jnp.asarray(examples.labels)[rows],
        weights=(positions < order.size).astype(jnp.float32),
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
