"""Start a script as several processes on this machine.

    python scripts/launch_local.py -- train --strategy=sharded

Shows what process 0 prints, and of the others why they failed. Ends with the status of
the process that failed first, or 128 + the signal that it was lost by.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # python -I leaves it out

import _script
from absl import flags

from cnnjax.base.errors import InputError, expect
from cnnjax.base.signals import Stop
from cnnjax.devices.cluster import HEARTBEAT_SECONDS
from cnnjax.devices.launcher import launch

FLAGS = flags.FLAGS
flags.DEFINE_integer("num_processes", 2, "Processes to start.", lower_bound=1)
flags.DEFINE_integer(
    "heartbeat_seconds",
    HEARTBEAT_SECONDS,
    "Seconds until a silent process counts as lost, and the others end.",
    lower_bound=1,
)


def main(args: list[str]) -> None:
    """Start, watch, and end with the status of the first that failed."""
    if not args:
        raise InputError("expected a script after --, as in -- scripts/train.py")
    ours = Path(__file__).parent / f"{args[0]}.py"
    args = [str(ours), *args[1:]] if ours.is_file() else args
    expect("a script to start", args[0], Path(args[0]).is_file())
    with Stop() as stop, stop.deferred():
        status = launch(
            args,
            num_processes=FLAGS.num_processes,
            heartbeat_seconds=FLAGS.heartbeat_seconds,
            stop=stop,
        )
    if status:
        sys.exit(status)


if __name__ == "__main__":
    _script.run(main)
