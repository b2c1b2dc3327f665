"""Small arithmetic on pytrees that JAX does not name."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import PyTree


def zeros_like_output(fn: Callable[..., PyTree], *args: PyTree) -> PyTree:
    """Return zeros shaped and typed like `fn(*args)`, without computing it.

    >>> zeros_like_output(lambda x: {"sum": x.sum()}, jnp.ones(3))
    {'sum': Array(0., dtype=float32)}
    """
    shapes = jax.eval_shape(fn, *args)
    return jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)
