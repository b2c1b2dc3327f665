"""The end of this process from any of its threads: one line, and no waiting."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import threading
from typing import NoReturn

from cnnjax.base import program

# Of a process that ends because another was lost: a temporary failure, try again.
LOST_STATUS = 75
AGAIN = "start all processes again"
_ending = threading.Lock()


def end(said: str, status: int = LOST_STATUS) -> NoReturn:
    """Say it on stderr and exit at once, whatever the other threads wait for.

    Whoever comes second waits for the first to end the process.
    """
    _ending.acquire()
    # In a thread of its own: nobody may read what this process says.
    speaker = threading.Thread(target=_say, args=(said,), daemon=True)
    speaker.start()
    speaker.join(timeout=1)
    os._exit(status)


def delay_aborts() -> None:
    """Let an abort wait some seconds, so that another thread can say what it knows.

    Where the coordinator's connection breaks, JAX aborts, and would often be first.
    The handler is C's own `sleep`, which takes the signal's number (6) for seconds:
    nothing of Python may run in it.
    """
    with contextlib.suppress(AttributeError, OSError, TypeError):
        libc = ctypes.CDLL(None)
        libc.signal.argtypes = [ctypes.c_int, ctypes.c_void_p]
        libc.signal.restype = ctypes.c_void_p
        wait = ctypes.cast(libc.sleep, ctypes.c_void_p)
        libc.signal(int(signal.SIGABRT), wait)


def _say(said: str) -> None:
    program.say(said)
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
