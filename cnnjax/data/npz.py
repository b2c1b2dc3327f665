"""A data set of somebody's own, in one .npz file of NumPy arrays.

`numpy.savez_compressed("own.npz", x_train=..., y_train=..., x_test=..., y_test=...)`
writes one. Names as Keras, MedMNIST and others have them are known, too.
"""

from __future__ import annotations

import hashlib
import io
import math
import zipfile
from pathlib import Path

import numpy as np

from cnnjax.base.errors import InputError
from cnnjax.base.intake import read_bytes
from cnnjax.data.arrays import as_held
from cnnjax.data.dataset import Dataset
from cnnjax.data.files import expand_home, open_folder
from cnnjax.data.pixels import as_classes, as_images
from cnnjax.data.signatures import kind_of
from cnnjax.types import Examples

PREFIX = "npz:"
MOST_BYTES = 2**33  # 8 GiB, of the file and of its arrays
MOST_MEMBERS = 1000
# Inputs and labels for training, then for tests; case does not count.
NAMES = (
    ("x_train", "y_train", "x_test", "y_test"),
    ("train_images", "train_labels", "test_images", "test_labels"),
    ("train_x", "train_y", "test_x", "test_y"),
    ("train_inputs", "train_labels", "test_inputs", "test_labels"),
)
WITHOUT_TEST = (
    *(("x", "y"), ("images", "labels"), ("inputs", "labels"), ("data", "target")),
    *((names[0], names[1]) for names in NAMES),
)


def load_npz(name: str, data_dir: str | None = None) -> Dataset:
    """Read images and classes, or numbers and targets, from an .npz file.

    Where the labels are whole numbers, they are classes, 0 to the largest; otherwise
    they are the targets of a regression. Without test arrays the data set has no test
    set.

    Args:
        name: the path of the file; a relative one is from `data_dir`.
        data_dir: a folder; None: the current one.

    Returns:
        uint8 images [examples, height, width, channels] or float32 inputs [examples,
        features], with int32 labels [examples] or float32 targets [examples, targets].

    Raises:
        InputError: the file is missing or damaged, or has not these arrays.
    """
    path = expand_home(name, what=f"the path after {PREFIX}")
    if data_dir is not None:
        path = open_folder(data_dir) / path
    content = read_bytes(path, most=MOST_BYTES)
    arrays = read_npz(path, content)
    names = _names(path, arrays)
    pairs = [
        _examples(path, arrays, *names[place : place + 2])
        for place in range(0, len(names), 2)
    ]
    train, test = pairs[0], (pairs[1] if len(pairs) > 1 else None)
    largest = max(_largest_class(pair) for pair in pairs)
    return Dataset(
        name=f"{PREFIX}{name}",
        train=train,
        test=test,
        class_names=tuple(map(str, range(largest + 1))),
        files={path.name: hashlib.sha256(content).hexdigest()},
    )


def read_npz(path: Path, content: bytes) -> dict[str, np.ndarray]:
    """Return the arrays of an .npz file; one that is not of numbers is left out.

    Nothing is unpickled, and no array is larger than the file says.

    Raises:
        InputError: it is no .npz file, is damaged, or too large.
    """
    if not content.startswith(b"PK"):
        words, way_out = kind_of(content)
        raise InputError(f"{path}: expected an .npz file, got {words}; {way_out}")
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            inside = archive.infolist()
            declared = sum(member.file_size for member in inside)
            if len(inside) > MOST_MEMBERS or declared > MOST_BYTES:
                raise InputError(
                    f"{path}: expected at most {MOST_MEMBERS} arrays of together "
                    f"{MOST_BYTES} bytes, got {len(inside)} of {declared}"
                )
            read = {
                member.filename.removesuffix(".npy"): _read_npy(archive, member)
                for member in inside
            }
    except InputError:
        raise
    except Exception as error:  # whatever zipfile and NumPy raise
        said = " ".join(str(error).split())[:100] or type(error).__name__
        raise InputError(
            f"{path}: the .npz file is damaged: {said}; copy or write it again"
        ) from error
    return {name: array for name, array in read.items() if array is not None}


def _read_npy(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> np.ndarray | None:
    with archive.open(member) as stream:
        version = np.lib.format.read_magic(stream)
        read_header = (
            np.lib.format.read_array_header_1_0
            if version == (1, 0)
            else np.lib.format.read_array_header_2_0
        )
        shape, fortran, dtype = read_header(stream)
        if dtype.hasobject or dtype.kind not in "biuf":
            return None
        size = math.prod(shape) * dtype.itemsize
        if stream.tell() + size != member.file_size:
            raise ValueError(
                f"{member.filename} has {member.file_size} bytes, its header says "
                f"{dtype.name} {shape}"
            )
        elements = np.frombuffer(stream.read(size), dtype)
        if stream.read(1):  # to its end, where its checksum is compared
            raise ValueError(f"{member.filename} is longer than it says")
    return elements.reshape(shape, order="F" if fortran else "C")


def _names(path: Path, arrays: dict[str, np.ndarray]) -> list[str]:
    spelled = {name.lower(): name for name in arrays}
    for names in (*NAMES, *WITHOUT_TEST):
        if set(names) <= set(spelled):
            return [spelled[name] for name in names]
    known = "; ".join(", ".join(names) for names in (*NAMES[:2], WITHOUT_TEST[0]))
    got = ", ".join(sorted(arrays)[:10]) or "none of numbers"
    raise InputError(f"{path}: expected arrays named {known}; got {got}")


def _examples(
    path: Path, arrays: dict[str, np.ndarray], inputs: str, labels: str
) -> Examples:
    x, y = arrays[inputs], arrays[labels]
    if not len(x) or x.ndim < 2 or y.ndim < 1 or len(x) != len(y):
        raise InputError(
            f"{path}: expected one of {labels} for each of {inputs}, got shapes "
            f"{y.shape} and {x.shape}"
        )
    where = f"{path}, {inputs}"
    held = as_images(x, where=where) if x.ndim > 2 else as_held(x, where)
    where = f"{path}, {labels}"
    if y.dtype.kind == "f" and not np.array_equal(y, np.rint(y)):
        targets = y[:, None] if y.ndim == 1 else y
        return Examples(held, as_held(targets, where))
    one_hot = "of one-hot rows: labels.argmax(axis=1)" if y.ndim == 2 else ""
    return Examples(held, as_classes(y, where=where, way_out=one_hot))


def _largest_class(examples: Examples) -> int:
    """Return the largest class; -1 for a regression."""
    return int(examples.labels.max()) if examples.labels.dtype.kind == "i" else -1
