"""The training step: gradient, optimizer, new state, for any model and strategy."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from cnnjax.base.arguments import function, instance_of
from cnnjax.types import Batch, Metrics, Params, TrainState, ValueAndGradFn

_is_optimizer = instance_of(optax.GradientTransformation)


def init_state(params: Params, optimizer: optax.GradientTransformation) -> TrainState:
    """Return the state before the first update.

    Raises:
        InputError: not an Optax optimizer.
    """
    _is_optimizer("optimizer (see make_optimizer)", optimizer)
    return TrainState(params, optimizer.init(params), jnp.zeros((), jnp.int32))


def make_train_step(
    value_and_grad: ValueAndGradFn, optimizer: optax.GradientTransformation
) -> Callable[[TrainState, Batch], tuple[TrainState, Metrics]]:
    """Build `train_step(state, batch) -> (state, metrics)`: one optimizer update.

    The metrics are for the parameters before the update.

    Raises:
        InputError: not a function, or not an Optax optimizer.
    """
    function("value_and_grad (of a strategy)", value_and_grad)
    _is_optimizer("optimizer (see make_optimizer)", optimizer)

    def train_step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        metrics, grads = value_and_grad(state.params, batch)
        return apply_gradients(state, grads, optimizer), metrics

    return train_step


def apply_gradients(
    state: TrainState, grads: Params, optimizer: optax.GradientTransformation
) -> TrainState:
    """Apply the optimizer's update for these gradients to the parameters."""
    with jax.numpy_dtype_promotion("standard"):  # Optax's Adam relies on it
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
    return TrainState(params, opt_state, state.step + 1)
