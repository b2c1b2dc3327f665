"""The idx format of MNIST: any four files of images and labels.

Big-endian: two zero bytes, the element type (8 = unsigned byte), the number of axes,
the length of each axis (32 bits), the elements. Source: Y. LeCun, C. Cortes,
C. Burges, "The MNIST database of handwritten digits", 1998,
http://yann.lecun.com/exdb/mnist/.
"""

from __future__ import annotations

import math
import struct
from pathlib import Path

import numpy as np

from cnnjax.data.dataset import Dataset
from cnnjax.data.files import File, read_file, search_folders
from cnnjax.errors import InputError
from cnnjax.types import Examples

# Training images and labels, then test images and labels: always in this order.
FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)


def load_idx(data_dir: str | None = None) -> Dataset:
    """Read any four idx files; the classes are 0 to the largest label.

    Returns:
        uint8 images [examples, height, width, 1] and int32 labels [examples].

    Raises:
        InputError: files that are missing, damaged, or do not fit each other.
    """
    if data_dir is None:
        raise InputError(
            "dataset idx is never downloaded: give the folder of your four idx files "
            "with --data_dir"
        )
    files = [read_file(path) for path in find_idx_files("idx", data_dir)]
    train, test = parse_idx_files(files)
    num_classes = 1 + int(max(train.labels.max(), test.labels.max()))
    return Dataset(
        name="idx",
        train=train,
        test=test,
        class_names=tuple(str(label) for label in range(num_classes)),
    )


def find_idx_files(name: str, data_dir: str) -> list[Path]:
    """Return the paths of the four files, all from one folder, in the order of `FILES`.

    Each may be raw or gzipped, and spelled `-idx3-ubyte` or `.idx3-ubyte`. The folder
    is `data_dir/name` or `data_dir`.

    Raises:
        InputError: no folder has all four; the message names what is missing.
    """
    folders = search_folders(name, data_dir)
    incomplete = []
    for folder in folders:
        paths = [_find(folder, file) for file in FILES]
        missing = [file for file, path in zip(FILES, paths, strict=True) if not path]
        if not missing:
            return [path for path in paths if path]
        if len(missing) < len(FILES):
            incomplete.append((folder, missing))
    for folder, missing in incomplete:
        raise InputError(
            f"{folder}: expected the four idx files of {name}, raw or .gz, got all but "
            f"{', '.join(missing)}"
        )
    raise InputError(
        f"expected the four idx files of {name}, raw or .gz ({', '.join(FILES)}), "
        f"got none of them in {folders[0]} or {folders[1]}"
    )


def parse_idx_files(files: list[File]) -> tuple[Examples, Examples]:
    """Return the training and test examples of four files in the order of `FILES`.

    Raises:
        InputError: a file is damaged, or two files do not fit each other.
    """
    train, test = _parse_pair(*files[:2]), _parse_pair(*files[2:])
    if train.inputs.shape[1:] != test.inputs.shape[1:]:
        raise InputError(
            f"expected images of one size, got {_size(train)} in {files[0].path} and "
            f"{_size(test)} in {files[2].path}"
        )
    return train, test


def _find(folder: Path, file: str) -> Path | None:
    dotted = file.replace("-idx", ".idx")
    for spelling in (file, f"{file}.gz", dotted, f"{dotted}.gz"):
        if (folder / spelling).is_file():
            return folder / spelling
    return None


def _parse_pair(images_file: File, labels_file: File) -> Examples:
    images = _parse(images_file, kind="images", num_axes=3)
    labels = _parse(labels_file, kind="labels", num_axes=1)
    if len(images) != len(labels):
        raise InputError(
            f"expected one label per image, got {len(images)} images in "
            f"{images_file.path} and {len(labels)} labels in {labels_file.path}"
        )
    return Examples(images[..., None], labels.astype(np.int32))


def _parse(file: File, *, kind: str, num_axes: int) -> np.ndarray:
    path, content = file
    magic = bytes((0, 0, 8, num_axes))
    if content[:4] != magic:
        raise InputError(
            f"{path}: expected an idx file of {kind}, raw or gzipped, with first bytes "
            f"{magic.hex()}, got {content[:4].hex() or 'an empty file'}; copy or "
            "download it again"
        )
    header = 4 + 4 * num_axes
    if len(content) < header:
        raise InputError(f"{path}: cut off in its header; copy or download it again")
    shape = struct.unpack(f">{num_axes}I", content[4:header])
    if 0 in shape:
        raise InputError(f"{path}: expected at least one of {kind}, got shape {shape}")
    if len(content) - header != math.prod(shape):
        raise InputError(
            f"{path}: expected {math.prod(shape)} bytes of {kind} as its header says "
            f"{shape}, got {len(content) - header}; copy or download it again"
        )
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape)


def _size(examples: Examples) -> str:
    return "{} x {}".format(*examples.inputs.shape[1:3])
