"""Image-classification datasets that TensorFlow Datasets has prepared.

TensorFlow Datasets, https://www.tensorflow.org/datasets. Reading an array_record set
needs no TensorFlow; a tfrecord set, which is what TFDS prepares by default, does.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import logging
from collections.abc import Iterator
from typing import Any

import numpy as np

from cnnjax.data.dataset import Dataset
from cnnjax.errors import InputError
from cnnjax.types import Examples


def load_tfds(name: str, data_dir: str | None = None) -> Dataset:
    """Read a prepared TFDS dataset; nothing is downloaded or prepared.

    The splits are train, and test or else validation. The order is TFDS's, a shuffle
    fixed when the set was prepared, not that of the original files.

    Args:
        name: TFDS's name, `mnist` or `emnist/letters` or `mnist:3.0.1`.
        data_dir: the folder it was prepared in; None is TFDS's own folder.

    Returns:
        uint8 images [examples, height, width, channels] and int32 labels [examples].

    Raises:
        InputError: not prepared, not an image classification set, images of several
            sizes, or a tfrecord set without TensorFlow.
    """
    with quiet_absl():
        builder = _builder(name, data_dir)
        splits, features = builder.info.splits, builder.info.features
        class_names = _class_names(name, features)
        if "train" not in splits:
            raise InputError(
                f"expected tfds:{name} to have a train split, got {', '.join(splits)}"
            )
        held_out = [split for split in ("test", "validation") if split in splits]
        parts = [
            _read(name, _rows(name, builder, split), num_classes=len(class_names))
            for split in ("train", *held_out[:1])
        ]
    train, *test = parts
    if test and train.inputs.shape[1:] != test[0].inputs.shape[1:]:
        raise _unequal(name, train.inputs.shape[1:], test[0].inputs.shape[1:])
    return Dataset(
        name=f"tfds:{name}",
        train=train,
        test=test[0] if test else None,
        class_names=class_names,
    )


@contextlib.contextmanager
def quiet_absl() -> Iterator[None]:
    """Hold back the advice that TFDS logs through absl (to install OpenCV, ...)."""
    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _builder(name: str, data_dir: str | None) -> Any:
    # Imported here, as everywhere: only tfds: datasets need the package.
    from google.protobuf import json_format
    from tensorflow_datasets.core import read_only_builder, registered

    try:
        return read_only_builder.builder_from_files(name, data_dir=data_dir)
    except registered.DatasetNotFoundError as error:
        raise InputError(
            f"no TFDS dataset {name!r} is prepared in {data_dir or 'its own folder'}; "
            "prepare mnist, fashion_mnist or kmnist with scripts/prepare_tfds.py, "
            "another where TensorFlow is installed, with tfds build "
            f"{name} --file_format=array_record"
        ) from error
    except (ValueError, OSError, json_format.Error) as error:
        raise _unreadable(name, error) from error


def _class_names(name: str, features: Any) -> tuple[str, ...]:
    import tensorflow_datasets as tfds

    found = dict(features) if isinstance(features, tfds.features.FeaturesDict) else {}
    image, label = found.get("image"), found.get("label")
    is_image = isinstance(image, tfds.features.Image) and image.np_dtype == np.uint8
    if not is_image or not isinstance(label, tfds.features.ClassLabel):
        names = ", ".join(sorted(found)) or type(features).__name__
        raise InputError(
            f"expected tfds:{name} to be an image classification set (features image, "
            f"uint8, and label, a class), got features {names}"
        )
    return tuple(label.names)


def _rows(name: str, builder: Any, split: str) -> Any:
    # An iterable of {"image": ..., "label": ...}.
    try:
        return builder.as_data_source(split)
    except NotImplementedError as error:
        if importlib.util.find_spec("tensorflow") is None:
            raise InputError(
                f"tfds:{name} is prepared as {builder.info.file_format.value}, which "
                "only TensorFlow reads; install it, or prepare the set again as "
                "array_record (scripts/prepare_tfds.py)"
            ) from error
    import tensorflow_datasets as tfds

    # TensorFlow only reads files here; it would take all of the GPU's memory from JAX.
    # Where the caller has started it already, that is the caller's to decide.
    with contextlib.suppress(RuntimeError):
        importlib.import_module("tensorflow").config.set_visible_devices([], "GPU")
    return tfds.as_numpy(builder.as_dataset(split=split, shuffle_files=False))


def _read(name: str, rows: Any, *, num_classes: int) -> Examples:
    images, labels = [], []
    try:
        for row in rows:
            images.append(row["image"])
            labels.append(row["label"])
    except (RuntimeError, OSError) as error:  # array_record's, and Pillow's
        raise _unreadable(name, error) from error
    for image in images:
        if image.shape != images[0].shape:
            raise _unequal(name, images[0].shape, image.shape)
    if not images:
        raise InputError(f"expected at least one example in each split of tfds:{name}")
    if not 0 <= min(labels) <= max(labels) < num_classes:
        raise InputError(
            f"expected tfds:{name} labels 0 to {num_classes - 1}, got {min(labels)} to "
            f"{max(labels)} (a split without labels?)"
        )
    return Examples(np.stack(images), np.array(labels, np.int32))


def _unreadable(name: str, error: Exception) -> InputError:
    reason = " ".join(str(error).split())
    return InputError(f"cannot read tfds:{name} ({reason}); check, or prepare it again")


def _unequal(name: str, *shapes: tuple[int, ...]) -> InputError:
    sizes = " and ".join(" x ".join(map(str, shape)) for shape in shapes)
    return InputError(f"expected images of one size in tfds:{name}, got {sizes}")
