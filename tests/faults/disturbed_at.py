"""Run a script, and disturb it at its N-th change of a folder.

    python disturbed_at.py kill N FOLDER COUNT script.py flags
    python disturbed_at.py full N FOLDER COUNT script.py flags

A change is a file opened to be written, flushed, renamed or removed, or a folder made
or removed, by whatever library. "kill" kills the process (signal 9) just before it.
"full" refuses, from then on, to write and to make anything there, as a full disk does.
With N = 0 nothing is disturbed, and the number of changes is written into COUNT.
"""

from __future__ import annotations

import atexit
import errno
import os
import runpy
import signal
import sys
import threading
from pathlib import Path

CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate"}
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC


class Disturber:
    """Counts changes below a folder, and kills the process or refuses one."""

    def __init__(self, kills: bool, at: int, folder: str) -> None:
        """Count from 1."""
        self.kills, self.at, self.count = kills, at, 0
        self.folder = os.path.abspath(folder)
        self._lock = threading.Lock()

    def heard(self, event: str, args: tuple) -> None:
        """Count an event that Python tells of, if it is a change."""
        writes = event == "open" and isinstance(args[2], int) and args[2] & WRITING
        named = bool(args) and isinstance(args[0], str | os.PathLike)
        if (event in CHANGES or writes) and named:
            path = os.path.abspath(os.fspath(args[0]))
            if path.startswith(self.folder + os.sep):
                self.change(adds=writes or event == "os.mkdir")

    def change(self, *, adds: bool) -> None:
        """Count a change; die before it, or refuse it if it `adds` something."""
        with self._lock:
            self.count += 1
            if self.kills and self.count == self.at:
                os.kill(os.getpid(), signal.SIGKILL)
            if not self.kills and adds and 0 < self.at <= self.count:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def write_count(self, path: Path) -> None:
        """Tell how many changes there were; of several processes, one makes them."""
        if self.count:
            path.write_text(str(self.count))


def main() -> None:
    """Run the script as Python would."""
    mode, at, folder, count, script, *flags = sys.argv[1:]
    disturber, fsync = Disturber(mode == "kill", int(at), folder), os.fsync

    def counted(handle: int) -> None:
        disturber.change(adds=True)
        fsync(handle)

    sys.argv, sys.path[0] = [script, *flags], str(Path(script).parent)
    os.fsync = counted
    sys.addaudithook(disturber.heard)
    if disturber.at == 0:
        atexit.register(disturber.write_count, Path(count))
    runpy.run_path(script, run_name="__main__")


if __name__ == "__main__":
    main()
