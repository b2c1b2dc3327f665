"""Read a file piece by piece, gzipped or not, so that its size can be bounded."""

from __future__ import annotations

import contextlib
import os
import stat
import zlib
from collections.abc import Iterator
from io import BufferedReader
from itertools import chain
from pathlib import Path

from cnnjax.base.errors import InputError

GZIP = b"\x1f\x8b"
PIECE = 2**16  # compressed bytes that are read at a time
MOST_PIECE = 2**20  # bytes of a decompressed piece
MOST_MEMBERS = 100_000  # of a gzip file; block-wise writers make one for 64 KiB


@contextlib.contextmanager
def opened(path: Path) -> Iterator[BufferedReader]:
    """Open a regular file for reading.

    Raises:
        InputError: it cannot be opened or read, is not a regular file, is a damaged
            gzip file, or its content does not fit in memory. All of this is also
            raised in place of errors in the body.
    """
    try:
        with open(path, "rb", opener=_open) as file:
            kind = os.fstat(file.fileno()).st_mode
            if not stat.S_ISREG(kind):
                raise InputError(
                    f"{path}: expected a file, got {_KINDS.get(stat.S_IFMT(kind))}; "
                    "give a file with the data in it"
                )
            yield file
    except (EOFError, zlib.error) as error:
        raise InputError(
            f"{path}: damaged gzip file ({error}); copy or download it again"
        ) from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({reason(path, error)})") from error
    except MemoryError as error:
        raise InputError(
            f"{path}: expected content that fits in memory, got more; give a part of it"
        ) from error


_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
}


def _open(path: str, flags: int) -> int:
    # A named pipe would otherwise wait for a writer.
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def reason(path: Path, error: OSError) -> str:
    """Return the reason of an error in a few words."""
    lost = isinstance(error, FileNotFoundError) and path.is_symlink()
    return "a broken link" if lost else error.strerror or str(error)


def pieces_of(file: BufferedReader) -> tuple[Iterator[bytes], bool]:
    """Return a file's content in pieces, and whether it is gzipped.

    Content that is gzipped twice is decompressed twice. Reading the pieces can raise
    EOFError and zlib.error, which `opened` turns into InputError.
    """
    pieces = iter(lambda: file.read(PIECE), b"")
    zipped = False
    for _ in range(2):
        start = b""
        while len(start) < len(GZIP) and (piece := next(pieces, b"")):
            start += piece
        pieces = chain([start], pieces)
        if start.startswith(GZIP):
            pieces, zipped = _decompressed(pieces), True
    return pieces, zipped


def _decompressed(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Yield the content of one or more gzip members, each checked to its end."""
    member, count = None, 0
    for piece in pieces:
        rest = piece
        while rest:
            if member is None:
                rest = rest.lstrip(b"\0") if count else rest  # padding after a member
                if not rest:
                    break
                member, count = zlib.decompressobj(wbits=31), count + 1
                if count > MOST_MEMBERS:
                    raise zlib.error(f"more than {MOST_MEMBERS} members")
            if content := member.decompress(rest, MOST_PIECE):
                yield content
            ended = member.eof
            rest = member.unused_data if ended else member.unconsumed_tail
            member = None if ended else member
    if member is not None or not count:
        raise EOFError("it ends before its end-of-stream marker")
