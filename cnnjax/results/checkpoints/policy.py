"""When a checkpoint is due."""

from __future__ import annotations

import re
import time
from typing import NamedTuple

from cnnjax.base.errors import InputError
from cnnjax.training.loop import LoopState

FORMS = "60s, 5epochs, 1000updates or never"
WRITTEN = re.compile(r"(\d{1,12}(?:\.\d{1,6})?) ?(s|m|h|epochs?|updates?)", re.ASCII)
SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0}


class Every(NamedTuple):
    """A number of seconds, epochs or updates between checkpoints; None: no matter."""

    seconds: float | None = None
    epochs: int | None = None
    updates: int | None = None

    @property
    def never(self) -> bool:
        """Whether no checkpoint is ever saved, not even at the end."""
        return self == Every()


def parse_every(text: str) -> Every:
    """Read what `--checkpoint_every` says.

    >>> parse_every("60s").seconds, parse_every("5epochs").epochs
    (60.0, 5)

    Raises:
        InputError: it says nothing of the kind.
    """
    if text == "never":
        return Every()
    found = WRITTEN.fullmatch(text)
    number, unit = found.groups() if found else ("0", "")
    whole = unit not in SECONDS
    if float(number) <= 0 or (whole and "." in number):
        raise InputError(f"expected --checkpoint_every={FORMS}, got {text!r}")
    if unit in SECONDS:
        return Every(seconds=float(number) * SECONDS[unit])
    kind = "epochs" if unit.startswith("epoch") else "updates"
    return Every(**{kind: int(number)})


class Timer:
    """Says when the next checkpoint is due; the program's start counts as the first."""

    def __init__(self, every: Every) -> None:
        """Start counting now."""
        self.every = every
        self._saved = time.monotonic()
        self._updates = 0  # since the last checkpoint
        self._seen = 0, 0  # where training was last

    def due(self, at: LoopState) -> bool:
        """Whether a checkpoint of this state is due; call it once for each state."""
        seconds, epochs, updates = self.every
        self._count(at)
        if epochs is not None:
            return at.update == 0 and at.epoch % epochs == 0
        if updates is not None:
            return self._updates >= updates
        return seconds is not None and time.monotonic() - self._saved >= seconds

    def begin(self, epoch: int, update: int) -> None:
        """Count the updates from here on."""
        self._seen = epoch, update

    def saved(self) -> None:
        """Start counting anew."""
        self._saved, self._updates = time.monotonic(), 0

    def _count(self, at: LoopState) -> None:
        before, self._seen = self._seen, (at.epoch, at.update)
        if at.epoch == before[0]:
            self._updates += max(0, at.update - before[1])
