"""The relative error of gradients, leaf by leaf, as used by all tests and tables."""

from __future__ import annotations

import math

import jax
import numpy as np
from jaxtyping import PyTree

# The largest error of a leaf that still counts as equal, by dtype of the arithmetic.
# bfloat16 has 8 significant bits, and the terms of a mean gradient cancel: the recipes'
# first gradients differ from those in float32 by up to 0.18 (as of JAX 0.12, on a CPU).
TOLERANCES = {"bfloat16": 0.25, "float32": 1e-5, "float64": 1e-12}


def leaf_errors(actual: PyTree, reference: PyTree) -> dict[str, float]:
    """Return max|a - r| / max|r| for each leaf, by its path.

    Each leaf is compared with its largest entry: entry by entry, correct gradients
    would fail because of cancellation. If the reference is all zero, the error is
    infinite unless the leaf is, too. It is also infinite unless NaNs and infinities are
    the same as in the reference, in the same places; the maxima are over the other
    entries. Leaves can have any real type and any shape, also empty. The result is
    never NaN.

    Raises:
        ValueError: the two differ in structure, in a shape or in a dtype.
    """
    expected = jax.tree_util.tree_leaves_with_path(reference)
    if jax.tree.structure(actual) != jax.tree.structure(reference):
        raise ValueError(
            f"expected the structure {jax.tree.structure(reference)}, "
            f"got {jax.tree.structure(actual)}"
        )
    errors = {}
    for (path, right), other in zip(expected, jax.tree.leaves(actual), strict=True):
        name, a, r = jax.tree_util.keystr(path), np.asarray(other), np.asarray(right)
        if (a.shape, a.dtype) != (r.shape, r.dtype):
            raise ValueError(
                f"expected {name} as {r.dtype}{list(r.shape)}, "
                f"got {a.dtype}{list(a.shape)}"
            )
        errors[name] = _error(a, r)
    return errors


def largest_error(actual: PyTree, reference: PyTree) -> float:
    """Return the largest of `leaf_errors`; 0 for two trees without leaves."""
    return max(leaf_errors(actual, reference).values(), default=0.0)


def _error(actual: np.ndarray, reference: np.ndarray) -> float:
    """Return max|a - r| / max|r| over finite entries; infinite if others differ."""
    if not _alike_where_not_finite(actual, reference):
        return math.inf
    # In a wide type, so that nothing overflows, wraps around or is flushed to zero.
    finite = np.isfinite(_wide(reference))
    a, r = _wide(actual)[finite], _wide(reference)[finite]
    difference = np.max(np.abs(a - r), initial=0.0)
    if difference == 0.0:
        return 0.0 if np.array_equal(actual[finite], reference[finite]) else math.inf
    scale = np.max(np.abs(r), initial=0.0)
    return float(difference / scale) if scale > 0.0 else math.inf


def _alike_where_not_finite(actual: np.ndarray, reference: np.ndarray) -> bool:
    """Return whether NaNs and infinities are the same, in the same places."""
    a, r = _wide(actual), _wide(reference)
    special = ~(np.isfinite(a) & np.isfinite(r))
    return np.array_equal(a[special], r[special], equal_nan=True)


def _wide(array: np.ndarray) -> np.ndarray:
    if np.iscomplexobj(array):
        return array.astype(np.clongdouble)
    return array.astype(np.longdouble)
