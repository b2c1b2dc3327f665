"""Lock a folder for one process at a time; its children share the lock."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from cnnjax.base.errors import InputError


@contextlib.contextmanager
def alone_in(workdir: Path) -> Iterator[None]:
    """Lock a workdir: two processes that train the same run would mix its files.

    Child processes share the lock: if this process is killed and a child survives, the
    folder stays locked until the child ends.

    Raises:
        InputError: the folder is locked already, or cannot be made or locked.
    """
    try:
        import fcntl
    except ImportError:  # not on this system
        yield
        return
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        lock = os.open(workdir / ".lock", os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise InputError(
            f"cannot write into {workdir}: {error.strerror}; choose another --workdir"
        ) from error
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InputError(
                f"another reproduce.py, or a run that it started, is using "
                f"{workdir}; wait for it, end it, or choose another --workdir"
            ) from error
        except OSError as error:  # a file system without locks
            raise InputError(
                f"cannot lock {workdir}: {error.strerror}; choose another --workdir"
            ) from error
        os.set_inheritable(lock, True)
        yield
    finally:
        os.close(lock)
