"""Start processes that need each other, watch them, and find out who failed first."""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from typing import IO, NamedTuple

from cnnjax.base import program
from cnnjax.base.signals import NEVER, Stop
from cnnjax.devices import proxies
from cnnjax.devices.blame import Verdict, blame, is_stopped
from cnnjax.devices.lifeline import Lifeline

_say = functools.partial(program.say, script="launch_local.py")

MARGIN_SECONDS = 10  # after the heartbeat time, until what has not ended is killed
STOPPING_SECONDS = 60  # for all to save what they have
TOGETHER_SECONDS = 0.5  # what fails within this time may have failed on its own
TICK_SECONDS = 0.05
TAIL_LINES = 30


def launch(
    command: Sequence[str],
    *,
    num_processes: int,
    heartbeat_seconds: int,
    stop: Stop = NEVER,
) -> int:
    """Run a Python script as several processes that join each other; return a status.

    It is that of the process that failed first, or 128 + the signal that it was lost
    by. Process 0 prints as it likes; of the others it is told only why they failed. A
    signal to `stop` is passed on to all, which save what they have and end.

    Raises:
        StoppedError: a signal has come, and all have ended.
    """
    joining = {
        "coordinator_address": free_address(),
        "num_processes": num_processes,
        "heartbeat_seconds": heartbeat_seconds,
    }
    started: list[Started] = []
    with contextlib.ExitStack() as files:
        try:
            for index in range(num_processes):
                output = files.enter_context(tempfile.TemporaryFile())
                own = {**joining, "process_index": index}
                started.append(start(command, own, output=output))
            pipe = started[0].process.stderr
            assert pipe is not None
            voice = Voice(pipe)
            verdict = watch(
                started, voice, heartbeat_seconds=heartbeat_seconds, stop=stop
            )
        finally:
            end(started)
        voice.finish()
        stop.check()
        if verdict.blamed and not verdict.lost:
            tell_why(verdict.blamed, voice, started)
    return verdict.status


def free_address() -> str:
    """Return a port of this machine that nobody listens to."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{free.getsockname()[1]}"


class Started(NamedTuple):
    """A process, where it writes to if it is not process 0, and what it hears by."""

    process: subprocess.Popen
    output: IO[bytes]
    lifeline: Lifeline


def start(
    command: Sequence[str], joining: dict[str, object], *, output: IO[bytes]
) -> Started:
    """Start one of the processes; all but process 0 write into a file."""
    index = joining["process_index"]
    added = [f"--{name}={value}" for name, value in joining.items()]
    lifeline = Lifeline()
    process = subprocess.Popen(
        [sys.executable, *command, *added],
        env=lifeline.within(proxies.without(os.environ)),
        pass_fds=[lifeline.reading],
        stdin=subprocess.DEVNULL,
        stdout=output if index else None,
        stderr=output if index else subprocess.PIPE,
    )
    lifeline.started()
    return Started(process, output, lifeline)


class Voice:
    """What process 0 says on stderr, line by line: passed on, unless a failure follows.

    A failure follows within TOGETHER_SECONDS; what is said then is held.
    """

    def __init__(self, pipe: IO[bytes]) -> None:
        """Listen in a thread, as the pipe must never fill up."""
        self.passed = self.held = b""
        self.holds = threading.Event()
        self.thread = threading.Thread(target=self._listen, args=(pipe,), daemon=True)
        self.thread.start()

    def finish(self) -> None:
        """Wait until all that was said is passed on, or held."""
        self.thread.join(timeout=5)

    def _listen(self, pipe: IO[bytes]) -> None:
        rest = b""  # of a line whose end is not heard yet
        while heard := os.read(pipe.fileno(), 2**16):
            lines, end, rest = (rest + heard).rpartition(b"\n")
            self._hear(lines + end)
        self._hear(rest)

    def _hear(self, lines: bytes) -> None:
        if not lines:
            return
        if self.holds.wait(TOGETHER_SECONDS):
            self.held += lines
        else:
            self.passed += lines
            sys.stderr.buffer.write(lines)
            sys.stderr.buffer.flush()


def watch(
    started: list[Started], voice: Voice, *, heartbeat_seconds: int, stop: Stop
) -> Verdict:
    """Wait until all have ended; return which failed first: one, or some together.

    Who fails ends the others. One that is stopped for the heartbeat time has failed,
    too. Who has not followed after the heartbeat time, and a margin, is killed.
    """
    processes = [one.process for one in started]
    stopped = [0.0] * len(started)  # for how many seconds
    verdict, deadline = Verdict([], 0, ""), float("inf")
    while time.monotonic() < deadline:
        time.sleep(TICK_SECONDS)
        if stop.number is not None:
            return ask_to_stop(processes)
        statuses = [process.poll() for process in processes]
        for index, process in enumerate(processes):
            stopped[index] = stopped[index] + TICK_SECONDS if is_stopped(process) else 0
        overdue = [index for index, t in enumerate(stopped) if t > heartbeat_seconds]
        if (any(statuses) or overdue) and not verdict.blamed:
            voice.holds.set()
            time.sleep(TOGETHER_SECONDS)
            statuses = [process.poll() for process in processes]
            overdue = [i for i, process in enumerate(processes) if is_stopped(process)]
            verdict = blame(statuses, stopped=overdue)
            if verdict.lost:
                _say(f"{verdict.lost}; the others end, too")
            for one in started:
                one.lifeline.tell(verdict.lost or f"process {verdict.blamed[0]} failed")
            for index in overdue:
                processes[index].kill()
        if None not in statuses:
            return verdict
        if any(status is not None for status in statuses) and deadline == float("inf"):
            deadline = time.monotonic() + heartbeat_seconds + MARGIN_SECONDS
    late = [index for index, process in enumerate(processes) if process.poll() is None]
    for index in late:
        _say(f"process {index} has not ended in time, and is killed")
    return verdict if verdict.blamed else Verdict(late, 128 + signal.SIGKILL, "killed")


def ask_to_stop(processes: list[subprocess.Popen]) -> Verdict:
    """Ask all to save what they have and to end; wait for that, but not for ever."""
    for process in processes:
        # Not SIGINT: from a keyboard all have had it, and the second ends at once.
        process.send_signal(signal.SIGTERM)
    deadline = time.monotonic() + STOPPING_SECONDS
    for process in processes:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(max(0, deadline - time.monotonic()))
    return Verdict([], 0, "")


def end(started: list[Started]) -> None:
    """Kill what still runs."""
    for process, _, lifeline in started:
        process.kill()  # does nothing to one that has ended
        lifeline.close()
    for process, _, _ in started:
        process.wait()


def tell_why(blamed: list[int], voice: Voice, started: list[Started]) -> None:
    """Print what those said that are to blame, each thing once."""
    said = voice.passed.splitlines()[-1:]
    for index in blamed:
        started[index].output.seek(0)
        text = started[index].output.read() if index else voice.held
        lines = text.rstrip().splitlines()[-TAIL_LINES:]
        if lines and lines[-1] not in said:
            said.append(lines[-1])
            if index:
                _say(f"process {index} failed, saying:")
            print(b"\n".join(lines).decode(errors="replace"), file=sys.stderr)
    if not said:
        _say(f"process {blamed[0]} failed, saying nothing")
