"""Which examples are trained on and which are held out."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import numpy as np
from jaxtyping import Array, Key

from cnnjax.data.dataset import Dataset
from cnnjax.errors import InputError
from cnnjax.types import Examples


@dataclass(frozen=True)
class Official:
    """Train on the dataset's training set, test on its test set."""


@dataclass(frozen=True)
class FirstExamples:
    """Train on the first `count` training examples, test on the whole test set."""

    count: int


@dataclass(frozen=True)
class HoldOut:
    """Shuffle the training set once and hold a fraction out; the test set is unused."""

    fraction: float


Split = Official | FirstExamples | HoldOut

OFFICIAL = Official()


def split_dataset(
    dataset: Dataset, split: Split, *, key: Key[Array, ""]
) -> tuple[Examples, Examples]:
    """Return (train, test) examples; the key decides which are held out.

    Raises:
        InputError: the dataset lacks a test set, or examples, that the split needs.
    """
    if isinstance(split, HoldOut):
        order = np.asarray(jax.random.permutation(key, len(dataset.train.labels)))
        num_held_out = round(split.fraction * order.size)
        kept, held_out = order[num_held_out:], order[:num_held_out]
        if not kept.size or not held_out.size:
            raise InputError(
                f"expected enough examples to hold out {split.fraction:.0%}, got "
                f"{order.size} in dataset {dataset.name!r}"
            )
        return _rows(dataset.train, kept), _rows(dataset.train, held_out)
    if dataset.test is None:
        raise InputError(
            f"dataset {dataset.name!r} has no test set, which this recipe needs; "
            "use a recipe that holds examples out"
        )
    if isinstance(split, FirstExamples):
        available = len(dataset.train.labels)
        if available < split.count:
            raise InputError(
                f"expected at least {split.count} training examples, got {available} "
                f"in dataset {dataset.name!r}"
            )
        return _rows(dataset.train, slice(split.count)), dataset.test
    return dataset.train, dataset.test


def _rows(examples: Examples, rows: np.ndarray | slice) -> Examples:
    return Examples(examples.inputs[rows], examples.labels[rows])
