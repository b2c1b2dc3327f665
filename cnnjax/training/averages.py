"""A moving average of the parameters, which is tested and kept instead of them.

The average is part of the optimizer's state, so whatever keeps, divides, groups or
resumes that state does the same with the average.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int
from optax import GradientTransformation, OptState, Updates

from cnnjax.types import HostParams, Params, TrainState


class Averaged(NamedTuple):
    """The state of an optimizer, and the average of what it has made."""

    inner: OptState
    average: Params
    updates: Int[Array, ""]


def with_average(
    optimizer: GradientTransformation, decay: float
) -> GradientTransformation:
    """Let an optimizer average the parameters of its updates t = 1, 2, ...

        d = min(decay, t / (t + 9)),    average = d average + (1 - d) params

    The average begins with the first parameters, and d is small at first, so that these
    are soon forgotten. The updates are those of the optimizer: what is trained does not
    change. Sources: Polyak and Juditsky, "Acceleration of Stochastic Approximation by
    Averaging", 1992; d as TensorFlow's `ExponentialMovingAverage` has it.
    """

    def init(params: Params) -> Averaged:
        # A copy: two leaves that share memory could not both be donated to a program.
        average = jax.tree.map(jnp.copy, params)
        return Averaged(optimizer.init(params), average, jnp.zeros((), jnp.int32))

    def update(
        updates: Updates, state: OptState, params: Params | None = None
    ) -> tuple[Updates, OptState]:
        assert params is not None
        assert isinstance(state, Averaged)
        changes, inner = optimizer.update(updates, state.inner, params)
        t = jnp.asarray(state.updates + 1, float)  # the widest type that JAX has here
        d = jnp.minimum(decay, t / (t + 9.0))

        def averaged(average: Float[Array, "..."], new: Float[Array, "..."]) -> Array:
            return (average + (1.0 - d) * (new - average)).astype(average.dtype)

        new = optax.apply_updates(params, changes)
        average = jax.tree.map(averaged, state.average, new)
        return changes, Averaged(inner, average, state.updates + 1)

    return GradientTransformation(init, update)


def without_schedule(
    optimizer: GradientTransformation, rate: optax.ScalarOrSchedule, beta: float
) -> GradientTransformation:
    """Let an optimizer do without a schedule, by interpolation and averaging.

        y = (1 - beta) z + beta x    where the gradient is taken: what is trained
        z = z + the optimizer's update by that gradient
        x = (1 - 1/t) x + z/t        what is tested and kept

    The optimizer should have no momentum of its own (Adam: b1 = 0). Source: Defazio et
    al., "The Road Less Scheduled", 2024 (arXiv:2405.15682); Optax's rule.
    """
    free = optax.contrib.schedule_free(optimizer, rate, b1=beta)
    return GradientTransformation(free.init, free.update)


def kept_params(state: TrainState) -> Params | HostParams:
    """Return the parameters to test and to keep: their average, if there is one."""
    own = state.opt_state
    if isinstance(own, optax.contrib.ScheduleFreeState):
        return optax.contrib.schedule_free_eval_params(own, state.params)
    return own.average if isinstance(own, Averaged) else state.params
