"""The pipe by which started processes hear of each other's loss, and their starter's.

Its end is noticed at once, also where the starter is killed.
"""

from __future__ import annotations

import contextlib
import os
import stat
import threading
from collections.abc import Mapping

from cnnjax.devices.ending import AGAIN, end

VARIABLE = "CNNJAX_LIFELINE"  # the descriptor to read from


class Lifeline:
    """The starter's side: one pipe to one process."""

    def __init__(self) -> None:
        """Open a pipe; what is started inherits `reading`."""
        self.reading, self._writing = os.pipe()

    def within(self, environment: Mapping[str, str]) -> dict[str, str]:
        """Return the environment for the process that is started."""
        return {**environment, VARIABLE: str(self.reading)}

    def started(self) -> None:
        """Leave the reading side to the process."""
        os.close(self.reading)

    def tell(self, said: str) -> None:
        """Say who was lost: the process ends."""
        with contextlib.suppress(OSError):  # it has ended
            os.write(self._writing, said.encode())

    def close(self) -> None:
        """Let go of a process that has ended."""
        os.close(self._writing)


def hold() -> None:
    """In a process that was started so: end with the starter, or when it says so."""
    given = os.environ.pop(VARIABLE, "")
    if not given.isdecimal():
        return
    with contextlib.suppress(OSError):
        if stat.S_ISFIFO(os.fstat(int(given)).st_mode):
            threading.Thread(target=_listen, args=(int(given),), daemon=True).start()


def _listen(pipe: int) -> None:
    said = os.read(pipe, 2**12).decode(errors="replace")
    end(f"{said or 'the launcher was lost'}; {AGAIN}")
