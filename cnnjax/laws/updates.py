"""Make some updates as training does, and record their effects."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from cnnjax.laws.comparison import largest_error
from cnnjax.laws.programs import copies_from_host
from cnnjax.training.step import init_state, make_train_step
from cnnjax.types import Batch, Metrics, Params, Strategy, TrainState


class Updated(NamedTuple):
    """The effects of some updates."""

    params: Params  # after the updates, as NumPy arrays
    traces: int  # number of traces of the step; 0: it is not compiled
    copies_from_host: bool  # whether a step copies something from the host
    deletes_params: bool  # whether the caller's parameters are deleted
    changes_params: bool  # whether the caller's parameters have changed


def update(
    strategy: Strategy,
    params: Params,
    batches: Sequence[Batch],
    *,
    optimizer: optax.GradientTransformation,
) -> Updated:
    """Make one update per batch, with a donated state; then one under a transfer guard.

    The updates start from a copy of the parameters, which they may delete.
    """
    own = jax.tree.map(jnp.copy, params)
    step, traces = make_train_step(strategy.value_and_grad, optimizer), 0

    def counted(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        nonlocal traces
        traces += 1
        return step(state, batch)

    compiled = strategy.run != "eager"
    run = jax.jit(counted, donate_argnums=0) if compiled else step
    state = strategy.put_state(init_state(own, optimizer))
    placed = [strategy.put_batch(batch) for batch in batches]
    for batch in placed:
        state, _ = run(state, batch)
    after = jax.tree.map(np.array, state.params)
    copies = compiled and copies_from_host(run, state, placed[0])
    deleted = any(leaf.is_deleted() for leaf in jax.tree.leaves(own))
    return Updated(
        params=after,
        traces=traces,
        copies_from_host=copies,
        deletes_params=deleted,
        changes_params=not deleted and largest_error(own, params) > 0,
    )
