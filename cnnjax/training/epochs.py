"""The loop over epochs: the updates of an epoch, an evaluation, a record."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import jax
import numpy as np
import optax

from cnnjax.base.clock import Clock, given_or_new
from cnnjax.base.errors import expect
from cnnjax.data.checks import check_examples
from cnnjax.data.order import num_batches
from cnnjax.training.callbacks import NO_CALLBACKS, Callbacks, check_callbacks
from cnnjax.training.calls import to_the_end_of_the_epoch
from cnnjax.training.divergence import (
    OnNan,
    trace,
)
from cnnjax.training.loop import (
    ONE_RUN,
    LoopConfig,
    LoopKeys,
    LoopState,
    Runs,
    check_resume,
)
from cnnjax.training.records import (
    EpochRecord,
    MeansFn,
    Part,
    epoch_means,
    make_record,
)
from cnnjax.training.stopping import better, is_over
from cnnjax.training.updates import Updates, compile_updates
from cnnjax.types import Examples, Params, Strategy


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
    resume: LoopState | None = None,
) -> tuple[Params, list[EpochRecord]]:
    """Train for `config.epochs` epochs; return the parameters and one record per epoch.

    The caller's params are not deleted. The clock measures the parts "compile", "train"
    (the training calls, including the order and the gather) and "evaluate". `means_fn`
    computes what is reported for an epoch from its updates. `updates` is the compiled
    program of an earlier run with the same shapes. `resume` is a copy of a state that
    `on_state` received: training continues from it, and gives bit-identical results.

    Raises:
        InputError: examples that cannot be used, a batch size that does not fit them,
            callbacks that are not functions, or the state of another training run.
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
    ended = train_runs(
        params,
        examples,
        updates=updates,
        strategy=strategy,
        schedules=[schedule],
        config=config,
        keys=keys,
        each=[callbacks],
        means_fn=means_fn,
        clock=clock,
        resume=resume,
    )
    return ended.kept, list(ended.records[0])


def train_runs(
    params: Params,
    examples: Examples,
    *,
    updates: Updates,
    strategy: Strategy,
    schedules: Sequence[optax.Schedule],
    config: LoopConfig,
    keys: LoopKeys,
    each: Sequence[Callbacks],
    means_fn: MeansFn = epoch_means,
    clock: Clock,
    runs: Runs = ONE_RUN,
    resume: LoopState | None = None,
    on_nan: OnNan = "continue",
) -> LoopState:
    """Train one run, or several at once, and return the final state.

    `schedules` and `each` have the schedule and the callbacks of each run;
    `on_progress` and `on_state`, which are for all runs together, are taken from the
    first. `on_nan="stop"` stops a single run when a loss or a parameter is not finite;
    of several, the others are trained to the end.

    With `config.patience`, a single run ends early and `best` has what to keep.

    Raises:
        InputError: `resume` is the state of another training run; or several runs with
            patience.
        DivergedError: `on_nan` says so.
    """
    alone = config.patience is None or runs == ONE_RUN
    expect("one run at a time with patience", runs, alone)
    with clock.part("compile"):
        begin = updates.start(params)
        feed = updates.feed(examples, keys)
        at = LoopState(begin.state, begin.steps, records=((),) * len(each))
        if resume is not None:
            num_steps = num_batches(updates.num_examples, config.batch_size)
            check_resume(resume, at, epochs=config.epochs, num_steps=num_steps)
            arrays = strategy.put_state((resume.state, resume.steps))
            at = resume._replace(state=arrays[0], steps=arrays[1])
            if at.best is not None:
                params = strategy.put_state(at.best.params)
                at = at._replace(best=at.best._replace(params=params))
    clock.seconds.setdefault("train", 0.0)
    trace_fn = None
    if on_nan == "stop" and runs.count is None:
        trace_fn = functools.partial(trace, updates=updates, schedule=schedules[0])
    while at.epoch < config.epochs and not is_over(at.best, at.epoch, config.patience):
        at = to_the_end_of_the_epoch(
            at,
            feed,
            updates=updates,
            keys=keys,
            config=config,
            per_call=1 if strategy.run == "eager" else None,
            callbacks=each[0],
            clock=clock,
            trace_fn=trace_fn,
        )
        at = _record_epoch(
            at,
            each=each,
            runs=runs,
            schedules=schedules,
            means_fn=means_fn,
            clock=clock,
            part=config.part,
        )
        if config.patience is not None:
            held_out = at.records[0][-1].test
            best = better(at.best, at.params, at.epoch, held_out)
            at = at._replace(best=best)
        each[0].on_state(at)
    return at


def _record_epoch(
    at: LoopState,
    *,
    each: Sequence[Callbacks],
    runs: Runs,
    schedules: Sequence[optax.Schedule],
    means_fn: MeansFn,
    clock: Clock,
    part: Part,
) -> LoopState:
    """Evaluate every run after an epoch, record the epoch, and call the callbacks."""
    epoch, seconds = at.epoch + 1, at.seconds / len(each)
    records = list(at.records)
    for index, own in enumerate(at.of_each(runs)):
        callbacks = each[index]
        with clock.part("evaluate"):
            test = callbacks.evaluate(epoch, own.params)
        record = make_record(
            epoch,
            jax.tree.map(np.array, own.steps),
            test,
            seconds,
            schedule=schedules[index],
            means_fn=means_fn,
            part=part,
        )
        records[index] = (*records[index], record)
        callbacks.on_epoch(record)
    return at._replace(epoch=epoch, update=0, records=tuple(records), seconds=0.0)
