"""Check all laws at once, for your own strategy, loss or network."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import numpy as np
import optax
from jaxtyping import PyTree

from cnnjax.gradients.objective import Objective
from cnnjax.laws.cases import Case
from cnnjax.laws.making import Builder, make_case
from cnnjax.laws.table import LAWS
from cnnjax.strategies import NO_OPTIONS, Options
from cnnjax.types import Batch, LossFn, Strategy

STRUCTURE = "structure_and_dtype_are_kept"


class Finding(NamedTuple):
    """A broken law, and how it is broken."""

    law: str  # its name in `LAWS`
    objection: str  # what is wrong, in one line

    def __str__(self) -> str:
        return f"{self.law}: {self.objection}"


def check(
    strategy: str | Strategy | Builder,
    objective: Objective | LossFn,
    params: PyTree,
    batch: Batch,
    *,
    options: Options = NO_OPTIONS,
    dtype: str | None = None,
    optimizer: optax.GradientTransformation | None = None,
) -> tuple[Finding, ...]:
    """Return the laws that a strategy breaks; () if it is right.

    `strategy` is a name of `STRATEGIES`, a builder `(objective, options) -> Strategy`
    (like a row of the table), or a `Strategy`. `objective` is the loss of ONE example,
    `loss_fn(params, example, label, key) -> (loss, {metric: value})`, or an
    `Objective`. `options` are passed to the builder. `dtype` is that of the arithmetic;
    None: the narrowest dtype of the parameters. `optimizer` is for the laws about
    updates; None: gradient descent.

    If the gradient has another structure or other shapes than the parameters, no other
    law is checked.

    >>> def loss_fn(params, example, label, key):
    ...     return (params["slope"] * example - label) ** 2
    >>> x = np.linspace(0, 1, 8)
    >>> batch = Batch(inputs=x, labels=x**2, weights=np.ones(8), keys=None)
    >>> check("vmap", loss_fn, {"slope": 0.5}, batch)
    ()
    >>> from cnnjax.strategies import STRATEGIES
    >>> right = STRATEGIES["jit"](loss_fn)
    >>> def reversed_sign(params, batch):
    ...     metrics, grads = right.value_and_grad(params, batch)
    ...     return metrics, jax.tree.map(lambda g: -g, grads)
    >>> wrong = right._replace(value_and_grad=reversed_sign)
    >>> for finding in check(wrong, loss_fn, {"slope": 0.5}, batch):
    ...     print(finding)
    gradients_equal_the_reference: gradient off by 2.0e+00, ... times the bound, ...
    weights_weigh: unequal weights: gradient off by 2.0e+00, ... times the bound
    loss_falls: the loss rises against the gradient

    Raises:
        InputError: arguments that `make_case` refuses; or, while it is traced, a loss
            that breaks its contract, or a factored strategy without `factors_fn`.
    """
    case = make_case(
        strategy,
        objective,
        params,
        batch,
        options=options,
        dtype=dtype,
        optimizer=optimizer,
    )
    looked_at = LAWS if _fits(case) else [STRUCTURE]
    found = ((name, LAWS[name](case)) for name in looked_at)
    return tuple(Finding(name, wrong) for name, wrong in found if wrong is not None)


def _fits(case: Case) -> bool:
    grads: Any = case.returned[1]
    alike = jax.tree.structure(grads) == jax.tree.structure(case.params)
    return alike and all(
        np.shape(own) == np.shape(right)
        for own, right in zip(
            jax.tree.leaves(grads), jax.tree.leaves(case.params), strict=True
        )
    )
