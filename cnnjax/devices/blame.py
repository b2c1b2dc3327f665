"""Who was lost first, of processes that all end when one does."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Sequence
from typing import NamedTuple

from cnnjax.devices.ending import LOST_STATUS


class Verdict(NamedTuple):
    """Which processes failed by themselves, and the status to end with."""

    blamed: list[int]
    status: int
    lost: str  # in words, where one was lost and can say nothing


def is_stopped(process: subprocess.Popen) -> bool:
    """Return whether a signal has stopped the process, which might never go on."""
    if process.returncode is not None or not hasattr(os, "waitid"):
        return False
    how = os.WSTOPPED | os.WNOHANG | os.WNOWAIT  # what Popen waits for stays
    with contextlib.suppress(ChildProcessError):
        return os.waitid(os.P_PID, process.pid, how) is not None
    return False


def blame(statuses: list[int | None], *, stopped: Sequence[int] = ()) -> Verdict:
    """Return which have failed by themselves, and in words which was lost, if any.

    Who misses another ends by a status of its own, or aborts: a process that is
    stopped, or that another signal ended, is the one that was lost.

    >>> blame([75, -9, -6])
    Verdict(blamed=[1], status=137, lost='process 1 was lost (signal 9, SIGKILL)')
    >>> blame([2, 75, 2, -6]).blamed
    [0, 2]
    """
    ended = [(index, status) for index, status in enumerate(statuses) if status]
    ended += [(index, -signal.SIGSTOP) for index in stopped]
    ended.sort(key=lambda e: (e[1] == LOST_STATUS, e[1] == -signal.SIGABRT, e[1] > 0))
    first, status = ended[0]
    if status > 0:
        alike = [index for index, s in ended if s > 0 and s != LOST_STATUS]
        return Verdict(alike or [index for index, _ in ended], status, "")
    name = signal.Signals(-status).name
    lost = f"process {first} was lost (signal {-status}, {name})"
    return Verdict([first], 128 - status, lost)
