"""Reliable timing: wait for results, interleave variants, report the spread.

Without waiting for the device, a timer only measures how fast Python dispatches. If
variants are timed one after another, background load distorts the comparison; so each
round times all of them before the next round begins.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import jax
import numpy as np

from cnnjax.base.errors import expect

Name = TypeVar("Name")  # of what is timed


class Spread(NamedTuple):
    """Median and quartiles of repeated measurements, in their unit."""

    median: float
    low: float  # first quartile
    high: float  # third quartile
    n: int


class Stages(NamedTuple):
    """Seconds of each stage until a jitted function returns its first result."""

    trace: float  # run the Python function once
    lower: float  # translate to StableHLO
    compile: float
    first: float  # the first call, which allocates buffers


def spread(values: Sequence[float]) -> Spread:
    """Return median and quartiles of repeated measurements.

    >>> spread([3.0, 1.0, 2.0])
    Spread(median=2.0, low=1.5, high=2.5, n=3)

    Raises:
        InputError: there are no values.
    """
    expect("at least one measurement", len(values), len(values) > 0)
    low, median, high = np.percentile(np.asarray(values, np.float64), (25, 50, 75))
    return Spread(float(median), float(low), float(high), len(values))


def seconds_of(run: Callable[[], Any]) -> float:
    """Return the seconds until the results of a call are ready."""
    start = time.perf_counter()
    jax.block_until_ready(run())
    return time.perf_counter() - start


def steps_that_fill(run: Callable[[int], float], seconds: float) -> int:
    """Return how many steps take about this many seconds, at least one.

    `run(steps)` runs the steps and returns their seconds. The first call is a warm-up;
    then the number of steps is doubled until they take long enough to measure.

    >>> steps_that_fill(lambda steps: 0.25 * steps, 2.0)
    8

    Raises:
        InputError: `seconds` is not positive.
    """
    expect("more than 0 seconds to fill", seconds, seconds > 0)
    run(1)
    steps, spent = 1, run(1)
    while spent < seconds / 4:
        steps *= 2
        spent = run(steps)
    return max(1, round(steps * seconds / spent))


def time_stages(
    jitted: Callable, *arguments: Any
) -> tuple[Stages, jax.stages.Compiled]:
    """Build a jitted function stage by stage; return the times and the program.

    Donated arguments cannot be used afterwards.
    """
    times = [time.perf_counter()]
    traced = jitted.trace(*arguments)
    times.append(time.perf_counter())
    lowered = traced.lower()
    times.append(time.perf_counter())
    program = lowered.compile()
    times.append(time.perf_counter())
    jax.block_until_ready(program(*arguments))
    times.append(time.perf_counter())
    return Stages(*np.diff(times).tolist()), program


def interleave(
    timers: Mapping[Name, Callable[[], float]], *, num_rounds: int
) -> dict[Name, list[float]]:
    """Call every timer once per round; return each timer's results by round.

    >>> interleave({"a": lambda: 1.0, "b": lambda: 2.0}, num_rounds=2)
    {'a': [1.0, 1.0], 'b': [2.0, 2.0]}

    Raises:
        InputError: `num_rounds` is below 1.
    """
    expect("num_rounds of at least 1", num_rounds, num_rounds >= 1)
    times: dict[Name, list[float]] = {name: [] for name in timers}
    for _ in range(num_rounds):
        for name, timer in timers.items():
            times[name].append(timer())
    return times
