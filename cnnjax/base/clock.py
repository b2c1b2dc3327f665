"""Where the wall time of a run went, in named parts that sum to the whole."""

from __future__ import annotations

import time
from collections.abc import Iterator
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
        """Start the clock of the whole."""
        self._start = time.perf_counter()
        self.seconds: dict[str, float] = {}

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Add the time spent inside to the part; device work must be waited for."""
        start = time.perf_counter()
        try:
            yield
        finally:
            spent = time.perf_counter() - start
            self.seconds[name] = self.seconds.get(name, 0.0) + spent

    def total(self) -> float:
        """Return the seconds since the clock was made."""
        return time.perf_counter() - self._start


def given_or_new(clock: Clock | None) -> Clock:
    """Return the clock that is given, or one that starts now.

    Raises:
        InputError: what is given is no clock.
    """
    return Clock() if clock is None else instance_of(Clock)("clock", clock)
