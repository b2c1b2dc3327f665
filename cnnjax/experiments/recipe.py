"""A recipe: a network, a loss, an optimizer and all hyper-parameters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, get_args

from cnnjax.base.arguments import (
    at_least,
    instance_of,
    known_name,
    named,
    optional,
    settle,
    several,
    single,
    whole,
)
from cnnjax.base.errors import expect
from cnnjax.data.augmentation import Augmentation
from cnnjax.data.order import Shuffle
from cnnjax.data.preprocessing import UNIT_SCALE, Preprocessing
from cnnjax.data.splits import OFFICIAL, Split
from cnnjax.models.losses import LOSSES
from cnnjax.models.stack import ModelConfig
from cnnjax.training.algorithms import FRACTION
from cnnjax.training.optimizers import OptimizerConfig

# Instead of a strategy: the fastest form known (see `experiments.fastest`).
FASTEST = "fastest"
at_least_zero = single("0 or more", lambda weight: weight >= 0.0)


def weights_of_classes(name: str, value: Any) -> Any:
    """Return weights of classes, or a word for them. Raise InputError for others."""
    if isinstance(value, str):
        return known_name(name, value, ("balanced", "none"))
    return several(at_least_zero)(name, value)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """All settings of an experiment, except its seed and the folder of its data."""

    name: str
    summary: str
    model: ModelConfig
    loss: str  # a name of losses.LOSSES
    optimizer: OptimizerConfig
    label_smoothing: float = 0.0  # in training; the test measures the plain loss
    # What the loss of an example is multiplied by in training, by its class: see
    # `losses.balanced`.
    class_weights: tuple[float, ...] | str = "none"  # "balanced": counted
    dataset: str  # the dataset of the publication
    split: Split = OFFICIAL
    num_train: int | None = None  # None: all training examples of the split
    # The share of the training examples that is held out, and looked at after every
    # epoch in place of the test examples; these are looked at once, at the end.
    validation: float = 0.0
    patience: int | None = None  # see `training.stopping`; None: all epochs
    augmentation: tuple[Augmentation, ...] = ()  # of raw images, before preprocessing
    preprocessing: Preprocessing = UNIT_SCALE
    batch_size: int | None  # None: all training examples at once
    epochs: int
    shuffle: Shuffle = "every_epoch"
    strategy: str = FASTEST  # a name of strategies.STRATEGIES, or FASTEST

    @property
    def needs_keys(self) -> bool:
        """Whether training needs one key per example: for dropout or augmentation."""
        return self.model.has_dropout or bool(self.augmentation)

    def __post_init__(self) -> None:
        """Raise InputError for invalid values."""
        settle(
            self,
            name=instance_of(str),
            summary=instance_of(str),
            model=instance_of(ModelConfig),
            loss=named(LOSSES),
            optimizer=instance_of(OptimizerConfig),
            label_smoothing=FRACTION,
            class_weights=weights_of_classes,
            dataset=instance_of(str),
            split=instance_of(*get_args(Split)),
            num_train=optional(whole),
            validation=FRACTION,
            patience=optional(at_least(1)),
            augmentation=several(instance_of(*get_args(Augmentation))),
            preprocessing=instance_of(*get_args(Preprocessing)),
            batch_size=optional(whole),
            epochs=at_least(0),
            shuffle=named(get_args(Shuffle)),
            strategy=instance_of(str),
        )
        chosen = self.patience is None or self.validation > 0.0
        expect("validation above 0 with patience", self.validation, chosen)
        plain = LOSSES[self.loss].classifies or self.label_smoothing == 0.0
        expect("label_smoothing of 0 for a regression", self.label_smoothing, plain)
        plain = LOSSES[self.loss].classifies or self.class_weights == "none"
        expect("no class_weights for a regression", self.class_weights, plain)
