"""Batches made of one: short ones, longer ones, of other weights and orders.

All are of the given size, or of twice that: a strategy that takes the one has no reason
to refuse the other.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from cnnjax.types import Batch

# Examples that each device has where its work is counted: with fewer, what is done once
# a batch, as adding up the devices' gradients, would weigh too much.
WORK_BATCH = 16


def size_of(batch: Batch) -> int:
    """Return how many examples a batch has, padding included."""
    return len(batch.weights)


def repeat(batch: Batch, size: int) -> Batch:
    """Take the examples of a batch over and over, until there are `size`."""
    return take(batch, np.arange(size) % size_of(batch))


def take(batch: Batch, positions: np.ndarray) -> Batch:
    """Return the examples at these positions, in their order."""
    return jax.tree.map(lambda a: a[positions], batch)


def only_real(batch: Batch) -> Batch:
    """Put real examples in the place of padding, over and over; the size stays."""
    real = take(batch, np.flatnonzero(np.asarray(batch.weights)))
    return repeat(real, size_of(batch))


def unequally_weighted(batch: Batch) -> Batch:
    """Weigh the examples unequally: of equal weights a mean of means is right, too."""
    factors = np.linspace(0.25, 1.75, size_of(batch))
    return batch._replace(weights=batch.weights * factors.astype(batch.weights.dtype))


def padded_after(batch: Batch, count: int) -> Batch:
    """Make padding of all examples but the first `count`."""
    real = jnp.arange(size_of(batch)) < count
    return batch._replace(weights=jnp.where(real, batch.weights, 0))


def short(batch: Batch) -> Batch:
    """Make padding of the last third."""
    return padded_after(batch, size_of(batch) - max(1, size_of(batch) // 3))


def nearly_empty(batch: Batch) -> Batch:
    """Make padding of all but the first fifth: whole devices have nothing else."""
    return padded_after(batch, max(1, size_of(batch) // 5))


def twice(batch: Batch) -> Batch:
    """Take every example two times."""
    return repeat(batch, 2 * size_of(batch))


def followed_by_padding(batch: Batch) -> Batch:
    """Let as many copies of the last example follow, at weight 0."""
    size = size_of(batch)
    filled = take(batch, np.minimum(np.arange(2 * size), size - 1))
    return padded_after(filled, size)


def permuted(batch: Batch) -> Batch:
    """Put the examples in another order, each with its own weight and key."""
    return take(batch, np.random.default_rng(0).permutation(size_of(batch)))


def told(batch: Batch) -> str:
    """Return a batch in words."""
    padding = int(np.sum(np.asarray(batch.weights) == 0))
    return f"of {size_of(batch)} examples, {padding} of them padding"
