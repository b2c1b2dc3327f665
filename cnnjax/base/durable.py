"""Files that are whole or not there, whatever ends the process or the machine.

A file is written under another name beside its own, flushed to the disk, and renamed.
A name that somebody else put there, a link for example, is never written through.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

SUFFIX = ".partial"  # of a file that is being written
ASIDE = f"*.{'[0-9a-f]' * 8}{SUFFIX}"  # as `aside_of` names them
NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)
APPEND = os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_NOFOLLOW", 0)
APPEND |= getattr(os, "O_NONBLOCK", 0)  # a pipe that nobody reads would wait for ever


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file whole, or leave what was there.

    Several processes may write the same file: the last one wins.

    Raises:
        OSError: the system refuses; nothing partial is left.
    """
    aside = aside_of(path)
    try:
        _write(os.open(aside, NEW, 0o666), content)
        os.replace(aside, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(aside)
        raise
    flush_folder(path.parent)


def append_bytes(path: Path, content: bytes, *, new: bool = True) -> None:
    """Append to a file that is not a link; `new`: one that is not there is made.

    Raises:
        OSError: the system refuses; what was there before is still there.
    """
    handle = os.open(path, APPEND if new else APPEND & ~os.O_CREAT, 0o666)
    before = os.fstat(handle).st_size
    try:
        _write(handle, content)
    except OSError:
        with contextlib.suppress(OSError):  # half a line is worth nothing
            os.truncate(path, before)
        raise


def flush_folder(folder: Path) -> None:
    """Make renames in a folder survive a power failure, where the system can."""
    with contextlib.suppress(OSError):  # not every file system can
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def flush_tree(folder: Path) -> None:
    """Flush every file and folder below a folder to the disk.

    Raises:
        OSError: the system refuses.
    """
    for path in _below(folder):
        if path.is_dir():
            flush_folder(path)
        else:
            handle = os.open(path, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)
    flush_folder(folder)


def aside_of(path: Path) -> Path:
    """Return a name beside a path's own, for what is not whole yet, or no longer."""
    return path.with_name(f"{path.name}.{secrets.token_hex(4)}{SUFFIX}")


def sweep(folder: Path, pattern: str = ASIDE) -> None:
    """Remove what was never finished. Nobody else may be writing there.

    What somebody else calls "notes.partial" is left alone.
    """
    with contextlib.suppress(OSError):
        for path in folder.glob(pattern):
            with contextlib.suppress(OSError):
                remove_folder(path)


def remove_folder(path: Path) -> None:
    """Remove a folder, or a file or link in its place, so that it is whole or gone.

    Raises:
        OSError: the system refuses; it is still there.
    """
    if path.is_symlink() or not path.is_dir():  # `rmtree` would wait for a pipe
        path.unlink(missing_ok=True)
        return
    gone = path
    if not path.name.endswith(SUFFIX):
        gone = aside_of(path)
        with contextlib.suppress(FileNotFoundError):
            os.rename(path, gone)
    shutil.rmtree(gone, ignore_errors=True)


def _write(handle: int, content: bytes) -> None:
    """Write to an open file, flush it to the disk, and close it."""
    with open(handle, "wb", buffering=0) as file:
        rest = memoryview(content)
        while rest:
            rest = rest[file.write(rest) :]
        os.fsync(handle)


def _below(folder: Path) -> Iterator[Path]:
    """Iterate over everything below a folder, the deepest first."""
    for root, folders, files in os.walk(folder, topdown=False):
        yield from (Path(root) / name for name in (*files, *folders))
