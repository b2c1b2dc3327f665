"""One idx file: an array with a header.

A file is big-endian: two zero bytes, the element type (8 = unsigned byte), the number
of axes, the length of each axis (32 bits), the elements. Source: Y. LeCun, C. Cortes,
C. Burges, "The MNIST database of handwritten digits", 1998,
http://yann.lecun.com/exdb/mnist/.
"""

from __future__ import annotations

import math
import struct
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cnnjax.base.errors import InputError
from cnnjax.data.files import File, read_file
from cnnjax.data.signatures import kind_of

TYPES = {
    code: np.dtype(name)
    for code, name in (
        *((8, "u1"), (9, "i1"), (11, ">i2"), (12, ">i4")),
        *((13, ">f4"), (14, ">f8")),
    )
}
MOST_AXES = 8  # images have at most 4; NumPy has at most 64
MOST_BYTES = 2**33  # 8 GiB of elements; ten million images of 28 x 28


class _Header(NamedTuple):
    dtype: np.dtype
    shape: tuple[int, ...]
    reverse: tuple[int, ...]  # the shape, if the header were little-endian

    @property
    def start(self) -> int:
        """Return the offset of the elements."""
        return 4 + 4 * len(self.shape)

    @property
    def size(self) -> int:
        """Return the bytes of the elements."""
        return math.prod(self.shape) * self.dtype.itemsize


def read_idx_file(path: Path) -> File:
    """Read a file for `parse_idx`: all of it, if it has the size that its header says.

    Raises:
        InputError: it cannot be read, or is a damaged gzip file.
    """
    return read_file(path, sizes=_sizes)


def parse_idx(file: File, *, kind: str) -> np.ndarray:
    """Return the array in an idx file, of any type and up to `MOST_AXES` axes.

    Args:
        file: what `read_idx_file` returned.
        kind: what it should hold, for messages: "images" or "labels".

    Raises:
        InputError: it is no idx file, is of another size than its header says, or has
            no elements or too many.
    """
    path, content = file.path, file.content
    swapped = (
        f"{path}: its header is little-endian, an idx file is big-endian throughout; "
        "write it as big-endian, for example from NumPy with .astype('>i4')"
    )
    if content[2:4] == bytes(2) and 0 < content[0] < 9 and content[1] in TYPES:
        raise InputError(swapped)
    if content[:2] != bytes(2) or (len(content) > 2 and content[2] not in TYPES):
        words, way_out = kind_of(content)
        raise InputError(
            f"{path}: expected an idx file of {kind}, raw or gzipped, got {words}; "
            f"{way_out}"
        )
    header = _header(content)
    if header is None:
        raise InputError(f"{path}: cut off in its header; copy or download it again")
    shape = header.shape
    if not 0 < len(shape) <= MOST_AXES:
        raise InputError(
            f"{path}: expected {kind} of 1 to {MOST_AXES} axes, got {len(shape)}; copy "
            "or download it again"
        )
    if 0 in shape:
        raise InputError(f"{path}: expected at least one of {kind}, got shape {shape}")
    whole = not file.more and file.size - header.start == header.size
    if not whole and math.prod(header.reverse) < math.prod(shape):
        raise InputError(swapped)
    if header.size > MOST_BYTES:
        raise InputError(
            f"{path}: expected at most {MOST_BYTES} bytes of {kind}, got {header.size} "
            f"as its header says {shape}; give a part of it, or copy it again"
        )
    if not whole:
        got = file._replace(size=file.size - header.start).counted
        raise InputError(
            f"{path}: expected {header.size} bytes of {kind} as its header says "
            f"{shape}, got {got}; copy or download it again"
        )
    elements = np.frombuffer(content, header.dtype, offset=header.start)
    return elements.reshape(shape)


def _header(content: bytes | bytearray) -> _Header | None:
    """Return the header of an idx file; None: there is none, or it is cut off."""
    if len(content) < 4 or content[2] not in TYPES:
        return None
    shape = content[4 : 4 + 4 * content[3]]
    if len(shape) < 4 * content[3]:
        return None
    big, little = (struct.unpack(f"{order}{content[3]}I", shape) for order in "><")
    return _Header(TYPES[content[2]], big, little)


def _sizes(head: bytes) -> range:
    header = _header(head)
    if header is None or header.size > MOST_BYTES:
        return range(len(head), len(head) + 1)  # it is refused: the rest is not needed
    size = header.start + header.size
    return range(size, size + 1)
