"""Write a dataset that is in memory in TFDS's format, without TensorFlow."""

from __future__ import annotations

import io
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from cnnjax.base.errors import InputError
from cnnjax.data.checks import check_dataset
from cnnjax.data.dataset import Dataset
from cnnjax.data.files import expand_home
from cnnjax.data.tfds import quiet_absl
from cnnjax.types import Examples

# The version of TFDS's own builders, which have the same features.
VERSION = "3.0.1"
NAME = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
CHANNELS = (1, 3, 4)  # grey, RGB, RGBA: what TFDS stores in a PNG file


def prepare_for_tfds(dataset: Dataset, *, output_dir: str) -> Path:
    """Write an image classification dataset as TFDS would, in array_record files.

    Its images are uint8 [examples, height, width, channels], with 1, 3 or 4 channels.

    `tfds.data_source(dataset.name, data_dir=output_dir)` then reads it, like the
    dataset of the same name that TFDS prepares with TensorFlow. TFDS shuffles the
    examples while writing, in the same way every time.

    Returns:
        The folder that was written, `output_dir/name/version`.

    Raises:
        InputError: not a dataset of images and classes, or names that TFDS cannot
            store; or a folder that exists already, or cannot be written.
    """
    dataset = check_dataset(dataset)
    _check_can_be_kept(dataset)
    output_dir = str(expand_home(output_dir, what="output_dir"))
    import tensorflow_datasets as tfds

    with quiet_absl():
        try:
            builder = _make_builder(dataset, data_dir=output_dir)
            folder = Path(os.fspath(builder.data_dir))
            if folder.exists():
                raise InputError(
                    f"expected a new folder, got {folder}, which holds a prepared "
                    "dataset; delete it, or use it as it is"
                )
            with tempfile.TemporaryDirectory() as unused:
                builder.download_and_prepare(
                    download_dir=unused,
                    download_config=tfds.download.DownloadConfig(
                        try_download_gcs=False
                    ),
                )
        except OSError as error:
            reason = error.strerror or error
            raise InputError(
                f"cannot write to {output_dir} ({reason}); give another --output_dir"
            ) from error
    return folder


def _check_can_be_kept(dataset: Dataset) -> None:
    inputs, names = dataset.train.inputs, dataset.class_names
    got = f"{inputs.dtype.name} of shape {inputs.shape}"
    images = inputs.ndim == 4 and inputs.dtype == np.uint8
    if not names or not images or inputs.shape[3] not in CHANNELS:
        raise InputError(
            "expected an image classification dataset, uint8 [examples, height, width, "
            f"channels] of 1, 3 or 4 channels, got {dataset.name!r}, {got}, with "
            f"{len(names)} classes; TFDS keeps no other"
        )
    if not NAME.fullmatch(dataset.name):
        raise InputError(
            "expected a dataset name of small letters, digits and single underscores, "
            f"from which TFDS makes file names, got {dataset.name!r}; rename it with "
            "dataclasses.replace(dataset, name=...)"
        )
    lines = [line.strip() for name in names for line in name.splitlines()]
    if lines != list(names) or "" in lines or len(set(lines)) < len(lines):
        raise InputError(
            "expected class names that differ, each a line of text without spaces "
            f"around it, as TFDS keeps them, got {names[:9]}; rename them with "
            "dataclasses.replace(dataset, class_names=...)"
        )


def _make_builder(dataset: Dataset, *, data_dir: str) -> Any:
    import tensorflow_datasets as tfds

    # Not registered, so that the name still means TFDS's own builder.
    class Builder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        name = dataset.name
        VERSION = tfds.core.Version(VERSION)

        def _info(self) -> Any:
            return tfds.core.DatasetInfo(
                builder=self,
                description=f"{dataset.name}, prepared by cnnjax.",
                features=tfds.features.FeaturesDict(
                    {
                        "image": tfds.features.Image(
                            shape=dataset.train.inputs.shape[1:]
                        ),
                        "label": tfds.features.ClassLabel(names=dataset.class_names),
                    }
                ),
                supervised_keys=("image", "label"),
            )

        def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
            del dl_manager  # nothing is downloaded
            splits = {"train": dataset.train, "test": dataset.test}
            return {
                split: self._generate_examples(examples)
                for split, examples in splits.items()
                if examples is not None
            }

        def _generate_examples(
            self, examples: Examples
        ) -> Iterator[tuple[int, dict[str, Any]]]:
            rows = zip(examples.inputs, examples.labels, strict=True)
            for index, (image, label) in enumerate(rows):
                yield index, {"image": _png(image), "label": int(label)}

    return Builder(data_dir=data_dir, file_format="array_record")


def _png(image: np.ndarray) -> io.BytesIO:
    # TFDS encodes arrays with TensorFlow, but stores encoded images unchanged.
    file = io.BytesIO()
    Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(file, "png")
    file.seek(0)
    return file
