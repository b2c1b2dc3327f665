"""What a fault is: a transformation that makes a right function wrong."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from cnnjax.strategies import DIVIDED, NO_OPTIONS, STRATEGIES, Builder, Options
from cnnjax.types import LossFn, Strategy, ValueAndGradFn

# What a fault corrupts. "strategy": its builder, `(loss_fn, options) -> Strategy`;
# "clipping": a rule of `rules.RULES` that clips each example's gradient.
Place = Literal["strategy", "clipping"]

# The strategies that run a body on each device by `Options.device_map`.
BY_HAND = ("shard_map", "shard_map_vmap")
COMPILED = tuple(name for name in STRATEGIES if name != "eager")


@dataclass(frozen=True, kw_only=True)
class Needs:
    """What it takes for a fault to matter. The defaults: nothing."""

    strategies: tuple[str, ...] = ()  # one of these; none named: any
    num_devices: int = 1  # at least
    batch_size: int = 1  # at least
    dropout: bool = False


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One known fault: what it does, where it was met, and how to switch it in."""

    name: str
    summary: str  # what it does, in one sentence
    seen: str  # where it was met, or how one falls in
    place: Place = "strategy"
    needs: Needs = Needs()
    corrupt: Callable[[Any], Any]  # of what `place` names: right -> wrong


class Setting(NamedTuple):
    """Where a fault is to be switched in."""

    strategy: str
    num_devices: int  # that the batch is divided over
    batch_size: int
    has_dropout: bool


def unmet(fault: Fault, setting: Setting) -> str | None:
    """Say what the fault needs to matter and does not have there; None: nothing."""
    if fault.place == "clipping":
        return (
            f"fault {fault.name!r} corrupts the clipping of each example's gradient, "
            "which no strategy does; compare_strategies.py shows it without --strategy"
        )
    needs = fault.needs
    strategies = needs.strategies
    devices = f"{setting.num_devices} device{'s' if setting.num_devices > 1 else ''}"
    if strategies and (
        setting.strategy not in strategies or setting.num_devices < needs.num_devices
    ):
        kind = "that is compiled"
        flags = f"--strategy={'jit' if 'jit' in strategies else strategies[0]}"
        if set(strategies) <= set(DIVIDED):
            kind = f"that divides over at least {needs.num_devices} devices"
            flags += f" --num_devices={needs.num_devices}"
        return (
            f"fault {fault.name!r} needs a strategy {kind} ({', '.join(strategies)}): "
            f"{flags}, got strategy {setting.strategy!r} on {devices}"
        )
    if setting.batch_size < needs.batch_size:
        return (
            f"fault {fault.name!r} needs a batch of at least {needs.batch_size} "
            f"examples: --batch_size={needs.batch_size}, got {setting.batch_size}"
        )
    if needs.dropout and not setting.has_dropout:
        return (
            f"fault {fault.name!r} needs a recipe with dropout: "
            "--recipe=sgd_dropout_cnn, got one without"
        )
    return None


def of_strategy(
    change: Callable[[Strategy], Strategy],
) -> Callable[[Builder], Builder]:
    """Build the `corrupt` that changes a strategy once it is built."""

    def corrupt(builder: Builder) -> Builder:
        def build(loss_fn: LossFn, options: Options = NO_OPTIONS) -> Strategy:
            return change(builder(loss_fn, options))

        return build

    return corrupt


def of_value_and_grad(
    change: Callable[[ValueAndGradFn], ValueAndGradFn],
) -> Callable[[Builder], Builder]:
    """Build the `corrupt` that changes the gradient of a strategy."""
    return of_strategy(
        lambda right: right._replace(value_and_grad=change(right.value_and_grad))
    )
