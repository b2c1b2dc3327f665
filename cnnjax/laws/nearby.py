"""Values that differ by rounding: what is computed is exact for some of them.

A computed sum of products is the exact one of numbers that differ from the given ones
by the roundings of the sum (Higham, "Accuracy and Stability of Numerical Algorithms",
2nd edition, 2002, section 3.1).
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
    """Return how many products the longest sum of a network has, at least 1.

    A layer adds up over its inputs on the way forward, over its outputs on the way
    back.
    """
    shapes = [jnp.shape(leaf) for leaf in jax.tree.leaves(params)]
    ways = [(math.prod(shape[:-1]), *shape[-1:]) for shape in shapes]
    return max((max(way) for way in ways), default=1) or 1


def neighbours(values: T, step: float) -> Iterator[T]:
    """Yield values of which each number is another by `step` times itself.

    First all numbers of an array grow, or all fall; then those of an output unit (its
    last axis), by a draw: with inputs of one sign no other change moves the sum of a
    unit as far. Then each number does as it is drawn. Whole numbers stay.
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
