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
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # python -I leaves it out

import _start  # noqa: F401  # before what imports JAX

# isort: split
import _proxy
import _script
import _watch
from absl import flags

from cnnjax.base.errors import InputError, expect

FLAGS = flags.FLAGS
flags.DEFINE_integer("num_processes", 2, "Processes to start.", lower_bound=1)
flags.DEFINE_integer(
    "heartbeat_seconds",
    20,
    "Time after which a silent process counts as lost, and the others end.",
    lower_bound=1,
)


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
            env={
                **_proxy.without(os.environ),
                "JAX_COORDINATOR_BIND_ADDRESS": address,
            },
            stdin=subprocess.DEVNULL,
            stdout=file if index else None,
            stderr=file if index else subprocess.PIPE,
        )


def main(args: list[str]) -> None:
    """Start, watch, and end with the status of the first that failed."""
    if not args:
        raise InputError("expected a script after --, as in -- scripts/train.py")
    expect("a script to start", args[0], Path(args[0]).is_file())
    # Started in the background by a shell, a process ignores SIGINT until it says else.
    signal.signal(signal.SIGINT, signal.default_int_handler)
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
            voice = _watch.Voice(processes[0].stderr)
            blamed = _watch.watch(
                processes, voice, heartbeat_seconds=FLAGS.heartbeat_seconds
            )
        finally:
            _watch.end(processes)
        voice.finish()
        if not blamed:
            return
        status = processes[blamed[0]].returncode
        if status > 0:
            gave_up = {0} if processes[0].returncode > 0 else set()
            _watch.tell_why(sorted(gave_up.union(blamed)), voice, outputs)
    sys.exit(status if status > 0 else 128 - status)


if __name__ == "__main__":
    _script.run(main)
