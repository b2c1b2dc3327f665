"""Derivatives without cancellation: the size of the terms of a derivative.

The derivative of y = tanh x is 1 - y^2, that of the logistic function y (1 - y). If a
unit is saturated, y is 1 except for rounding, so that the difference is only a rounding
error. The majorant adds the terms instead, 1 + y^2 and y (1 + y), so that one rounding
of y changes the derivative by a relative error of about one rounding. Values do not
change.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax import lax
from jax.extend import core
from jaxtyping import Array

# Calls of inner functions that are followed; other inner functions (of loops, branches
# and custom derivatives) are not changed.
ENTERED = ("jit", "pjit", "closed_call")


@jax.custom_jvp
def _tanh(x: Array) -> Array:
    return lax.tanh(x)


@jax.custom_jvp
def _logistic(x: Array) -> Array:
    return lax.logistic(x)


_tanh.defjvps(lambda tangent, y, x: tangent * (1 + y * y))
_logistic.defjvps(lambda tangent, y, x: tangent * (y * (1 + y)))
MAJORANTS = {"tanh": _tanh, "logistic": _logistic}


def without_cancelling(fn: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function with the derivatives of `MAJORANTS` instead of its own."""

    def majorant(*arguments: Any) -> Any:
        program, shapes = jax.make_jaxpr(fn, return_shape=True)(*arguments)
        values = _evaluate(program.jaxpr, program.consts, jax.tree.leaves(arguments))
        return jax.tree.unflatten(jax.tree.structure(shapes), values)

    return majorant


def _evaluate(
    jaxpr: core.Jaxpr, consts: Sequence[Any], arguments: Sequence[Any]
) -> list[Any]:
    """Evaluate the operations of a traced program, one after another."""
    known = dict(
        zip((*jaxpr.constvars, *jaxpr.invars), (*consts, *arguments), strict=True)
    )

    def read(variable: Any) -> Any:
        literal = isinstance(variable, core.Literal)
        return variable.val if literal else known[variable]

    for operation in jaxpr.eqns:
        name, values = operation.primitive.name, [*map(read, operation.invars)]
        if name in MAJORANTS:
            results = [MAJORANTS[name](*values)]
        elif name in ENTERED:
            inner = operation.params["jaxpr"]
            results = _evaluate(inner.jaxpr, inner.consts, values)
        else:
            options = operation.primitive.get_bind_params(operation.params)
            results = operation.primitive.bind(*values, **options)
            if not operation.primitive.multiple_results:
                results = [results]
        known.update(zip(operation.outvars, results, strict=True))
    return [*map(read, jaxpr.outvars)]
