"""Read a small file whole, whatever stands where it should be.

A pipe would wait for ever, a device never ends, a file of gigabytes takes the memory of
everything else: all of them are refused before anything is read.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from cnnjax.base.errors import InputError

MOST_BYTES = 2**26  # of a file of text
OPEN = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)
KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def read_bytes(path: Path, *, most: int = MOST_BYTES) -> bytes:
    """Return what is in a file of at most `most` bytes; the null device is empty.

    Raises:
        InputError: it cannot be read, is no file, or is larger.
    """
    try:
        handle = os.open(path, OPEN)
        try:
            _expect_file(path, os.fstat(handle), most)
            parts, size = [], 0
            while part := os.read(handle, min(2**20, most + 1 - size)):
                parts.append(part)
                size += len(part)
                if size > most:  # it grew, or its size is not known beforehand
                    raise _too_large(path, most)
        finally:
            os.close(handle)
    except InputError:
        raise
    except (OSError, ValueError) as error:
        said = getattr(error, "strerror", None) or error
        raise InputError(f"cannot read {path}: {said}") from error
    return b"".join(parts)


def read_text(path: Path, *, most: int = MOST_BYTES) -> str:
    """Return the text of a file in UTF-8, as `read_bytes`.

    Raises:
        InputError: as there; or it is not valid UTF-8.
    """
    content = read_bytes(path, most=most)
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"cannot read {path}: {error}") from error
    return text.replace("\r\n", "\n")


def _expect_file(path: Path, found: os.stat_result, most: int) -> None:
    """Refuse what is no file, or is too large."""
    if not stat.S_ISREG(found.st_mode) and not _is_null(found):
        kinds = (kind for holds, kind in KINDS if holds(found.st_mode))
        got = next(kinds, "something else")
        raise InputError(f"expected a file, got {got}: {path}")
    if found.st_size > most:
        raise _too_large(path, most)


def _is_null(found: os.stat_result) -> bool:
    try:
        return os.path.samestat(found, os.stat(os.devnull))
    except OSError:
        return False


def _too_large(path: Path, most: int) -> InputError:
    return InputError(
        f"{path} is damaged: expected at most {most / 2**20:,.0f} MiB; it is larger"
    )
