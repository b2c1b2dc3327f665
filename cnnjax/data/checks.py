"""Checks of examples and datasets, done once on the host, before any tracing."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cnnjax.base.errors import InputError, shown
from cnnjax.data.arrays import NUMBERED, as_array, as_held
from cnnjax.data.dataset import Dataset
from cnnjax.types import Examples


def check_dataset(dataset: Dataset) -> Dataset:
    """Return the dataset with its examples checked and converted by `check_examples`.

    Raises:
        InputError: examples that `check_examples` refuses, labels outside
            `class_names`, `class_names` that are not a sequence, or a test set with
            other shapes or types than the training set.
    """
    names = dataset.class_names
    if isinstance(names, str) or not (isinstance(names, Sequence) or np.ndim(names)):
        raise InputError(
            f"dataset {dataset.name!r}: expected class_names to be a tuple of names, "
            f"empty for a regression, got {shown(names)}"
        )

    def checked(examples: Examples, part: str) -> Examples:
        where = f"dataset {dataset.name!r}, {part} "
        return check_examples(examples, where=where, num_classes=dataset.num_classes)

    train = checked(dataset.train, "training")
    if dataset.test is None:
        return dataclasses.replace(dataset, train=train)
    test = checked(dataset.test, "test")
    for part, ours, theirs in zip(Examples._fields, train, test, strict=True):
        if ours.shape[1:] != theirs.shape[1:] or _kind(ours) != _kind(theirs):
            raise InputError(
                f"dataset {dataset.name!r}: expected test {part} like the training "
                f"{part} ({_each(ours)}), got {_each(theirs)}; prepare both alike"
            )
    return dataclasses.replace(dataset, train=train, test=test)


def check_examples(
    examples: Examples, *, where: str = "", num_classes: int | None = None
) -> Examples:
    """Return examples as NumPy arrays in types that JAX supports, or refuse them.

    Lists are accepted, and arrays of any library, layout and byte order; 64 bits become
    32 without jax_enable_x64. Class labels become int32, and integer targets float32.
    Nothing else is changed.

    Args:
        examples: a pair that NumPy can convert to two arrays.
        where: text that precedes "inputs" and "labels" in messages.
        num_classes: labels are classes below this number; 0: labels are targets, of any
            shape; None: unknown, for a caller's own loss; one integer per example is
            then a class.

    Raises:
        InputError: not a pair of inputs and labels, no examples, not one label per
            input, values that are not finite or too large for 32 bits, or labels that
            are not classes.
    """
    examples = _pair(examples, where)
    inputs, labels = (
        _of_examples(values, f"{where}{part}")
        for values, part in zip(examples, Examples._fields, strict=True)
    )
    check_counts(Examples(inputs, labels), where=where)
    one_integer = labels.ndim == 1 and labels.dtype.kind in "iu"
    if num_classes or (num_classes is None and one_integer):
        labels = _as_classes(labels, f"{where}labels", num_classes)
    elif num_classes == 0 and labels.dtype.kind in "biu":
        labels = labels.astype(np.float32)
    return Examples(inputs, labels)


def check_counts(examples: Examples, *, where: str = "", axis: int = 0) -> None:
    """Raise InputError unless there is one label per input, counted along an axis."""
    num_inputs, num_labels = (np.shape(a)[axis] for a in _pair(examples, where))
    if num_inputs != num_labels:
        raise InputError(
            f"{where}examples: expected one label per input, got {num_inputs} inputs "
            f"and {num_labels} labels"
        )


def check_alike(examples: Examples, like: Examples) -> None:
    """Raise InputError unless shapes and types are those of a compiled program."""
    for part, got, expected in zip(Examples._fields, examples, like, strict=True):
        if (got.shape, got.dtype) != (expected.shape, expected.dtype):
            raise InputError(
                f"expected {len(expected)} {part} of {_each(expected)}, as compiled "
                f"for, got {len(got)} of {_each(got)}; compile for these examples"
            )


def _pair(examples: Any, where: str) -> Examples:
    if isinstance(examples, tuple | list) and len(examples) == 2:
        return Examples(*examples)
    got = f"{type(examples).__name__}"
    if isinstance(examples, Mapping):
        got += f" of {', '.join(map(str, examples))}"
    elif isinstance(examples, tuple | list):
        got += f" of {len(examples)}"
    raise InputError(
        f"{where}examples: expected Examples(inputs, labels), got {got}; give one "
        "array of inputs, and one of labels"
    )


def _of_examples(values: Any, what: str) -> np.ndarray:
    array = as_array(values, what)
    if not array.ndim:
        raise InputError(f"{what}: expected one for each example, got a single {array}")
    if not array.size:
        raise InputError(
            f"{what}: expected at least one example, got an empty array of shape "
            f"{array.shape}; a dataset without a test set has test=None"
        )
    return as_held(array, what)


def _as_classes(labels: np.ndarray, what: str, num_classes: int | None) -> np.ndarray:
    last = "" if num_classes is None else f" to {num_classes - 1}"
    expected = f"{what}: expected one whole number from 0{last} per example"
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise InputError(f"{expected}, got {_each(labels)}; {_way_to_classes(labels)}")
    low, high = int(labels.min()), int(labels.max())
    if low < 0:
        way = f"{low} has no meaning here: leave those examples out, or {NUMBERED}"
    elif num_classes is None or high < num_classes:
        return labels.astype(np.int32, copy=False)
    elif (low, high) == (1, num_classes):
        way = "count classes from 0, not from 1: labels - 1"
    else:
        way = "give each class a name in class_names, counted from 0"
    raise InputError(f"{expected}, got labels {low} to {high}; {way}")


def _way_to_classes(labels: np.ndarray) -> str:
    if labels.ndim == 1:
        return "convert them with labels.astype(np.int32)"
    if labels.ndim == 2 and labels.shape[1] == 1:
        return "use labels[:, 0].astype(np.int32)"
    return "for one-hot labels, use labels.argmax(axis=1)"


def _kind(array: np.ndarray) -> str:
    return array.dtype.kind.replace("u", "i")  # signed and unsigned count as the same


def _each(array: np.ndarray) -> str:
    shape = f" of shape {array.shape[1:]}" if array.ndim > 1 else ""
    return f"{array.dtype.name}{shape} each"
