"""Run a script, and kill it (signal 9) just before its N-th change of a folder.

    python killed_at.py N FOLDER COUNT script.py flags

A change is a file opened to be written, flushed, renamed or removed, or a folder made
or removed, by whatever library. With N = 0 nothing is killed, and the number of changes
is written into the file COUNT.
"""

from __future__ import annotations

import atexit
import os
import runpy
import signal
import sys
import threading
from pathlib import Path

CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate"}
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC


class Killer:
    """Counts changes below a folder, and kills the process at one of them."""

    def __init__(self, at: int, folder: str) -> None:
        """Count from 1."""
        self.at, self.folder, self.count = at, os.path.abspath(folder), 0
        self._lock = threading.Lock()

    def heard(self, event: str, args: tuple) -> None:
        """Count an event that Python tells of, if it is a change."""
        writes = event == "open" and isinstance(args[2], int) and args[2] & WRITING
        named = bool(args) and isinstance(args[0], str | os.PathLike)
        if (event in CHANGES or writes) and named:
            path = os.path.abspath(os.fspath(args[0]))
            if path.startswith(self.folder + os.sep):
                self.change()

    def change(self) -> None:
        """Count a change, and die before it is made if it is the one."""
        with self._lock:
            self.count += 1
            if self.count == self.at:
                os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    """Run the script as Python would."""
    at, folder, count, script, *flags = sys.argv[1:]
    killer, fsync = Killer(int(at), folder), os.fsync

    def counted(handle: int) -> None:
        killer.change()
        fsync(handle)

    sys.argv, sys.path[0] = [script, *flags], str(Path(script).parent)
    os.fsync = counted
    sys.addaudithook(killer.heard)
    if killer.at == 0:
        atexit.register(lambda: Path(count).write_text(str(killer.count)))
    runpy.run_path(script, run_name="__main__")


if __name__ == "__main__":
    main()
