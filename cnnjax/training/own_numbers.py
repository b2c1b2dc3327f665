"""One optimizer for several runs under one `vmap`, each with numbers of its own.

A program is compiled for shapes; the numbers in it may be asked for. Inside a `vmap`
with a named axis `lax.axis_index` is the number of the run that is computed, so

    rates = jnp.stack([rate_of_run_0, rate_of_run_1])
    rates[lax.axis_index(RUNS)]

is a learning rate in every run, another one in each. The state of the optimizer is that
of a run that is trained alone.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import jax.numpy as jnp
import optax
from jax import lax
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from cnnjax.training.loop import RUNS
from cnnjax.training.optimizers import OptimizerConfig, make_optimizer
from cnnjax.training.schedules import CONSTANT
from cnnjax.types import Params


def without_numbers(config: OptimizerConfig) -> OptimizerConfig:
    """Return what must be the same in runs of one program: all but their own numbers.

    These are the learning rate, the schedule, and how much `l2` and `weight_decay`
    shrink, if at all. (Others are not only multiplied with: from b2 = 0.999 Python
    computes 1 - b2 in 64 bits, a program would in 32.)

    >>> from cnnjax.training.optimizers import Adam
    >>> one = OptimizerConfig(algorithm=Adam(), learning_rate=0.1, l2=0.01)
    >>> without_numbers(one) == without_numbers(replace(one, learning_rate=0.2))
    True
    >>> without_numbers(one) == without_numbers(replace(one, l2=0.0))
    False
    """
    algorithm: Any = config.algorithm
    if getattr(algorithm, "weight_decay", 0.0) > 0.0:
        algorithm = replace(algorithm, weight_decay=1.0)
    return replace(
        config,
        algorithm=algorithm,
        learning_rate=1.0,
        schedule=CONSTANT,
        l2=float(config.l2 > 0.0),
    )


def make_optimizer_of_runs(
    configs: Sequence[OptimizerConfig], schedules: Sequence[optax.Schedule]
) -> optax.GradientTransformation:
    """Build the optimizer of several runs, for use under `Runs.over`.

    The configs are the same `without_numbers`; run i has `configs[i]`, `schedules[i]`.
    """
    l2 = [config.l2 for config in configs]
    decay = [getattr(config.algorithm, "weight_decay", 0.0) for config in configs]

    def own() -> optax.GradientTransformation:
        config: Any = configs[0]
        if len(set(decay)) > 1:
            numbers = {"weight_decay": _own(decay)}
            config = _with(config, algorithm=_with(config.algorithm, **numbers))
        if len(set(l2)) > 1:
            config = _with(config, l2=_own(l2))

        def rate(step: ArrayLike) -> Float[Array, ""]:
            return _own([schedule(step) for schedule in schedules])

        return make_optimizer(config, rate)

    def init(params: Params) -> optax.OptState:
        return own().init(params)

    def update(
        updates: Params, state: optax.OptState, params: Params | None = None
    ) -> tuple[optax.Updates, optax.OptState]:
        return own().update(updates, state, params)

    return optax.GradientTransformation(init, update)


def _own(numbers: Sequence[Any]) -> Float[Array, ""]:
    """Return the number of the run that is computed, in 32 bits."""
    return jnp.stack([jnp.asarray(n, jnp.float32) for n in numbers])[
        lax.axis_index(RUNS)
    ]


def _with(config: Any, **numbers: Any) -> Any:
    """Replace numbers, which were checked as they were given, by traced ones."""
    new = copy.copy(config)
    for name, value in numbers.items():
        object.__setattr__(new, name, value)
    return new
