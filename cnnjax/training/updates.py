"""The updates of an epoch, compiled: data on the device, gathered in the program."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jaxtyping import Array, Int, Key

from cnnjax.base.arguments import at_least, named, optional, settle, whole, whole_number
from cnnjax.base.settings import check_settings, compiled, typed_keys
from cnnjax.data import order as orders
from cnnjax.data.checks import check_counts
from cnnjax.training.step import init_state, make_train_step
from cnnjax.types import (
    Batch,
    Count,
    Examples,
    Metrics,
    Params,
    Strategy,
    TrainState,
)


@dataclass(frozen=True, kw_only=True)
class LoopConfig:
    """How many examples an update sees, how often the data is seen, in which order."""

    batch_size: int
    epochs: int
    shuffle: orders.Shuffle = "every_epoch"
    examples_per_epoch: int | None = None  # the first so many of its order; None: all

    def __post_init__(self) -> None:
        """Raise InputError for values that no run could mean."""
        settle(
            self,
            batch_size=whole,
            epochs=at_least(0),
            shuffle=named(get_args(orders.Shuffle)),
            examples_per_epoch=optional(whole),
        )

    def visited(self, num_examples: int) -> int:
        """Return how many of the training examples an epoch sees."""
        visited = self.examples_per_epoch
        return num_examples if visited is None else visited

    def check(self, num_examples: int) -> None:
        """Raise InputError where the loop does not fit this many examples."""
        size, visited = self.batch_size, self.visited(num_examples)
        what = f"batch_size from 1 to the {num_examples} training examples"
        whole_number(what, size, least=1, most=num_examples)
        what = f"examples_per_epoch from {size} to {num_examples}"
        whole_number(what, visited, least=size, most=num_examples)


class LoopKeys(NamedTuple):
    """What a training run draws from; `dropout` is None where nothing is dropped."""

    order: Key[Array, "*runs"]
    dropout: Key[Array, "*runs"] | None


class Loop(NamedTuple):
    """What the updates of an epoch carry along."""

    state: TrainState
    steps: Metrics  # arrays of shape [steps], filled in as the updates go
    dropout: Key[Array, "*runs"] | None  # what the masks of this run are drawn from


class Updates(NamedTuple):
    """Training, compiled: for all parameters, keys and examples of the same shapes."""

    start: Callable[[Params, LoopKeys], Loop]  # before the first update, and placed
    order_of: Callable[[LoopKeys, Count], Int[Array, "*runs examples"]]
    # run(loop, examples, order, first, stop) -> loop; the loop given is donated.
    run: Callable[[Loop, Examples, Array, Count, Count], Loop]
    num_examples: int  # of an epoch, of one run


# over_runs(fn, axes of its arguments) -> fn of several runs at once: as jax.vmap is.
OverRuns = Callable[[Callable, tuple[int | None, ...]], Callable]


def one_run(fn: Callable, in_axes: tuple[int | None, ...]) -> Callable:
    """Map over nothing: there is one run, and no axis of runs."""
    del in_axes
    return fn


def make_batch_fn(
    config: LoopConfig, put_batch: Callable[[Batch], Batch]
) -> Callable[..., Batch]:
    """Build `batch_of(examples, order, index, *, step, dropout)` of one run.

    It gathers the batch number `index` of an epoch, hands out a key an example where
    there is dropout, and places all of it.
    """

    def batch_of(
        examples: Examples,
        order: Int[Array, " examples"],
        index: Count,
        *,
        step: Count,
        dropout: Key[Array, ""] | None,
    ) -> Batch:
        size = config.batch_size
        batch = orders.take_batch(examples, order, index, batch_size=size)
        if dropout is not None:
            drawn = orders.example_keys(dropout, step, batch_size=size)
            batch = batch._replace(keys=drawn)
        return put_batch(batch)

    return batch_of


def compile_updates(
    params: Params,
    examples: Examples,
    *,
    strategy: Strategy,
    optimizer: optax.GradientTransformation,
    config: LoopConfig,
    keys: LoopKeys,
    over_runs: OverRuns = one_run,
    examples_axis: int | None = None,
) -> Updates:
    """Compile training as the strategy says. The arrays are given for their shapes.

    The bounds of `run` are arguments, not constants: one program serves every part of
    every epoch. With `over_runs=jax.vmap`, params and keys have a leading axis of runs;
    so have the examples if `examples_axis` is 0, else the runs share them.

    Raises:
        InputError: not one label per input, or a batch size or epochs that do not fit
            the examples; the keys are not of threefry, or a JAX setting is in the way.
    """
    check_settings()
    axis = 0 if examples_axis is None else 1  # of examples: runs come first
    check_counts(examples, axis=axis)
    num_examples = examples.labels.shape[axis]
    config.check(num_examples)
    visited = config.visited(num_examples)
    num_steps = orders.num_batches(visited, config.batch_size)
    train_step = make_train_step(strategy.value_and_grad, optimizer)
    if strategy.run == "step":
        train_step = jax.jit(train_step)

    of_one_run = Examples(
        *(jax.ShapeDtypeStruct(a.shape[axis:], a.dtype) for a in examples)
    )

    batch_of = make_batch_fn(config, strategy.put_batch)

    def step(
        state: TrainState,
        dropout: Key[Array, ""] | None,
        examples: Examples,
        order: Int[Array, " examples"],
        index: Count,
    ) -> tuple[TrainState, Metrics]:
        batch = batch_of(examples, order, index, step=state.step, dropout=dropout)
        return train_step(state, batch)

    def start(params: Params, dropout: Key[Array, ""] | None) -> Loop:
        state = init_state(params, optimizer)
        order = jnp.arange(visited, dtype=jnp.int32)
        _, metrics = jax.eval_shape(step, state, dropout, of_one_run, order, 0)
        room = jax.tree.map(lambda m: jnp.zeros((num_steps,), m.dtype), metrics)
        return Loop(state, room, dropout)

    def update(
        loop: Loop, examples: Examples, order: Int[Array, " examples"], index: Count
    ) -> Loop:
        state, metrics = step(loop.state, loop.dropout, examples, order, index)
        noted = jax.tree.map(lambda s, m: s.at[index].set(m), loop.steps, metrics)
        return Loop(state, noted, loop.dropout)

    def order_of(key: Key[Array, ""], epoch: Count) -> Int[Array, " examples"]:
        order = orders.epoch_order(
            key, epoch, num_examples=num_examples, shuffle=config.shuffle
        )
        return order[:visited]

    starts = over_runs(start, (0, 0))
    orders_of = jax.jit(over_runs(order_of, (0, None)))
    update_all = over_runs(update, (0, examples_axis, 0, None))

    def placed_start(params: Params, keys: LoopKeys) -> Loop:
        return strategy.put_state(starts(params, typed_keys(keys.dropout)))

    def placed_order(keys: LoopKeys, epoch: Count) -> Int[Array, "*runs examples"]:
        return strategy.put_state(orders_of(typed_keys(keys.order), epoch))

    def many(
        loop: Loop, examples: Examples, order: Array, first: Count, stop: Count
    ) -> Loop:
        return lax.fori_loop(
            first, stop, lambda at, loop: update_all(loop, examples, order, at), loop
        )

    def one_by_one(
        loop: Loop, examples: Examples, order: Array, first: Count, stop: Count
    ) -> Loop:
        for index in range(first, stop):
            loop = update_all(loop, examples, order, np.int32(index))
        return loop

    arguments = (
        placed_start(params, keys),
        strategy.put_state(examples),
        placed_order(keys, np.int32(0)),
    )
    if strategy.run == "loop":
        bounds = np.int32(0), np.int32(0)
        run = compiled(many, *arguments, *bounds, donate_argnums=(0,))
    else:
        run = one_by_one
        jax.block_until_ready(run(*arguments, 0, 1))  # its operations compile here
    return Updates(placed_start, placed_order, run, visited)
