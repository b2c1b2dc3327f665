"""Lock a folder for one program at a time; its children share the lock."""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import platform
from collections.abc import Iterator
from pathlib import Path

from cnnjax.base import durable, program
from cnnjax.base.errors import InputError
from cnnjax.results.folders import shown_path

FILE = ".lock"
OPEN = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
MOST_BYTES = 1000  # of a lock's content
_held: dict[Path, int] = {}  # folders that this program has locked, and their locks


@contextlib.contextmanager
def alone_in(workdir: Path) -> Iterator[None]:
    """Lock a workdir: two programs that train the same run would mix its files.

    The system releases the lock when the process ends, however it ends. Child processes
    share it: if this process is killed and a child survives, the folder stays locked
    until the child ends. Over NFS it holds between machines if the server has locks.

    What a program that was killed has left unfinished there is removed.

    Raises:
        InputError: the folder is locked already (by whom, and since when), or it cannot
            be made or locked.
    """
    try:
        import fcntl
    except ImportError:  # not on this system
        yield
        return
    where = shown_path(workdir)
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        lock = os.open(workdir / FILE, OPEN, 0o666)
    except OSError as error:
        raise InputError(
            f"cannot write into {where}: {error.strerror}; choose another --workdir"
        ) from error
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InputError(
                f"{_holder(lock)} is using {where}; wait for it, end it, or choose "
                "another --workdir"
            ) from error
        except OSError as error:  # a file system without locks
            raise InputError(
                f"cannot lock {where}: {error.strerror}; choose another --workdir"
            ) from error
        _sign(lock)
        os.set_inheritable(lock, True)
        durable.sweep(workdir)  # who held it before may have been killed
        _held[workdir.absolute()] = lock
        try:
            yield
        finally:
            del _held[workdir.absolute()]
    finally:
        os.close(lock)


def expect_held(folder: Path) -> None:
    """Check that a folder is still the one that was locked, and so the one above it.

    A folder that nobody has locked here is not asked for.

    Raises:
        InputError: it was removed, moved or replaced, or its lock was.
    """
    folder = folder.absolute()
    for place in (folder, *folder.parents):
        if (lock := _held.get(place)) is None:
            continue
        try:
            same = os.path.samestat(os.fstat(lock), os.lstat(place / FILE))
        except OSError:  # a folder that is gone, or that cannot be searched any more
            same = False
        if not same:
            raise InputError(
                f"{shown_path(place)} was removed, moved or replaced while "
                f"{program.name()} was using it; start again"
            )


def _sign(lock: int) -> None:
    """Write into a lock who holds it; what the disk refuses is not worth a run."""
    told = {
        "program": program.name(),
        "process": os.getpid(),
        "machine": platform.node(),
        "since": datetime.datetime.now().isoformat(" ", timespec="seconds"),
    }
    with contextlib.suppress(OSError):
        os.ftruncate(lock, 0)
        os.pwrite(lock, json.dumps(told).encode()[:MOST_BYTES], 0)


def _holder(lock: int) -> str:
    """Say who holds a lock, by what it wrote there itself."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        told = json.loads(os.pread(lock, MOST_BYTES, 0))
        program, machine, since = (
            "".join(filter(str.isprintable, str(told[name])))[:100]
            for name in ("program", "machine", "since")
        )
        process = int(told["process"])
        return f"{program} (process {process} on {machine}, since {since})"
    return "another program"
