"""Signals that ask a program to stop: at once, or at the next safe moment."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from typing import Any

from cnnjax.base import program

ASKING = [
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGHUP")
    if hasattr(signal, name)
]


class StoppedError(Exception):
    """A signal has stopped the program, at a safe moment; the message says where."""

    def __init__(self, number: int, told: str) -> None:
        """Stop by this signal."""
        super().__init__(f"stopped by {signal.Signals(number).name}{told}")
        self.number = number

    @property
    def status(self) -> int:
        """Return the exit status: 130 for SIGINT, 143 for SIGTERM."""
        return 128 + self.number


class Stop:
    """Whether a signal has asked to stop. Outside `deferred` it ends the process.

    A thread reads the signals, so that they are heard during a long call into C++ too,
    where Python runs no handler. A second SIGINT ends the process at once.
    """

    def __init__(self, told: str = "") -> None:
        """Listen to nothing yet; `told` is said if the process ends at once."""
        self.number: int | None = None
        self.told = told
        self._deferred = 0  # by how many runs
        self._earlier: dict[int, Any] = {}

    def __enter__(self) -> Stop:
        """Begin to listen, in the main thread of a program; a notebook has its own."""
        if threading.current_thread() is not threading.main_thread() or _in_notebook():
            return self
        self._read, write = os.pipe()
        os.set_blocking(write, False)
        self._write = write
        self._wakeup = signal.set_wakeup_fd(write, warn_on_full_buffer=False)
        for number in ASKING:
            kept = number not in (signal.SIGINT, signal.SIGTERM)
            if kept and signal.getsignal(number) is signal.SIG_IGN:  # by nohup
                continue
            self._earlier[number] = signal.signal(number, lambda *_: None)
        threading.Thread(target=self._listen, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        """Put back what was there before."""
        if self._earlier:
            for number, handler in self._earlier.items():
                signal.signal(number, handler)
            signal.set_wakeup_fd(self._wakeup)
            os.close(self._write)  # the thread reads its end
            self._earlier = {}

    @contextlib.contextmanager
    def deferred(self) -> Iterator[None]:
        """Inside, a signal only sets `number`: whoever calls asks for it.

        Several runs may be inside, each with something to save.
        """
        self._deferred += 1
        try:
            yield
        finally:
            self._deferred -= 1

    def check(self, told: str = "") -> None:
        """Raise StoppedError if a signal has come."""
        if self.number is not None:
            raise StoppedError(self.number, told)

    def _listen(self) -> None:
        with open(self._read, "rb", buffering=0) as numbers:
            while heard := numbers.read(1):
                if heard[0] in ASKING:
                    self._heard(heard[0])

    def _heard(self, number: int) -> None:
        first, self.number = self.number is None, self.number or number
        if not self._deferred or (not first and number == signal.SIGINT):
            end_at_once(number, self.told if first else "")


def end_at_once(number: int, told: str = "") -> None:
    """Say that a signal came, and end the process without a clean-up."""
    line = f"{program.name()}: stopped by {signal.Signals(number).name}{told}\n"
    with contextlib.suppress(OSError):
        os.write(2, line.encode(errors="replace"))
    os._exit(128 + number)


NEVER = Stop()  # listens to nothing


def _in_notebook() -> bool:
    """Whether an interactive shell runs the program: it must survive."""
    return hasattr(sys, "ps1") or "ipykernel" in sys.modules
