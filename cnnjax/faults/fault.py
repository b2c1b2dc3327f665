"""What a fault is: a transformation that makes a right function wrong."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, get_args

from cnnjax.gradients.objective import Objective
from cnnjax.models.losses import LOSSES
from cnnjax.models.stack import Conv, Dense, Layer, ModelConfig, layer_rows
from cnnjax.strategies import NO_OPTIONS, STRATEGIES, Options
from cnnjax.training.updates import LoopConfig
from cnnjax.types import Strategy, ValueAndGradFn

# What a fault corrupts on the way to the gradient. "layer": what is put around each
# layer, `models.Around`; "parameters": what the layers are given; "loss": what training
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


class Setting(NamedTuple):
    """Where a fault is to be switched in."""

    strategy: str
    num_devices: int  # that the batch is divided over
    model: ModelConfig
    loss: str
    loop: LoopConfig
    num_train: int  # examples
    num_test: int  # the same
    holds_out: bool  # whether the test examples are held out of the training set
    microbatch_size: int | None = None  # examples that a device takes at a time


class Requirement(NamedTuple):
    """Something about a run without which a fault would change nothing."""

    what: str  # "a recipe with dropout"
    how: str  # the flag that gets it
    got: Callable[[Setting], object]  # what is there instead, in words
    holds: Callable[[Setting], bool]


SEVERAL_EXAMPLES = Requirement(
    "a batch of at least 2 examples",
    "--batch_size=2",
    lambda setting: setting.loop.batch_size,
    lambda setting: setting.loop.batch_size >= 2,
)
DROPOUT = Requirement(
    "a recipe with dropout",
    "--recipe=sgd_dropout_cnn",
    lambda _: "one without",
    lambda setting: setting.model.has_dropout,
)


def layer_of(kind: type[Layer], name: str) -> Requirement:
    """Require a network with at least one layer of this kind."""
    return Requirement(
        f"a network with a {name}",
        "--recipe=adam_cosine_cnn",
        lambda _: "one without",
        lambda setting: any(isinstance(layer, kind) for layer in setting.model.layers),
    )


SEVERAL_CHANNELS = Requirement(
    "a convolution of several channels",
    "--recipe=sgd_dropout_cnn",
    lambda _: "a network without",
    lambda setting: any(
        isinstance(row.layer, Conv) and row.input_shape[-1] > 1
        for row in layer_rows(setting.model)
    ),
)


WHOLE_BATCHES = Requirement(
    "the whole batch at once",
    "no --microbatch_size",
    lambda setting: setting.microbatch_size,
    lambda setting: setting.microbatch_size is None,
)
TWO_DENSE_LAYERS = Requirement(
    "a network with at least 2 dense layers",
    "--recipe=momentum_mlp_per_sample",
    lambda _: "one with fewer",
    lambda setting: (
        sum(isinstance(layer, Dense) for layer in setting.model.layers) >= 2
    ),
)


CLASSES = Requirement(
    "a recipe that predicts classes",
    "--recipe=adam_cosine_cnn",
    lambda setting: f"the loss {setting.loss}",
    lambda setting: LOSSES[setting.loss].classifies,
)
REGRESSION = Requirement(
    "a regression",
    "--recipe=tanh_mlp_housing_wide",
    lambda setting: f"the loss {setting.loss}",
    lambda setting: not LOSSES[setting.loss].classifies,
)


@dataclass(frozen=True, kw_only=True)
class Needs:
    """What it takes for a fault to matter. The defaults: nothing."""

    strategies: tuple[str, ...] = ()  # one of these; none named: any
    num_devices: int = 1  # at least
    recipe: tuple[Requirement, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One known fault: what it does, where it was met, and how to switch it in."""

    name: str
    summary: str  # what it does, in one sentence
    seen: str  # where it was met, or how one falls in
    place: Place = "strategy"
    needs: Needs = Needs()
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
    needs = fault.needs
    if needs.strategies and (
        setting.strategy not in needs.strategies
        or setting.num_devices < needs.num_devices
    ):
        return _unmet_strategy(fault, setting)
    for what, how, got, holds in needs.recipe:
        if not holds(setting):
            return f"fault {fault.name!r} needs {what}: {how}, got {got(setting)}"
    return None


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


def _unmet_strategy(fault: Fault, setting: Setting) -> str:
    needs = fault.needs
    strategies = needs.strategies
    rows = [STRATEGIES[name] for name in strategies]
    devices = f"{setting.num_devices} device{'s' if setting.num_devices > 1 else ''}"
    flags = f"--strategy={'jit' if 'jit' in strategies else strategies[0]}"
    if all(row.divides for row in rows):
        kind = f"that divides over at least {needs.num_devices} devices"
        flags += f" --num_devices={needs.num_devices}"
    elif not any(row.divides for row in rows):
        kind = "of one device"
    elif any(row.device_map.run == "eager" for row in rows):
        kind = "that differentiates with respect to parameters"
    else:
        kind = "that is compiled"
    return (
        f"fault {fault.name!r} needs a strategy {kind} ({', '.join(strategies)}): "
        f"{flags}, got strategy {setting.strategy!r} on {devices}"
    )


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
