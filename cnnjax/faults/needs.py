"""What a run needs so that a fault has an effect in it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from cnnjax.data.splits import HoldOut
from cnnjax.devices.mesh import AXIS
from cnnjax.experiments.experiment import Experiment
from cnnjax.experiments.fastest import plain_form
from cnnjax.models.losses import LOSSES
from cnnjax.models.stack import Conv, Dense, ModelConfig, layer_rows
from cnnjax.strategies import NO_OPTIONS, STRATEGIES, mesh_of
from cnnjax.training.loop import LoopConfig


class Setting(NamedTuple):
    """The settings of a run that decide whether a fault has an effect."""

    strategy: str
    num_devices: int  # over which the batch is divided
    model: ModelConfig
    loss: str
    loop: LoopConfig
    num_train: int  # training examples
    num_test: int  # test examples
    holds_out: bool  # whether the test examples are held out of the training set
    microbatch_size: int | None = None  # None: no microbatches


class Requirement(NamedTuple):
    """A property of a run without which a fault would have no effect."""

    what: str  # in words, such as "a recipe with dropout"
    how: str  # the flag to set
    got: Callable[[Setting], object]  # what the run has instead, for the message
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


def layer_of(kind: type, name: str) -> Requirement:
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
    """What a fault needs to have an effect; by default, nothing."""

    strategies: tuple[str, ...] = ()  # one of these; empty: any strategy
    num_devices: int = 1  # at least
    recipe: tuple[Requirement, ...] = ()


ANYWHERE = Needs()


def setting_of(experiment: Experiment) -> Setting:
    """Return the `Setting` of an experiment."""
    recipe = experiment.recipe
    divides = STRATEGIES[recipe.strategy].divides
    mesh = mesh_of(experiment.form.options) if divides else None
    return Setting(
        strategy=recipe.strategy,
        num_devices=1 if mesh is None else mesh.shape[AXIS],
        model=recipe.model,
        loss=recipe.loss,
        loop=experiment.loop,
        num_train=len(experiment.train.labels),
        num_test=len(experiment.test.labels),
        holds_out=isinstance(recipe.split, HoldOut),
        microbatch_size=experiment.form.options.microbatch_size,
    )


def missing(name: str, needs: Needs, setting: Setting) -> str | None:
    """Return a message about the first unmet need of a fault; None: all are met."""
    if needs.strategies and (
        setting.strategy not in needs.strategies
        or setting.num_devices < needs.num_devices
    ):
        return _missing_strategy(name, needs, setting)
    for what, how, got, holds in needs.recipe:
        if not holds(setting):
            return f"fault {name!r} needs {what}: {how}, got {got(setting)}"
    return None


def _missing_strategy(name: str, needs: Needs, setting: Setting) -> str:
    strategies = needs.strategies
    rows = [STRATEGIES[name] for name in strategies]
    devices = f"{setting.num_devices} device{'s' if setting.num_devices > 1 else ''}"
    usual = plain_form(NO_OPTIONS)
    flags = f"--strategy={usual if usual in strategies else strategies[0]}"
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
        f"fault {name!r} needs a strategy {kind} ({', '.join(strategies)}): "
        f"{flags}, got strategy {setting.strategy!r} on {devices}"
    )
