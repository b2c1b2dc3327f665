"""Start processes that need each other, watch them, and find out who failed first."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from cnnjax.devices import proxies

MARGIN_SECONDS = 10  # after the heartbeat time, until what has not ended is killed
TOGETHER_SECONDS = 0.5  # what fails within this time may have failed on its own
TAIL_LINES = 30


def launch(
    command: Sequence[str], *, num_processes: int, heartbeat_seconds: int
) -> int:
    """Run a Python script as several processes that join each other; return a status.

    It is that of the process that failed first, or 128 + the signal that it was lost
    by. Process 0 prints as it likes; of the others it is told only why they failed.
    """
    joining = {
        "coordinator_address": free_address(),
        "num_processes": num_processes,
        "heartbeat_seconds": heartbeat_seconds,
    }
    processes: list[subprocess.Popen] = []
    with tempfile.TemporaryDirectory() as folder:
        outputs = [Path(folder) / str(index) for index in range(num_processes)]
        try:
            for index, output in enumerate(outputs):
                own = {**joining, "process_index": index}
                processes.append(start(command, own, output=output))
            assert processes[0].stderr is not None
            voice = Voice(processes[0].stderr)
            blamed = watch(processes, voice, heartbeat_seconds=heartbeat_seconds)
        finally:
            end(processes)
        voice.finish()
        if not blamed:
            return 0
        status = processes[blamed[0]].returncode
        if status > 0:
            gave_up = {0} if processes[0].returncode > 0 else set()
            tell_why(sorted(gave_up.union(blamed)), voice, outputs)
    return status if status > 0 else 128 - status


def free_address() -> str:
    """Return a port of this machine that nobody listens to."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{free.getsockname()[1]}"


def start(
    command: Sequence[str], joining: dict[str, object], *, output: Path
) -> subprocess.Popen:
    """Start one of the processes; all but process 0 write into a file."""
    index = joining["process_index"]
    added = [f"--{name}={value}" for name, value in joining.items()]
    # By itself the coordinator would listen to other machines, too.
    bind = {"JAX_COORDINATOR_BIND_ADDRESS": str(joining["coordinator_address"])}
    with output.open("wb") as file:
        return subprocess.Popen(
            [sys.executable, *command, *added],
            env={**proxies.without(os.environ), **bind},
            stdin=subprocess.DEVNULL,
            stdout=file if index else None,
            stderr=file if index else subprocess.PIPE,
        )


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
    processes: list[subprocess.Popen], voice: Voice, *, heartbeat_seconds: int
) -> list[int]:
    """Wait until all have ended; return which failed first: one, or some together.

    Once one has ended, the others have the heartbeat time, and a margin, to follow.
    """
    blamed, deadline = [], float("inf")
    while time.monotonic() < deadline:
        time.sleep(0.05)
        statuses = [process.poll() for process in processes]
        if any(statuses) and not blamed:
            voice.holds.set()
            time.sleep(TOGETHER_SECONDS)
            blamed, lost = blame([process.poll() for process in processes])
            if lost:
                _say(f"{lost}; the others end within {heartbeat_seconds} s")
        if None not in statuses:
            return blamed
        if any(status is not None for status in statuses) and deadline == float("inf"):
            deadline = time.monotonic() + heartbeat_seconds + MARGIN_SECONDS
    late = [index for index, process in enumerate(processes) if process.poll() is None]
    for index in late:
        _say(f"process {index} has not ended in time, and is killed")
    return blamed or late


def blame(statuses: list[int | None]) -> tuple[list[int], str]:
    """Return which have failed by themselves, and in words which was lost, if any.

    Who misses another ends by an error, or aborts: a process that another signal ended
    is the one that was lost, and an abort tells least.

    >>> blame([1, -9, -6]), blame([2, 0, 2, -6])
    (([1], 'process 1 was lost (signal 9, SIGKILL)'), ([0, 2], ''))
    """
    failed = [(index, status) for index, status in enumerate(statuses) if status]
    failed.sort(key=lambda f: (f[1] == -signal.SIGABRT, f[1] > 0))
    first, status = failed[0]
    if status > 0:
        return [index for index, status in failed if status > 0], ""
    name = signal.Signals(-status).name
    return [first], f"process {first} was lost (signal {-status}, {name})"


def end(processes: list[subprocess.Popen]) -> None:
    """Kill what still runs."""
    for process in processes:
        process.kill()  # does nothing to one that has ended
    for process in processes:
        process.wait()


def tell_why(blamed: list[int], voice: Voice, outputs: list[Path]) -> None:
    """Print what those said that are to blame, each thing once."""
    said = voice.passed.splitlines()[-1:]
    for index in blamed:
        text = outputs[index].read_bytes() if index else voice.held
        lines = text.rstrip().splitlines()[-TAIL_LINES:]
        if lines and lines[-1] not in said:
            said.append(lines[-1])
            if index:
                _say(f"process {index} failed, saying:")
            print(b"\n".join(lines).decode(errors="replace"), file=sys.stderr)
    if not said:
        _say(f"process {blamed[0]} failed, saying nothing")


def _say(line: str) -> None:
    print(f"launch_local.py: {line}", file=sys.stderr, flush=True)
