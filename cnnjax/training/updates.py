"""The compiled updates of an epoch; batches are gathered on the device."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jaxtyping import Array, Int, Key

from cnnjax.base.errors import expect
from cnnjax.base.settings import check_settings, compiled, typed_keys
from cnnjax.data import order as orders
from cnnjax.data.checks import check_counts
from cnnjax.training.feed import BatchFn, Feed, make_batch_fn
from cnnjax.training.loop import ONE_RUN, LoopConfig, LoopKeys, Runs
from cnnjax.training.step import apply_gradients, init_state
from cnnjax.training.streaming import Stream, empty_window, rows_of_window
from cnnjax.types import Count, Examples, Metrics, Params, Strategy, TrainState

__all__ = ["Feed", "LoopConfig", "LoopKeys", "Updates", "compile_updates"]


class Loop(NamedTuple):
    """The carry of the loop over updates."""

    state: TrainState
    steps: Metrics  # arrays of shape [steps]; each update fills in its entry


# run(loop, feed, order, first, stop) -> loop: the updates from `first` to `stop` - 1 of
# an epoch. The argument `loop` is donated.
RunFn = Callable[[Loop, Feed, Array, Count, Count], Loop]


class Updates(NamedTuple):
    """Compiled training, for all parameters, keys and examples of the same shapes."""

    start: Callable[[Params], Loop]  # the placed carry before the first update
    feed: Callable[[Examples, LoopKeys], Feed | Stream]
    order_of: Callable[[LoopKeys, Count], Int[Array, "*runs examples"]]
    run: RunFn
    # look(feed, order, index, state) -> (metrics, gradient): an update that is not made
    look: Callable[[Feed, Array, Count, TrainState], tuple[Metrics, Params]]
    num_examples: int  # per epoch and run


# step(feed, order, index, state) -> (state, metrics): one update.
StepFn = Callable[..., tuple[TrainState, Metrics]]


def make_step(
    strategy: Strategy, optimizer: optax.GradientTransformation, batch_of: BatchFn
) -> StepFn:
    """Build one update of one run: gather the batch, differentiate, update."""
    value_and_grad = strategy.value_and_grad
    move = functools.partial(apply_gradients, optimizer=optimizer)
    if strategy.run == "step":
        value_and_grad, move = jax.jit(value_and_grad), jax.jit(move)

    def step(
        feed: Feed, order: Int[Array, " examples"], index: Count, state: TrainState
    ) -> tuple[TrainState, Metrics]:
        batch = batch_of(feed, order, index, state.step)
        metrics, grads = value_and_grad(state.params, batch)
        return move(state, grads), metrics

    return step


def make_start(
    strategy: Strategy,
    optimizer: optax.GradientTransformation,
    *,
    metrics: Metrics,
    num_steps: int,
    runs: Runs,
) -> Callable[[Params], Loop]:
    """Build `start(params)`: the placed carry before the first update.

    `metrics` gives the types of the metrics of one update.
    """

    def start(params: Params) -> Loop:
        room = jax.tree.map(lambda m: jnp.zeros((num_steps,), m.dtype), metrics)
        return Loop(init_state(params, optimizer), room)

    start_all = runs.over(start, (0,))
    return lambda params: strategy.put_state(start_all(params))


def make_order_of(
    strategy: Strategy, config: LoopConfig, *, num_examples: int, runs: Runs
) -> Callable[[LoopKeys, Count], Int[Array, "*runs examples"]]:
    """Build `order_of(keys, epoch)`: the placed order of the examples in an epoch."""

    def order_of(key: Key[Array, ""], epoch: Count) -> Int[Array, " examples"]:
        order = orders.epoch_order(
            key, epoch, num_examples=num_examples, shuffle=config.shuffle
        )
        return order[: config.visited(num_examples)]

    orders_of = jax.jit(runs.over(order_of, (0, None)))
    return lambda keys, epoch: strategy.put_state(
        orders_of(typed_keys(keys.order), epoch)
    )


def make_run(step: StepFn, *, runs: Runs, in_one_program: bool) -> RunFn:
    """Build `run`: several updates of an epoch, in one program or one by one."""

    def update(
        feed: Feed, order: Int[Array, " examples"], index: Count, loop: Loop
    ) -> Loop:
        state, metrics = step(feed, order, index, loop.state)
        noted = jax.tree.map(lambda s, m: s.at[index].set(m), loop.steps, metrics)
        return Loop(state, noted)

    axes: Any = (runs.examples_axis, 0)  # where the fields of a feed have their runs
    update_all = runs.over(update, (Feed(*axes), 0, None, 0))

    def many(loop: Loop, feed: Feed, order: Array, first: Count, stop: Count) -> Loop:
        one = functools.partial(update_all, feed, order)
        return lax.fori_loop(first, stop, one, loop)

    def one_by_one(
        loop: Loop, feed: Feed, order: Array, first: Count, stop: Count
    ) -> Loop:
        for index in range(int(first), int(stop)):
            loop = update_all(feed, order, np.int32(index), loop)
        return loop

    return many if in_one_program else one_by_one


def compile_updates(
    params: Params,
    examples: Examples,
    *,
    strategy: Strategy,
    optimizer: optax.GradientTransformation,
    config: LoopConfig,
    keys: LoopKeys,
    runs: Runs = ONE_RUN,
) -> Updates:
    """Compile training as the strategy requires; the arrays are used for their shapes.

    The bounds of `run` are arguments, not constants, so one program serves every part
    of every epoch. With several `runs`, params and keys have a leading axis of runs.

    Raises:
        InputError: not one label per input, a batch size that does not fit the
            examples, several runs whose examples are streamed, keys that are not
            threefry keys, or a JAX setting under which this cannot run.
    """
    check_settings()
    axis = 0 if runs.examples_axis is None else 1  # of examples: runs come first
    check_counts(examples, axis=axis)
    alone = config.stream is None or runs == ONE_RUN
    expect("one run, if its examples are streamed", runs, alone)
    num_examples = examples.labels.shape[axis]
    config.check(num_examples)
    visited = config.visited(num_examples)
    batch_of = make_batch_fn(config, strategy.put_batch)
    step = make_step(strategy, optimizer, batch_of)
    rows = None if config.stream is None else rows_of_window(config, visited)

    def look(
        feed: Feed, order: Array, index: Count, state: TrainState
    ) -> tuple[Metrics, Params]:
        batch = batch_of(feed, order, index, state.step)
        return strategy.value_and_grad(state.params, batch)

    shown = examples if rows is None else empty_window(examples, rows)
    own = Examples(*(jax.ShapeDtypeStruct(a.shape[axis:], a.dtype) for a in shown))
    first, dropout = runs.each((params, typed_keys(keys.dropout)))[0]
    order = jax.ShapeDtypeStruct((visited,), jnp.int32)
    begin = None if rows is None else np.int32(0)
    state = TrainState(first, (), jnp.zeros((), jnp.int32))  # no optimizer looks
    metrics, _ = jax.eval_shape(look, Feed(own, dropout, begin), order, 0, state)
    num_steps = orders.num_batches(visited, config.batch_size)
    start = make_start(
        strategy, optimizer, metrics=metrics, num_steps=num_steps, runs=runs
    )

    def feed(examples: Examples, keys: LoopKeys) -> Feed | Stream:
        read = Examples(*examples), typed_keys(keys.dropout)
        if rows is None:
            return jax.block_until_ready(strategy.put_state(Feed(*read)))
        size = config.batch_size
        return Stream(*read, put=strategy.put_state, batch_size=size, rows=rows)

    order_of = make_order_of(strategy, config, num_examples=num_examples, runs=runs)
    run = make_run(step, runs=runs, in_one_program=strategy.run == "loop")
    arguments = (
        start(params),
        strategy.put_state(Feed(Examples(*shown), typed_keys(keys.dropout), begin)),
        order_of(keys, np.int32(0)),
    )
    if strategy.run == "loop":
        bounds = np.int32(0), np.int32(0)
        run = compiled(run, *arguments, *bounds, donate_argnums=(0,))
    else:
        jax.block_until_ready(run(*arguments, 0, 1))  # its operations compile here
    look = look if strategy.run == "eager" else jax.jit(look)
    return Updates(start, feed, order_of, run, look, visited)
