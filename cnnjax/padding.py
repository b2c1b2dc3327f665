"""Padding: examples at weight 0, which fill a batch up and count for nothing."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Shaped

from cnnjax.types import Batch


def harmless(batch: Batch) -> Batch:
    """Put values that no loss stumbles over in the place of padded examples' own.

    Weight 0 alone is not enough: 0 times NaN is NaN, and a label that marks padding,
    as -1 does, may be no class. Numbers become those of the first real example (zeros
    where there is none), whole numbers 0; bytes are pixels, whatever their value, and
    stay. Real examples are not touched, and no value of them changes.
    """
    real = batch.weights != 0
    first = jnp.argmax(real)

    def fill(array: Shaped[Array, "batch *rest"]) -> Shaped[Array, "batch *rest"]:
        if array.dtype == jnp.uint8:
            return array
        stand_in = jnp.zeros((), array.dtype)
        if not jnp.issubdtype(array.dtype, jnp.integer):
            stand_in = jnp.where(real.any(), array[first], stand_in)
        is_real = real.reshape(-1, *(1,) * (array.ndim - 1))
        return jnp.where(is_real, array, stand_in)

    return batch._replace(
        inputs=jax.tree.map(fill, batch.inputs), labels=jax.tree.map(fill, batch.labels)
    )


def nonzero(total: Float[Array, ""]) -> Float[Array, ""]:
    """Return a batch's weight to divide by: 1 where all of it is padding.

    Such a batch has a mean loss of 0 and a gradient of 0, at weight 0.
    """
    return jnp.where(total == 0, jnp.ones_like(total), total)
