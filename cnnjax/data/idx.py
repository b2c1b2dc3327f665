"""The idx format of MNIST: any four files of images and labels.

Images are unsigned bytes with three axes, or four with the channels last; labels have
one axis. Other integer types are read if their values are in range.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from cnnjax.base.errors import InputError
from cnnjax.data.dataset import Dataset
from cnnjax.data.files import File, is_file, misspelled, search_folders
from cnnjax.data.idx_file import parse_idx, read_idx_file
from cnnjax.types import Examples

# Training images and labels, then test images and labels: always in this order.
FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
CHANNELS = (1, 3, 4)
MOST_CLASSES = 1_000_000  # larger labels are refused: each class has a name in memory


def load_idx(data_dir: str | None = None) -> Dataset:
    """Read any four idx files; the classes are 0 to the largest label.

    The number of classes is one more than that label.

    Returns:
        uint8 images [examples, height, width, channels] and int32 labels [examples].

    Raises:
        InputError: files that are missing, damaged, of another kind, or do not match.
    """
    if data_dir is None:
        raise InputError(
            "dataset idx is never downloaded: give the folder of your four idx files "
            "with --data_dir"
        )
    files = [read_idx_file(path) for path in find_idx_files("idx", data_dir)]
    train, test = parse_idx_files(files)
    num_classes = 1 + int(max(train.labels.max(), test.labels.max()))
    return Dataset(
        name="idx",
        train=train,
        test=test,
        class_names=tuple(str(label) for label in range(num_classes)),
        files=digests_of(files),
    )


def find_idx_files(name: str, data_dir: str) -> list[Path]:
    """Return the paths of the four files, all from one folder, in the order of `FILES`.

    Each can be raw or gzipped, and named `-idx3-ubyte` or `.idx3-ubyte`. The folder is
    `data_dir/name` or `data_dir`.

    Raises:
        InputError: no folder has all four; the message lists the missing files.
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
            f"{', '.join(missing)}{misspelled([folder], _spellings(missing))}"
        )
    raise InputError(
        f"expected the four idx files of {name}, raw or .gz ({', '.join(FILES)}), "
        f"got none of them in {folders[0]} or {folders[1]}"
        f"{misspelled(folders, _spellings(FILES))}"
    )


def parse_idx_files(files: list[File]) -> tuple[Examples, Examples]:
    """Return the training and test examples of four files in the order of `FILES`.

    Raises:
        InputError: a file is damaged or of another kind, or two files do not match.
    """
    train, test = _parse_pair(*files[:2]), _parse_pair(*files[2:])
    if train.inputs.shape[1:] != test.inputs.shape[1:]:
        raise InputError(
            f"expected images of one size, got {_size(train)} in {files[0].path} and "
            f"{_size(test)} in {files[2].path}"
        )
    return train, test


def digests_of(files: list[File]) -> dict[str, str]:
    """Return the sha256 of the four files' content, by the names in `FILES`."""
    return {name: file.sha256 for name, file in zip(FILES, files, strict=True)}


def _find(folder: Path, file: str) -> Path | None:
    for spelling in _spellings([file]):
        if is_file(folder / spelling):
            return folder / spelling
    return None


def _spellings(files: Iterable[str]) -> list[str]:
    bases = [base for file in files for base in (file, file.replace("-idx", ".idx"))]
    return [f"{base}{ending}" for base in bases for ending in ("", ".gz")]


def _parse_pair(images_file: File, labels_file: File) -> Examples:
    images, labels = _images(images_file), _labels(labels_file)
    if len(images) != len(labels):
        raise InputError(
            f"expected one label per image, got {len(images)} images in "
            f"{images_file.path} and {len(labels)} labels in {labels_file.path}"
        )
    return Examples(images, labels)


def _images(file: File) -> np.ndarray:
    array = parse_idx(file, kind="images")
    images = array[..., None] if array.ndim == 3 else array
    if images.ndim != 4 or images.shape[-1] not in CHANNELS or images.dtype.kind == "f":
        raise InputError(
            f"{file.path}: expected images of unsigned bytes, images x height x width, "
            f"or these x 1, 3 or 4 channels, got {_type(array)}; write pixels 0 to 255 "
            "in that order"
        )
    _check_range(images, 255, of=f"{file.path}: expected pixels")
    return images.astype(np.uint8, copy=False)


def _labels(file: File) -> np.ndarray:
    labels = parse_idx(file, kind="labels")
    if labels.ndim != 1 or labels.dtype.kind == "f":
        way_out = "write only the classes, as integers"
        if labels.ndim == 2 and labels.shape[1] == 8:
            way_out = "write only the first of QMNIST's 8 columns, the class"
        raise InputError(
            f"{file.path}: expected labels as integers, one per image, got "
            f"{_type(labels)}; {way_out}"
        )
    _check_range(labels, MOST_CLASSES - 1, of=f"{file.path}: expected labels")
    return labels.astype(np.int32)


def _check_range(array: np.ndarray, largest: int, *, of: str) -> None:
    if array.dtype == np.uint8:
        return
    low, high = array.min(), array.max()
    if low < 0 or high > largest:
        raise InputError(f"{of} from 0 to {largest}, got {low} to {high}")


def _type(array: np.ndarray) -> str:
    axes = f"{array.ndim} ax{'i' if array.ndim == 1 else 'e'}s"
    return f"{array.dtype.name} with {axes} ({' x '.join(map(str, array.shape))})"


def _size(examples: Examples) -> str:
    return " x ".join(map(str, examples.inputs.shape[1:]))
