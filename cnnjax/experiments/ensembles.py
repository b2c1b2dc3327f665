"""Train one recipe with many seeds, in groups that are trained together by `vmap`.

Each seed draws its own parameters, split, order and dropout. A group is trained by one
program, in which all arrays have a leading axis of runs; a group of one uses the
program of a single run. Programs are shared by all groups of the same size. So memory
is that of one group, and K seeds compile once or twice, not K times.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from cnnjax.base.arguments import at_least, function, several, whole_number
from cnnjax.base.clock import Clock, given_or_new
from cnnjax.base.errors import expect
from cnnjax.experiments.experiment import LAST_SEED, Experiment
from cnnjax.experiments.groups import compile_group
from cnnjax.experiments.predictions import predict_test
from cnnjax.experiments.runs import Run, run_group
from cnnjax.results.outcomes import dead_classes
from cnnjax.training.callbacks import check_callbacks, ignore
from cnnjax.training.records import EpochRecord
from cnnjax.training.updates import Updates

# Measured on two CPU cores: six seeds of the default recipe took 1.6 times as long in
# groups of three as one by one. A group is faster only if one run leaves a device idle.
GROUP_SIZE = 1


# The parameters of all seeds are kept, and written again as each ends.
MOST_SEEDS = 1000


class SeedRun(NamedTuple):
    """The result of one seed's run."""

    seed: int
    run: Run
    test_labels: np.ndarray
    # The class predicted for each test example; None for a regression.
    predictions: Int[np.ndarray, " examples"] | None

    @property
    def dead_classes(self) -> list[int]:
        """Return the classes in the test set that are never predicted."""
        if self.predictions is None:
            return []
        return dead_classes(self.test_labels, self.predictions)


class SeedCallbacks(NamedTuple):
    """Functions called while many seeds train. None of them can change the training."""

    on_epoch: Callable[[int, EpochRecord], None] = ignore  # on_epoch(seed, record)
    # on_progress(examples_done, examples_per_epoch), for the current group
    on_progress: Callable[[int, int], None] = ignore


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
) -> Iterator[SeedRun]:
    """Train each seed and yield its result, in the order of the seeds.

    `prepare_fn(seed)` returns the experiment of a seed; the experiments must not differ
    in anything else.

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
    for first in range(0, len(seeds), group_size):
        with clock.part("prepare"):
            group = [prepare_fn(seed) for seed in seeds[first : first + group_size]]
        with clock.part("compile"):
            if len(group) not in compiled:
                compiled[len(group)] = compile_group(group)
        ended = run_group(
            group,
            compiled[len(group)],
            evaluate_every=evaluate_every,
            on_epoch=_of_seeds(callbacks.on_epoch, group),
            on_progress=callbacks.on_progress,
            clock=clock,
        )
        for experiment, own in zip(group, ended, strict=True):
            yield _seed_run(experiment, own, clock)


def _of_seeds(
    on_epoch: Callable[[int, EpochRecord], None], group: Sequence[Experiment]
) -> Callable[[int, EpochRecord], None]:
    """Convert `on_epoch(seed, record)` to `on_epoch(index in the group, record)`."""
    return lambda index, record: on_epoch(group[index].seed, record)


def _seed_run(experiment: Experiment, run: Run, clock: Clock) -> SeedRun:
    with clock.part("predict"):
        predictions = predict_test(experiment, run.params)
    return SeedRun(experiment.seed, run, experiment.test.labels, predictions)
