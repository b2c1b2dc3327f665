"""Run an experiment, or several at once: train and evaluate."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, get_args

from cnnjax.base.arguments import at_least, function, instance_of, named, optional
from cnnjax.base.clock import Clock, given_or_new
from cnnjax.base.errors import expect
from cnnjax.data.dataset import Dataset
from cnnjax.experiments.experiment import Experiment, prepare
from cnnjax.experiments.groups import examples_of, of_all, runs_of
from cnnjax.experiments.judging import is_due, looked_at, make_test
from cnnjax.experiments.predictions import count_unpredicted
from cnnjax.experiments.recipes import Recipe
from cnnjax.training.callbacks import Callbacks, ignore
from cnnjax.training.divergence import DivergedError, Divergence, OnNan, all_finite
from cnnjax.training.epochs import train_runs
from cnnjax.training.loop import LoopState
from cnnjax.training.records import EpochRecord
from cnnjax.training.updates import Updates, compile_updates
from cnnjax.types import Params


class Run(NamedTuple):
    """The result of a training run."""

    params: Params
    records: list[EpochRecord]
    test: Mapping[str, float]  # of the final parameters, over all test examples
    # Test examples without a predicted class, which count as wrong; None: a regression
    no_prediction: int | None = None
    finite: bool = True  # whether all final parameters are
    divergence: Divergence | None = None  # what stopped the training, if anything did
    best_epoch: int | None = None  # with patience: the epoch whose parameters are kept

    @property
    def diverged(self) -> bool:
        """Whether a training loss, a test loss or a parameter was ever not finite."""
        ended_well = self.finite and math.isfinite(self.test.get("loss", 0.0))
        spoiled = any(record.diverged for record in self.records)
        return not ended_well or spoiled or self.divergence is not None


def run(
    experiment: Experiment,
    *,
    evaluate_every: int = 1,
    on_epoch: Callable[[EpochRecord], None] = ignore,
    on_progress: Callable[[int, int], None] = ignore,
    on_state: Callable[[LoopState], None] = ignore,
    clock: Clock | None = None,
    updates: Updates | None = None,
    resume: LoopState | None = None,
    on_nan: OnNan = "continue",
) -> Run:
    """Train an experiment; evaluate it every `evaluate_every` epochs, and at the end.

    `evaluate_every=0` evaluates at the end only. The parameters do not depend on it.
    `updates` is the compiled program of an experiment of the same shapes. `resume` is a
    copy of a state that `on_state` received: training continues from it, and gives
    bit-identical results. With `on_nan="stop"` training ends as soon as a loss or a
    parameter is not finite, and `Run.divergence` says in which update; otherwise it
    goes on, and `Run.diverged` says so.

    Raises:
        InputError: not an experiment, an `evaluate_every` that is not a number of
            epochs, callbacks that are not functions, or the state of another training
            run.
    """
    instance_of(Experiment)("experiment (see prepare)", experiment)
    evaluate_every = at_least(0)("evaluate_every", evaluate_every)
    function("on_epoch", on_epoch)
    function("on_progress", on_progress)
    function("on_state", on_state)
    optional(instance_of(Updates))("updates", updates)
    named(get_args(OnNan))("on_nan", on_nan)
    clock = given_or_new(clock)
    with clock.part("compile"):
        updates = updates or compile_updates(
            experiment.params,
            experiment.train,
            strategy=experiment.strategy,
            optimizer=experiment.optimizer,
            config=experiment.loop,
            keys=experiment.keys,
        )
    (ended,) = run_group(
        [experiment],
        updates,
        evaluate_every=evaluate_every,
        on_epoch=lambda _, record: on_epoch(record),
        on_progress=on_progress,
        on_state=on_state,
        clock=clock,
        resume=resume,
        on_nan=on_nan,
    )
    return ended


def run_group(
    group: Sequence[Experiment],
    updates: Updates,
    *,
    evaluate_every: int = 1,
    on_epoch: Callable[[int, EpochRecord], None] = ignore,
    on_progress: Callable[[int, int], None] = ignore,
    on_state: Callable[[LoopState], None] = ignore,
    clock: Clock,
    resume: LoopState | None = None,
    on_nan: OnNan = "continue",
) -> list[Run]:
    """Train experiments of one program, all at once; evaluate each.

    They differ in their seed, or as `groups.as_one_program` allows. `updates` is the
    result of `compile_group` for a group of this size. Each experiment
    calls `on_epoch(index in the group, record)`.

    Raises:
        InputError: with patience, an `evaluate_every` that is 0 or longer.
    """
    one, runs = group[0], runs_of(group)
    if (patience := one.loop.patience) is not None:
        seen = 1 <= evaluate_every <= patience  # else nothing says when to stop
        expect(f"evaluate_every from 1 to {patience}, patience", evaluate_every, seen)
    with clock.part("compile"):
        looks = [make_test(looked_at(experiment)) for experiment in group]
        tests = looks if one.validation is None else list(map(make_test, group))

    def callbacks_of(index: int) -> Callbacks:
        def evaluate(epoch: int, params: Params) -> Mapping[str, float] | None:
            due = is_due(epoch, one.loop.epochs, evaluate_every)
            return looks[index](epoch, params) if due else None

        told = functools.partial(on_epoch, index)
        return Callbacks(evaluate, told, on_progress, on_state)

    divergence = None
    try:
        ended = train_runs(
            of_all([experiment.params for experiment in group]),
            examples_of(group),
            updates=updates,
            strategy=one.strategy,
            schedules=[experiment.schedule for experiment in group],
            config=one.loop,
            keys=of_all([experiment.keys for experiment in group]),
            each=[callbacks_of(index) for index in range(len(group))],
            means_fn=one.means_fn,
            clock=clock,
            runs=runs,
            resume=resume,
            on_nan=on_nan,
        )
    except DivergedError as error:
        ended, divergence = error.at, error.divergence
    results = []
    best_epoch = None if ended.best is None else ended.best.epoch
    for index, own in enumerate(ended.of_each(runs)):
        params, records = own.kept, list(own.records[0])
        last = records[-1] if records and divergence is None else None
        test = last.test if last is not None and last.part == "test" else None
        with clock.part("evaluate"):
            test = test or tests[index](one.loop.epochs, params)
            unpredicted = count_unpredicted(group[index], params, test)
            finite = bool(all_finite(params))
        results.append(
            Run(params, records, test, unpredicted, finite, divergence, best_epoch)
        )
    return results


def fit(
    recipe: Recipe,
    dataset: Dataset,
    *,
    seed: int = 0,
    evaluate_every: int = 1,
    on_epoch: Callable[[EpochRecord], None] = ignore,
) -> Run:
    """Prepare and run a recipe in one call.

    Raises:
        InputError: the dataset, the seed or the strategy does not fit the recipe,
            `evaluate_every` is not a number of epochs, or `on_epoch` is not a function.
    """
    evaluate_every = at_least(0)("evaluate_every", evaluate_every)
    function("on_epoch", on_epoch)
    experiment = prepare(recipe, dataset, seed=seed)
    return run(experiment, evaluate_every=evaluate_every, on_epoch=on_epoch)
