"""The wall time of a run, divided into named parts."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from cnnjax.base.arguments import instance_of


class Clock:
    """Add up wall seconds by part. Parts do not nest.

    >>> clock = Clock()
    >>> with clock.part("train"):
    ...     pass
    >>> sorted(clock.seconds)
    ['train']
    """

    def __init__(self) -> None:
        """Start the clock of the total time."""
        self._start = time.perf_counter()
        self._earlier = 0.0
        self.seconds: dict[str, float] = {}

    def carry(self, seconds: Mapping[str, float], total: float) -> None:
        """Add the times of earlier starts of the same run."""
        self._earlier += total
        for name, spent in seconds.items():
            self.seconds[name] = self.seconds.get(name, 0.0) + spent

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Add the time spent inside to a part; wait for device work before leaving."""
        start = time.perf_counter()
        try:
            yield
        finally:
            spent = time.perf_counter() - start
            self.seconds[name] = self.seconds.get(name, 0.0) + spent

    def total(self) -> float:
        """Return the seconds since the clock was made, and those of earlier starts."""
        return self._earlier + time.perf_counter() - self._start


def given_or_new(clock: Clock | None) -> Clock:
    """Return the given clock, or a new one that starts now.

    Raises:
        InputError: the argument is not a clock.
    """
    return Clock() if clock is None else instance_of(Clock)("clock", clock)
