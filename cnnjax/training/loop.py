"""The config, the keys and the state of a training loop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, get_args

import jax
from jaxtyping import Array, Key, PyTree

from cnnjax.base.arguments import (
    at_least,
    instance_of,
    named,
    optional,
    settle,
    whole,
    whole_number,
)
from cnnjax.base.errors import InputError, expect
from cnnjax.base.leaves import first_difference
from cnnjax.data.order import Shuffle
from cnnjax.training.averages import kept_params
from cnnjax.training.records import EpochRecord, Part
from cnnjax.training.stopping import Best
from cnnjax.types import HostParams, Metrics, Params, TrainState

LAST_STEP = 2**31 - 1  # updates are counted by a 32-bit integer


@dataclass(frozen=True, kw_only=True)
class LoopConfig:
    """The batch size, the number of epochs, and the order of the examples."""

    batch_size: int
    epochs: int
    shuffle: Shuffle = "every_epoch"
    # Only the first examples of each epoch's order; None: all. Used by the fault that
    # shuffles held-out examples into the training set.
    examples_per_epoch: int | None = None
    part: Part = "test"  # the examples that are looked at after an epoch
    patience: int | None = None  # see `stopping`
    # The examples of so many updates are on the devices at a time; None: all examples.
    stream: int | None = None

    def __post_init__(self) -> None:
        """Raise InputError for invalid values."""
        settle(
            self,
            batch_size=whole,
            epochs=at_least(0),
            shuffle=named(get_args(Shuffle)),
            examples_per_epoch=optional(whole),
            part=named(get_args(Part)),
            patience=optional(at_least(1)),
            stream=optional(at_least(1)),
        )

    def visited(self, num_examples: int) -> int:
        """Return the number of training examples per epoch."""
        visited = self.examples_per_epoch
        return num_examples if visited is None else visited

    def check(self, num_examples: int) -> None:
        """Raise InputError if the config does not fit this number of examples."""
        size, visited = self.batch_size, self.visited(num_examples)
        what = f"batch_size from 1 to the {num_examples} training examples"
        whole_number(what, size, least=1, most=num_examples)
        what = f"examples_per_epoch from {size} to {num_examples}"
        whole_number(what, visited, least=size, most=num_examples)
        updates = self.epochs * -(-visited // size)
        what = f"at most {LAST_STEP:,} updates, which are counted in 32 bits"
        expect(f"{what} (see epochs)", updates, updates <= LAST_STEP)


class LoopKeys(NamedTuple):
    """The keys of a training run; `dropout` is None if no example needs one."""

    order: Key[Array, "*runs"]
    dropout: Key[Array, "*runs"] | None  # and of augmentation


class LoopState(NamedTuple):
    """The state of training between two calls of its program: all it needs to resume.

    With the same data, keys and settings, training that resumes from this state gives
    bit-identical results. The arrays are on the devices and are donated to the next
    call: copy what you want to keep (`devices.to_host`). With several runs at once,
    arrays have a leading axis of runs.
    """

    state: TrainState  # parameters, optimizer state, number of updates
    steps: Metrics  # of the updates of this epoch: arrays of shape [steps]
    epoch: int = 0  # epochs completed
    update: int = 0  # updates completed in the current epoch
    records: tuple[tuple[EpochRecord, ...], ...] = ((),)  # of each run
    seconds: float = 0.0  # time of the updates of this epoch
    best: Best | None = None  # with patience: the best parameters so far

    @property
    def params(self) -> Params | HostParams:
        """Return the parameters to test of one run (see `averages`)."""
        return kept_params(self.state)

    @property
    def kept(self) -> Params:
        """Return the parameters to keep of one run: the best, if there is a choice."""
        return self.params if self.best is None else self.best.params

    def of_each(self, runs: Runs) -> list[LoopState]:
        """Return the states of the runs, each as if it were trained alone."""
        arrays = runs.each((self.state, self.steps))
        seconds = self.seconds / len(arrays)
        return [
            self._replace(state=state, steps=steps, records=(own,), seconds=seconds)
            for (state, steps), own in zip(arrays, self.records, strict=True)
        ]


@dataclass(frozen=True, kw_only=True)
class Runs:
    """The number of runs that one program trains: one, or several under `vmap`."""

    count: int | None = None  # None: one run, whose arrays have no axis of runs
    # With several runs: 0: each has its own training examples; None: they share them.
    examples_axis: int | None = None

    def over(self, fn: Callable, in_axes: tuple[Any, ...]) -> Callable:
        """Map a function of one run over all runs."""
        return fn if self.count is None else jax.vmap(fn, in_axes, axis_name=RUNS)

    def each(self, tree: PyTree) -> list[Any]:
        """Split a tree of arrays into one tree per run."""
        if self.count is None:
            return [tree]
        return [take(tree, index) for index in range(self.count)]


RUNS = "runs"  # the axis of runs: `lax.axis_index(RUNS)` is the number of one's own
ONE_RUN = Runs()


def take(tree: PyTree, index: int) -> PyTree:
    """Return the arrays of one run from arrays with a leading axis of runs."""
    return jax.tree.map(lambda leaf: leaf[index], tree)


def check_resume(
    resume: LoopState, begin: LoopState, *, epochs: int, num_steps: int
) -> None:
    """Raise InputError if `resume` is not a state of the training run that is begun."""
    instance_of(LoopState)("resume (see Callbacks.on_state)", resume)
    for what, most, done in (
        ("epochs", epochs, resume.epoch),
        ("updates of an epoch", num_steps, resume.update),
    ):
        expect(f"to resume after 0 to {most} {what}", done, 0 <= done <= most)
    several, given = len(begin.records), len(resume.records)
    expect(f"to resume as many runs as there are, {several}", given, given == several)
    different = first_difference(resume[:2], begin[:2])
    if different is not None:
        leaf, ours, theirs = different
        raise InputError(
            f"expected to resume this training, with the leaf {leaf} of {ours}, got "
            f"{theirs}; give the state of a training of the same network and settings"
        )
