"""Check all contenders against the reference, then time them in interleaved rounds.

Only one runs at a time. Each round times all of them, so that background load affects
all in the same way.
"""

from __future__ import annotations

import contextlib
import math
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import checks
import machine
from case import Tree
from contenders import ContenderError, Entry, Process, Task

from cnnjax.studies.measuring.timing import interleave, steps_that_fill
from cnnjax.telling.layout import wrap

Row = dict[str, Any]  # one contender


class Racer(NamedTuple):
    """A contender, its expected result, and its steps per round."""

    entry: Entry
    expected: dict[Task, Tree]
    steps: int | None = None  # None: as many as fill the round


def race(
    racers: Mapping[str, Racer], folder: Path, *, rounds: int, round_seconds: float
) -> tuple[dict[str, Row], list[float]]:
    """Check and time contenders on the case in a folder.

    Returns two values. The first has a row per contender: its facts, `gradient_error`,
    `steps`, the `seconds` of each round and `peak_bytes`, or its `failure`. The second
    is the fraction of the cores that other programs used before and after.
    """
    rows: dict[str, Row] = {name: {} for name in racers}
    running: dict[str, Process] = {}
    before = machine.busy_fraction()
    with contextlib.ExitStack() as stack:
        for name, racer in racers.items():
            try:
                running[name] = _started(racer, folder, stack)
                rows[name] |= _ready(racer, running[name], folder, round_seconds)
            except ContenderError as error:
                rows[name]["failure"] = str(error)
            if sys.stderr.isatty():
                told = rows[name].get("failure", "ready")
                print(wrap(f"{name}: {told}"), file=sys.stderr, flush=True)
        timers = {
            name: _timer(process, rows[name])
            for name, process in running.items()
            if "failure" not in rows[name]
        }
        if sys.stderr.isatty():
            about = rounds * round_seconds * len(timers)
            line = f"timing: {rounds} rounds of {len(timers)}, about {about:,.0f} s"
            print(line, file=sys.stderr, flush=True)
        times = interleave(timers, num_rounds=rounds)
        for name, seconds in times.items():
            if "failure" not in rows[name]:
                memory = running[name].ask(do="memory")
                rows[name] |= {"seconds": seconds, **memory}
    return rows, [before, machine.busy_fraction()]


def _started(racer: Racer, folder: Path, stack: contextlib.ExitStack) -> Process:
    missing = racer.entry.missing
    if missing:
        raise ContenderError(f"absent: {', '.join(missing)}")
    process = Process(racer.entry, folder)
    stack.callback(process.end)
    return process


def _ready(
    racer: Racer, process: Process, folder: Path, round_seconds: float
) -> dict[str, Any]:
    try:
        told = checks.checked(process, racer.expected, folder=folder)
        if racer.steps is None:
            return {**told, "steps": steps_that_fill(process.run, round_seconds)}
        process.run(1)  # warm up
        return {**told, "steps": racer.steps}
    except ContenderError:
        process.end()
        raise


def _timer(process: Process, row: Row) -> Callable[[], float]:
    """Return the timer of a contender; if it fails, its row says so."""

    def seconds() -> float:
        if "failure" in row:
            return math.nan
        try:
            return process.run(row["steps"])
        except ContenderError as error:
            row["failure"] = f"failed during timing: {error}"
            return math.nan

    return seconds
