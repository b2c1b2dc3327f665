"""Prepare MNIST or one of its kin for TFDS from idx files.

No TensorFlow is needed. Example:

    python scripts/prepare_tfds.py --dataset=mnist --output_dir=tfds
    python scripts/train.py --dataset=tfds:mnist --data_dir=tfds
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # python -I leaves it out

import _script
import tensorflow_datasets as tfds
from absl import flags

from cnnjax.data import load_dataset
from cnnjax.data.mnist import OFFICIAL
from cnnjax.data.tfds_builder import prepare_for_tfds
from cnnjax.telling.layout import wrap

DATASET = flags.DEFINE_enum("dataset", "mnist", list(OFFICIAL), "Dataset to prepare.")
DATA_DIR = flags.DEFINE_string(
    "data_dir", None, "Folder of the four idx files. Default: download them."
)
OUTPUT_DIR = flags.DEFINE_string(
    "output_dir", None, "Folder to prepare the dataset in.", required=True
)


def main(args: list[str]) -> None:
    """Read the idx files and write array_record files."""
    _script.refuse_arguments(args)
    tfds.disable_progress_bar()
    dataset = load_dataset(DATASET.value, data_dir=DATA_DIR.value)
    folder = prepare_for_tfds(dataset, output_dir=OUTPUT_DIR.value)
    num_train = len(dataset.train.labels)
    num_test = len(dataset.test.labels) if dataset.test else 0
    sizes = f"{num_train} training and {num_test} test examples"
    print(wrap(f"prepared {dataset.name}: {sizes} in {folder}"))


if __name__ == "__main__":
    _script.run(main)
