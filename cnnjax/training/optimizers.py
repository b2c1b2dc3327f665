"""Optimizers: an algorithm, its learning rate and schedule, clipping and L2."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import optax
from jax.tree_util import keystr
from jaxtyping import Array, PyTree

from cnnjax.base.arguments import at_least, function, instance_of, optional, settle
from cnnjax.base.errors import InputError, expect, shown
from cnnjax.training.algorithms import (
    ALGORITHMS,
    POSITIVE,
    Adam,
    AdamW,
    Algorithm,
    Muon,
    Sgd,
    as_algorithm,
    is_weight,
)
from cnnjax.training.averages import with_average, without_schedule
from cnnjax.training.schedules import (
    CONSTANT,
    INSIDE,
    NOT_NEGATIVE,
    Schedule,
    as_schedule,
)
from cnnjax.types import Params

__all__ = [
    "ALGORITHMS",
    "Adam",
    "AdamW",
    "Algorithm",
    "Muon",
    "OptimizerConfig",
    "Sgd",
    "check_weights",
    "is_weight",
    "make_optimizer",
    "make_schedule",
]


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """An algorithm, its learning rate and schedule, and coupled L2."""

    algorithm: Algorithm
    learning_rate: float  # the largest value of the schedule
    schedule: Schedule = CONSTANT
    l2: float = 0.0  # gradient of a weight += l2 * weight; not for biases
    max_norm: float | None = None  # of the gradient, over all leaves; None: any
    # Of a moving average of the parameters (see `averages`); None: no average.
    average_decay: float | None = None
    schedule_free: float | None = None  # see `averages.without_schedule`; None: not so

    def __post_init__(self) -> None:
        """Raise InputError for invalid values."""
        settle(
            self,
            algorithm=as_algorithm,
            learning_rate=NOT_NEGATIVE,
            schedule=as_schedule,
            l2=NOT_NEGATIVE,
            max_norm=optional(POSITIVE),
            average_decay=optional(INSIDE),
            schedule_free=optional(INSIDE),
        )
        if self.schedule_free is not None:
            free = self.schedule == CONSTANT and self.average_decay is None
            what = "a constant schedule and no average_decay with schedule_free"
            expect(what, self.schedule, free)
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


def is_used(number: float | Array) -> bool:
    """Return whether a number is positive. A traced one is: see `own_numbers`."""
    return isinstance(number, jax.Array) or number > 0.0


def check_weights(params: Params, *, l2: float) -> None:
    """Raise InputError if `l2` is positive but no parameter is a kernel."""
    if is_used(l2) and not any(jax.tree.leaves(is_weight(params))):
        paths, _ = jax.tree_util.tree_flatten_with_path(params)
        names = [keystr(path, simple=True, separator="/") for path, _ in paths]
        raise InputError(
            f"expected a leaf of the name kernel, which l2={l2} shrinks, got leaves "
            f"{shown(names)}; name the weights so, or use l2=0"
        )


def make_optimizer(
    config: OptimizerConfig, schedule: optax.Schedule
) -> optax.GradientTransformation:
    """Build the Optax optimizer: clip the gradient, add L2, then update.

        g = g min(1, max_norm / |g|)        |g|: the Euclidean norm over all leaves
        g = g + l2 w                        for the weights

    The L2 is coupled: Adam gets g + l2 w (unlike AdamW). It is not part of the reported
    loss. With `average_decay` or `schedule_free` other parameters are tested and kept
    than those that are trained: see `averages`.

    Raises:
        InputError: not an `OptimizerConfig`, or a schedule that is not a function; from
            the optimizer, parameters without a kernel if `l2` is positive.
    """
    instance_of(OptimizerConfig)("config", config)
    function("schedule", schedule)

    def shrunk(params: Params) -> PyTree[bool]:
        check_weights(params, l2=config.l2)
        return is_weight(params)

    steps = [config.algorithm.rule(schedule)]
    if is_used(config.l2):
        steps.insert(0, optax.add_decayed_weights(config.l2, mask=shrunk))
    if config.max_norm is not None:
        steps.insert(0, optax.clip_by_global_norm(config.max_norm))
    optimizer = optax.chain(*steps) if len(steps) > 1 else steps[0]
    if config.schedule_free is not None:
        return without_schedule(optimizer, schedule, config.schedule_free)
    decay = config.average_decay
    return optimizer if decay is None else with_average(optimizer, decay)
