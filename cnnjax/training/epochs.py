"""Epoch after epoch: updates, an evaluation, a record."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
import optax

from cnnjax.base.arguments import function, instance_of
from cnnjax.base.clock import Clock, given_or_new
from cnnjax.data.checks import check_examples
from cnnjax.data.order import num_batches
from cnnjax.training.records import EpochRecord, MeansFn, epoch_means
from cnnjax.training.updates import Loop, LoopConfig, LoopKeys, Updates, compile_updates
from cnnjax.types import Examples, Metrics, Params, Strategy

# Calls of the compiled program per epoch: a bar moves, and nothing is lost by it.
CALLS_PER_EPOCH = 20


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


def check_callbacks(callbacks: Any, kind: type) -> None:
    """Raise InputError for callbacks of another kind, or any that is no function."""
    instance_of(kind)("callbacks", callbacks)
    for name, callback in callbacks._asdict().items():
        function(name, callback)


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
    means_fn: MeansFn = epoch_means,
    clock: Clock | None = None,
    updates: Updates | None = None,
) -> tuple[Params, list[EpochRecord]]:
    """Train for `config.epochs` epochs; return the parameters and a record per epoch.

    The caller's params survive. The clock receives the parts "compile", "train" (the
    training calls with their order and gather, waited for) and "evaluate". `means_fn`
    says what the updates of an epoch come to. `updates` are what an earlier run of the
    same shapes was compiled to.

    Raises:
        InputError: examples that cannot be used, a batch size or epochs that do not fit
            them, or callbacks that are no functions.
    """
    check_callbacks(callbacks, Callbacks)
    examples = check_examples(examples, where="training ")
    clock = given_or_new(clock)
    with clock.part("compile"):
        updates = updates or compile_updates(
            params,
            examples,
            strategy=strategy,
            optimizer=optimizer,
            config=config,
            keys=keys,
        )
        begin = updates.start(params, keys)
        placed = jax.block_until_ready(strategy.put_state(examples))
    records: list[EpochRecord] = []
    loop = begin
    for epoch, loop, seconds in run_epochs(
        updates,
        begin,
        placed,
        keys=keys,
        config=config,
        per_call=1 if strategy.run == "eager" else None,
        on_progress=callbacks.on_progress,
        clock=clock,
    ):
        with clock.part("evaluate"):
            test = callbacks.evaluate(epoch, loop.state.params)
        steps = jax.tree.map(np.array, loop.steps)
        record = make_record(
            epoch, steps, test, seconds, schedule=schedule, means_fn=means_fn
        )
        records.append(record)
        callbacks.on_epoch(records[-1])
    return loop.state.params, records


def run_epochs(
    updates: Updates,
    loop: Loop,
    examples: Examples,
    *,
    keys: LoopKeys,
    config: LoopConfig,
    per_call: int | None = None,
    on_progress: Callable[[int, int], None] = ignore,
    clock: Clock,
) -> Iterator[tuple[int, Loop, float]]:
    """Yield (epochs done, loop, seconds of the training calls) after each epoch.

    The next epoch deletes the loop that was yielded: take what is needed before.
    `per_call` updates are made in one call; None: what makes CALLS_PER_EPOCH calls.
    """
    num_examples = updates.num_examples
    num_steps = num_batches(num_examples, config.batch_size)
    per_call = per_call or -(-num_steps // CALLS_PER_EPOCH)
    clock.seconds.setdefault("train", 0.0)
    for epoch in range(config.epochs):
        on_progress(0, num_examples)
        before = clock.seconds["train"]
        with clock.part("train"):
            order = updates.order_of(keys, np.int32(epoch))
        for first in range(0, num_steps, per_call):
            stop = min(first + per_call, num_steps)
            with clock.part("train"):
                bounds = np.int32(first), np.int32(stop)
                loop = updates.run(loop, examples, order, *bounds)
                jax.block_until_ready(loop)
            on_progress(min(stop * config.batch_size, num_examples), num_examples)
        yield epoch + 1, loop, clock.seconds["train"] - before


def make_record(
    epoch: int,
    steps: Metrics,
    test: Mapping[str, float] | None,
    seconds: float,
    *,
    schedule: optax.Schedule,
    means_fn: MeansFn = epoch_means,
) -> EpochRecord:
    """Return the record of an epoch of one run from what its updates noted."""
    num_steps = len(steps.weight)
    return EpochRecord(
        epoch=epoch,
        step=epoch * num_steps,
        learning_rate=float(np.asarray(schedule((epoch - 1) * num_steps))),
        train=means_fn(steps),
        test=test,
        seconds=seconds,
        examples_per_second=float(np.sum(steps.weight)) / seconds,
        steps=steps,
    )
