"""Run jobs as processes: in parallel if one core is enough, else one at a time."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from cnnjax.base.errors import expect
from cnnjax.base.printable import one_line, without_home
from cnnjax.base.signals import Stop
from cnnjax.studies.reproduction.plan import Job

POLL_SECONDS = 0.2
GRACE_SECONDS = 10  # from SIGTERM to SIGKILL
MOST_SAID = 2**16  # bytes of a job's error output that are looked at, from its end


class Watch(NamedTuple):
    """Callbacks on events; they cannot affect the training."""

    on_end: Callable[[Job, int], None]  # a job ended with this exit status
    on_poll: Callable[[], None]  # called every POLL_SECONDS
    stop: Stop


class Running(NamedTuple):
    """A job that is being trained."""

    job: Job
    process: subprocess.Popen
    core: int | None  # that it is pinned to; None: all cores


def cores() -> list[int]:
    """Return the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def choose_cores(num_jobs: int | None) -> list[int]:
    """Return the cores for this many parallel jobs; None: all cores.

    Raises:
        InputError: there are fewer cores.
    """
    there = cores()
    wanted = len(there) if num_jobs is None else num_jobs
    expect(
        f"--jobs of at most {len(there)}, the cores here", wanted, wanted <= len(there)
    )
    return there[:wanted]


class Program(NamedTuple):
    """The script that trains jobs, and its data."""

    script: Path  # train.py
    data_dir: str

    def command(self, job: Job) -> list[str]:
        """Return the command line that trains a job."""
        return [sys.executable, str(self.script), *job.flags(self.data_dir)]


def run_jobs(
    jobs: Sequence[Job], *, program: Program, on_cores: Sequence[int], watch: Watch
) -> None:
    """Train all jobs: first those that need only one core, in parallel, one per core.

    Then the others run one after another on all cores. A job that fails does not stop
    the others. If this function ends early, all running jobs are ended: a signal
    raises SystemExit(128 + signal).
    """
    narrow = deque(job for job in jobs if job.run.one_core)
    wide = deque(job for job in jobs if not job.run.one_core)
    running: list[Running] = []
    try:
        while narrow or wide or running:
            taken = {one.core for one in running}
            free = [core for core in on_cores if core not in taken]
            while narrow and free:
                job, core = narrow.popleft(), free.pop(0)
                running.append(_start(program.command(job), job, core=core))
            if wide and not running:
                job = wide.popleft()
                running.append(_start(program.command(job), job, core=None))
            time.sleep(POLL_SECONDS)
            if watch.stop.number is not None:
                sys.exit(128 + watch.stop.number)
            watch.on_poll()
            for one in [one for one in running if one.process.poll() is not None]:
                running.remove(one)
                _complain(one.job, one.process.returncode)
                watch.on_end(one.job, one.process.returncode)
    finally:
        _end(running)


def why_failed(job: Job) -> str:
    """Return the last line of a failed job's error output; "" if there is none."""
    try:
        with job.complaint.open("rb") as complaint:
            complaint.seek(max(0, os.fstat(complaint.fileno()).st_size - MOST_SAID))
            text = complaint.read(MOST_SAID).decode(errors="replace")
    except OSError:
        return ""
    lines = text.rstrip().splitlines()
    return one_line(without_home(lines[-1])) if lines else ""


def _start(command: Sequence[str], job: Job, *, core: int | None) -> Running:
    """Start training a job on a core; its stderr is kept in a file."""
    job.complaint.parent.mkdir(parents=True, exist_ok=True)
    before, wanted = cores(), cores() if core is None else [core]
    pins = hasattr(os, "sched_setaffinity")
    with job.complaint.open("wb") as complaint:
        try:
            if pins:
                os.sched_setaffinity(0, wanted)  # the child inherits it
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=complaint,
                close_fds=False,  # it inherits the lock
            )
        finally:
            if pins:
                os.sched_setaffinity(0, before)
    return Running(job, process, core)


def _complain(job: Job, status: int) -> None:
    """Remove the error file of a job that succeeded; else make sure it has a reason.

    A job that a signal ended has not written one.
    """
    if status == 0:
        job.complaint.unlink(missing_ok=True)
        return
    said = why_failed(job)
    if status > 0 and said:
        return
    words = f"ended with status {status}"
    if status < 0:
        names = {one.value: f" ({one.name})" for one in signal.Signals}
        words = f"ended by signal {-status}{names.get(-status, '')}"
        if -status == signal.SIGKILL:
            words += ", perhaps out of memory: try fewer --jobs"
    with job.complaint.open("a") as complaint:
        complaint.write(f"\n{words}; last line: {said}\n" if said else f"{words}\n")


def _end(running: Sequence[Running]) -> None:
    """End all running jobs. That is not a failure: their error files are removed."""
    for one in running:
        one.process.terminate()
    deadline = time.monotonic() + GRACE_SECONDS
    for one in running:
        with contextlib.suppress(subprocess.TimeoutExpired):
            one.process.wait(max(0, deadline - time.monotonic()))
    for one in running:
        one.process.kill()  # no effect if it has ended
        one.process.wait()
        one.job.complaint.unlink(missing_ok=True)
