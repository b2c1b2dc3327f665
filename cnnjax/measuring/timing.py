"""Times that can be trusted: waited for, stage by stage, side by side, with spread.

A timer that does not wait for the device measures how fast Python asks. Variants that
are timed one after another measure what else the machine did meanwhile: so every round
goes through all of them before the next begins.
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
    """What some measurements of one thing came to, in their unit."""

    median: float
    low: float  # first quartile
    high: float  # third quartile
    n: int


class Stages(NamedTuple):
    """Seconds until a jitted function has given its first result."""

    trace: float  # Python is run, once
    lower: float  # to the compiler's language
    compile: float
    first: float  # the first call: buffers are made


def spread(values: Sequence[float]) -> Spread:
    """Return median and quartiles of some measurements.

    >>> spread([3.0, 1.0, 2.0])
    Spread(median=2.0, low=1.5, high=2.5, n=3)

    Raises:
        InputError: there is no value.
    """
    expect("at least one measurement", len(values), len(values) > 0)
    low, median, high = np.percentile(np.asarray(values, np.float64), (25, 50, 75))
    return Spread(float(median), float(low), float(high), len(values))


def seconds_of(run: Callable[[], Any]) -> float:
    """Return the seconds until the results of a call are there."""
    start = time.perf_counter()
    jax.block_until_ready(run())
    return time.perf_counter() - start


def steps_that_fill(run: Callable[[int], float], seconds: float) -> int:
    """Return how many steps take about so many seconds, at least one.

    `run(steps)` makes them and returns their seconds. What only its first call does is
    left out; then ever more steps are made, until they can be measured.

    >>> steps_that_fill(lambda steps: 0.25 * steps, 2.0)
    8

    Raises:
        InputError: there is no time to fill.
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
    """Build a jitted function stage by stage; return their times, and the program.

    Arguments that the function is donated are gone afterwards.
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
    """Call every timer in each round; return what each came to, round by round.

    >>> interleave({"a": lambda: 1.0, "b": lambda: 2.0}, num_rounds=2)
    {'a': [1.0, 1.0], 'b': [2.0, 2.0]}

    Raises:
        InputError: there is no round.
    """
    expect("num_rounds of at least 1", num_rounds, num_rounds >= 1)
    times: dict[Name, list[float]] = {name: [] for name in timers}
    for _ in range(num_rounds):
        for name, timer in timers.items():
            times[name].append(timer())
    return times
