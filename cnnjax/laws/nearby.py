"""Values that differ by rounding: a computed result is exact for some such values.

A computed sum of products is the exact sum for numbers that differ from the given ones
by the rounding errors of the sum (Higham, "Accuracy and Stability of Numerical
Algorithms", 2nd edition, 2002, section 3.1).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from cnnjax.types import Params

T = TypeVar("T")


def longest_sum(params: Params) -> int:
    """Return the number of products in the longest sum of a network, at least 1.

    A layer sums over its inputs in the forward pass, and over its outputs in the
    backward pass.
    """
    shapes = [jnp.shape(leaf) for leaf in jax.tree.leaves(params)]
    ways = [(math.prod(shape[:-1]), *shape[-1:]) for shape in shapes]
    return max((max(way) for way in ways), default=1) or 1


def neighbours(values: T, step: float) -> Iterator[T]:
    """Yield six copies of the values, with each number changed by `step` times itself.

    In the first two, all numbers of an array grow in size, or all shrink. In the next
    two, this is drawn at random for each output unit (the last axis). If the inputs all
    have one sign, no other change moves the sum of a unit further. In the last two, the
    sign of each change is drawn independently. Integers do not change.
    """
    leaves, tree = jax.tree.flatten(values)
    leaves = [jnp.asarray(leaf) for leaf in leaves]
    rng = np.random.default_rng(0)

    def moved(leaf: Array, change: Any) -> Array:
        if not jnp.issubdtype(leaf.dtype, jnp.floating):
            return leaf
        return leaf + jnp.asarray(change, leaf.dtype) * leaf

    def sign(shape: tuple[int, ...]) -> Any:
        return rng.choice([-1.0, 1.0], shape)

    for signs in (
        [sign(()) * np.sign(leaf) for leaf in leaves],
        [sign(leaf.shape[-1:]) * np.sign(leaf) for leaf in leaves],
        [sign(leaf.shape) for leaf in leaves],
    ):
        for way in (step, -step):
            changed = [moved(p, way * s) for p, s in zip(leaves, signs, strict=True)]
            yield jax.tree.unflatten(tree, changed)
