"""Small arithmetic on pytrees that JAX does not name."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import DTypeLike, PyTree


def zeros_like_output(fn: Callable[..., PyTree], *args: PyTree) -> PyTree:
    """Return zeros shaped and typed like `fn(*args)`, without computing it.

    >>> zeros_like_output(lambda x: {"sum": x.sum()}, jnp.ones(3))
    {'sum': Array(0., dtype=float32)}
    """

    def zeros(shape: jax.ShapeDtypeStruct) -> jax.Array:
        # Inside a shard_map, what will be added differs from device to device, and the
        # zeros that a scan starts from must say so too.
        differs = getattr(shape.manual_axis_type, "varying", ())
        start = jnp.zeros(shape.shape, shape.dtype)
        return lax.pcast(start, tuple(differs), to="varying") if differs else start

    return jax.tree.map(zeros, jax.eval_shape(fn, *args))


def at_least_float32(dtype: DTypeLike) -> np.dtype:
    """Return the type to add up in: bfloat16 cannot count past 256.

    >>> at_least_float32("bfloat16"), at_least_float32("float64")
    (dtype('float32'), dtype('float64'))
    """
    return np.promote_types(dtype, np.float32)


def nbytes(tree: PyTree) -> int:
    """Return the bytes of all the arrays in a tree.

    >>> nbytes({"kernel": jnp.ones((3, 4)), "bias": jnp.ones(4)})
    64
    """
    return sum(leaf.nbytes for leaf in jax.tree.leaves(tree))
