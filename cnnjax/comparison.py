"""What "equal" means here: one measure for gradients, used by every test and table."""

from __future__ import annotations

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
    zeros is infinitely wrong; so is a NaN that the reference does not have there.

    Raises:
        ValueError: the two differ in structure, in a shape or in a dtype.
    """
    names, expected = zip(*jax.tree_util.tree_leaves_with_path(reference), strict=True)
    if jax.tree.structure(actual) != jax.tree.structure(reference):
        raise ValueError(
            f"expected the structure {jax.tree.structure(reference)}, "
            f"got {jax.tree.structure(actual)}"
        )
    errors = {}
    for path, a, r in zip(names, jax.tree.leaves(actual), expected, strict=True):
        name = jax.tree_util.keystr(path)
        if (a.shape, a.dtype) != (r.shape, r.dtype):
            raise ValueError(
                f"expected {name} as {r.dtype}{list(r.shape)}, "
                f"got {a.dtype}{list(a.shape)}"
            )
        errors[name] = _error(np.asarray(a), np.asarray(r))
    return errors


def largest_error(actual: PyTree, reference: PyTree) -> float:
    """Return the worst of `leaf_errors`."""
    return max(leaf_errors(actual, reference).values())


def _error(actual: np.ndarray, reference: np.ndarray) -> float:
    if not np.array_equal(np.isnan(actual), np.isnan(reference)):
        return float("inf")
    difference = np.nanmax(np.abs(actual - reference), initial=0.0)
    scale = np.nanmax(np.abs(reference), initial=0.0)
    if scale == 0.0:
        return 0.0 if difference == 0.0 else float("inf")
    return float(difference / scale)
