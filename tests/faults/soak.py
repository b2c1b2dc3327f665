"""Kill, stop and damage runs for as long as it takes, and print the counts.

    make soak            # SOAK="--parts=kills,signals --scale=0.1" passes flags on

Every part prints one line as it ends. A promise that does not hold ends the program at
once, and leaves the folder of the run.
"""

from __future__ import annotations

import argparse
import collections
import functools
import os
import queue
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import disturbances
from forked import Forks
from harness import COMMON, COURSES, LAUNCH, Course, Ended, from_shell

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent

KILLS, SIGNALS, FLIPS, TRUNCATIONS, LOSSES = 60, 30, 200, 60, 10
SIDE_BY_SIDE = 2  # runs, where nothing depends on their speed
ALONE = ("jit", "factored", "vmap", "shard_map", "seeds", "seeds_in_groups")
TOGETHER = (*COMMON, "--strategy=sharded")
TOGETHER_BRIEFLY = (  # each start of two processes compiles anew: half a minute
    *("--dataset=digits", "--num_train=128", "--recipe=sgd_dropout_cnn", "--epochs=1"),
    *("--batch_size=64", "--checkpoint_every=1updates", "--strategy=sharded"),
)


class Soak:
    """The parts of a soak: each is a method that returns what it counted."""

    def __init__(self, folder: Path, *, seed: int, scale: float) -> None:
        """Use a folder; `scale` is the share of each count that is done."""
        self.folder, self.scale = folder, scale
        self.rng = random.Random(seed)
        self._forks = [Forks() for _ in range(SIDE_BY_SIDE)]
        self._free = queue.SimpleQueue[Forks]()
        for forks in self._forks:
            self._free.put(forks)

    def changes(self) -> str:
        """Kill before every change of the folder: every write, rename and removal."""
        names = ("factored", "shard_map", "vmap", "jit", "seeds_in_groups")
        told = ", ".join(self._killed_at_changes(self._quick(name)) for name in names)
        return f"killed before a change of the folder: {told}; all in the same bits"

    def together(self) -> str:
        """Kill process 0 of two, which writes, before every change of the folder."""
        flags, folder = TOGETHER_BRIEFLY, self.folder / "together"
        told = self._killed_at_changes(Course("processes", flags, folder, launched))
        return f"killed before a change of the folder: {told}; all in the same bits"

    def _killed_at_changes(self, course: Course) -> str:
        total = course.changes()
        _ = course.expected  # before the threads ask for it
        places = range(1, total + 1, max(1, round(1 / self.scale)))
        kill = functools.partial(disturbances.kill_at_change, course)
        with ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
            killed = list(pool.map(kill, places))
        return f"{course.name} {sum(killed)} of {total}"

    def full(self) -> str:
        """Fill the disk before changes of the folder."""
        counts = {}
        for name in ("factored", "seeds_in_groups"):
            course = self._quick(name)
            total = course.changes()
            places = range(1, total + 1, max(1, round(4 / self.scale)))
            _ = course.expected
            fill = functools.partial(disturbances.fill_the_disk, course)
            with ThreadPoolExecutor(len(self._forks)) as pool:
                refused = list(pool.map(fill, places))
            counts[name] = f"{sum(refused)} of {len(refused)}"
        told = ", ".join(f"{name} {count}" for name, count in counts.items())
        return (
            f"disk full from a change on, told in a line: {told}; all in the same bits"
        )

    def kills(self) -> str:
        """Kill at random moments, from the first import to the end."""
        counts: collections.Counter[str] = collections.Counter()
        for number, course in self._in_turn(ALONE):
            counts[course.name] += disturbances.kill_again_and_again(
                course, self.rng, number
            )
            if counts.total() >= KILLS * self.scale:
                break
        return f"killed at random moments: {_told(counts)}; all in the same bits"

    def signals(self) -> str:
        """Ask to stop at random moments."""
        counts: collections.Counter[str] = collections.Counter()
        for number, course in self._in_turn(ALONE):
            stopped = disturbances.stop_by_signal(course, self.rng, number)
            counts[course.name] += stopped
            if counts.total() >= SIGNALS * self.scale:
                break
        return f"stopped by SIGTERM or SIGINT: {_told(counts)}; all in the same bits"

    def damage(self) -> str:
        """Damage files of unfinished runs and of finished ones."""
        told = []
        for kind, count in (("flip", FLIPS), ("truncation", TRUNCATIONS)):
            dealt: collections.Counter[str] = collections.Counter()
            courses = [self._quick(n) for n in ("factored", "seeds_in_groups")]
            for course in courses:
                course.killed_at(course.changes() * 3 // 4, "unfinished")
                _ = course.expected
            for number in range(max(1, round(count * self.scale))):
                course = courses[number % len(courses)]
                state = ("unfinished", "undisturbed")[number // 2 % 2]
                dealt[disturbances.damage(course, state, self.rng, kind)] += 1
            told.append(f"{kind}s: {_told(dealt)}")
        return "; ".join(told)

    def processes(self) -> str:
        """Kill one of two processes at random moments."""
        course = Course("processes", TOGETHER, self.folder / "processes", launched)
        took: list[float] = []
        for number in range(10**3):
            seconds = disturbances.lose_a_process(course, self.rng, number)
            took += [] if seconds is None else [seconds]
            if len(took) >= LOSSES * self.scale:
                break
        return (
            f"one of two processes killed: {len(took)}; the other ended after at most "
            f"{max(took):.1f} s; all in the same bits"
        )

    def fuzz(self) -> str:
        """Damage the input of every reader."""
        tests = sorted(str(path) for path in HERE.parent.glob("test_fuzz_*.py"))
        command = [sys.executable, "-m", "pytest", "-q", "-n", "auto", *tests]
        done = subprocess.run(
            command,
            cwd=ROOT,
            env={**os.environ, "CNNJAX_SOAK": "1"},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout[-3000:]
        return f"fuzzed, 20,000 inputs a reader: {done.stdout.splitlines()[-1]}"

    def close(self) -> None:
        """End the processes that are forked."""
        for forks in self._forks:
            forks.close()

    def _quick(self, name: str) -> Course:
        """Return a course whose runs need not import the libraries again."""
        return Course(name, COURSES[name], self.folder / name, self._forked)

    def _forked(self, argv, cwd: Path) -> Ended:
        forks = self._free.get()
        try:
            done = forks.run(Path(argv[0]), *argv[1:], cwd=cwd, COLUMNS="80")
        finally:
            self._free.put(forks)
        return Ended(done.returncode, done.stdout, done.stderr, 0.0)

    def _in_turn(self, names: tuple[str, ...]) -> Iterator[tuple[int, Course]]:
        courses = [
            Course(name, COURSES[name], self.folder / f"shell_{name}", from_shell)
            for name in names
        ]
        for number in range(10**6):
            yield number, courses[number % len(courses)]


def launched(argv, cwd: Path) -> Ended:
    """Run as two processes."""
    return from_shell([str(LAUNCH), "--", *argv], cwd)


def _told(counts: collections.Counter[str]) -> str:
    each = ", ".join(f"{name} {count}" for name, count in sorted(counts.items()))
    return f"{counts.total()} ({each})"


PARTS = (
    *("changes", "full", "kills", "signals", "damage", "processes", "together"),
    "fuzz",
)


def main() -> None:
    """Do the parts, and print a line about each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parts", default=",".join(PARTS), help="which, as A,B")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--scale", type=float, default=1.0, help="share of each count")
    args = parser.parse_args()
    folder = Path(tempfile.mkdtemp("cnnjax-soak"))
    begun = time.monotonic()
    soak = Soak(folder, seed=args.seed, scale=args.scale)
    for part in args.parts.split(","):
        assert part in PARTS, f"unknown part {part}; known: {', '.join(PARTS)}"
        told = getattr(soak, part)()
        print(f"{time.monotonic() - begun:6.0f} s  {part}: {told}", flush=True)
    soak.close()


if __name__ == "__main__":
    main()
