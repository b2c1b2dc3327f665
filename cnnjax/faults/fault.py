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

# What a fault corrupts on the way to the gradient. "layer": the network's config, in
# which layers stand; "parameters": what the layers are given; "loss": what training
# differentiates; "device map": the row of the table, `strategies.Row`; "strategy": its
# builder, `(objective, options) -> Strategy`.
OfGradient = Literal["layer", "parameters", "loss", "device map", "strategy"]
# What else. "clipping": a gradient rule, where it clips each example's gradient;
# "optimizer"; "data": what is trained on and tested on, and in which order; "metric":
# what is measured of an example; "report": what is told of an epoch.
Place = OfGradient | Literal["clipping", "optimizer", "data", "metric", "report"]
OF_GRADIENT: tuple[str, ...] = get_args(OfGradient)
# Parts of a strategy; the weights, the padding and the keys are those of its batch.
OfStrategy = Literal["gradient", "weights", "padding", "keys"]
Part = Place | OfStrategy | Literal["placement of batches", "placement of the state"]

# builder(objective, options) -> Strategy: a row of the table, or what was made of one.
Builder = Callable[..., Strategy]


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One known fault: what it does, where it was met, and how to switch it in."""

    name: str
    summary: str  # what it does, in one sentence
    seen: str  # where it was met, or how one falls in
    place: Place = "strategy"
    needs: Needs = ANYWHERE
    corrupt: Callable[[Any], Any]  # of what `place` names: right -> wrong
    # What it works through; none named: all of its place. What it replaces wholly is
    # nobody else's: of two faults of that, one would undo or hide the other.
    parts: tuple[Part, ...] = ()
    replaces: tuple[Part, ...] = ()

    @property
    def touches(self) -> set[Part]:
        """Return the parts that it works through, and those that it replaces."""
        return {*self.parts, *self.replaces} or {self.place}


def unmet(fault: Fault, setting: Setting) -> str | None:
    """Say what the fault needs to matter and does not have there; None: nothing."""
    if fault.place == "clipping":
        return (
            f"fault {fault.name!r} corrupts the clipping of each example's gradient, "
            "which no strategy does; compare_strategies.py shows it without --strategy"
        )
    return missing(fault.name, fault.needs, setting)


def clash(faults: Sequence[Fault]) -> str | None:
    """Say which two faults cannot be switched in together; None: all can."""
    for one, other in itertools.permutations(faults, 2):
        if one.name == other.name:
            return f"expected each fault once, got {one.name!r} twice"
        for part in one.replaces:
            if part in other.touches:
                return (
                    f"fault {one.name!r} replaces the {part}, and {other.name!r} would "
                    "be lost beside it; switch in one of the two"
                )
    return None


def of_strategy(
    change: Callable[[Strategy], Strategy],
) -> Callable[[Builder], Builder]:
    """Build the `corrupt` that changes a strategy once it is built."""

    def corrupt(builder: Builder) -> Builder:
        def build(objective: Objective, options: Options = NO_OPTIONS) -> Strategy:
            return change(builder(objective, options))

        return build

    return corrupt


def of_value_and_grad(
    change: Callable[[ValueAndGradFn], ValueAndGradFn],
) -> Callable[[Builder], Builder]:
    """Build the `corrupt` that changes the gradient of a strategy."""
    return of_strategy(
        lambda right: right._replace(value_and_grad=change(right.value_and_grad))
    )
