"""The epoch loop: data on the device, gathered inside one compiled program."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jaxtyping import Array, Int, Key

from cnnjax.clock import Clock
from cnnjax.data import order as orders
from cnnjax.errors import expect, unknown_name
from cnnjax.records import EpochRecord, epoch_means
from cnnjax.training import init_state, make_train_step
from cnnjax.trees import zeros_like_output
from cnnjax.types import Batch, Count, Examples, Metrics, Params, Strategy, TrainState

# Calls of the compiled program per epoch: a bar moves, and nothing is lost by it.
CALLS_PER_EPOCH = 20


@dataclass(frozen=True, kw_only=True)
class LoopConfig:
    """How many examples an update sees, how often the data is seen, in which order."""

    batch_size: int
    epochs: int
    shuffle: orders.Shuffle = "every_epoch"

    def check(self, num_examples: int) -> None:
        """Raise InputError where the loop does not fit this many examples."""
        if self.shuffle not in get_args(orders.Shuffle):
            raise unknown_name("shuffle", self.shuffle, get_args(orders.Shuffle))
        size, whole = self.batch_size, isinstance(self.batch_size, int)
        what = f"batch_size from 1 to the {num_examples} training examples"
        expect(what, size, whole and 1 <= size <= num_examples)
        whole = isinstance(self.epochs, int)
        expect("epochs of at least 0", self.epochs, whole and self.epochs >= 0)


class LoopKeys(NamedTuple):
    """What a training run draws from; `dropout` is None where nothing is dropped."""

    order: Key[Array, ""]
    dropout: Key[Array, ""] | None


def ignore(*_: object) -> None:
    """Do nothing: the callback of who wants none."""


class Callbacks(NamedTuple):
    """What to do while training. None of it can change the training."""

    # evaluate(epochs_done, params): metrics of the test set, or None when not due.
    evaluate: Callable[[int, Params], Mapping[str, float] | None] = ignore
    on_epoch: Callable[[EpochRecord], None] = ignore
    # on_progress(examples_done, examples_of_the_epoch)
    on_progress: Callable[[int, int], None] = ignore


NO_CALLBACKS = Callbacks()


class Loop(NamedTuple):
    """What the updates of an epoch carry along."""

    state: TrainState
    steps: Metrics  # arrays of shape [steps], filled in as the updates go


BatchFn = Callable[[Examples, Array, Count, Count], Batch]
StepFn = Callable[[TrainState, Batch], tuple[TrainState, Metrics]]


def make_batch_fn(
    config: LoopConfig, keys: LoopKeys, put_batch: Callable[[Batch], Batch]
) -> BatchFn:
    """Build `batch_fn(examples, order, index, step)`: gather, hand out keys, place."""

    def batch_fn(examples: Examples, order: Array, index: Count, step: Count) -> Batch:
        size = config.batch_size
        batch = orders.take_batch(examples, order, index, batch_size=size)
        if keys.dropout is not None:
            drawn = orders.example_keys(keys.dropout, step, batch_size=size)
            batch = batch._replace(keys=drawn)
        return put_batch(batch)

    return batch_fn


def compile_updates(
    train_step: StepFn,
    batch_fn: BatchFn,
    *,
    strategy: Strategy,
    arguments: tuple[Loop, Examples, Array],
) -> Callable[[Loop, Examples, Array, Count, Count], Loop]:
    """Compile `run(loop, examples, order, start, stop)` as the strategy says.

    The bounds are arguments, not constants: one program serves every part of an
    epoch. The loop that is passed in is donated.
    """
    if strategy.run == "step":
        train_step = jax.jit(train_step)

    def update(index: Count, loop: Loop, examples: Examples, order: Array) -> Loop:
        batch = batch_fn(examples, order, index, loop.state.step)
        state, metrics = train_step(loop.state, batch)
        noted = jax.tree.map(lambda s, m: s.at[index].set(m), loop.steps, metrics)
        return Loop(state, noted)

    def fori(
        loop: Loop, examples: Examples, order: Array, start: Count, stop: Count
    ) -> Loop:
        body = functools.partial(update, examples=examples, order=order)
        return lax.fori_loop(start, stop, body, loop)

    if strategy.run == "loop":
        jitted = jax.jit(fori, donate_argnums=0)
        return jitted.lower(*arguments, np.int32(0), np.int32(0)).compile()

    def eager(
        loop: Loop, examples: Examples, order: Array, start: Count, stop: Count
    ) -> Loop:
        for index in range(start, stop):
            loop = update(np.int32(index), loop, examples, order)
        return loop

    jax.block_until_ready(eager(*arguments, 0, 1))  # its operations compile here
    return eager


def train(
    params: Params,
    examples: Examples,
    *,
    strategy: Strategy,
    optimizer: optax.GradientTransformation,
    schedule: optax.Schedule,
    config: LoopConfig,
    keys: LoopKeys,
    callbacks: Callbacks = NO_CALLBACKS,
    clock: Clock | None = None,
) -> tuple[Params, list[EpochRecord]]:
    """Train for `config.epochs` epochs; return the parameters and a record per epoch.

    The caller's params survive. The clock receives the parts "compile", "train" (the
    training calls with their order and gather, waited for) and "evaluate".

    Raises:
        InputError: the batch size or the epochs do not fit the examples.
    """
    num_examples = len(examples.labels)
    config.check(num_examples)
    clock = clock or Clock()
    num_steps = orders.num_batches(num_examples, config.batch_size)
    per_call = 1 if strategy.run == "eager" else -(-num_steps // CALLS_PER_EPOCH)
    train_step = make_train_step(strategy.value_and_grad, optimizer)
    batch_fn = make_batch_fn(config, keys, strategy.put_batch)

    @jax.jit
    def order_of(epoch: Count) -> Int[Array, " examples"]:
        return orders.epoch_order(
            keys.order, epoch, num_examples=num_examples, shuffle=config.shuffle
        )

    def metrics_of_epoch(state: TrainState, examples: Examples, order: Array):
        batch = batch_fn(examples, order, 0, state.step)
        _, metrics = train_step(state, batch)
        return jax.tree.map(lambda m: jnp.stack([m] * num_steps), metrics)

    with clock.part("compile"):
        state = init_state(params, optimizer)
        order = order_of(np.int32(0))
        steps = zeros_like_output(metrics_of_epoch, state, examples, order)
        arguments = strategy.put_state((Loop(state, steps), examples, order))
        run = compile_updates(
            train_step, batch_fn, strategy=strategy, arguments=arguments
        )
        loop, examples, order = jax.block_until_ready(arguments)

    records: list[EpochRecord] = []
    clock.seconds.setdefault("train", 0.0)
    for epoch in range(config.epochs):
        callbacks.on_progress(0, num_examples)
        before = clock.seconds["train"]
        with clock.part("train"):
            order = strategy.put_state(order_of(np.int32(epoch)))
        for start in range(0, num_steps, per_call):
            stop = min(start + per_call, num_steps)
            with clock.part("train"):
                bounds = np.int32(start), np.int32(stop)
                loop = jax.block_until_ready(run(loop, examples, order, *bounds))
            done = min(stop * config.batch_size, num_examples)
            callbacks.on_progress(done, num_examples)
        seconds = clock.seconds["train"] - before
        with clock.part("evaluate"):
            test = callbacks.evaluate(epoch + 1, loop.state.params)
        steps = jax.tree.map(np.array, loop.steps)
        record = EpochRecord(
            epoch=epoch + 1,
            step=(epoch + 1) * num_steps,
            learning_rate=float(np.asarray(schedule(epoch * num_steps))),
            train=epoch_means(steps),
            test=test,
            seconds=seconds,
            examples_per_second=num_examples / seconds,
            steps=steps,
        )
        records.append(record)
        callbacks.on_epoch(record)
    return loop.state.params, records
