"""A folder of pictures, in one sub-folder for each class.

    pictures/cat/1.png, pictures/cat/2.jpg, pictures/dog/...

With the folders `train` and `test` in it, each has the classes' folders. Without, there
is no test set.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cnnjax.base.errors import InputError, expect
from cnnjax.data.dataset import Dataset
from cnnjax.data.files import expand_home, open_folder
from cnnjax.data.pictures import as_image, find_pictures, read_picture
from cnnjax.types import Examples

PREFIX = "folder:"
MOST_BYTES = 2**33  # 8 GiB of pixels
MOST_CLASSES = 10_000
TEST_NAMES = ("test", "val", "valid", "validation")


def load_folder(name: str, data_dir: str | None = None) -> Dataset:
    """Read pictures of one size, or scale them to a size: `folder:PATH@32x32`.

    Where all are grey, images have one channel, otherwise three. Classes, and the
    pictures of each, are in the order of their names.

    Args:
        name: the folder, and the size after an @, height x width; without one, all
            pictures must have the same.
        data_dir: where a relative path is from; None: the current folder.

    Returns:
        uint8 images [examples, height, width, channels], int32 labels [examples].

    Raises:
        InputError: there is no such folder, it has no pictures in two sub-folders or
            more, one cannot be read, or they differ in size.
    """
    place, _, size = name.partition("@")
    what = f"what follows {PREFIX}"
    path = expand_home(place, what=what)
    if data_dir is not None:
        path = open_folder(data_dir) / path
    root = open_folder(str(path), what=what)
    shape = _shape(size) if size else None
    inside = {folder.name.lower(): folder for folder in _folders(root)}
    test_folder = next((inside[n] for n in TEST_NAMES if n in inside), None)
    parts = [root]
    if "train" in inside and test_folder is not None:
        parts = [inside["train"], test_folder]
    classes = _classes(parts)
    found = [[find_pictures(part / one) for one in classes] for part in parts]
    pixels = [_read([p for of in part for p in of], shape) for part in found]
    grey = all(_is_grey(images) for images, _ in pixels)
    examples = [
        Examples(
            images[..., :1] if grey else images,
            np.repeat(np.arange(len(of)), [len(one) for one in of]).astype(np.int32),
        )
        for (images, _), of in zip(pixels, found, strict=True)
    ]
    sizes = [pair.inputs.shape[1:] for pair in examples]
    what = (
        f"test pictures of {sizes[0]}, as for training; {PREFIX}PATH@32x32 scales all"
    )
    expect(what, sizes[-1], sizes[-1] == sizes[0])
    return Dataset(
        name=f"{PREFIX}{name}",
        train=examples[0],
        test=examples[1] if len(examples) > 1 else None,
        class_names=tuple(classes),
        files={
            f"{part.name}, {len(images)} pictures": digest
            for part, (images, digest) in zip(parts, pixels, strict=True)
        },
    )


def _shape(size: str) -> tuple[int, int]:
    sides = size.lower().split("x")
    sides = sides * 2 if len(sides) == 1 else sides
    what = "a size as 32x32, height and width from 1 to 4096, after the @"
    expect(what, size, len(sides) == 2 and all(s.isdecimal() for s in sides))
    height, width = map(int, sides)
    expect(what, size, 1 <= height <= 4096 and 1 <= width <= 4096)
    return height, width


def _classes(parts: Sequence[Path]) -> list[str]:
    names, *others = [[folder.name for folder in _folders(part)] for part in parts]
    what = f"two classes or more in {parts[0]}, a folder each"
    expect(what, len(names), len(names) > 1)
    for other, part in zip(others, parts[1:], strict=True):
        if different := sorted(set(names) ^ set(other)):
            raise InputError(
                f"expected the same classes in {parts[0]} and {part}, got "
                f"{', '.join(different[:5])} in only one"
            )
    return names


def _folders(root: Path) -> list[Path]:
    try:
        inside = sorted(root.iterdir())
    except OSError as error:
        raise InputError(f"cannot read {root}: {error.strerror}") from error
    folders = [p for p in inside if p.is_dir() and not p.name.startswith(".")]
    what = f"at most {MOST_CLASSES} sub-folders in {root}"
    expect(what, len(folders), len(folders) <= MOST_CLASSES)
    return folders


def _read(
    paths: Sequence[Path], shape: tuple[int, int] | None
) -> tuple[np.ndarray, str]:
    """Return pictures in colour, of one size, and the sha256 of their pixels."""
    digest, images = hashlib.sha256(), None
    for number, path in enumerate(paths):
        picture = read_picture(path)
        digest.update(str(picture.shape).encode() + picture.tobytes())
        if shape is not None:
            picture = as_image(picture, (*shape, 3))
        if images is None:
            size = len(paths) * picture.size
            what = (
                f"at most {MOST_BYTES} bytes of pixels; scale with {PREFIX}PATH@32x32"
            )
            expect(what, size, size <= MOST_BYTES)
            images = np.empty((len(paths), *picture.shape), np.uint8)
        if picture.shape != images.shape[1:]:
            both = (images.shape[1:3], picture.shape[:2])
            sizes = ["x".join(map(str, size)) for size in both]
            raise InputError(
                f"expected pictures of one size, got {sizes[0]} in {paths[0]} and "
                f"{sizes[1]} in {path}; scale them with {PREFIX}PATH@{sizes[0]}"
            )
        images[number] = picture
    assert images is not None
    return images, digest.hexdigest()


def _is_grey(images: np.ndarray) -> bool:
    return all(np.array_equal(images[..., 0], images[..., colour]) for colour in (1, 2))
