"""Small functions on pytrees that JAX does not provide."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, DTypeLike, PyTree


def zeros_like(shapes: PyTree) -> PyTree:
    """Return zeros of these shapes and types, as `jax.eval_shape` returns them.

    >>> zeros_like(jax.eval_shape(lambda x: {"sum": x.sum()}, jnp.ones(3)))
    {'sum': Array(0., dtype=float32)}
    """
    return jax.tree.map(
        lambda shape: vary_like(jnp.zeros(shape.shape, shape.dtype), shape), shapes
    )


def vary_like(array: Array, like: Array | jax.ShapeDtypeStruct) -> Array:
    """Return the array, marked as varying over the mesh axes that `like` varies over.

    This has an effect only inside a `shard_map`. The initial carry of a scan must vary
    over the same axes as its result; and a gradient with respect to an array that does
    not vary is summed over the devices.
    """
    kind = jax.eval_shape(lambda x: x, like).manual_axis_type
    axes = () if kind is None else kind.varying
    return lax.pcast(array, tuple(axes), to="varying") if axes else array


def typed_like(tree: PyTree, like: PyTree) -> PyTree:
    """Return the tree with each leaf cast to the type of the same leaf of `like`.

    >>> typed_like({"bias": jnp.ones(2)}, {"bias": jnp.ones(2, "bfloat16")})
    {'bias': Array([1, 1], dtype=bfloat16)}
    """
    return jax.tree.map(lambda a, b: a.astype(b.dtype), tree, like)


def at_least_float32(dtype: DTypeLike) -> np.dtype:
    """Return the type to accumulate sums in: bfloat16 cannot count past 256.

    Integers and booleans are averaged in float32.

    >>> at_least_float32("bfloat16"), at_least_float32("float64")
    (dtype('float32'), dtype('float64'))
    """
    if not jnp.issubdtype(dtype, jnp.floating):
        return np.dtype(np.float32)
    return np.promote_types(dtype, np.float32)


def widen(values: Array) -> Array:
    """Return the values in a type that sums can be accumulated in: at least float32."""
    return values.astype(at_least_float32(values.dtype))


def nbytes(tree: PyTree) -> int:
    """Return the size of all arrays in a tree, in bytes.

    >>> nbytes({"kernel": jnp.ones((3, 4)), "bias": jnp.ones(4)})
    64
    """
    return sum(leaf.nbytes for leaf in jax.tree.leaves(tree))
