"""Kill, stop and damage runs for as long as it takes, and print the counts.

    make soak            # SOAK="--parts=kills,signals --scale=0.1" passes flags on

Every part prints one line as it ends. A promise that does not hold ends the program at
once, and leaves the folder of the run.
"""

from __future__ import annotations

import argparse
import collections
import functools
import itertools
import os
import queue
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import disturbances
from forked import Forks
from harness import (
    COMMON,
    COURSES,
    LAUNCH,
    QUICKLY,
    Course,
    Ended,
    from_shell,
    start,
    wait_for,
)

from cnnjax.devices.launcher import free_address

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent

KILLS, SIGNALS, FLIPS, TRUNCATIONS, LOSSES = 60, 30, 200, 60, 10
SIDE_BY_SIDE = 2  # runs, where nothing depends on their speed
SAME = "all in the same bits"
ALONE = ("jit", "factored", "vmap", "shard_map", "seeds", "seeds_in_groups")
T = TypeVar("T")
TOGETHER = (*COMMON, "--strategy=sharded")
# What is written does not depend on the network: one that compiles soon.
TOGETHER_BRIEFLY = (
    *("--dataset=digits", "--num_train=128", "--recipe=momentum_mlp_per_sample"),
    *("--epochs=1", "--batch_size=64", "--checkpoint_every=1updates"),
    *("--strategy=sharded", "--num_processes=2"),
)


class Soak:
    """The parts of a soak: each is a method that returns what it counted."""

    def __init__(self, folder: Path, *, seed: int, scale: float) -> None:
        """Use a folder; `scale` is the share of each count that is done."""
        self.folder, self.seed, self.scale = folder, seed, scale
        self._courses: dict[str, Course] = {}
        self._forks = [Forks() for _ in range(SIDE_BY_SIDE)]
        self._free = queue.SimpleQueue[Forks]()
        for forks in self._forks:
            self._free.put(forks)

    def changes(self) -> str:
        """Kill before every change of the folder: every write, rename and removal.

        The strategies take turns: what is written does not depend on them.
        """
        single = [
            self._quick(name) for name in ("factored", "shard_map", "vmap", "jit")
        ]
        told = [self._killed_at_changes(single)]
        told.append(self._killed_at_changes([self._quick("seeds_in_groups")]))
        return f"killed before a change of the folder: {', '.join(told)}; {SAME}"

    def together(self) -> str:
        """Kill process 0 of two, which writes, before every change of the folder."""
        flags, folder = TOGETHER_BRIEFLY, self.folder / "together"
        course = Course("together", flags, folder, self._forked_together)
        told = self._killed_at_changes([course], side_by_side=1)
        return f"killed before a change of the folder: {told}; {SAME}"

    def full(self) -> str:
        """Fill the disk before changes of the folder."""
        told = []
        for name in ("factored", "seeds_in_groups"):
            course = self._quick(name)
            places = range(1, course.changes() + 1, max(1, round(6 / self.scale)))
            for fill in (disturbances.fill_the_disk, disturbances.refuse_large_files):
                do = functools.partial(fill, course)
                refused = self._side_by_side([course], do, places)
                told.append(f"{fill.__name__} {name} {sum(refused)} of {len(refused)}")
        return f"disk full from a change on, told in a line: {', '.join(told)}; {SAME}"

    def moved(self) -> str:
        """Move the folder before changes in it."""
        told = []
        for name in ("factored", "seeds_in_groups"):
            course = self._quick(name)
            places = range(1, course.changes() + 1, max(1, round(6 / self.scale)))
            move = functools.partial(disturbances.move_the_folder, course)
            seen = self._side_by_side([course], move, places)
            told.append(f"{name} {sum(seen)} of {len(seen)}")
        return f"the folder moved before a change in it: {', '.join(told)}; {SAME}"

    def kills(self) -> str:
        """Kill at random moments, from the first import to the end."""
        kill = disturbances.kill_again_and_again
        counts = self._at_random(kill, round(KILLS * self.scale))
        return f"killed at random moments: {_told(counts)}; {SAME}"

    def signals(self) -> str:
        """Ask to stop at random moments."""
        stop = disturbances.stop_by_signal
        counts = self._at_random(stop, round(SIGNALS * self.scale))
        return f"stopped by SIGTERM or SIGINT: {_told(counts)}; {SAME}"

    def damage(self) -> str:
        """Damage files of unfinished runs and of finished ones."""
        told = []
        courses = [self._quick(n) for n in ("factored", "seeds_in_groups")]
        for course in courses:
            course.killed_at(course.changes() * 3 // 4, "unfinished")
        for kind, count in (("flip", FLIPS), ("truncation", TRUNCATIONS)):

            def harm(number: int, kind: str = kind) -> str:
                course = courses[number % len(courses)]
                state = ("unfinished", "undisturbed")[number // 2 % 2]
                return disturbances.damage(course, state, self._rng(number), kind)

            numbers = range(max(1, round(count * self.scale)))
            dealt = self._side_by_side(courses, harm, numbers)
            told.append(f"{kind}s: {_told(collections.Counter(dealt))}")
        return "; ".join(told)

    def processes(self) -> str:
        """Kill one of two processes at random moments."""
        course = Course("processes", TOGETHER, self.folder / "processes", launched)
        took: list[float] = []
        for number in range(10**3):
            rng = self._rng(number)
            seconds = disturbances.lose_a_process(course, rng, number)
            took += [] if seconds is None else [seconds]
            if len(took) >= LOSSES * self.scale:
                break
        return (
            f"one of two processes killed: {len(took)}; the other ended after at most "
            f"{max(took):.1f} s; {SAME}"
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

    def _killed_at_changes(
        self, courses: Sequence[Course], side_by_side: int = SIDE_BY_SIDE
    ) -> str:
        total = courses[0].changes()

        def kill(place: int) -> bool:
            course = courses[place % len(courses)]
            return disturbances.kill_at_change(course, place)

        places = range(1, total + 1, max(1, round(1 / self.scale)))
        killed = self._side_by_side(courses, kill, places, side_by_side)
        names = " and ".join(course.name for course in courses)
        return f"{names} at {sum(killed)} of {total}"

    def _at_random(
        self, disturb: Callable[[Course, random.Random, int], int], least: int
    ) -> collections.Counter[str]:
        """Disturb courses in turn until so many of them were; count them."""
        courses = [
            Course(name, COURSES[name], self.folder / f"shell_{name}", from_shell)
            for name in ALONE
        ]
        counts: collections.Counter[str] = collections.Counter()
        numbers = itertools.count()
        while counts.total() < least:
            some = list(itertools.islice(numbers, len(courses)))

            def one(number: int) -> int:
                course = courses[number % len(courses)]
                return disturb(course, self._rng(number), number)

            for number, times in zip(
                some, self._side_by_side(courses, one, some), strict=True
            ):
                counts[courses[number % len(courses)].name] += times
        return counts

    def _side_by_side(
        self,
        courses: Sequence[Course],
        do: Callable[[int], T],
        numbers: Iterable[int],
        most: int = SIDE_BY_SIDE,
    ) -> list[T]:
        for course in courses:
            _ = course.expected  # before the threads ask for it
        with ThreadPoolExecutor(most) as pool:
            return list(pool.map(do, numbers))

    def _rng(self, number: int) -> random.Random:
        return random.Random(1000 * self.seed + number)

    def close(self) -> None:
        """End the processes that are forked."""
        for forks in self._forks:
            forks.close()

    def _quick(self, name: str) -> Course:
        """Return a course whose runs need not import the libraries again."""
        if name not in self._courses:
            folder = self.folder / name
            self._courses[name] = Course(name, COURSES[name], folder, self._forked)
        return self._courses[name]

    def _forked(self, argv, cwd: Path) -> Ended:
        forks = self._free.get()
        try:
            done = forks.run(Path(argv[0]), *argv[1:], cwd=cwd, COLUMNS="80")
        finally:
            self._free.put(forks)
        return Ended(done.returncode, done.stdout, done.stderr, 0.0)

    def _forked_together(self, argv, cwd: Path) -> Ended:
        """Run as two processes; return how process 0 ended."""
        address = f"--coordinator_address={free_address()}"
        with ThreadPoolExecutor(len(self._forks)) as pool:
            first, *others = [
                pool.submit(
                    forks.run,
                    *(Path(argv[0]), *argv[1:], address, f"--process_index={index}"),
                    cwd=cwd,
                    COLUMNS="80",
                    **QUICKLY,
                )
                for index, forks in enumerate(self._forks)
            ]
            done = first.result()
            for other in others:
                told = other.result()
                assert bool(told.returncode) == bool(done.returncode), told.stderr
        return Ended(done.returncode, done.stdout, done.stderr, 0.0)


def launched(argv, cwd: Path) -> Ended:
    """Run as two processes."""
    return wait_for(start([LAUNCH, "--", *argv], cwd, QUICKLY))


def _told(counts: collections.Counter[str]) -> str:
    each = ", ".join(f"{name} {count}" for name, count in sorted(counts.items()))
    return f"{counts.total()} ({each})"


PARTS = (
    *("changes", "full", "moved", "kills", "signals"),
    *("damage", "processes", "together", "fuzz"),
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
