"""Run a script, and disturb it at its N-th change of a folder.

    python disturbed_at.py kill N FOLDER COUNT script.py flags
    python disturbed_at.py full N FOLDER COUNT script.py flags
    python disturbed_at.py limit N FOLDER COUNT script.py flags
    python disturbed_at.py move N FOLDER COUNT script.py flags

A change is a file opened to be written, flushed, renamed or removed, or a folder made
or removed, by whatever library. "kill" kills the process (signal 9) just before it.
"full" refuses, from then on, to write and to make anything there, as a full disk does.
"limit" lets the system refuse larger files from then on, those of C++ as well. "move"
renames the folder just before it to FOLDER.moved.
With N = 0 nothing is disturbed, and the number of changes is written into COUNT.
"""

from __future__ import annotations

import atexit
import errno
import os
import resource
import runpy
import signal
import sys
import threading
from pathlib import Path

CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate"}
SMALL = 20_000  # bytes: what is printed may go into a file
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC


class Disturber:
    """Counts changes below a folder, and kills the process or refuses one."""

    def __init__(self, mode: str, at: int, folder: str) -> None:
        """Count from 1."""
        self.mode, self.at, self.count = mode, at, 0
        self.folder = os.path.abspath(folder)
        self._lock = threading.RLock()  # a disturbance is heard, too

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
            now = self.count == self.at
            if self.mode == "kill" and now:
                os.kill(os.getpid(), signal.SIGKILL)
            if self.mode == "limit" and now:
                most = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
                resource.setrlimit(resource.RLIMIT_FSIZE, (SMALL, most))
            if self.mode == "move" and now:
                os.rename(self.folder, f"{self.folder}.moved")
            if self.mode == "full" and adds and 0 < self.at <= self.count:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def write_count(self, path: Path) -> None:
        """Tell how many changes there were; of several processes, one makes them."""
        if self.count:
            path.write_text(str(self.count))


def main() -> None:
    """Run the script as Python would."""
    mode, at, folder, count, script, *flags = sys.argv[1:]
    disturber, fsync = Disturber(mode, int(at), folder), os.fsync

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
