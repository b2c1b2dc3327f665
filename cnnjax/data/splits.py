"""Splits: the examples for training, and those for testing."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import numpy as np
from jaxtyping import Array, Key

from cnnjax.base.arguments import (
    instance_of,
    optional,
    settle,
    single,
    whole_number,
)
from cnnjax.base.errors import InputError
from cnnjax.data.dataset import Dataset
from cnnjax.types import Examples


@dataclass(frozen=True)
class Official:
    """Train on the dataset's training set, test on its test set."""


@dataclass(frozen=True)
class HoldOut:
    """Shuffle the training set once, hold a fraction out, and ignore the test set.

    With `of`, another split has come first: a fraction of what it trains on is held
    out, and what it tests on is ignored, too. So settings are chosen (a validation
    split), and what they are tested on at the end has had no part in the choice.
    """

    fraction: float
    of: HoldOut | None = None

    def __post_init__(self) -> None:
        """Raise InputError for a fraction that is not between 0 and 1."""
        settle(
            self,
            fraction=single("in (0, 1)", lambda part: 0.0 < part < 1.0),
            of=optional(instance_of(HoldOut)),
        )


Split = Official | HoldOut

OFFICIAL = Official()


def validation_split(split: Split, fraction: float) -> HoldOut:
    """Return the split that holds a fraction of the training examples of `split` out.

    The test examples of `split` are not used by it.

    Raises:
        InputError: the fraction is not between 0 and 1.
    """
    return HoldOut(fraction, split if isinstance(split, HoldOut) else None)


def split_dataset(
    dataset: Dataset,
    split: Split,
    *,
    key: Key[Array, ""],
    num_train: int | None = None,
) -> tuple[Examples, Examples]:
    """Return (train, test) examples; the key determines which are held out.

    Only the first `num_train` training examples are kept; None: all of them.

    Raises:
        InputError: the dataset has no test set, or too few examples, for the split.
    """
    train, test = _divide(dataset, split, key=key)
    available = len(train.labels)
    if num_train is None:
        return train, test
    what = f"num_train from 1 to the {available} training examples of {dataset.name!r}"
    num_train = whole_number(what, num_train, least=1, most=available)
    return _rows(train, slice(num_train)), test


def divided(
    dataset: Dataset,
    split: Split,
    validation: float,
    *,
    key: Key[Array, ""],
    num_train: int | None = None,
) -> tuple[Examples, Examples, Examples | None]:
    """Return (train, test, validation) examples: see `split_dataset`.

    `validation` is the share of the training examples of the split that is held out for
    it; 0: None is returned.

    Raises:
        InputError: the dataset has too few examples, or none for the test.
    """
    train, test = split_dataset(dataset, split, key=key, num_train=num_train)
    if validation == 0.0:
        return train, test, None
    inner = validation_split(split, validation)
    train, held_out = split_dataset(dataset, inner, key=key, num_train=num_train)
    return train, test, held_out


def count_train(dataset: Dataset, split: Split, *, num_train: int | None = None) -> int:
    """Return the number of training examples that `split_dataset` returns."""
    if num_train is not None:
        return num_train
    return _num_kept(split, len(dataset.train.labels))


def _num_kept(split: Split | None, num_examples: int) -> int:
    if not isinstance(split, HoldOut):
        return num_examples
    available = _num_kept(split.of, num_examples)
    return available - round(split.fraction * available)


def _divide(
    dataset: Dataset, split: Split, *, key: Key[Array, ""]
) -> tuple[Examples, Examples]:
    if isinstance(split, HoldOut):
        train = dataset.train
        if split.of is not None:
            train, _ = _divide(dataset, split.of, key=key)
            key = jax.random.fold_in(key, _depth(split))
        order = np.asarray(jax.random.permutation(key, len(train.labels)))
        num_held_out = order.size - _num_kept(HoldOut(split.fraction), order.size)
        kept, held_out = order[num_held_out:], order[:num_held_out]
        if not kept.size or not held_out.size:
            raise InputError(
                f"expected enough examples to hold out {split.fraction:.0%}, got "
                f"{order.size} in dataset {dataset.name!r}"
            )
        return _rows(train, kept), _rows(train, held_out)
    if dataset.test is None:
        raise InputError(
            f"dataset {dataset.name!r} has no test set, which this recipe needs; "
            "use a recipe that holds examples out"
        )
    return dataset.train, dataset.test


def _depth(split: HoldOut) -> int:
    return 0 if split.of is None else 1 + _depth(split.of)


def _rows(examples: Examples, rows: np.ndarray | slice) -> Examples:
    return Examples(examples.inputs[rows], examples.labels[rows])
