"""Start a script as several processes on this machine, to try it out.

    python scripts/launch_local.py -- scripts/train.py --strategy=sharded

Shows what process 0 prints, and of the others why they failed. Ends with the status of
the process that failed first, or 128 + the signal that it was lost by.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import IO

import _script
from absl import flags

from cnnjax.errors import InputError, expect

FLAGS = flags.FLAGS
flags.DEFINE_integer("num_processes", 2, "Processes to start.", lower_bound=1)
flags.DEFINE_integer(
    "heartbeat_seconds",
    20,
    "Time after which a silent process counts as lost, and the others end.",
    lower_bound=1,
)
MARGIN_SECONDS = 10  # on top, until a process that has not ended is killed
TOGETHER_SECONDS = 0.5  # what fails within this time may have failed on its own
TAIL_LINES = 30


class Voice:
    """What process 0 says on stderr: passed on, unless a failure follows at once."""

    def __init__(self, pipe: IO[bytes]) -> None:
        """Listen in a thread, as the pipe must never fill up."""
        self.passed = self.held = b""
        self.holds = threading.Event()
        self.thread = threading.Thread(target=self._listen, args=(pipe,), daemon=True)
        self.thread.start()

    def _listen(self, pipe: IO[bytes]) -> None:
        while heard := os.read(pipe.fileno(), 2**16):
            if self.holds.wait(TOGETHER_SECONDS):
                self.held += heard
            else:
                self.passed += heard
                sys.stderr.buffer.write(heard)
                sys.stderr.buffer.flush()


def free_address() -> str:
    """Return a port of this machine that nobody listens to."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{free.getsockname()[1]}"


def start(
    command: list[str], index: int, *, address: str, output: Path
) -> subprocess.Popen:
    """Start one of the processes; all but process 0 write into a file."""
    joining = {
        "coordinator_address": address,
        "num_processes": FLAGS.num_processes,
        "process_index": index,
        "heartbeat_seconds": FLAGS.heartbeat_seconds,
    }
    added = [f"--{name}={value}" for name, value in joining.items()]
    with output.open("wb") as file:
        return subprocess.Popen(
            [sys.executable, *command, *added],
            # By itself the coordinator would listen to other machines, too.
            env={**os.environ, "JAX_COORDINATOR_BIND_ADDRESS": address},
            stdin=subprocess.DEVNULL,
            stdout=file if index else None,
            stderr=file if index else subprocess.PIPE,
        )


def watch(processes: list[subprocess.Popen], voice: Voice) -> list[int]:
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
            blamed = blame([process.poll() for process in processes])
        if None not in statuses:
            return blamed
        if any(status is not None for status in statuses) and deadline == float("inf"):
            seconds = FLAGS.heartbeat_seconds + MARGIN_SECONDS
            deadline = time.monotonic() + seconds
    late = [index for index, process in enumerate(processes) if process.poll() is None]
    for index in late:
        _say(f"process {index} has not ended in time, and is killed")
    return blamed or late


def blame(statuses: list[int | None]) -> list[int]:
    """Return which have failed by themselves; tell in a line if one was lost.

    Who misses another ends by an error, or aborts: a process that another signal ended
    is the one that was lost, and an abort tells least.
    """
    failed = [(index, status) for index, status in enumerate(statuses) if status]
    failed.sort(key=lambda f: (f[1] == -signal.SIGABRT, f[1] > 0))
    first, status = failed[0]
    if status > 0:
        return [index for index, status in failed if status > 0]
    name = signal.Signals(-status).name
    _say(
        f"process {first} was lost (signal {-status}, {name}); the others end within "
        f"{FLAGS.heartbeat_seconds} s"
    )
    return [first]


def end(processes: list[subprocess.Popen]) -> None:
    """Kill what still runs."""
    for process in processes:
        process.kill()  # does nothing to one that has ended
    for process in processes:
        process.wait()


def tell_why(blamed: list[int], voice: Voice, outputs: list[Path]) -> None:
    """Print what those said that are to blame, each thing once."""
    voice.thread.join(timeout=5)
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


def main(args: list[str]) -> None:
    """Start, watch, and end with the status of the first that failed."""
    if not args:
        raise InputError("expected a script after --, as in -- scripts/train.py")
    expect("a script to start", args[0], Path(args[0]).is_file())
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    processes: list[subprocess.Popen] = []
    with tempfile.TemporaryDirectory() as folder:
        outputs = [Path(folder) / str(index) for index in range(FLAGS.num_processes)]
        address = free_address()
        try:
            for index, output in enumerate(outputs):
                started = start(args, index, address=address, output=output)
                processes.append(started)
            assert processes[0].stderr is not None
            voice = Voice(processes[0].stderr)
            blamed = watch(processes, voice)
        finally:
            end(processes)
        if not blamed:
            return
        status = processes[blamed[0]].returncode
        if status > 0:
            gave_up = {0} if processes[0].returncode > 0 else set()
            tell_why(sorted(gave_up.union(blamed)), voice, outputs)
    sys.exit(status if status > 0 else 128 - status)


def _say(line: str) -> None:
    print(f"launch_local.py: {line}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    _script.run(main)
