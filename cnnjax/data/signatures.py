"""Recognise kinds of files by their first bytes, for messages about wrong files."""

from __future__ import annotations

from typing import NamedTuple


class Kind(NamedTuple):
    """A description of a file, and what to do if another kind was expected."""

    words: str
    way_out: str


TAR = "a tar archive"
_AGAIN = "copy or download it again"
_CHECK = "check that it is the file that you meant"
_CONVERT = "write it in the expected format, or make a cnnjax.Dataset of it in Python"
_SAVE = "open the page, and save the file that it leads to"
_UNPACK = "unpack it, and give the files that are in it"

# (offset, the possible bytes there (letters in lower case), the kind of file)
_SIGNATURES = (
    (0, (b"<!doctype html", b"<html", b"<head"), Kind("an HTML page", _SAVE)),
    (0, (b"<?xml",), Kind("an XML file", _SAVE)),
    (0, (b"pk\x03\x04",), Kind("a zip archive (.zip, .npz, .xlsx)", _UNPACK)),
    (257, (b"ustar",), Kind(TAR, _UNPACK)),
    (0, (b"\x1f\x8b",), Kind("a file gzipped more than twice", _UNPACK)),
    (0, (b"bzh",), Kind("a bzip2 file", _UNPACK)),
    (0, (b"\xfd7zxz",), Kind("an xz file", _UNPACK)),
    (0, (b"(\xb5/\xfd",), Kind("a Zstandard file", _UNPACK)),
    (0, (b"7z\xbc\xaf\x27\x1c",), Kind("a 7-Zip archive", _UNPACK)),
    (0, (b"rar!",), Kind("a RAR archive", _UNPACK)),
    (0, (b"\x89png",), Kind("a PNG image", _CONVERT)),
    (0, (b"\xff\xd8\xff",), Kind("a JPEG image", _CONVERT)),
    (0, (b"gif8",), Kind("a GIF image", _CONVERT)),
    (0, (b"\x93numpy",), Kind("a NumPy array (.npy)", _CONVERT)),
    (
        0,
        (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"),
        Kind("a Python pickle, which is never opened", _CONVERT),
    ),
    (0, (b"\x89hdf",), Kind("an HDF5 file", _CONVERT)),
    (0, (b"par1",), Kind("a Parquet file", _CONVERT)),
    (0, (b"matlab 5.0",), Kind("a MATLAB file", _CONVERT)),
    (0, (b"%pdf",), Kind("a PDF document", _CONVERT)),
    (0, (b"\xff\xfe", b"\xfe\xff"), Kind("text in UTF-16", "save it as UTF-8")),
    (
        0,
        (b"version https://git-lfs",),
        Kind("a Git LFS pointer", "fetch the file itself with git lfs pull"),
    ),
)
_HEAD = 300  # bytes; all signatures are within


def kind_of(content: bytes | bytearray) -> Kind:
    """Return the kind of a file; if it is unknown, a description of its first bytes.

    >>> kind_of(b"<!DOCTYPE html>").words
    'an HTML page'
    """
    if not content:
        return Kind("an empty file", _AGAIN)
    head = content[:_HEAD].removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    for start, signatures, kind in _SIGNATURES:
        if head.startswith(signatures, start):
            return kind
    begins = content[:40].splitlines()[0].decode("latin-1")
    if begins.isascii() and begins.isprintable():
        return Kind(f"text that begins with {begins!r}", _CHECK)
    return Kind(f"a file that begins with the bytes {content[:4].hex()}", _CHECK)
