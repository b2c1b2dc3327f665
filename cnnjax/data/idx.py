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
from cnnjax.data.files import (
    File,
    is_file,
    misspelled,
    open_folder,
    search_folders,
)
from cnnjax.data.idx_file import parse_idx, read_idx_file
from cnnjax.data.idx_sets import choose
from cnnjax.data.pixels import as_classes, as_images
from cnnjax.types import Examples

# Training images and labels, then test images and labels: always in this order.
FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
QMNIST_COLUMNS = 8
TORCHVISION = {
    "mnist": "MNIST/raw",
    "fashion_mnist": "FashionMNIST/raw",
    "kmnist": "KMNIST/raw",
}


def load_idx(data_dir: str | None = None, name: str = "") -> Dataset:
    """Read four idx files of images and labels, of any number of classes and any size.

    They may have any name of `idx_sets`, be in a folder below, raw or gzipped. Where
    the classes have no known names, they are 0 to the largest label.

    Args:
        data_dir: the folder.
        name: which of several sets, as "emnist-letters"; "": the only one.

    Returns:
        uint8 images [examples, height, width, channels] and int32 labels [examples].

    Raises:
        InputError: files that are missing, damaged, of another kind, or do not match;
            or several sets, and no name.
    """
    if data_dir is None:
        raise InputError(
            "dataset idx is never downloaded: give the folder of your four idx files "
            "with --data_dir"
        )
    folder = open_folder(data_dir)
    found = choose(folder / "idx", name) or choose(folder, name)
    paths = found.paths if found else find_idx_files("idx", data_dir)
    files = [read_idx_file(path) for path in paths]
    train, test = parse_idx_files(files)
    num_classes = 1 + int(max(train.labels.max(), test.labels.max()))
    known = found.class_names if found else None
    if known is None or num_classes > len(known):
        known = tuple(str(label) for label in range(num_classes))
    if found and found.transposed:
        train, test = (_upright(examples) for examples in (train, test))
    return Dataset(
        name=f"idx:{name}" if name else "idx",
        train=train,
        test=test,
        class_names=known,
        files=digests_of(files),
    )


def _upright(examples: Examples) -> Examples:
    """Exchange rows and columns."""
    turned = np.ascontiguousarray(np.swapaxes(examples.inputs, 1, 2))
    return examples._replace(inputs=turned)


def find_idx_files(name: str, data_dir: str) -> list[Path]:
    """Return the paths of the four files, all from one folder, in the order of `FILES`.

    Each can be raw or gzipped, and named `-idx3-ubyte` or `.idx3-ubyte`. The folder is
    `data_dir/name`, torchvision's `data_dir/MNIST/raw` or `data_dir`; 7-Zip unpacks
    each file into a folder of its name.

    Raises:
        InputError: no folder has all four; the message lists the missing files.
    """
    folders = search_folders(name, data_dir)
    incomplete = []
    first, root = folders
    for folder in (first, root / TORCHVISION.get(name, name), root):
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
    spellings = _spellings([file])
    unpacked = [f"{inside}/{name}" for inside in spellings for name in spellings]
    for spelling in (*spellings, *unpacked):
        if is_file(folder / spelling):
            return folder / spelling
    return None


def _spellings(files: Iterable[str]) -> list[str]:
    bases = [base for file in files for base in (file, file.replace("-idx", ".idx"))]
    return [f"{base}{ending}" for base in bases for ending in ("", ".gz")]


def _parse_pair(images_file: File, labels_file: File) -> Examples:
    images = as_images(
        parse_idx(images_file, kind="images"), where=str(images_file.path)
    )
    labels = _labels(labels_file)
    if len(images) != len(labels):
        raise InputError(
            f"expected one label per image, got {len(images)} images in "
            f"{images_file.path} and {len(labels)} labels in {labels_file.path}"
        )
    return Examples(images, labels)


def _labels(file: File) -> np.ndarray:
    labels = parse_idx(file, kind="labels")
    if labels.ndim == 2 and labels.shape[1] == QMNIST_COLUMNS:
        labels = labels[:, 0]  # the class; then writers, forms and places
    return as_classes(labels, where=str(file.path))


def _size(examples: Examples) -> str:
    return " x ".join(map(str, examples.inputs.shape[1:]))
