"""Compare two pytrees of arrays: names, types and shapes of their leaves."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree


class Difference(NamedTuple):
    """The first leaf in which two trees differ, and a description of both leaves."""

    leaf: str
    expected: str
    got: str


def first_difference(
    got: PyTree, expected: PyTree, *, types: bool = True
) -> Difference | None:
    """Return the first leaf that differs in name, shape or type; None: no leaf does.

    >>> first_difference({"bias": np.zeros(3)}, {"bias": np.zeros(4)})
    Difference(leaf="['bias']", expected='float64 (4,)', got='float64 (3,)')
    """
    ours, theirs = described(expected, types=types), described(got, types=types)
    for leaf in ours | theirs:
        pair = ours.get(leaf, "no leaf"), theirs.get(leaf, "no leaf")
        if pair[0] != pair[1]:
            return Difference(leaf, *pair)
    return None


def described(tree: PyTree, *, types: bool = True) -> dict[str, str]:
    """Return the type and shape of each leaf, by name."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {
        jax.tree_util.keystr(path): _described(leaf, types=types)
        for path, leaf in leaves
    }


def _described(leaf: Any, *, types: bool) -> str:
    kind = getattr(leaf, "dtype", np.dtype(object))
    real = jnp.issubdtype(kind, np.number)
    if not real or jnp.issubdtype(kind, np.complexfloating) or np.ma.is_masked(leaf):
        return f"a {type(leaf).__name__} that is no array of real numbers"
    return f"{kind} {leaf.shape}" if types else f"shape {leaf.shape}"
