"""The calls of the compiled program that make the updates of an epoch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cnnjax.base.clock import Clock
from cnnjax.data.order import num_batches
from cnnjax.training.callbacks import Callbacks
from cnnjax.training.divergence import DivergedError, Divergence, is_finite
from cnnjax.training.feed import Feed
from cnnjax.training.loop import LoopConfig, LoopKeys, LoopState
from cnnjax.training.streaming import Stream
from cnnjax.training.updates import Loop, Updates

# Calls of the compiled program per epoch: enough to animate a progress bar.
CALLS_PER_EPOCH = 20


def to_the_end_of_the_epoch(
    at: LoopState,
    feed: Feed | Stream,
    *,
    updates: Updates,
    keys: LoopKeys,
    config: LoopConfig,
    per_call: int | None,
    callbacks: Callbacks,
    clock: Clock,
    trace_fn: Callable[..., Divergence] | None,
) -> LoopState:
    """Make the remaining updates of an epoch.

    `per_call` is the number of updates per call of the program; None: those of a window
    of streamed examples, or so many that an epoch has CALLS_PER_EPOCH calls. `trace_fn`
    finds the update that was not finite; None: nobody looks.

    Raises:
        DivergedError: somebody looks, and something is not finite.
    """
    num_examples = updates.num_examples
    num_steps = num_batches(num_examples, config.batch_size)
    per_call = per_call or config.stream or -(-num_steps // CALLS_PER_EPOCH)
    before = clock.seconds["train"] - at.seconds
    callbacks.on_progress(
        min(at.update * config.batch_size, num_examples), num_examples
    )
    with clock.part("train"):
        order = updates.order_of(keys, np.int32(at.epoch))
        start = at
        if trace_fn is not None:
            start = at._replace(**jax.tree.map(jnp.copy, _arrays_of(at)))
        calls = [
            (first, min(first + per_call, num_steps))
            for first in range(at.update, num_steps, per_call)
        ]
        feeds = feed.for_calls(order, calls)
    for first, stop in calls:
        bounds = np.int32(first), np.int32(stop)
        with clock.part("train"):
            loop, own = Loop(at.state, at.steps), next(feeds)
            loop = updates.run(loop, own, order, *bounds)
            jax.block_until_ready(loop)
        seconds = clock.seconds["train"] - before
        at = at._replace(
            state=loop.state, steps=loop.steps, update=stop, seconds=seconds
        )
        if trace_fn is not None and not is_finite(at, first):
            made = [call for call in calls if call[1] <= stop]
            raise DivergedError(trace_fn(start, made, feed=feed, order=order), at)
        callbacks.on_progress(min(stop * config.batch_size, num_examples), num_examples)
        callbacks.on_state(at)
    return at


def _arrays_of(at: LoopState) -> dict[str, Any]:
    """Return the fields that the next call of the program deletes."""
    return {"state": at.state, "steps": at.steps}
