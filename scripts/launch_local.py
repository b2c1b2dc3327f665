"""Start a script as several processes on this machine, to try it out.

    python scripts/launch_local.py --num_processes=2 -- \\
        scripts/train.py --strategy=sharded --num_devices=2

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
TAIL_LINES = 30


class Voice:
    """What process 0 says on stderr: passed on, until a failure makes it an echo."""

    def __init__(self, pipe: IO[bytes]) -> None:
        """Listen in a thread, as the pipe must never fill up."""
        self.passed: list[bytes] = []
        self.held: list[bytes] = []
        self.holds = threading.Event()
        self.thread = threading.Thread(target=self._listen, args=(pipe,), daemon=True)
        self.thread.start()

    def _listen(self, pipe: IO[bytes]) -> None:
        for line in pipe:
            if self.holds.is_set():
                self.held.append(line)
            else:
                self.passed.append(line)
                sys.stderr.buffer.write(line)
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


def watch(processes: list[subprocess.Popen], voice: Voice) -> int | None:
    """Wait until all have ended; return which failed first, if any did.

    Once one has ended, the others have the heartbeat time, and a margin, to follow.
    """
    first, deadline, running = None, float("inf"), set(range(len(processes)))
    while running and time.monotonic() < deadline:
        time.sleep(0.05)
        ended = {index for index in running if processes[index].poll() is not None}
        running -= ended
        if ended and deadline == float("inf"):
            seconds = FLAGS.heartbeat_seconds + MARGIN_SECONDS
            deadline = time.monotonic() + seconds
        failed = [index for index in ended if processes[index].returncode]
        if failed and first is None:
            # Who misses another aborts: the other is the one that was lost.
            aborted = -signal.SIGABRT
            first = min(failed, key=lambda i: (processes[i].returncode == aborted, i))
            voice.holds.set()
            if (lost_by := -processes[first].returncode) > 0:
                _say(
                    f"process {first} was lost (signal {lost_by}, "
                    f"{signal.Signals(lost_by).name}); the others end within "
                    f"{FLAGS.heartbeat_seconds} s"
                )
    for index in sorted(running):
        _say(f"process {index} has not ended in time, and is killed")
        first = index if first is None else first
    end(processes)
    return first


def end(processes: list[subprocess.Popen]) -> None:
    """Kill what still runs."""
    for process in processes:
        process.kill()  # does nothing to one that has ended
    for process in processes:
        process.wait()


def tell_why(voice: Voice, outputs: list[Path], statuses: list[int]) -> None:
    """Print what those said that gave up by themselves, each thing once.

    The others were lost, or ended because of them.
    """
    voice.thread.join(timeout=5)
    said = set(voice.passed[-1:])
    texts = [b"".join(voice.held), *(path.read_bytes() for path in outputs[1:])]
    for index, text in enumerate(texts):
        lines = text.strip().splitlines(keepends=True)[-TAIL_LINES:]
        if statuses[index] > 0 and lines and lines[-1].strip() + b"\n" not in said:
            said.add(lines[-1].strip() + b"\n")
            if index:
                _say(f"process {index} ended with status {statuses[index]}, saying:")
            print(b"".join(lines).decode(errors="replace"), file=sys.stderr)


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
            first = watch(processes, voice)
        finally:
            end(processes)
        statuses = [process.returncode for process in processes]
        tell_why(voice, outputs, statuses)
    if first is not None:
        status = statuses[first]
        sys.exit(status if status > 0 else 128 - status)


def _say(line: str) -> None:
    print(f"launch_local.py: {line}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    _script.run(main)
