"""The contract of a loss: what a function of ONE example has to return, checked once.

Every gradient rule calls the loss through `checked`, while it is traced: a loss that
breaks the contract is refused alike under every strategy, in one line, and nothing of
this is left in the compiled program.
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

# Names that the gradient rules and the evaluation give to what they report themselves.
RESERVED = ("loss", "weight", "examples", "grad_norm")

# values_fn(params, example, label, key) -> (loss, values): values have the loss, too.
ValuesFn = Callable[..., tuple[Float[Array, ""], Values]]


def checked(loss_fn: LossFn) -> ValuesFn:
    """Return the loss of one example as (loss, {"loss": loss, metric: value, ...}).

    Loss and metrics come out as float32 or wider: what is added up later. A metric may
    be a whole number or a truth value; a loss without metrics may be returned alone.

    Raises (when it is traced):
        InputError: the loss is not one real number, a metric is not, a metric has a
            reserved name, or the loss asks for an axis of the batch or of devices.
    """
    if hasattr(type(loss_fn), "checked_values"):  # a `NetworkLoss`: one frame less
        return loss_fn.checked_values

    def values_fn(*arguments: Any) -> tuple[Float[Array, ""], Values]:
        with alone():
            returned = loss_fn(*arguments)
        return checked_values(*as_pair(returned))

    return values_fn


def checked_values(loss: Any, metrics: Any) -> tuple[Float[Array, ""], Values]:
    """Return what a loss function returned as `checked` does.

    Raises:
        InputError: as `checked`.
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
    """Return what a loss function returned as (loss, metrics).

    Raises:
        InputError: a tuple of another length.
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
    """Tell who asks for an axis of the batch or of devices that there is none.

    Raises:
        InputError: what is traced within asks for such an axis, or JAX cannot map it
            over devices.
    """
    try:
        yield
    except NameError as error:
        if "unbound axis name" not in str(error):
            raise  # a slip of the caller's own
        raise InputError(
            "expected a loss of ONE example, which knows no batch and no devices, got "
            f"one that asks for a named axis ({error}); return the value of the "
            "example alone: means over the batch are taken by the strategy"
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
    """Return a number of the host as a float, which is as wide as JAX has it."""
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
    """Return one real number as an array, or say what else it is."""
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
