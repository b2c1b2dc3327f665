"""What a fault is: a transformation that makes a right function wrong."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from cnnjax.faults.needs import ANYWHERE, Needs, Setting, missing
from cnnjax.gradients.objective import Objective
from cnnjax.strategies import NO_OPTIONS, Options
from cnnjax.types import Strategy, ValueAndGradFn

# What a fault corrupts in the computation of the gradient. "layer": the config of the
# network, which has the layers; "parameters": those passed to the layers; "loss": the
# loss that training differentiates; "device map": the row of the table,
# `strategies.Row`; "strategy": its builder, `(objective, options) -> Strategy`.
OfGradient = Literal["layer", "parameters", "loss", "device map", "strategy"]
# Other places. "clipping": a gradient rule that clips per-example gradients;
# "optimizer"; "data": the training and test examples, and their order; "metric": the
# loss and metrics of an example; "report": the values reported for an epoch.
Place = OfGradient | Literal["clipping", "optimizer", "data", "metric", "report"]
OF_GRADIENT: tuple[str, ...] = get_args(OfGradient)
# Parts of a strategy; weights, padding and keys are those of its batch.
OfStrategy = Literal["gradient", "weights", "padding", "keys"]
Part = Place | OfStrategy | Literal["placement of batches", "placement of the state"]

# builder(objective, options) -> Strategy: a row of the table, or a corrupted one.
Builder = Callable[..., Strategy]


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One known fault: what it does, where it was found, and how to switch it on."""

    name: str
    summary: str  # what it does, in one sentence
    seen: str  # where it was found, or how it comes about
    place: Place = "strategy"
    needs: Needs = ANYWHERE
    corrupt: Callable[[Any], Any]  # right -> wrong, for the value at `place`
    # The parts that it changes; none: all of its place. If it replaces a part entirely,
    # no other fault may touch that part, as one would undo or hide the other.
    parts: tuple[Part, ...] = ()
    replaces: tuple[Part, ...] = ()

    @property
    def touches(self) -> set[Part]:
        """Return the parts that it changes or replaces."""
        return {*self.parts, *self.replaces} or {self.place}


def unmet(fault: Fault, setting: Setting) -> str | None:
    """Return a message about what a fault lacks to have an effect; None: nothing."""
    if fault.place == "clipping":
        return (
            f"fault {fault.name!r} corrupts the clipping of each example's gradient, "
            "which no strategy does; compare_strategies.py shows it without --strategy"
        )
    return missing(fault.name, fault.needs, setting)


def clash(faults: Sequence[Fault]) -> str | None:
    """Return a message about two faults that exclude each other; None: no two do."""
    for one, other in itertools.permutations(faults, 2):
        if one.name == other.name:
            return f"expected each fault once, got {one.name!r} twice"
        for part in one.replaces:
            if part in other.touches:
                return (
                    f"fault {one.name!r} replaces the {part}, and would hide "
                    f"{other.name!r}; use only one of the two"
                )
    return None


def of_strategy(
    change: Callable[[Strategy], Strategy],
) -> Callable[[Builder], Builder]:
    """Build the `corrupt` that changes a strategy after it is built."""

    def corrupt(builder: Builder) -> Builder:
        def build(objective: Objective, options: Options = NO_OPTIONS) -> Strategy:
            return change(builder(objective, options))

        return build

    return corrupt


def of_value_and_grad(
    change: Callable[[ValueAndGradFn], ValueAndGradFn],
) -> Callable[[Builder], Builder]:
    """Build the `corrupt` that changes the `value_and_grad` of a strategy."""
    return of_strategy(
        lambda right: right._replace(value_and_grad=change(right.value_and_grad))
    )
