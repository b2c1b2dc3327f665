"""Batches derived from one: short ones, longer ones, with other weights and orders.

All have the size of the given batch, or twice that, so that a strategy that accepts the
given batch accepts them, too.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from cnnjax.types import Batch

# Examples per device when the work is counted. With fewer, the work that is done once
# per batch, such as adding up the devices' gradients, would dominate.
WORK_BATCH = 16


def size_of(batch: Batch) -> int:
    """Return the number of examples in a batch, including padding."""
    return len(batch.weights)


def repeat(batch: Batch, size: int) -> Batch:
    """Repeat the examples of a batch until there are `size`."""
    return take(batch, np.arange(size) % size_of(batch))


def take(batch: Batch, positions: np.ndarray) -> Batch:
    """Return the examples at these positions, in this order."""
    return jax.tree.map(lambda a: a[positions], batch)


def only_real(batch: Batch) -> Batch:
    """Replace padding by repeated real examples; the size does not change."""
    real = take(batch, np.flatnonzero(np.asarray(batch.weights)))
    return repeat(real, size_of(batch))


def unequally_weighted(batch: Batch) -> Batch:
    """Give the examples unequal weights; with equal ones, a mean of means is right."""
    factors = np.linspace(0.25, 1.75, size_of(batch))
    return batch._replace(weights=batch.weights * factors.astype(batch.weights.dtype))


def padded_after(batch: Batch, count: int) -> Batch:
    """Turn all examples except the first `count` into padding."""
    real = jnp.arange(size_of(batch)) < count
    return batch._replace(weights=jnp.where(real, batch.weights, 0))


def short(batch: Batch) -> Batch:
    """Turn the last third of the examples into padding."""
    return padded_after(batch, size_of(batch) - max(1, size_of(batch) // 3))


def nearly_empty(batch: Batch) -> Batch:
    """Turn all but the first fifth into padding, so some devices have only padding."""
    return padded_after(batch, max(1, size_of(batch) // 5))


def twice(batch: Batch) -> Batch:
    """Take every example twice."""
    return repeat(batch, 2 * size_of(batch))


def followed_by_padding(batch: Batch) -> Batch:
    """Double the size of the batch with copies of its last example at weight 0."""
    size = size_of(batch)
    filled = take(batch, np.minimum(np.arange(2 * size), size - 1))
    return padded_after(filled, size)


def permuted(batch: Batch) -> Batch:
    """Permute the examples, each with its own weight and key."""
    return take(batch, np.random.default_rng(0).permutation(size_of(batch)))


def told(batch: Batch) -> str:
    """Describe a batch in words, for messages."""
    padding = int(np.sum(np.asarray(batch.weights) == 0))
    return f"of {size_of(batch)} examples, {padding} of them padding"
