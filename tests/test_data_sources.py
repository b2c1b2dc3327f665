"""The table of datasets: names in, datasets or one-line errors out."""

from __future__ import annotations

import dataclasses

import pytest

from cnnjax.data import Dataset, dataset_names, load_dataset, sources
from cnnjax.errors import InputError

NAMES = ("digits", "mnist", "fashion_mnist", "kmnist", "idx", "cifar10", "housing")


def test_names():
    assert dataset_names() == (*NAMES, "tfds:NAME")


@pytest.mark.parametrize(
    ("name", "hint"),
    [("mnits", "mnist"), ("cifar-10", "cifar10"), ("tfds:", "tfds:NAME")],
)
def test_unknown_name_names_the_nearest(name, hint):
    with pytest.raises(InputError) as caught:
        load_dataset(name)
    message = str(caught.value)
    assert message.startswith(f"unknown dataset {name!r}; did you mean {hint}")
    assert all(known in message for known in NAMES)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "digits"])
def test_a_given_folder_is_never_replaced_by_a_download(name, tmp_path, monkeypatch):
    def fail(*args, **kwargs):
        pytest.fail("something was downloaded")

    monkeypatch.setattr("cnnjax.data.mnist.download", fail)
    monkeypatch.setattr("cnnjax.data.cifar10.download", fail)
    with pytest.raises(InputError) as caught:
        load_dataset(name, data_dir=str(tmp_path))
    message = str(caught.value)
    assert "\n" not in message
    assert f"in {tmp_path / name} or {tmp_path}" in message
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", [name for name in NAMES if name != "digits"])
def test_folder_that_does_not_exist(name, tmp_path):
    with pytest.raises(InputError) as caught:
        load_dataset(name, data_dir=str(tmp_path / "gone"))
    assert str(caught.value) == (
        f"expected data_dir to be a folder, got '{tmp_path}/gone'"
    )


def test_tfds_names_are_passed_on(monkeypatch):
    digits = load_dataset("digits")
    answers = {("emnist/letters:3.1.0", "somewhere"): digits}
    monkeypatch.setattr(sources, "load_tfds", lambda *args: answers[args])
    name = "tfds:emnist/letters:3.1.0"
    assert load_dataset(name, data_dir="somewhere") is digits


def test_a_dataset_cannot_be_changed():
    dataset = load_dataset("digits")
    assert isinstance(dataset, Dataset)
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(dataset, "name", "other")  # noqa: B010
