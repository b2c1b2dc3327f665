"""Optimizers and learning-rate schedules."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import jax
import optax
from jax.tree_util import keystr
from jaxtyping import PyTree

from cnnjax.base.arguments import at_least, function, instance_of, settle, single
from cnnjax.base.errors import InputError, expect, shown
from cnnjax.training.schedules import CONSTANT, NOT_NEGATIVE, Schedule, as_schedule
from cnnjax.types import Params

FRACTION = single("in [0, 1)", lambda value: 0.0 <= value < 1.0)
POSITIVE = single("above 0", lambda value: 0.0 < value < math.inf)


@runtime_checkable
class Algorithm(Protocol):
    """A frozen dataclass of hyper-parameters, with the update rule they define."""

    def rule(self, schedule: optax.Schedule) -> optax.GradientTransformation:
        """Build the Optax transformation with this learning-rate schedule."""
        ...


@dataclass(frozen=True, kw_only=True)
class Adam:
    """Adam, with bias-corrected moments and `eps` outside the square root.

        m = b1 m + (1 - b1) g,    v = b2 v + (1 - b2) g^2
        params -= learning_rate (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps)

    for update t = 1, 2, ... Source: Kingma and Ba, "Adam: A Method for Stochastic
    Optimization", 2015, arXiv:1412.6980.
    """

    b1: float = 0.9  # decay rate of the first moment, m
    b2: float = 0.999  # decay rate of the second moment, v
    eps: float = 1e-8

    def __post_init__(self) -> None:
        """Raise InputError for invalid values."""
        settle(self, b1=FRACTION, b2=FRACTION, eps=POSITIVE)

    def rule(self, schedule: optax.Schedule) -> optax.GradientTransformation:
        """Build the Optax transformation with this learning-rate schedule."""
        return optax.adam(schedule, b1=self.b1, b2=self.b2, eps=self.eps)


@dataclass(frozen=True, kw_only=True)
class Sgd:
    """SGD with momentum: v = momentum v + g; params -= learning_rate v.

    v is 0 before the first update. With momentum 0 it is plain SGD.
    """

    momentum: float = 0.0

    def __post_init__(self) -> None:
        """Raise InputError for invalid values."""
        settle(self, momentum=FRACTION)

    def rule(self, schedule: optax.Schedule) -> optax.GradientTransformation:
        """Build the Optax transformation with this learning-rate schedule."""
        return optax.sgd(schedule, momentum=self.momentum or None)


# By name. To add an algorithm, add a class with a `rule`, and an entry here; schedules
# are in `schedules`.
ALGORITHMS = {"adam": Adam, "sgd": Sgd}


def as_algorithm(name: str, algorithm: Any) -> Algorithm:
    """Return an algorithm. Raise InputError for anything else."""
    known = " or ".join(kind.__name__ for kind in ALGORITHMS.values())
    has_rule = isinstance(algorithm, Algorithm) and not isinstance(algorithm, type)
    expect(f"{name} of kind {known}, or one with a rule", algorithm, has_rule)
    return algorithm


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """An algorithm, its learning rate and schedule, and coupled L2."""

    algorithm: Algorithm
    learning_rate: float  # the largest value of the schedule
    schedule: Schedule = CONSTANT
    l2: float = 0.0  # gradient of a weight += l2 * weight; not for biases

    def __post_init__(self) -> None:
        """Raise InputError for invalid values."""
        settle(
            self,
            algorithm=as_algorithm,
            learning_rate=NOT_NEGATIVE,
            schedule=as_schedule,
            l2=NOT_NEGATIVE,
        )
        # A schedule refuses the learning rates that it cannot have.
        self.schedule.rates(self.learning_rate, steps_per_epoch=1, epochs=1)


def make_schedule(
    config: OptimizerConfig, *, steps_per_epoch: int, epochs: int | None = None
) -> optax.Schedule:
    """Build `learning_rate(step)`, where step counts optimizer updates from 0.

    `epochs` is how many passes training takes, which some schedules need to know.

    Raises:
        InputError: not an `OptimizerConfig`, `steps_per_epoch` below 1, or no `epochs`
            for a schedule that needs it.
    """
    instance_of(OptimizerConfig)("config", config)
    steps_per_epoch = at_least(1)("steps_per_epoch", steps_per_epoch)
    if epochs is not None:
        epochs = at_least(0)("epochs", epochs)
    schedule, rate = config.schedule, config.learning_rate
    return schedule.rates(rate, steps_per_epoch=steps_per_epoch, epochs=epochs)


def is_weight(params: Params) -> PyTree[bool]:
    """Return a tree that is True for kernels, to which L2 applies, and False elsewhere.

    A kernel is a leaf whose name is "kernel", in any kind of tree.
    """
    return jax.tree_util.tree_map_with_path(
        lambda path, _: keystr(path[-1:], simple=True) == "kernel", params
    )


def check_weights(params: Params, *, l2: float) -> None:
    """Raise InputError if `l2` is positive but no parameter is a kernel."""
    if l2 > 0.0 and not any(jax.tree.leaves(is_weight(params))):
        paths, _ = jax.tree_util.tree_flatten_with_path(params)
        names = [keystr(path, simple=True, separator="/") for path, _ in paths]
        raise InputError(
            f"expected a leaf of the name kernel, which l2={l2} shrinks, got leaves "
            f"{shown(names)}; name the weights so, or use l2=0"
        )


def make_optimizer(
    config: OptimizerConfig, schedule: optax.Schedule
) -> optax.GradientTransformation:
    """Build the Optax optimizer: add L2 to the gradient of the weights, then update.

        g = g + l2 w

    The L2 is coupled: Adam gets g + l2 w (unlike AdamW). It is not part of the reported
    loss.

    Raises:
        InputError: not an `OptimizerConfig`, or a schedule that is not a function; from
            the optimizer, parameters without a kernel if `l2` is positive.
    """
    instance_of(OptimizerConfig)("config", config)
    function("schedule", schedule)
    rule = config.algorithm.rule(schedule)
    if config.l2 == 0.0:
        return rule

    def shrunk(params: Params) -> PyTree[bool]:
        check_weights(params, l2=config.l2)
        return is_weight(params)

    return optax.chain(optax.add_decayed_weights(config.l2, mask=shrunk), rule)
