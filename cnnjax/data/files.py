"""Find and read the files of a dataset."""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from collections.abc import Callable, Iterable
from io import BufferedReader
from pathlib import Path
from typing import NamedTuple

from cnnjax.base.errors import InputError
from cnnjax.data.streams import opened, pieces_of, reason

HEAD = 1024  # bytes with which each format says what it is, and how large
MOST_UNCOUNTED = 2**27  # bytes of gzipped content that are kept before all are counted
BEYOND = 2**20  # bytes that are counted beyond the most that is expected


class File(NamedTuple):
    """The decompressed bytes of a file, and its path for messages.

    If the size is not as expected, the content is only the first `HEAD` bytes or fewer.
    """

    path: Path
    content: bytes | bytearray
    size: int  # bytes of the whole content, as far as they were counted
    more: bool = False  # whether there is more than was counted

    @property
    def counted(self) -> str:
        """Return the number of bytes, for messages."""
        return f"more than {self.size}" if self.more else str(self.size)

    @property
    def sha256(self) -> str:
        """Return the digest of the decompressed content."""
        return hashlib.sha256(self.content).hexdigest()


def expand_home(folder: str, *, what: str = "data_dir") -> Path:
    """Return the path of a folder, with `~` as the user's home.

    Raises:
        InputError: the home folder of a user who does not exist.
    """
    try:
        return Path(folder).expanduser()
    except RuntimeError as error:
        raise InputError(
            f"expected {what} to be a folder, got {folder!r}: its home folder is not "
            "known"
        ) from error


def open_folder(data_dir: str, *, what: str = "data_dir") -> Path:
    """Return the path of a folder that exists and can be entered.

    Raises:
        InputError: it is not a folder, or cannot be entered; the message has the
            reason.
    """
    root = expand_home(data_dir, what=what)
    try:
        if len(str(root).splitlines()) > 1:
            raise ValueError("its name has several lines; rename it")
        is_folder = stat.S_ISDIR(root.stat().st_mode)
        if is_folder and os.access(root, os.X_OK):
            return root
        why = "Permission denied" if is_folder else "it is a file"
    except OSError as error:
        why = reason(root, error)
    except ValueError as error:  # or a null character
        why = str(error)
    raise InputError(f"expected {what} to be a folder, got {str(root)!r}: {why}")


def search_folders(name: str, data_dir: str) -> tuple[Path, Path]:
    """Return the folders in which a dataset is searched for, the more specific first.

    Raises:
        InputError: `data_dir` is not a folder.
    """
    root = open_folder(data_dir)
    return root / name, root


def is_file(path: Path) -> bool:
    """Return whether a file, or a broken link, exists at this path.

    A broken link does not count as missing, so that `read_file` reports it.

    Raises:
        InputError: the folder cannot be read.
    """
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return path.is_symlink()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({reason(path, error)})") from error


def misspelled(folders: Iterable[Path], names: Iterable[str]) -> str:
    """Return a hint to rename a file whose name differs only in case; "" if none does.

    The hint is appended to the message that none of the names was found.
    """
    right = {name.casefold(): name for name in names}
    for folder in folders:
        found_there: list[str] = []
        with contextlib.suppress(OSError):  # no such folder, or it cannot be listed
            found_there = sorted(os.listdir(folder))
        for found in found_there:
            name = right.get(found.casefold(), found)
            if found != name:
                return f"; rename {folder / found} to {name}: names are case-sensitive"
    return ""


def read_file(path: Path, *, sizes: Callable[[bytes], range]) -> File:
    """Read a file that is raw, gzipped or gzipped twice, whatever its name.

    Content of another size than expected is not kept. A large gzip file is counted
    before it is kept.

    Args:
        path: the file.
        sizes: from the first `HEAD` bytes, or fewer, of the content, the sizes in bytes
            that are expected.

    Raises:
        InputError: the file cannot be read, is not a regular file, is a damaged gzip
            file, or does not fit in memory.
    """
    with opened(path) as file:
        head, zipped = _head(file)
        expected = sizes(head)
        most = max(expected.stop - 1, HEAD)
        if not zipped:
            size = os.fstat(file.fileno()).st_size
            if size not in expected:
                return File(path, head, size)
        elif most > MOST_UNCOUNTED:
            counted = _count(path, file, most=most)
            if counted.size not in expected:
                return counted._replace(content=head)
        read = _count(path, file, most=most, content=bytearray())
        return read if read.size in expected else read._replace(content=head)


def _head(file: BufferedReader) -> tuple[bytes, bool]:
    pieces, zipped = pieces_of(file)
    head = bytearray()
    for piece in pieces:
        head += piece[:HEAD]
        if len(head) >= HEAD:
            break
    return bytes(head[:HEAD]), zipped


def _count(
    path: Path, file: BufferedReader, *, most: int, content: bytearray | None = None
) -> File:
    """Count the content from the start, and keep at most `most` bytes in `content`."""
    file.seek(0)
    pieces, _ = pieces_of(file)
    size = 0
    for piece in pieces:
        size += len(piece)
        if size > most + BEYOND:
            return File(path, b"", size, more=True)
        if content is not None and size <= most:
            content += piece
    return File(path, b"" if content is None else content, size)
