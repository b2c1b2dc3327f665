"""The contract of a loss: what a function of ONE example has to return, checked once.

Every gradient rule calls the loss through `checked`, while it is traced: a loss that
breaks the contract is refused alike under every strategy, in one line, and nothing of
this is left in the compiled program.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend import core
from jaxtyping import Array, Float

from cnnjax.errors import InputError
from cnnjax.trees import widen
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

    def values_fn(*arguments: Any) -> tuple[Float[Array, ""], Values]:
        returned = call_alone(loss_fn, *arguments)
        loss, metrics = returned if _is_pair(returned) else (returned, {})
        return checked_values(loss, metrics)

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
    values = {
        name: widen(_number(f"metric {name!r}", metrics[name])) for name in metrics
    }
    loss = widen(number)
    return loss, {"loss": loss, **values}


def call_alone(loss_fn: Callable[..., Any], *arguments: Any) -> Any:
    """Return what a loss returns, if it does not look beyond its example.

    Outside a `shard_map` an axis of devices is unknown to JAX, too, which says so; in
    one it is known, and so the traced operations are searched for it.

    Raises:
        InputError: the loss asks for an axis of the batch or of devices.
    """
    devices = set(jax.sharding.get_abstract_mesh().manual_axes)
    try:
        if devices:
            traced = jax.make_jaxpr(lambda *a: _arrays(loss_fn(*a)))(*arguments)
            if asked := devices & set(_axes_of(traced.jaxpr)):
                raise NameError(f"axis {', '.join(sorted(asked))}")
        return loss_fn(*arguments)
    except (NameError, AssertionError) as error:
        # Of an axis that is not there, JAX asserts within a shard_map that it is.
        by_jax = "jax" in traceback.extract_tb(error.__traceback__)[-1].filename
        if "axis" not in str(error) and not (devices and by_jax):
            raise
        raise InputError(
            "expected a loss of ONE example, which knows no batch and no devices, got "
            f"one that asks for a named axis ({error}); return the value of the "
            "example alone: means over the batch are taken by the strategy"
        ) from error


def _is_pair(returned: Any) -> bool:
    if isinstance(returned, tuple) and len(returned) != 2:
        raise InputError(
            "expected a loss function to return (loss, metrics) or the loss, got a "
            f"tuple of {len(returned)}"
        )
    return isinstance(returned, tuple)


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


def _arrays(returned: Any) -> list[Array]:
    return [leaf for leaf in jax.tree.leaves(returned) if isinstance(leaf, jax.Array)]


def _axes_of(jaxpr: core.Jaxpr) -> Iterator[str]:
    """Yield the names of the axes that operations communicate over, inner ones too."""
    for equation in jaxpr.eqns:
        if equation.primitive.name not in ("pvary", "pcast"):  # which only mark
            for parameter in ("axes", "axis_name"):
                named = equation.params.get(parameter, ())
                named = named if isinstance(named, tuple) else (named,)
                yield from (axis for axis in named if isinstance(axis, str))
        parameters = list(equation.params.values())
        for inner in jax.tree.leaves(parameters, is_leaf=_is_program):
            if _is_program(inner):
                yield from _axes_of(getattr(inner, "jaxpr", inner))


def _is_program(value: Any) -> bool:
    """Return whether an operation's parameter is a program: open or closed."""
    return hasattr(value, "eqns")
