"""Train one recipe with many seeds, in groups that are trained together by `vmap`.

Each seed draws its own parameters, split, order and dropout. A group is trained by one
program, in which all arrays have a leading axis of runs; a group of one uses the
program of a single run. Programs are shared by all groups of the same size. So memory
is that of one group, and K seeds compile once or twice, not K times.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from cnnjax.base.arguments import at_least, function, several, whole_number
from cnnjax.base.clock import Clock, given_or_new
from cnnjax.base.errors import expect
from cnnjax.experiments.ended import ended_of, keys_of_group, snapshot_of, state_like
from cnnjax.experiments.experiment import LAST_SEED, Experiment
from cnnjax.experiments.groups import compile_group
from cnnjax.experiments.predictions import predict_test
from cnnjax.experiments.runs import Run, run_group
from cnnjax.experiments.seed_run import SeedRun
from cnnjax.results.checkpoints.keeper import Keeper
from cnnjax.training.callbacks import check_callbacks, ignore
from cnnjax.training.divergence import OnNan
from cnnjax.training.loop import LoopState
from cnnjax.training.records import EpochRecord
from cnnjax.training.updates import Updates

# Measured on two CPU cores: six seeds of the default recipe took 1.6 times as long in
# groups of three as one by one. A group is faster only if one run leaves a device idle.
GROUP_SIZE = 1


# The parameters of all seeds are kept until the end.
MOST_SEEDS = 1000


class SeedCallbacks(NamedTuple):
    """Functions called while many seeds train. None of them can change the training."""

    on_epoch: Callable[[int, EpochRecord], None] = ignore  # on_epoch(seed, record)
    # on_progress(examples_done, examples_per_epoch), for the current group
    on_progress: Callable[[int, int], None] = ignore
    # on_replay([(seed, record), ...]): what earlier starts noted, in the same order
    on_replay: Callable[[Sequence[tuple[int, EpochRecord]]], None] = ignore
    # on_resume(seeds, state): where they go on; None: they had ended
    on_resume: Callable[[Sequence[int], LoopState | None], None] = ignore


NO_CALLBACKS = SeedCallbacks()


def seeds_from(first: int, count: int) -> range:
    """Return so many seeds, counted from the first.

    >>> list(seeds_from(5, 3))
    [5, 6, 7]

    Raises:
        InputError: there are none, too many of them, or no such seeds.
    """
    what = f"num_seeds from 1 to {MOST_SEEDS:,} (for more, train them in parts)"
    count = whole_number(what, count, least=1, most=MOST_SEEDS)
    first = whole_number("seed from 0 to 2**32 - 1", first, least=0, most=LAST_SEED)
    fits = first + count - 1 <= LAST_SEED
    expect("seeds up to 2**32 - 1", f"{first} to {first + count - 1}", fits)
    return range(first, first + count)


def run_seeds(
    prepare_fn: Callable[[int], Experiment],
    seeds: Sequence[int],
    *,
    group_size: int = GROUP_SIZE,
    evaluate_every: int = 1,
    callbacks: SeedCallbacks = NO_CALLBACKS,
    clock: Clock | None = None,
    keeper: Keeper | None = None,
    on_nan: OnNan = "continue",
) -> Iterator[SeedRun]:
    """Train each seed and yield its result, in the order of the seeds.

    `prepare_fn(seed)` returns the experiment of a seed; the experiments must not differ
    in anything else. With a `keeper`, groups that have ended are not trained again, and
    one that was begun is resumed. With `on_nan="stop"` a seed that is trained
    alone ends as soon as it diverges; the others are trained.

    Raises:
        InputError: seeds that are not whole numbers, or a repeated seed; a group size
            below 1, or a group that `check_group` refuses; or callbacks that are not
            functions.
    """
    function("prepare_fn", prepare_fn)
    seeds = several(at_least(0))("seeds", seeds)
    expect("each seed once", seeds, len(set(seeds)) == len(seeds))
    group_size = at_least(1)("group_size", group_size)
    evaluate_every = at_least(0)("evaluate_every", evaluate_every)
    check_callbacks(callbacks, SeedCallbacks)
    clock = given_or_new(clock)
    compiled: dict[int, Updates] = {}  # by the size of the group
    keeper = keeper or Keeper()
    for index, first in enumerate(range(0, len(seeds), group_size)):
        with clock.part("prepare"):
            kept = keeper.ended(index)
            own = seeds[first : first + (group_size if kept is None else 1)]
            group = [prepare_fn(seed) for seed in own]
        if kept is not None:
            before = ended_of(kept, group[0].params)
            callbacks.on_resume([ended.seed for ended in before], None)
            callbacks.on_replay(_noted(before))
            yield from before
            continue
        with clock.part("compile"):
            if len(group) not in compiled:
                compiled[len(group)] = compile_group(group)
        keys = keys_of_group(group)
        resume = keeper.resume(like=state_like(group), keys=keys, group=index)
        if resume is not None:
            callbacks.on_resume(own, resume)
            callbacks.on_replay(_interleaved(own, resume.records))
        ended = run_group(
            group,
            compiled[len(group)],
            evaluate_every=evaluate_every,
            on_epoch=_of_seeds(callbacks.on_epoch, group),
            on_progress=callbacks.on_progress,
            on_state=functools.partial(keeper.on_state, keys=keys, group=index),
            clock=clock,
            resume=resume,
            on_nan=on_nan,
        )
        seed_runs = [
            _seed_run(experiment, run, clock)
            for experiment, run in zip(group, ended, strict=True)
        ]
        with clock.part("write"):
            keeper.end(index, snapshot_of(seed_runs))
        yield from seed_runs


Noted = list[tuple[int, EpochRecord]]


def _interleaved(
    seeds: Sequence[int], records: Sequence[Sequence[EpochRecord]]
) -> Noted:
    """Return the records of a group in the order in which they were made."""
    epochs = zip(*records, strict=True)
    return [pair for epoch in epochs for pair in zip(seeds, epoch, strict=False)]


def _noted(ended: Sequence[SeedRun]) -> Noted:
    """Return the records of a group that has ended, likewise."""
    return _interleaved([e.seed for e in ended], [e.run.records for e in ended])


def _of_seeds(
    on_epoch: Callable[[int, EpochRecord], None], group: Sequence[Experiment]
) -> Callable[[int, EpochRecord], None]:
    """Convert `on_epoch(seed, record)` to `on_epoch(index in the group, record)`."""
    return lambda index, record: on_epoch(group[index].seed, record)


def _seed_run(experiment: Experiment, run: Run, clock: Clock) -> SeedRun:
    with clock.part("predict"):
        predictions = predict_test(experiment, run.params)
    return SeedRun(experiment.seed, run, experiment.test.labels, predictions)
