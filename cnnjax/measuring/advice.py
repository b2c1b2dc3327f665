"""Which strategy is the fastest here: tried, for this machine, recipe and batch size.

Every candidate computes the same gradient, which is checked; then their updates are
timed side by side, as training runs them. What is slow to compile may still be worth
it: the advice says after how many updates.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import numpy as np

from cnnjax.base.errors import InputError
from cnnjax.experiments.experiment import Experiment
from cnnjax.experiments.overrides import override
from cnnjax.gradients.shares import serial_value_and_grad
from cnnjax.laws.comparison import TOLERANCES, largest_error
from cnnjax.laws.references import first_batches
from cnnjax.measuring.timing import (
    Spread,
    interleave,
    seconds_of,
    spread,
    steps_that_fill,
)
from cnnjax.models.stack import Conv
from cnnjax.strategies import STRATEGIES, make_strategy, mesh_of
from cnnjax.training.updates import LoopConfig, compile_updates

MICROBATCHES = (8, 16, 32)
ROUNDS = 5
ROUND_SECONDS = 0.3
# A candidate that is faster by less than this may be so by chance.
CLOSE = 0.03


class Candidate(NamedTuple):
    """A way to compute the mean gradient."""

    strategy: str
    microbatch_size: int | None = None

    def __str__(self) -> str:
        """Return it in words: "jit in microbatches of 16"."""
        size = self.microbatch_size
        return self.strategy + (f" in microbatches of {size}" if size else "")


class Tried(NamedTuple):
    """What a candidate took."""

    candidate: Candidate
    step_seconds: Spread  # of one update
    build_seconds: float  # from nothing to a program that runs
    gradient_error: float  # against the serial reference, as `comparison` measures


class Advice(NamedTuple):
    """The candidates, the fastest first."""

    tried: tuple[Tried, ...]
    batch_size: int

    @property
    def best(self) -> Tried:
        """Return the fastest; of those about as fast, the first to be ready."""
        near = (1 + CLOSE) * self.tried[0].step_seconds.median
        close = [one for one in self.tried if one.step_seconds.median <= near]
        return min(close, key=lambda one: one.build_seconds)


def candidates_for(experiment: Experiment) -> list[Candidate]:
    """Return what is worth trying for an experiment, on the devices that it may use.

    `factored` differs from `jit` in convolutions, and pays on a CPU. Per-example norms
    are left out: they are for those who want the norms. So is `pmap`, the legacy form
    of `shard_map`.
    """
    size = experiment.loop.batch_size
    names = ["eager", "serial", "jit", "vmap"]
    num_devices = mesh_of(experiment.options).size
    if num_devices > 1:
        names += ["sharded", "shard_map"]
    in_parts = ["jit"] + ["shard_map"] * (num_devices > 1)
    convolves = any(isinstance(one, Conv) for one in experiment.recipe.model.layers)
    if convolves and jax.default_backend() == "cpu":
        names.append("factored")
        in_parts.append("factored")
    found = [Candidate(name) for name in names]
    for name in in_parts:
        part = size // (num_devices if STRATEGIES[name].divides else 1)
        found += [Candidate(name, micro) for micro in MICROBATCHES if micro < part]
    return found


def advise(
    experiment: Experiment,
    candidates: Sequence[Candidate] | None = None,
    *,
    num_rounds: int = ROUNDS,
    round_seconds: float = ROUND_SECONDS,
    on_tried: Callable[[str], None] = lambda _: None,
) -> Advice:
    """Check and time every candidate on an experiment; the parameters are not changed.

    The experiment's own strategy plays no part. `on_tried` is told what is going on.

    Raises:
        InputError: a candidate's gradient is not the reference's.
    """
    candidates = candidates_for(experiment) if candidates is None else candidates
    batch, _ = first_batches(experiment, batch_size=experiment.loop.batch_size)
    reference = jax.jit(serial_value_and_grad(experiment.loss_fn))
    _, expected = reference(experiment.params, batch)
    errors, builds, timers, steps = {}, {}, {}, {}
    for candidate in candidates:
        own = with_candidate(experiment, candidate)
        on_tried(str(candidate))
        value_and_grad = own.strategy.value_and_grad
        if own.strategy.run != "eager":
            value_and_grad = jax.jit(value_and_grad)
        _, grads = value_and_grad(
            own.strategy.put_state(own.params), own.strategy.put_batch(batch)
        )
        error = largest_error(jax.tree.map(np.asarray, grads), expected)
        if not error <= TOLERANCES[own.recipe.model.dtype]:
            raise InputError(
                f"expected the reference's gradient of {candidate}, got one that is "
                f"off by {error:.1e}: this is a bug; compare_strategies.py tells more"
            )
        errors[candidate] = error
        jax.clear_caches()
        timers[candidate], steps[candidate], builds[candidate] = _timer(
            own, round_seconds
        )
    for timer in timers.values():
        timer()  # what was compiled for the first is forgotten by the last
    times = interleave(timers, num_rounds=num_rounds)
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


def with_candidate(experiment: Experiment, candidate: Candidate) -> Experiment:
    """Return the experiment under a candidate's strategy."""
    recipe = override(experiment.recipe, strategy=candidate.strategy)
    options = experiment.options._replace(microbatch_size=candidate.microbatch_size)
    strategy = make_strategy(candidate.strategy, experiment.objective, options)
    return experiment._replace(recipe=recipe, options=options, strategy=strategy)


def repaid_after(one: Tried, other: Tried) -> float:
    """Return after how many updates `one` is ahead of `other`; infinite: never.

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


def advice_lines(advice: Advice) -> list[str]:
    """Say the advice as a table, with the reason in the last line."""
    best = advice.best
    line = "{:<32}{:>12}{:>14}{:>12}  {}"
    head = ("strategy", "examples/s", "ms an update", "ready in", "the best is ahead")
    lines = [line.format(*head)]
    for one in advice.tried:
        step = 1e3 * one.step_seconds.median
        cells = (_rate(advice, one), f"{step:.3g}", f"{one.build_seconds:.2f} s")
        ahead = "the best" if one is best else _when_ahead(best, one)
        lines.append(line.format(str(one.candidate), *cells, ahead))
    return [*lines, advice_line(advice)]


def advice_line(advice: Advice) -> str:
    """Say in one line what is the fastest here, and why."""
    best = advice.best
    others = [one for one in advice.tried if one is not best]
    line = f"use {best.candidate}: {_rate(advice, best)} examples/s"
    if others:
        next_one = min(others, key=lambda one: one.step_seconds.median)
        line += f", {next_one.candidate} comes to {_rate(advice, next_one)}"
        compiled_later = [repaid_after(best, one) for one in others]
        worst = max((n for n in compiled_later if n < math.inf), default=0.0)
        line += f"; it is ahead of every slower one after {math.ceil(worst):,} updates"
    return line


def _when_ahead(best: Tried, one: Tried) -> str:
    """Say when the best is ahead of another, which may be a little faster."""
    after = repaid_after(best, one)
    if after == math.inf:  # the best is ready first, until the other catches up
        return f"until update {repaid_after(one, best):,.0f}"
    return "after its first update" if after < 1 else f"after {after:,.0f} updates"


def _rate(advice: Advice, one: Tried) -> str:
    return f"{advice.batch_size / one.step_seconds.median:,.0f}"


def _timer(
    experiment: Experiment, round_seconds: float
) -> tuple[Callable[[], float], int, float]:
    """Build the updates of an experiment; return a timer, its updates, and the cost."""
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
