"""One recipe under many seeds: several at once by `vmap`, group after group.

Each seed draws its own parameters, split, order and dropout. A group is trained as one
program, in which everything has a leading axis of runs; a group of one is the program
of a single run, which all seeds share. So memory is that of one group, and K seeds
compile once or twice, not K times.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Int, PyTree

from cnnjax.base.arguments import at_least, function, several
from cnnjax.base.clock import Clock, given_or_new
from cnnjax.base.errors import InputError, expect
from cnnjax.data.splits import HoldOut
from cnnjax.experiments.experiment import Experiment
from cnnjax.experiments.runs import (
    Run,
    count_unpredicted,
    is_due,
    make_test,
    predict_test,
    run,
)
from cnnjax.faults import corrupted, get_fault
from cnnjax.results.outcomes import dead_classes
from cnnjax.strategies import STRATEGIES, make_strategy
from cnnjax.training.epochs import check_callbacks, ignore, make_record, run_epochs
from cnnjax.training.records import EpochRecord
from cnnjax.training.updates import LoopKeys, Updates, compile_updates
from cnnjax.types import Examples

# Measured on two CPU cores: by threes, six seeds of the default recipe trained for 1.6
# times as long as one by one. A group pays where one run leaves a device idle.
GROUP_SIZE = 1


class SeedRun(NamedTuple):
    """What the run of one seed left."""

    seed: int
    run: Run
    test_labels: np.ndarray
    # The class predicted for each test example; None for a regression.
    predictions: Int[np.ndarray, " examples"] | None

    @property
    def dead_classes(self) -> list[int]:
        """Return the classes of the test set that are never predicted."""
        if self.predictions is None:
            return []
        return dead_classes(self.test_labels, self.predictions)


class SeedCallbacks(NamedTuple):
    """What to do while many seeds train. None of it can change the training."""

    on_epoch: Callable[[int, EpochRecord], None] = ignore  # of a seed
    # on_progress(examples done, examples of the epoch), of the present group
    on_progress: Callable[[int, int], None] = ignore


NO_CALLBACKS = SeedCallbacks()


def run_seeds(
    prepare_fn: Callable[[int], Experiment],
    seeds: Sequence[int],
    *,
    group_size: int = GROUP_SIZE,
    evaluate_every: int = 1,
    callbacks: SeedCallbacks = NO_CALLBACKS,
    clock: Clock | None = None,
) -> Iterator[SeedRun]:
    """Train each seed and yield what it left, in the order of the seeds.

    `prepare_fn(seed)` makes the experiment of a seed; they may differ in nothing else.

    Raises:
        InputError: seeds that are no whole numbers, or one of them twice; a group of no
            size, or one that `check_group` refuses; or callbacks that are no functions.
    """
    function("prepare_fn", prepare_fn)
    seeds = several(at_least(0))("seeds", seeds)
    expect("each seed once", seeds, len(set(seeds)) == len(seeds))
    group_size = at_least(1)("group_size", group_size)
    evaluate_every = at_least(0)("evaluate_every", evaluate_every)
    check_callbacks(callbacks, SeedCallbacks)
    clock = given_or_new(clock)
    compiled: dict[int, Updates] = {}  # by the size of the group
    for first in range(0, len(seeds), group_size):
        with clock.part("prepare"):
            group = [prepare_fn(seed) for seed in seeds[first : first + group_size]]
        with clock.part("compile"):
            if len(group) not in compiled:
                compiled[len(group)] = compile_group(group)
        train = _train_one if len(group) == 1 else _train_group
        yield from train(
            group,
            compiled[len(group)],
            evaluate_every=evaluate_every,
            callbacks=callbacks,
            clock=clock,
        )


def check_group(experiment: Experiment, size: int) -> None:
    """Refuse several runs at once of what cannot be mapped over runs.

    Raises:
        InputError: the strategy divides a batch over devices or is not compiled, or a
            fault has it run from Python.
    """
    if size == 1:
        return
    name = experiment.recipe.strategy
    right = make_strategy(name, experiment.objective, experiment.options)
    if STRATEGIES[name].divides or right.run != "loop":
        raise InputError(
            f"strategy {name!r} trains one seed at a time; use --group_size=1, or jit"
        )
    for fault in map(get_fault, experiment.faults):
        wrong = corrupted("strategy", lambda *_: right, [fault])
        if wrong(experiment.objective, experiment.options).run != "loop":
            raise InputError(
                f"fault {fault.name!r} runs each update from Python, one seed at a "
                "time; use --group_size=1"
            )


def compile_group(group: Sequence[Experiment]) -> Updates:
    """Compile the updates of one experiment, or of several at once.

    Raises:
        InputError: several, which `check_group` refuses.
    """
    one = group[0]
    check_group(one, len(group))
    how = {
        "strategy": one.strategy,
        "optimizer": one.optimizer,
        "config": one.loop,
    }
    if len(group) == 1:
        return compile_updates(one.params, one.train, keys=one.keys, **how)
    return compile_updates(
        stack([experiment.params for experiment in group]),
        _examples(group),
        keys=stack([experiment.keys for experiment in group]),
        over_runs=jax.vmap,
        examples_axis=_examples_axis(group),
        **how,
    )


def stack(trees: Sequence[PyTree]) -> PyTree:
    """Lay equal trees of arrays out along a new first axis."""
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


def _train_one(
    group: Sequence[Experiment],
    updates: Updates,
    *,
    evaluate_every: int,
    callbacks: SeedCallbacks,
    clock: Clock,
) -> Iterator[SeedRun]:
    (experiment,) = group
    ended = run(
        experiment,
        evaluate_every=evaluate_every,
        on_epoch=functools.partial(callbacks.on_epoch, experiment.seed),
        on_progress=callbacks.on_progress,
        clock=clock,
        updates=updates,
    )
    yield _seed_run(experiment, ended, clock)


def _train_group(
    group: Sequence[Experiment],
    updates: Updates,
    *,
    evaluate_every: int,
    callbacks: SeedCallbacks,
    clock: Clock,
) -> Iterator[SeedRun]:
    one = group[0]
    keys: LoopKeys = stack([experiment.keys for experiment in group])
    with clock.part("compile"):
        begin = updates.start(stack([experiment.params for experiment in group]), keys)
        examples = jax.block_until_ready(one.strategy.put_state(_examples(group)))
        tests = [make_test(experiment) for experiment in group]
    records: list[list[EpochRecord]] = [[] for _ in group]
    params = begin.state.params
    for epoch, loop, seconds in run_epochs(
        updates,
        begin,
        examples,
        keys=keys,
        config=one.loop,
        on_progress=callbacks.on_progress,
        clock=clock,
    ):
        params, steps = loop.state.params, jax.tree.map(np.array, loop.steps)
        for index, experiment in enumerate(group):
            with clock.part("evaluate"):
                due = is_due(epoch, experiment.loop.epochs, evaluate_every)
                test = tests[index](epoch, take(params, index)) if due else None
            record = make_record(
                epoch,
                take(steps, index),
                test,
                seconds / len(group),
                schedule=one.schedule,
                means_fn=one.means_fn,
            )
            records[index].append(record)
            callbacks.on_epoch(experiment.seed, record)
    for index, experiment in enumerate(group):
        own = take(params, index)
        last = records[index][-1].test if records[index] else None
        with clock.part("evaluate"):
            epochs = experiment.loop.epochs
            test = tests[index](epochs, own) if last is None else last
            unpredicted = count_unpredicted(experiment, own, test)
        yield _seed_run(experiment, Run(own, records[index], test, unpredicted), clock)


def take(tree: PyTree, index: int) -> PyTree:
    """Take one of the trees that were laid out by `stack`."""
    return jax.tree.map(lambda leaf: leaf[index], tree)


def _seed_run(experiment: Experiment, run: Run, clock: Clock) -> SeedRun:
    with clock.part("predict"):
        predictions = predict_test(experiment, run.params)
    return SeedRun(experiment.seed, run, experiment.test.labels, predictions)


def _examples(group: Sequence[Experiment]) -> Examples:
    """Return the training examples of a group: one set, or one for each run."""
    if _examples_axis(group) is None:
        return Examples(*group[0].train)
    own = zip(*(experiment.train for experiment in group), strict=True)
    return Examples(*map(np.stack, own))


def _examples_axis(group: Sequence[Experiment]) -> int | None:
    """Return 0 where each seed holds other examples out, None where all train alike."""
    return 0 if isinstance(group[0].recipe.split, HoldOut) else None
