"""Read files from a tar archive that is read piece by piece; nothing is extracted.

Not Python's tarfile: it takes the sizes that an archive declares on trust. The format:
POSIX.1-2001, "pax"; GNU tar manual, "Basic Tar Format". A member is a header of 512
bytes, and its content, filled up to a multiple of 512.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

BLOCK = 512
MOST_MEMBERS = 10_000
MOST_NAME = 2**20  # bytes of the extra headers with long names
FILES, WITHOUT_CONTENT = b"0\0" + b"7", b"123456"  # types of members
LONG_NAME, LONG_LINK, OWN_HEADER, ALL_HEADER = b"L", b"K", b"x", b"g"


class TarError(ValueError):
    """A damaged archive, or one with what is not read."""


class Stream:
    """Content that comes in pieces, to be read in any sizes."""

    def __init__(self, pieces: Iterator[bytes], *, most: int) -> None:
        """Read from these pieces, at most `most` bytes of them."""
        self._pieces, self._left = pieces, most
        self._rest = memoryview(b"")

    def read(self, size: int) -> bytearray:
        """Return the next bytes; fewer than asked for only at the end.

        Raises:
            TarError: the content has more bytes than are allowed.
        """
        taken = bytearray()
        while len(taken) < size and (part := self._next(size - len(taken))):
            taken += part
        return taken

    def skip(self, size: int) -> int:
        """Pass over the next bytes; return how many there were.

        Raises:
            TarError: the content has more bytes than are allowed.
        """
        passed = 0
        while passed < size and (part := self._next(size - passed)):
            passed += len(part)
        return passed

    def _next(self, most: int) -> memoryview:
        while not self._rest:
            piece = next(self._pieces, b"")
            if not piece:
                break
            self._left -= len(piece)
            if self._left < 0:
                raise TarError("it has more content than is expected")
            self._rest = memoryview(piece)
        part, self._rest = self._rest[:most], self._rest[most:]
        return part


def read_members(
    stream: Stream, wanted: Collection[str], *, most: int
) -> Iterator[tuple[str, bytearray | None]]:
    """Yield the name of each member, without its folders, and its content if wanted.

    The content is None for members that are not wanted, or are links or folders.

    Raises:
        TarError: the archive is damaged; it has a sparse file, or a wanted one of more
            than `most` bytes; or it has more than `MOST_MEMBERS` members, or extra
            headers of more than `MOST_NAME` bytes.
    """
    long_name = b""
    for number in range(MOST_MEMBERS):
        header = stream.read(BLOCK)
        if not header and number == 0:
            raise TarError("an empty file")
        if not header.strip(b"\0"):
            return
        size, kind = _checked(header)
        if kind in (LONG_NAME, LONG_LINK, OWN_HEADER, ALL_HEADER):
            if size > MOST_NAME:
                raise TarError(f"an extra header of {size} bytes")
            extra = _content(stream, size)
            if kind == LONG_NAME:
                long_name = bytes(extra)
            elif kind == OWN_HEADER:
                long_name = _pax_path(extra) or long_name
            continue
        if kind == b"S":
            raise TarError("a sparse file, which is not read")
        path = long_name or bytes(header[:100])
        long_name = b""
        name = path.split(b"\0")[0].rsplit(b"/", 1)[-1].decode("utf-8", "replace")
        if kind in FILES and name in wanted:
            if size > most:
                raise TarError(f"{name} of {size} bytes, more than {most}")
            yield name, _content(stream, size)
            continue
        yield name, None
        if kind not in WITHOUT_CONTENT and stream.skip(_filled(size)) < size:
            raise TarError("unexpected end of data")
    raise TarError(f"more than {MOST_MEMBERS} members")


def _checked(header: bytearray) -> tuple[int, bytes]:
    """Return the size and the type of a member."""
    if len(header) < BLOCK:
        raise TarError("unexpected end of data")
    # The checksum counts its own field as spaces. Old archives added signed bytes.
    plain = header[:148] + b" " * 8 + header[156:]
    signed = sum(byte - 256 * (byte > 127) for byte in plain)
    if _octal(header[148:156]) not in (sum(plain), signed):
        raise TarError("bad checksum")
    return _octal(header[124:136]), bytes(header[156:157])


def _octal(digits: bytearray) -> int:
    text = digits.split(b"\0")[0].strip()
    if not text.isdigit():
        # Sizes of 8 GB and more, and negative ones, are binary numbers.
        raise TarError(f"a size that is no octal number: {digits.hex()}")
    try:
        return int(text, 8)
    except ValueError as error:
        raise TarError(f"a size that is no octal number: {digits.hex()}") from error


def _content(stream: Stream, size: int) -> bytearray:
    content = stream.read(_filled(size))
    if len(content) < size:
        raise TarError("unexpected end of data")
    del content[size:]
    return content


def _filled(size: int) -> int:
    return -(-size // BLOCK) * BLOCK


def _pax_path(records: bytearray) -> bytes:
    """Return the path in an extended header of lines "LENGTH KEY=VALUE"."""
    path = b""
    for record in records.split(b"\n"):
        key, _, value = record.partition(b" ")[2].partition(b"=")
        if key.startswith(b"GNU.sparse") or key == b"size":
            raise TarError("a sparse or too large file, which is not read")
        if key == b"path":
            path = bytes(value)
    return path
