"""Contenders by turns: each built and held against the reference, then timed in rounds.

Only one runs at a time; a round goes through all of them, so that what the machine does
meanwhile falls on all alike.
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

from cnnjax.measuring.timing import interleave, steps_that_fill

Row = dict[str, Any]  # of one contender


class Racer(NamedTuple):
    """Who runs, what its result has to be, and how many steps a round has."""

    entry: Entry
    expected: dict[Task, Tree]
    steps: int | None = None  # None: as many as fill it


def race(
    racers: Mapping[str, Racer], folder: Path, *, rounds: int, round_seconds: float
) -> tuple[dict[str, Row], list[float]]:
    """Check and time contenders on the case in a folder.

    Returns of each what it says of itself, its `gradient_error`, `steps`, the `seconds`
    of each round and its `peak_bytes`, or its `failure`; and which part of the cores
    other programs used before, and after.
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
                print(f"{name}: {told}", file=sys.stderr, flush=True)
        timers = {
            name: _timer(process, rows[name])
            for name, process in running.items()
            if "failure" not in rows[name]
        }
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
        process.run(1)  # what only the first does
        return {**told, "steps": racer.steps}
    except ContenderError:
        process.end()
        raise


def _timer(process: Process, row: Row) -> Callable[[], float]:
    """Return the timer of a round; a contender that has ended is noted in its row."""

    def seconds() -> float:
        if "failure" in row:
            return math.nan
        try:
            return process.run(row["steps"])
        except ContenderError as error:
            row["failure"] = f"ended while it was timed: {error}"
            return math.nan

    return seconds
