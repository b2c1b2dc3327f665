"""Check that arrays have finite real numbers, in a type that JAX supports."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cnnjax.base.errors import InputError

# The widest types of JAX without jax_enable_x64.
_FLOAT32, _INT32 = np.finfo(np.float32), np.iinfo(np.int32)
NUMBERED = "number the classes with np.unique(labels, return_inverse=True)[1]"
_WAY_TO_NUMBERS = {  # by the kind of a dtype
    "O": "np.stack examples of one shape, or convert it with .astype",
    "U": NUMBERED,
    "S": NUMBERED,
}


def as_array(values: Any, what: str) -> np.ndarray:
    """Return an array of real numbers or booleans, in a type that JAX supports.

    Raises:
        InputError: values that are not such an array, or are masked.
    """
    if values is None:
        raise InputError(f"{what}: expected an array of numbers, got None")
    if np.ma.is_masked(values):
        raise InputError(
            f"{what}: expected a number everywhere, got a masked array with "
            f"{np.ma.count_masked(values)} gaps; leave those examples out"
        )
    try:
        fetched = jax.device_get(values) if isinstance(values, jax.Array) else values
        array = np.asarray(fetched)
    except (TypeError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:80]
        raise InputError(
            f"{what}: expected one array of numbers, got {type(values).__name__} that "
            f"makes none ({reason}); give all examples one shape"
        ) from error
    dtype = array.dtype
    is_float = bool(jnp.issubdtype(dtype, jnp.floating))
    if not (is_float or dtype.kind in "biu") or dtype.itemsize > 8:
        raise InputError(
            f"{what}: expected integers or floats, got an array of {dtype.name}; "
            f"{_WAY_TO_NUMBERS.get(dtype.kind, 'convert it with .astype(np.float32)')}"
        )
    return array


def as_held(array: np.ndarray, what: str) -> np.ndarray:
    """Return an array of examples (along its first axis) in the type that JAX uses.

    Raises:
        InputError: NaN, infinity, or a number that would overflow in that type.
    """
    is_float = bool(jnp.issubdtype(array.dtype, jnp.floating))
    if array.size and (is_float or array.dtype.itemsize == 8):
        _check_values(array, what, limits=_FLOAT32 if is_float else _INT32)
    held = jax.dtypes.canonicalize_dtype(array.dtype.newbyteorder("="))
    return array.astype(held, copy=False)


def _check_values(array: np.ndarray, what: str, *, limits: np.finfo | np.iinfo) -> None:
    low, high = limits.min, limits.max
    with np.errstate(invalid="ignore"):
        # False for NaN, too. Two scans, which allocate no array.
        if low <= array.min() and array.max() <= high:
            return
        wrong = ~((low <= array) & (array <= high)).reshape(len(array), -1).all(axis=1)
    first = int(wrong.argmax())
    raise InputError(
        f"{what}: expected finite numbers that {limits.dtype} holds, got others in "
        f"{wrong.sum()} of {len(array)} examples, first in number {first} "
        f"({array[first].min()} to {array[first].max()}); leave them out or fix them"
    )
