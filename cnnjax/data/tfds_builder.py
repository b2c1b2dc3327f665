"""Prepare a dataset that is in memory for TFDS, without TensorFlow."""

from __future__ import annotations

import contextlib
import io
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from cnnjax.data.dataset import Dataset
from cnnjax.data.tfds import quiet_absl
from cnnjax.errors import InputError
from cnnjax.types import Examples

# The version of TFDS's own builders, whose features these sets share.
VERSION = "3.0.1"


def prepare_for_tfds(dataset: Dataset, *, output_dir: str) -> Path:
    """Write an image classification dataset as TFDS would, in array_record files.

    `tfds.data_source(dataset.name, data_dir=output_dir)` then reads it, as it reads the
    set of the same name that TFDS prepares where TensorFlow is installed. TFDS shuffles
    the examples while writing, the same way every time.

    Returns:
        The folder that was written, `output_dir/name/version`.

    Raises:
        InputError: the folder is already there, or cannot be written.
    """
    import tensorflow_datasets as tfds

    with quiet_absl(), contextlib.redirect_stdout(io.StringIO()):
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
            raise InputError(
                f"cannot write to {output_dir} ({error.strerror}); give another "
                "--output_dir"
            ) from error
    return folder


def _make_builder(dataset: Dataset, *, data_dir: str) -> Any:
    import tensorflow_datasets as tfds

    # Not registered: TFDS's own builder of that name stays what the name means.
    class Builder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        name = dataset.name
        VERSION = tfds.core.Version(VERSION)

        def _info(self) -> Any:
            return tfds.core.DatasetInfo(
                builder=self,
                description=f"{dataset.name}, prepared by cnnjax from the idx files.",
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
    # TFDS encodes arrays with TensorFlow, and takes encoded images as they are.
    file = io.BytesIO()
    Image.fromarray(image.squeeze(axis=-1)).save(file, "png")
    file.seek(0)
    return file
