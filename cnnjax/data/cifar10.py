"""CIFAR-10 in its binary version: 50,000 + 10,000 colour images of 32 x 32 pixels.

A. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009,
https://www.cs.toronto.edu/~kriz/cifar.html. A record is 3,073 bytes: the label, then
1,024 red, 1,024 green and 1,024 blue pixels in row order.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from cnnjax.base.errors import InputError, shown
from cnnjax.data.dataset import Dataset
from cnnjax.data.download import download
from cnnjax.data.files import (
    File,
    is_file,
    misspelled,
    read_file,
    search_folders,
)
from cnnjax.data.signatures import TAR, kind_of
from cnnjax.data.streams import opened, pieces_of
from cnnjax.data.tar import Stream, TarError, read_members
from cnnjax.types import Examples

URL = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
ARCHIVE_HASH = "md5:c32a1d4ab5d03f1284b67883e8d87530"
ARCHIVE, FOLDER = "cifar-10-binary.tar.gz", "cifar-10-batches-bin"
ARCHIVES = (ARCHIVE, "cifar-10-binary.tar")  # some browsers un-gzip what they save
# Files of other datasets that may be in the folder, and their descriptions.
OTHERS = {
    "cifar-10-python.tar.gz": "the python version, whose pickles are never opened",
    "cifar-10-batches-py": "the python version, whose pickles are never opened",
    "cifar-100-binary.tar.gz": "CIFAR-100",
    "cifar-100-binary": "CIFAR-100",
    "cifar-100-python.tar.gz": "CIFAR-100",
    "cifar-100-python": "CIFAR-100",
    "train.bin": "CIFAR-100",
}
# The five training files, then the test file: always in this order.
FILES = (*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin")
RECORD_BYTES = 1 + 3 * 32 * 32
OFFICIAL_RECORDS = 10_000  # of each file
MOST_RECORDS = 20_000  # of each file
MOST_ARCHIVE = 2**28  # bytes of the decompressed archive; the official one has 184 MB
# The SHA-1 of the official files, from Apache MXNet's gluon.data.vision.CIFAR10.
SHA1S = (
    "aadd24acce27caa71bf4b10992e9e7b2d74c2540",
    "c0ba65cce70568cd57b4e03e9ac8d2a5367c1795",
    "1dd00a74ab1d17a6e7d73e185b69dbf31242f295",
    "aab85764eb3584312d3c7f65fd2fd016e36a258e",
    "26e2849e66a845b7f1e4614ae70f4889ae604628",
    "67eb016db431130d61cd03c7ad570b013799c88c",
)
CLASS_NAMES = (
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
)


def load_cifar10(data_dir: str | None = None) -> Dataset:
    """Read the binary version, archived or extracted, or download it (170 MB).

    It is searched for in `data_dir/cifar10` and `data_dir`. A file can have
    any number of valid records up to `MOST_RECORDS`. Where some files are the official
    ones, all with their number of records must be.

    Returns:
        uint8 images [50000, 32, 32, 3] and [10000, 32, 32, 3], int32 labels 0 to 9.

    Raises:
        InputError: files that are missing or damaged; the Python version, whose
            pickles are never opened; or no folder is given and there is no network.
    """
    if data_dir is None:
        files = _read_archive(download("cifar10", URL, known_hash=ARCHIVE_HASH))
    else:
        files = _read_folders(search_folders("cifar10", data_dir))
    parts, places, sha1s, digests = [], [], [], {}
    for name, file in zip(FILES, files, strict=True):
        parts.append(_parse(file))
        places.append((file.path, len(parts[-1].labels)))
        sha1s.append(hashlib.sha1(file.content, usedforsecurity=False).hexdigest())
        digests[name] = file.sha256
    _check_official(places, sha1s)
    test = parts.pop()
    return Dataset(
        name="cifar10",
        train=Examples(*(np.concatenate(part) for part in zip(*parts, strict=True))),
        test=test,
        class_names=CLASS_NAMES,
        files=digests,
    )


def _read_folders(folders: tuple[Path, ...]) -> Iterator[File]:
    for folder in folders:
        for archive in ARCHIVES:
            if is_file(folder / archive):
                return _read_archive(folder / archive)
        for place in (folder / FOLDER, folder):
            missing = [file for file in FILES if not is_file(place / file)]
            if not missing:
                return (read_file(place / file, sizes=_sizes) for file in FILES)
            if len(missing) < len(FILES):
                raise InputError(
                    f"{place}: expected the six files of CIFAR-10's binary version, "
                    f"got all but {', '.join(missing)}{misspelled([place], missing)}"
                )
    for folder in folders:
        for name, other in OTHERS.items():
            if (folder / name).exists():
                raise InputError(
                    f"{folder / name}: expected the binary version of CIFAR-10 "
                    f"({ARCHIVE}), got {other}; download {URL}"
                )
    raise InputError(
        f"expected {' or '.join(ARCHIVES)} or its files ({', '.join(FILES)}), got none "
        f"of them in {folders[0]} or {folders[1]}"
        f"{misspelled(folders, [*ARCHIVES, FOLDER, *FILES])}"
    )


def _read_archive(path: Path) -> Iterator[File]:
    found, names = {}, []
    with opened(path) as file:
        head = next(pieces_of(file)[0], b"")
        file.seek(0)
        stream = Stream(pieces_of(file)[0], most=MOST_ARCHIVE)
        try:
            most = MOST_RECORDS * RECORD_BYTES
            for name, content in read_members(stream, FILES, most=most):
                names.append(name)
                if content is not None:
                    found[name] = File(path / name, content, len(content))
            stream.skip(MOST_ARCHIVE)  # only at its end is a gzip file's checksum
        except TarError as error:
            words = kind_of(head).words
            is_tar = words == TAR or names
            got = f"a damaged one ({error})" if is_tar else words
            raise InputError(
                f"{path}: expected a tar archive, got {got}; download {URL}"
            ) from error
    missing = [name for name in FILES if name not in found]
    if missing:
        listed = ", ".join(shown(name)[1:-1] for name in names[:9]) or "no files"
        raise InputError(
            f"{path}: expected the six files of CIFAR-10's binary version, not found: "
            f"{', '.join(missing)}, among {listed}; download {URL}"
        )
    for name in FILES:  # each is given away, so that it is in memory once
        yield found.pop(name)


def _sizes(head: bytes) -> range:
    del head  # records have no header
    return range(RECORD_BYTES, MOST_RECORDS * RECORD_BYTES + 1, RECORD_BYTES)


def _check_official(files: list[tuple[Path, int]], sha1s: list[str]) -> None:
    """Raise InputError if one file is damaged, and others are the official ones.

    Files of one's own are left alone: none of them, or no file of as many records, is
    an official one.
    """
    same = [got == sha1 for got, sha1 in zip(sha1s, SHA1S, strict=True)]
    for (path, records), is_official in zip(files, same, strict=True):
        if any(same) and not is_official and records == OFFICIAL_RECORDS:
            raise InputError(
                f"{path}: expected the official CIFAR-10 file, like others beside it, "
                f"got another content; copy or download it again"
            )


def _parse(file: File) -> Examples:
    path, content = file.path, file.content
    if file.size not in _sizes(b""):
        raise InputError(
            f"{path}: expected one or more records of {RECORD_BYTES} bytes, at most "
            f"{MOST_RECORDS}, got {file.counted} bytes, {_what_else(file)}"
        )
    records = np.frombuffer(content, np.uint8).reshape(-1, RECORD_BYTES)
    labels = records[:, 0].astype(np.int32)
    if labels.max() > 9:
        raise InputError(f"{path}: expected labels 0 to 9, got {labels.max()}")
    images = records[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return Examples(np.ascontiguousarray(images), labels)


def _what_else(file: File) -> str:
    content, size = file.content, file.size
    if size > MOST_RECORDS * RECORD_BYTES:
        return "too many; give a part of them"
    if size and size % (RECORD_BYTES + 1) == 0:
        return "records of two labels, as CIFAR-100 has; give the files of CIFAR-10"
    if size and content[0] <= 9:
        whole, rest = divmod(size, RECORD_BYTES)
        return f"{whole} records and {rest} bytes; copy or download it again"
    return "{}; {}".format(*kind_of(content))
