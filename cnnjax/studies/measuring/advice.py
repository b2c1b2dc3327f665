"""Find the fastest strategy for this machine, recipe and batch size by trying them.

Every candidate's gradient is checked against the reference. Then their updates are
timed in turn, run as in training. A candidate that is slow to compile may still pay
off: the advice says after how many updates.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import numpy as np

from cnnjax.base.errors import InputError
from cnnjax.experiments.experiment import Experiment
from cnnjax.gradients.shares import serial_value_and_grad
from cnnjax.laws.comparison import TOLERANCES, largest_error
from cnnjax.laws.references import first_batches
from cnnjax.studies.measuring.candidates import (
    Candidate,
    candidates_for,
    with_candidate,
)
from cnnjax.studies.measuring.timing import (
    Spread,
    interleave,
    seconds_of,
    spread,
    steps_that_fill,
)
from cnnjax.training.updates import LoopConfig, compile_updates
from cnnjax.types import Batch, Params

ROUNDS = 5
ROUND_SECONDS = 0.3
# Differences smaller than this fraction may be chance.
CLOSE = 0.03


class Tried(NamedTuple):
    """The measurements of one candidate."""

    candidate: Candidate
    step_seconds: Spread  # per update
    build_seconds: float  # to trace and compile
    gradient_error: float  # from the serial reference, as `comparison` measures it


class Advice(NamedTuple):
    """The candidates, fastest first."""

    tried: tuple[Tried, ...]
    batch_size: int

    @property
    def best(self) -> Tried:
        """Return the fastest; among those about as fast, the quickest to build."""
        near = (1 + CLOSE) * self.tried[0].step_seconds.median
        close = [one for one in self.tried if one.step_seconds.median <= near]
        return min(close, key=lambda one: one.build_seconds)


def advise(
    experiment: Experiment,
    candidates: Sequence[Candidate] | None = None,
    *,
    num_rounds: int = ROUNDS,
    round_seconds: float = ROUND_SECONDS,
    on_step: Callable[[str], None] = lambda _: None,
) -> Advice:
    """Check and time every candidate on an experiment; the parameters are not changed.

    The experiment's own strategy is ignored. `on_step` is called before each step with
    its name: each candidate, then each round of timing.

    Raises:
        InputError: a candidate's gradient differs from the reference's.
    """
    candidates = candidates_for(experiment) if candidates is None else candidates
    batch, _ = first_batches(experiment, batch_size=experiment.loop.batch_size)
    reference = jax.jit(serial_value_and_grad(experiment.loss_fn))
    _, expected = reference(experiment.params, batch)
    errors, builds, timers, steps = {}, {}, {}, {}
    for candidate in candidates:
        on_step(str(candidate))
        own = with_candidate(experiment, candidate)
        errors[candidate] = _gradient_error(own, batch, expected, name=str(candidate))
        jax.clear_caches()
        timers[candidate], steps[candidate], builds[candidate] = _timer(
            own, round_seconds
        )
    for timer in timers.values():
        timer()  # caches are cleared above, so compile again outside the timing
    times: dict[Candidate, list[float]] = {candidate: [] for candidate in candidates}
    for number in range(1, num_rounds + 1):
        on_step(f"timing, round {number} of {num_rounds}")
        for candidate, (seconds,) in interleave(timers, num_rounds=1).items():
            times[candidate].append(seconds)
    tried = [
        Tried(
            candidate,
            spread([seconds / steps[candidate] for seconds in times[candidate]]),
            builds[candidate],
            errors[candidate],
        )
        for candidate in candidates
    ]
    tried.sort(key=lambda one: one.step_seconds.median)
    return Advice(tuple(tried), experiment.loop.batch_size)


def _gradient_error(
    experiment: Experiment, batch: Batch, expected: Params, *, name: str
) -> float:
    """Return the error of a candidate's gradient; raise InputError if too large."""
    strategy = experiment.strategy
    value_and_grad = strategy.value_and_grad
    if strategy.run != "eager":
        value_and_grad = jax.jit(value_and_grad)
    params = strategy.put_state(experiment.params)
    _, grads = value_and_grad(params, strategy.put_batch(batch))
    error = largest_error(jax.tree.map(np.asarray, grads), expected)
    if not error <= TOLERANCES[experiment.recipe.model.dtype]:
        raise InputError(
            f"expected the reference's gradient from {name}, got one that is off by "
            f"{error:.1e}: this is a bug; compare_strategies.py shows details"
        )
    return error


def repaid_after(one: Tried, other: Tried) -> float:
    """Return after how many updates `one` overtakes `other`; infinite: never.

    >>> def tried(build, step):
    ...     return Tried(Candidate("jit"), Spread(step, step, step, 1), build, 0.0)
    >>> repaid_after(tried(2.0, 0.01), tried(1.0, 0.02))
    100.0
    """
    gain = other.step_seconds.median - one.step_seconds.median
    cost = one.build_seconds - other.build_seconds
    if cost <= 0:
        return 0.0 if gain >= 0 else math.inf
    return cost / gain if gain > 0 else math.inf


def _timer(
    experiment: Experiment, round_seconds: float
) -> tuple[Callable[[], float], int, float]:
    """Build the updates; return a timer, its updates per call and the build seconds."""
    strategy, loop_of = experiment.strategy, experiment.loop
    state = {}

    def build() -> object:
        state["updates"] = updates = compile_updates(
            experiment.params,
            experiment.train,
            strategy=strategy,
            optimizer=experiment.optimizer,
            config=LoopConfig(batch_size=loop_of.batch_size, epochs=1),
            keys=experiment.keys,
        )
        state["loop"] = updates.start(experiment.params)
        return state["loop"]

    build_seconds = seconds_of(build)
    updates = state["updates"]
    feed = updates.feed(experiment.train, experiment.keys)
    order = updates.order_of(experiment.keys, np.int32(0))
    available = -(-updates.num_examples // loop_of.batch_size)

    def run(steps: int) -> float:
        def go() -> object:
            left = steps
            while left > 0:
                part = min(left, available)
                bounds = np.int32(0), np.int32(part)
                state["loop"] = updates.run(state["loop"], feed, order, *bounds)
                left -= part
            return state["loop"]

        return seconds_of(go)

    steps = steps_that_fill(run, round_seconds)
    return lambda: run(steps), steps, build_seconds
