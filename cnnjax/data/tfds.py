"""Image classification datasets that TensorFlow Datasets (TFDS) has prepared.

TensorFlow Datasets, https://www.tensorflow.org/datasets. Reading a dataset in the
format array_record does not need TensorFlow; tfrecord, TFDS's default, does.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import io
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from cnnjax.base.errors import InputError
from cnnjax.data.dataset import Dataset
from cnnjax.data.files import open_folder
from cnnjax.data.idx_file import MOST_BYTES
from cnnjax.data.tfds_folder import (
    NAME,
    check_folder,
    digests_of_folder,
    find_folder,
)
from cnnjax.data.tfds_image import decode_image
from cnnjax.types import Examples


def load_tfds(name: str, data_dir: str | None = None) -> Dataset:
    """Read a prepared TFDS dataset; nothing is downloaded or prepared.

    The splits are train, and test (or validation if there is no test). The order is
    TFDS's, shuffled when the dataset was prepared, not that of the original files.

    Args:
        name: TFDS's name, such as `mnist`, `emnist/letters` or `mnist:3.0.1`.
        data_dir: the folder in which it was prepared; None: TFDS's default folder.

    Returns:
        uint8 images [examples, height, width, channels] and int32 labels [examples].

    Raises:
        InputError: not a name, not prepared, damaged, not an image classification
            dataset, features that are not TFDS's own, images of several sizes, or a
            tfrecord dataset without TensorFlow.
    """
    parsed = NAME.fullmatch(name)
    if not parsed:
        raise InputError(
            "expected tfds: and a name of letters, digits and underscores, as in "
            f"tfds:mnist, tfds:emnist/letters or tfds:mnist:3.0.1, got {name!r}"
        )
    with quiet_absl():
        folder = find_folder(parsed, _roots(data_dir))
        if folder is None:
            raise InputError(
                f"no TFDS dataset {name!r} is prepared in "
                f"{data_dir or 'its own folder'}; prepare mnist, fashion_mnist or "
                "kmnist with scripts/prepare_tfds.py, another where TensorFlow is "
                f"installed, with tfds build {name} --file_format=array_record"
            )
        check_folder(folder)
        builder = _builder(name, folder)
        splits, features = builder.info.splits, builder.info.features
        class_names = _class_names(name, features)
        if "train" not in splits:
            got = ", ".join(splits)[:200]
            raise InputError(f"expected tfds:{name} to have a train split, got {got}")
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
        files=digests_of_folder(folder),
    )


@contextlib.contextmanager
def quiet_absl() -> Iterator[None]:
    """Suppress the hints that TFDS logs through absl (to install OpenCV, ...).

    One is printed: to install TensorFlow.
    """
    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logger.setLevel(level)


def _roots(data_dir: str | None) -> list[Path]:
    if data_dir is not None:
        return [open_folder(data_dir)]
    # Imported here, as everywhere: only tfds: datasets need this package.
    from tensorflow_datasets.core.utils import file_utils

    return [Path(root) for root in file_utils.list_data_dirs()]


def _builder(name: str, folder: Path) -> Any:
    from tensorflow_datasets.core import read_only_builder

    try:
        return read_only_builder.builder_from_directory(str(folder))
    except Exception as error:  # TFDS raises errors of many types
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
            f"uint8, and label, a class), got features {names[:200]}"
        )
    return tuple(label.names)


def _rows(name: str, builder: Any, split: str) -> Any:
    # A sized iterable of {"image": ..., "label": ...}.
    import tensorflow_datasets as tfds

    try:
        # Images are decoded by `decode_image`, which looks at their size first.
        encoded = {"image": tfds.decode.SkipDecoding()}
        return builder.as_data_source(split, decoders=encoded)
    except NotImplementedError as error:
        if importlib.util.find_spec("tensorflow") is None:
            raise InputError(
                f"tfds:{name} is prepared as {builder.info.file_format.value}, which "
                "only TensorFlow reads; install it, or prepare the set again as "
                "array_record (scripts/prepare_tfds.py)"
            ) from error
    except Exception as error:
        raise _unreadable(name, error) from error
    # TensorFlow only reads files here; it would reserve all of the GPU's memory. If the
    # caller has initialised it already, its devices can no longer be changed.
    with contextlib.suppress(RuntimeError):
        importlib.import_module("tensorflow").config.set_visible_devices([], "GPU")
    return tfds.as_numpy(builder.as_dataset(split=split, shuffle_files=False))


def _read(name: str, rows: Any, *, num_classes: int) -> Examples:
    if not len(rows):
        raise InputError(f"expected at least one example in each split of tfds:{name}")
    images, labels = np.empty(0, np.uint8), np.empty(len(rows), np.int64)
    try:
        for i, row in enumerate(rows):
            image = decode_image(name, row["image"])
            if i == 0:
                size = len(rows) * image.size
                if size > MOST_BYTES:
                    raise InputError(
                        f"expected at most {MOST_BYTES} bytes of images in each split "
                        f"of tfds:{name}, got {size}; prepare a part of it"
                    )
                # Filled in place: stacking a list would need the memory twice.
                images = np.empty((len(rows), *image.shape), np.uint8)
            if image.shape != images.shape[1:]:
                raise _unequal(name, images.shape[1:], image.shape)
            images[i], labels[i] = image, row["label"]
    except InputError:
        raise
    except Exception as error:  # array_record's, TFDS's and Pillow's, of many types
        raise _unreadable(name, error) from error
    low, high = labels.min(), labels.max()
    if not 0 <= low <= high < num_classes:
        raise InputError(
            f"expected tfds:{name} labels 0 to {num_classes - 1}, got {low} to {high} "
            "(a split without labels?)"
        )
    return Examples(images, labels.astype(np.int32))


def _unreadable(name: str, error: Exception) -> InputError:
    words = " ".join(str(error).split())[:300] or type(error).__name__
    # TFDS's messages repeat what is in the files.
    reason = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in words)
    return InputError(f"cannot read tfds:{name} ({reason}); check, or prepare it again")


def _unequal(name: str, *shapes: tuple[int, ...]) -> InputError:
    sizes = " and ".join(" x ".join(map(str, shape)) for shape in shapes)
    return InputError(f"expected images of one size in tfds:{name}, got {sizes}")
