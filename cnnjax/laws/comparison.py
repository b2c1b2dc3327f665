"""What "equal" means here: one measure for gradients, used by every test and table."""

from __future__ import annotations

import math

import jax
import numpy as np
from jaxtyping import PyTree

# Largest error of a leaf that still counts as equal, by the type of the arithmetic.
# bfloat16 has 8 significant bits and the mean gradient cancels: against float32, the
# recipes' first gradients differ by up to 0.18 (as of JAX 0.12, on a CPU).
TOLERANCES = {"bfloat16": 0.25, "float32": 1e-5, "float64": 1e-12}


def leaf_errors(actual: PyTree, reference: PyTree) -> dict[str, float]:
    """Return max|a - r| / max|r| for each leaf, named by its path.

    Each leaf is compared on its own largest entry: entry by entry, cancellation would
    condemn correct gradients. Where the reference is all zero, anything but exact
    zeros is infinitely wrong; so is a NaN or an infinity that is not the reference's,
    in the same place and of the same sign. It is the largest finite entry that counts.
    Leaves of any real type, of any shape, empty ones too; never NaN.

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
    """Return the worst of `leaf_errors`; 0 for two trees without leaves."""
    return max(leaf_errors(actual, reference).values(), default=0.0)


def _error(actual: np.ndarray, reference: np.ndarray) -> float:
    """Return max|a - r| / max|r| over finite entries; infinite where others differ."""
    if not _alike_where_not_finite(actual, reference):
        return math.inf
    # Wide enough that nothing overflows, wraps around or is flushed to zero.
    finite = np.isfinite(_wide(reference))
    a, r = _wide(actual)[finite], _wide(reference)[finite]
    difference = np.max(np.abs(a - r), initial=0.0)
    if difference == 0.0:
        return 0.0 if np.array_equal(actual[finite], reference[finite]) else math.inf
    scale = np.max(np.abs(r), initial=0.0)
    return float(difference / scale) if scale > 0.0 else math.inf


def _alike_where_not_finite(actual: np.ndarray, reference: np.ndarray) -> bool:
    """Return whether NaNs and infinities are the same ones, in the same places."""
    a, r = _wide(actual), _wide(reference)
    special = ~(np.isfinite(a) & np.isfinite(r))
    return np.array_equal(a[special], r[special], equal_nan=True)


def _wide(array: np.ndarray) -> np.ndarray:
    if np.iscomplexobj(array):
        return array.astype(np.clongdouble)
    return array.astype(np.longdouble)
