"""The objective: the loss that is trained, and what goes with it, as one value."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

from jaxtyping import Array, Float, Key, Num

from cnnjax.base.arguments import function
from cnnjax.base.errors import InputError
from cnnjax.gradients.factors import FactorsFn, make_factors_fn
from cnnjax.models.losses import LossOfOutput, OutputLoss
from cnnjax.models.network import make_apply, zero_taps
from cnnjax.models.network_loss import NetworkLoss
from cnnjax.models.stack import ModelConfig
from cnnjax.types import LossFn, Params


class Objective(NamedTuple):
    """The loss of ONE raw example, and what goes with it.

    The loss alone is enough for every gradient rule except `factored`; evaluation and
    prediction need the rest. An objective can be called, and used, like its loss.
    """

    loss_fn: LossFn  # what training differentiates
    factors_fn: FactorsFn | None = None  # of its gradient: see `make_factors_fn`
    test_loss_fn: LossFn | None = None  # what is measured on the test set
    # apply_fn(params, example): the outputs of the network.
    apply_fn: Callable[..., Float[Array, " classes"]] | None = None
    # predict(outputs): a class; None: the outputs are what is predicted.
    predict: Callable[[Array], Array] | None = None

    def __call__(self, *arguments: Any) -> Any:
        """Return loss and metrics of one example: (params, example, label, key)."""
        return self.loss_fn(*arguments)


def make_objective(
    config: ModelConfig,
    loss: OutputLoss,
    preprocess: Callable[[Num[Array, "*example"]], Float[Array, "*example"]],
    *,
    trained: LossOfOutput | None = None,
    augment: Callable[[Array, Key[Array, ""]], Array] | None = None,
) -> Objective:
    """Build the objective of a network and a loss of `losses.LOSSES`, on raw examples.

    If `trained` is given, training differentiates it, while the test still uses `loss`.
    It is a loss of ONE example, too. `augment(example, key)` changes a raw example in
    training; the test sees it as it is.
    """
    measured = NetworkLoss(
        config=config, loss_of_output=loss.of_output, preprocess=preprocess
    )
    own = replace(
        measured, loss_of_output=trained or measured.loss_of_output, augment=augment
    )
    apply = make_apply(config)

    def apply_fn(params: Params, example: Num[Array, "*example"]) -> Array:
        return apply(params, preprocess(example))

    return Objective(
        loss_fn=own,
        factors_fn=make_factors_fn(own.tapped, zero_taps(config)),
        test_loss_fn=measured,
        apply_fn=apply_fn,
        predict=loss.predict,
    )


def as_objective(objective: Any) -> Objective:
    """Return an objective; a function becomes the objective with that loss.

    Raises:
        InputError: neither an objective nor a function.
    """
    if isinstance(objective, Objective):
        function("objective.loss_fn", objective.loss_fn)
        return objective
    return Objective(function("loss_fn", objective) or objective)


def factors_of(objective: Objective) -> FactorsFn:
    """Return the objective's `factors_fn`.

    Raises (while it is traced, like all errors about a caller's loss):
        InputError: the objective has no `factors_fn`.
    """

    def refuse(*_: Any) -> Any:
        raise InputError(
            "expected Objective(loss_fn, factors_fn=...) for a factored gradient, got "
            "no factors_fn; make one with factors.make_factors_fn, or use another "
            "strategy: 'jit' for the mean, 'vmap' for norms and clipping"
        )

    return objective.factors_fn or refuse
