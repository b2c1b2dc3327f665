"""The table of datasets, and the function that reads any of them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from os import PathLike

from cnnjax.base.arguments import instance_of, optional
from cnnjax.base.errors import unknown_name
from cnnjax.data import npz, picture_folder
from cnnjax.data.cifar10 import load_cifar10
from cnnjax.data.dataset import Dataset
from cnnjax.data.digits import load_digits
from cnnjax.data.housing import load_housing
from cnnjax.data.idx import load_idx
from cnnjax.data.mnist import load_official
from cnnjax.data.tfds import load_tfds

# Each takes `data_dir`, a folder or None. To add a dataset, add a module and an entry.
SOURCES: dict[str, Callable[[str | None], Dataset]] = {
    "digits": load_digits,
    "mnist": partial(load_official, "mnist"),
    "fashion_mnist": partial(load_official, "fashion_mnist"),
    "kmnist": partial(load_official, "kmnist"),
    "idx": load_idx,
    "cifar10": load_cifar10,
    "housing": load_housing,
}
TFDS_PREFIX = "tfds:"
# Names that say which: each takes what follows, and `data_dir`.
FAMILIES: dict[str, tuple[str, Callable[[str, str | None], Dataset]]] = {
    "idx:": ("NAME", lambda name, data_dir: load_idx(data_dir, name)),
    npz.PREFIX: ("FILE", npz.load_npz),
    picture_folder.PREFIX: ("FOLDER", picture_folder.load_folder),
    TFDS_PREFIX: ("NAME", load_tfds),
}


def dataset_names() -> tuple[str, ...]:
    """Return the names that `load_dataset` accepts; tfds:NAME stands for many."""
    return (*SOURCES, *(f"{prefix}{what}" for prefix, (what, _) in FAMILIES.items()))


def load_dataset(name: str, *, data_dir: str | None = None) -> Dataset:
    """Read a dataset into NumPy arrays, without scaling or shuffling.

    Args:
        name: a key of `SOURCES`; `idx:NAME` for one of several sets of idx files;
            `npz:FILE` for a file of NumPy arrays, `folder:FOLDER` for pictures in a
            folder for each class; or `tfds:NAME` for a prepared TFDS dataset.
        data_dir: the folder of its files; nothing is then downloaded. None: mnist,
            fashion_mnist, kmnist and cifar10 are downloaded once into the user's cache
            folder, and TFDS datasets are read from TFDS's default folder. Always None
            for digits, which has no files.

    Returns:
        uint8 images [examples, height, width, channels] and int32 labels [examples], or
        float32 inputs and targets [examples, features].

    Raises:
        InputError: an unknown name; a `data_dir` that is not the name of a folder; or
            files that are missing, damaged, or of another dataset.

    >>> load_dataset("digits").train.inputs.shape
    (1437, 28, 28, 1)
    """
    data_dir = optional(instance_of(str, PathLike))("data_dir", data_dir)
    for prefix, (_, load) in FAMILIES.items():
        if isinstance(name, str) and name.startswith(prefix) and name != prefix:
            return load(name.removeprefix(prefix), data_dir)
    if not isinstance(name, str) or name not in SOURCES:
        raise unknown_name("dataset", name, dataset_names())
    return SOURCES[name](data_dir)
