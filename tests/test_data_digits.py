"""The digits: always there, always the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn import datasets

from cnnjax.base.errors import InputError
from cnnjax.data import load_dataset


def load(**options: Any) -> Any:
    return load_dataset("digits", **options)


def originals() -> Any:
    return datasets.load_digits()


def test_shapes_types_and_range():
    digits = load()
    assert digits.name == "digits"
    assert digits.num_classes == 10
    assert digits.class_names == tuple("0123456789")
    assert digits.train.inputs.shape == (1437, 28, 28, 1)
    assert digits.test.inputs.shape == (360, 28, 28, 1)
    assert digits.train.inputs.dtype == digits.test.inputs.dtype == np.uint8
    assert digits.train.labels.dtype == digits.test.labels.dtype == np.int32
    assert digits.train.inputs.min() == 0
    assert digits.train.inputs.max() == 255


def test_split_is_stratified():
    digits = load()
    everything = np.bincount(originals().target)
    held_out = np.bincount(digits.test.labels)
    assert np.array_equal(np.bincount(digits.train.labels) + held_out, everything)
    assert np.abs(held_out - everything * 360 / 1797).max() < 1


def test_split_does_not_depend_on_any_seed():
    np.random.seed(1)
    first = load()
    np.random.seed(2)
    second = load()
    for a, b in zip(
        (*first.train, *first.test), (*second.train, *second.test), strict=True
    ):
        assert np.array_equal(a, b)


@pytest.mark.parametrize("folder", ["there", "gone", ""])
def test_a_folder_is_refused(tmp_path, monkeypatch, folder):
    (tmp_path / "there").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError) as caught:
        load(data_dir=folder)
    assert str(caught.value) == (
        "digits needs no files: leave data_dir out, or name the dataset that is in "
        f"{folder!r}"
    )


def test_images_are_the_original_ones_enlarged_with_a_lanczos_filter():
    # Pixel i of 28 lies at (i + 1/2) * 8/28 - 1/2 among the 8.
    away = (np.arange(28)[:, None] + 0.5) * 8 / 28 - 0.5 - np.arange(8)
    weights = np.where(np.abs(away) < 3, np.sinc(away) * np.sinc(away / 3), 0)
    weights /= weights.sum(axis=1, keepdims=True)
    bunch = originals()
    widened = np.clip(bunch.images * (255 / 16) @ weights.T, 0, 255)
    expected = np.clip(weights @ widened, 0, 255)
    digits = load()
    for examples in (digits.train, digits.test):
        for image, label in zip(
            examples.inputs[:20], examples.labels[:20], strict=True
        ):
            errors = np.abs(image[:, :, 0] - expected).max(axis=(1, 2))
            assert errors.min() <= 2  # rounded thrice: pixels, rows, columns
            assert bunch.target[errors.argmin()] == label
