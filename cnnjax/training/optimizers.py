"""Optimizers and learning-rate schedules."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, Protocol, get_args, runtime_checkable

import jax
import jax.numpy as jnp
import optax
from jax.tree_util import keystr
from jaxtyping import PyTree

from cnnjax.base.arguments import at_least, function, instance_of, named, settle, single
from cnnjax.base.errors import InputError, expect, shown
from cnnjax.types import Params

CosineUnit = Literal["epoch", "step"]

FRACTION = single("in [0, 1)", lambda value: 0.0 <= value < 1.0)
NOT_NEGATIVE = single("finite and at least 0", lambda value: 0.0 <= value < math.inf)
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


@dataclass(frozen=True)
class Constant:
    """Keep the learning rate constant: lr(t) = learning_rate."""


@dataclass(frozen=True, kw_only=True)
class Cosine:
    """Lower the learning rate along a cosine, from max at t = 0 to min at t = T.

        lr(t) = min + (max - min) (1 + cos(pi t / T)) / 2

    T is `cosine_epochs`; after T the rate stays at min. With the unit "epoch", t is the
    number of completed epochs, so the rate is constant within an epoch; with "step", it
    changes at every update. Source: Loshchilov and Hutter, "SGDR: Stochastic Gradient
    Descent with Warm Restarts", 2017, arXiv:1608.03983.
    """

    cosine_epochs: int
    min_learning_rate: float = 0.0
    cosine_unit: CosineUnit = "epoch"

    def __post_init__(self) -> None:
        """Raise InputError for invalid values."""
        settle(
            self,
            cosine_epochs=at_least(1),
            min_learning_rate=NOT_NEGATIVE,
            cosine_unit=named(get_args(CosineUnit)),
        )


# By name. To add an algorithm, add a class with a `rule`, and an entry here.
ALGORITHMS = {"adam": Adam, "sgd": Sgd}
SCHEDULES = {"constant": Constant, "cosine": Cosine}


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
    learning_rate: float  # the largest value, with a cosine schedule
    schedule: Constant | Cosine = Constant()
    l2: float = 0.0  # gradient of a weight += l2 * weight; not for biases

    def __post_init__(self) -> None:
        """Raise InputError for invalid values."""
        settle(
            self,
            algorithm=as_algorithm,
            learning_rate=NOT_NEGATIVE,
            schedule=instance_of(Constant, Cosine),
            l2=NOT_NEGATIVE,
        )
        if isinstance(self.schedule, Cosine):
            rate, low = self.learning_rate, self.schedule.min_learning_rate
            expect("learning_rate above 0 for a cosine", rate, rate > 0.0)
            expect(f"min_learning_rate at most {rate}", low, low <= rate)


def make_schedule(config: OptimizerConfig, *, steps_per_epoch: int) -> optax.Schedule:
    """Build `learning_rate(step)`, where step counts optimizer updates from 0.

    Raises:
        InputError: not an `OptimizerConfig`, or `steps_per_epoch` below 1.
    """
    instance_of(OptimizerConfig)("config", config)
    steps_per_epoch = at_least(1)("steps_per_epoch", steps_per_epoch)
    match config.schedule:
        case Constant():
            return optax.constant_schedule(config.learning_rate)
        case Cosine(cosine_unit=unit) as schedule:
            by_epoch = unit == "epoch"
            cosine = optax.cosine_decay_schedule(
                config.learning_rate,
                decay_steps=schedule.cosine_epochs
                * (1 if by_epoch else steps_per_epoch),
                alpha=schedule.min_learning_rate / config.learning_rate,
            )

    def by_whole_epochs(step: Any) -> Any:
        return cosine(jnp.floor_divide(step, steps_per_epoch))

    return by_whole_epochs if by_epoch else cosine


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
