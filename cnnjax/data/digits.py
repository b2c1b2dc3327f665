"""Scikit-learn's handwritten digits, in the shape of MNIST; needs no files."""

from __future__ import annotations

import numpy as np
from jaxtyping import Num, UInt8

from cnnjax.base.errors import InputError
from cnnjax.data.dataset import Dataset
from cnnjax.types import Examples


def load_digits(data_dir: str | None = None) -> Dataset:
    """Return the 1,797 digits, enlarged from 8 x 8 to 28 x 28 pixels.

    Values 0 to 16 are scaled to 0 to 255, then the image is resized with a Lanczos
    filter, which keeps strokes sharp. The stratified 80/20 split is always the same.
    The images come with scikit-learn; `data_dir`, which all loaders have, must be None.

    Returns:
        uint8 images [1437, 28, 28, 1] and [360, 28, 28, 1], int32 labels 0 to 9.

    Raises:
        InputError: a `data_dir` is given.

    Source: E. Alpaydin, C. Kaynak, "Optical Recognition of Handwritten Digits", 1998,
    https://doi.org/10.24432/C50P49 (its test part).
    """
    if data_dir is not None:
        raise InputError(
            "digits needs no files: leave data_dir out, or name the dataset that is in "
            f"{data_dir!r}"
        )
    # Imported here: scikit-learn takes a second to import, and is used only here.
    from sklearn import datasets, model_selection

    pixels, classes = datasets.load_digits(return_X_y=True)
    images = np.stack([enlarged(image, (28, 28)) for image in pixels.reshape(-1, 8, 8)])
    labels = classes.astype(np.int32)
    train_images, test_images, train_labels, test_labels = (
        model_selection.train_test_split(
            images, labels, test_size=0.2, stratify=labels, random_state=0
        )
    )
    return Dataset(
        name="digits",
        train=Examples(train_images, train_labels),
        test=Examples(test_images, test_labels),
        class_names=tuple("0123456789"),
    )


def enlarged(
    blocks: Num[np.ndarray, "8 8"], size: tuple[int, int]
) -> UInt8[np.ndarray, "rows columns 1"]:
    """Return an image of [rows, columns] pixels of counts from 0 to 16."""
    from PIL import Image

    (rows, columns), how = size, Image.Resampling.LANCZOS
    small = np.rint(blocks * (255 / 16)).astype(np.uint8)
    image = Image.fromarray(small).resize((columns, rows), how)
    return np.asarray(image)[..., None]
