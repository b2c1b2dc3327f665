"""The contract of a loss: what a function of ONE example must return, checked once.

Every gradient rule calls the loss through `checked`, while it is traced: a loss that
breaks the contract is refused in one line, in the same way under every strategy. The
checks leave no trace in the compiled program.
"""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from cnnjax.base.errors import InputError, shown
from cnnjax.base.trees import widen
from cnnjax.types import LossFn, Values

# Names of the values that the gradient rules and the evaluation report themselves.
RESERVED = ("loss", "weight", "examples", "grad_norm")

# values_fn(params, example, label, key) -> (loss, values); values include the loss.
ValuesFn = Callable[..., tuple[Float[Array, ""], Values]]


def checked(loss_fn: LossFn) -> ValuesFn:
    """Wrap a loss so that it returns (loss, {"loss": loss, metric: value, ...}).

    Loss and metrics become float32 or wider, the type in which they are added up later.
    A metric can be an integer or a boolean; a loss without metrics can be returned
    alone.

    Raises (while it is traced):
        InputError: the loss or a metric is not one real number, a metric has a reserved
            name, or the loss uses a named axis of the batch or of devices.
    """
    if hasattr(type(loss_fn), "checked_values"):  # a `NetworkLoss`: one frame less
        return loss_fn.checked_values

    def values_fn(*arguments: Any) -> tuple[Float[Array, ""], Values]:
        with alone():
            returned = loss_fn(*arguments)
        return checked_values(*as_pair(returned))

    return values_fn


def checked_values(loss: Any, metrics: Any) -> tuple[Float[Array, ""], Values]:
    """Check what a loss function returned, and convert it as `checked` does.

    Raises:
        InputError: the loss or a metric is not one real number, or a metric has a
            reserved name.
    """
    if not isinstance(metrics, Mapping):
        raise InputError(
            "expected a loss function to return (loss, metrics) with metrics as "
            f"{{name: number}}, got metrics of type {type(metrics).__name__}; for a "
            "loss without metrics return the loss alone"
        )
    for name in metrics:
        if not isinstance(name, str) or name in RESERVED:
            raise InputError(
                f"expected a metric with a name other than {', '.join(RESERVED)}, "
                f"which cnnjax reports itself, got {name!r}; give it another name"
            )
    number = _number("a loss", loss)
    if not jnp.issubdtype(number.dtype, jnp.floating):
        raise InputError(
            f"expected a loss of a floating-point type, got {number.dtype}: it has no "
            "gradient; compute it in float32"
        )
    values = {}
    for name, value in metrics.items():
        what = f"metric {name!r}"
        values[name] = widen(_number(what, _as_float(what, value)))
    loss = widen(number)
    return loss, {"loss": loss, **values}


def as_pair(returned: Any) -> tuple[Any, Any]:
    """Return the result of a loss function as (loss, metrics).

    Raises:
        InputError: a tuple whose length is not 2.
    """
    if not isinstance(returned, tuple):
        return returned, {}
    if len(returned) != 2:
        raise InputError(
            "expected a loss function to return (loss, metrics) or the loss, got a "
            f"tuple of {len(returned)}"
        )
    return returned


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Refuse, in one line, a loss that uses a named axis of the batch or of devices.

    Raises:
        InputError: the code traced inside uses such an axis, or JAX cannot map it over
            devices.
    """
    try:
        yield
    except NameError as error:
        if "unbound axis name" not in str(error):
            raise  # an error in the caller's own code
        raise InputError(
            "expected a loss of ONE example, without axes of a batch or of devices, "
            f"got one that uses a named axis ({error}); return the value of the one "
            "example: the strategy takes means over the batch"
        ) from error
    except AssertionError as error:
        of_jax = "jax" in traceback.extract_tb(error.__traceback__)[-1].filename
        if not of_jax or not jax.sharding.get_abstract_mesh().manual_axes:
            raise
        raise InputError(
            "expected a loss that shard_map can divide over devices, got one in which "
            "JAX's own assertion fails, as it does for an axis that the loss names "
            "itself (jax.vmap with axis_name=...); use 'sharded' or 'pmap' instead"
        ) from error


def check_params(params: PyTree) -> None:
    """Raise InputError for parameters that cannot be differentiated."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        kind = getattr(leaf, "dtype", type(leaf).__name__)
        if not jnp.issubdtype(jnp.result_type(leaf), jnp.floating):
            raise InputError(
                f"expected parameters of a floating-point type, got {kind} at "
                f"params{jax.tree_util.keystr(path)}; put what is not trained into "
                "the loss"
            )


def _as_float(what: str, value: Any) -> Any:
    """Convert a Python or NumPy number to JAX's widest float; return others as is."""
    if not isinstance(value, (int, float, np.integer, np.floating)):
        return value
    dtype = jax.dtypes.canonicalize_dtype("float64")
    try:
        with np.errstate(over="ignore"):
            number = np.asarray(float(value)).astype(dtype)
    except OverflowError:
        number = np.asarray(np.inf)
    if np.isinf(number) and value not in (np.inf, -np.inf):
        raise InputError(f"expected {what} within {dtype}, got {shown(value)}")
    return number


def _number(what: str, value: Any) -> Array:
    """Return one real number as an array. Raise InputError for anything else."""
    try:
        array = jnp.asarray(value)
    except (TypeError, ValueError) as error:
        kind = type(value).__name__
        raise InputError(f"expected {what} to be one number, got {kind}") from error
    if array.shape != ():
        raise InputError(
            f"expected {what} of ONE example as one number, of shape (), got shape "
            f"{array.shape}; take its sum or mean, or its only entry"
        )
    real = jnp.issubdtype(array.dtype, jnp.number) or array.dtype == bool
    if not real or jnp.issubdtype(array.dtype, jnp.complexfloating):
        raise InputError(f"expected {what} to be a real number, got {array.dtype}")
    return array
