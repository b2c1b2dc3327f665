"""CIFAR-10 in its binary version: 50,000 + 10,000 colour images of 32 x 32 pixels.

A. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009,
https://www.cs.toronto.edu/~kriz/cifar.html. A record is 3,073 bytes: the label, then
1,024 red, 1,024 green and 1,024 blue pixels in row order.
"""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np

from cnnjax.base.errors import InputError
from cnnjax.data.dataset import Dataset
from cnnjax.data.files import (
    File,
    download,
    is_file,
    misspelled,
    read_file,
    search_folders,
)
from cnnjax.data.signatures import TAR, kind_of
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
CLASS_NAMES = (
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
)


def load_cifar10(data_dir: str | None = None) -> Dataset:
    """Read the binary version, archived or extracted, or download it (170 MB).

    It is searched for in `data_dir/cifar10` and `data_dir`. Extracted files can have
    any number of valid records.

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
    *train, test = [_parse(file) for file in files]
    return Dataset(
        name="cifar10",
        train=Examples(*(np.concatenate(parts) for parts in zip(*train, strict=True))),
        test=test,
        class_names=CLASS_NAMES,
    )


def _read_folders(folders: tuple[Path, ...]) -> list[File]:
    for folder in folders:
        for archive in ARCHIVES:
            if is_file(folder / archive):
                return _read_archive(folder / archive)
        for place in (folder / FOLDER, folder):
            missing = [file for file in FILES if not is_file(place / file)]
            if not missing:
                return [read_file(place / file) for file in FILES]
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


def _read_archive(path: Path) -> list[File]:
    # Decompressed completely first: tarfile alone stops before the final checksum.
    content = read_file(path).content
    found, names = {}, []
    try:
        # Members are read in memory; nothing is extracted to disk.
        with tarfile.open(fileobj=io.BytesIO(content), mode="r:") as archive:
            for member in archive:
                name = Path(member.name).name
                names.append(name)
                file = archive.extractfile(member) if member.isreg() else None
                if name in FILES and file is not None:
                    found[name] = File(path / name, file.read())
    except tarfile.TarError as error:
        words = kind_of(content).words
        got = f"a damaged one ({error})" if words == TAR else words
        raise InputError(
            f"{path}: expected a tar archive, got {got}; download {URL}"
        ) from error
    missing = [name for name in FILES if name not in found]
    if missing:
        raise InputError(
            f"{path}: expected the six files of CIFAR-10's binary version, not found: "
            f"{', '.join(missing)}, among {', '.join(names[:9]) or 'no files'}; "
            f"download {URL}"
        )
    return [found[name] for name in FILES]


def _parse(file: File) -> Examples:
    path, content = file
    if not content or len(content) % RECORD_BYTES:
        raise InputError(
            f"{path}: expected one or more records of {RECORD_BYTES} bytes, got "
            f"{len(content)} bytes, {_what_else(content)}"
        )
    records = np.frombuffer(content, np.uint8).reshape(-1, RECORD_BYTES)
    labels = records[:, 0].astype(np.int32)
    if labels.max() > 9:
        raise InputError(f"{path}: expected labels 0 to 9, got {labels.max()}")
    images = records[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return Examples(np.ascontiguousarray(images), labels)


def _what_else(content: bytes) -> str:
    if content and len(content) % (RECORD_BYTES + 1) == 0:
        return "records of two labels, as CIFAR-100 has; give the files of CIFAR-10"
    if content and content[0] <= 9:
        whole, rest = divmod(len(content), RECORD_BYTES)
        return f"{whole} records and {rest} bytes; copy or download it again"
    return "{}; {}".format(*kind_of(content))
