"""The table of datasets: names in, datasets or one-line errors out."""

from __future__ import annotations

import dataclasses
import errno
import os
from pathlib import Path

import pytest

from cnnjax.base.errors import InputError
from cnnjax.data import Dataset, dataset_names, load_dataset, sources

NAMES = ("digits", "mnist", "fashion_mnist", "kmnist", "idx", "cifar10", "housing")


def test_names():
    of_many = ("idx:NAME", "npz:FILE", "folder:FOLDER", "tfds:NAME")
    assert dataset_names() == (*NAMES, *of_many)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        *(("mnits", "mnist"), ("cifar-10", "cifar10"), ("tfds:", "tfds:NAME")),
        *(("npz:", "npz:FILE"), ("folder", "folder:FOLDER")),
    ],
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
        f"expected data_dir to be a folder, got '{tmp_path}/gone': No such file or "
        "directory"
    )


FILE_NAMES = {
    "idx": "train-images-idx3-ubyte",
    "cifar10": "data_batch_1.bin",
    "housing": "Housing.csv",
}


def error_of(name: str, folder: object) -> str:
    with pytest.raises(InputError) as caught:
        load_dataset(name, data_dir=str(folder))
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name", [*FILE_NAMES, "tfds:mnist"])
def test_what_is_no_folder_is_called_what_it_is(name, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    (tmp_path / "lost").symlink_to("gone")
    (tmp_path / "ring").symlink_to("ring")
    locked = tmp_path / "locked"
    locked.mkdir()
    monkeypatch.setattr(os, "access", lambda path, mode: path != locked)
    start = "expected data_dir to be a folder, got "
    for folder, reason in (
        (tmp_path / "file", f"'{tmp_path}/file': it is a file"),
        (tmp_path / "file" / "in", f"'{tmp_path}/file/in': Not a directory"),
        (tmp_path / "lost", f"'{tmp_path}/lost': a broken link"),
        (tmp_path / "ring", f"'{tmp_path}/ring': Too many levels of symbolic links"),
        ("~nosuchuser/data", "'~nosuchuser/data': its home folder is not known"),
        (locked, f"'{locked}': Permission denied"),
        ("a" * 300, f"'{'a' * 300}': File name too long"),
        ("a\0b", "'a\\x00b': "),
    ):
        assert error_of(name, folder).startswith(start + reason)


@pytest.mark.parametrize(("name", "file"), FILE_NAMES.items())
def test_a_link_that_leads_nowhere_is_no_missing_file(name, file, tmp_path):
    others = ["train-labels-idx1-ubyte", "t10k-images-idx3-ubyte"]
    others += ["t10k-labels-idx1-ubyte", "test_batch.bin"]
    for other in (*others, *(f"data_batch_{i}.bin" for i in range(2, 6))):
        (tmp_path / other).write_bytes(b"")
    (tmp_path / file).symlink_to(tmp_path / "unmounted" / file)
    assert error_of(name, tmp_path) == (
        f"{tmp_path / file}: cannot be read (a broken link)"
    )


@pytest.mark.parametrize("name", FILE_NAMES)
def test_a_folder_that_cannot_be_read_is_not_taken_for_an_empty_one(
    name, tmp_path, monkeypatch
):
    stat = Path.stat

    def refused(path: Path, **options: bool) -> object:
        if path.parent == tmp_path / name:
            raise PermissionError(errno.EACCES, "Permission denied")
        return stat(path, **options)

    monkeypatch.setattr(Path, "stat", refused)
    (tmp_path / name).mkdir()
    message = error_of(name, tmp_path)
    assert message.startswith(f"{tmp_path / name}/")
    assert message.endswith(": cannot be read (Permission denied)")


def test_tfds_names_are_passed_on(monkeypatch):
    digits = load_dataset("digits")
    answers = {("emnist/letters:3.1.0", "somewhere"): digits}
    family = ("NAME", lambda *args: answers[args])
    monkeypatch.setitem(sources.FAMILIES, "tfds:", family)
    name = "tfds:emnist/letters:3.1.0"
    assert load_dataset(name, data_dir="somewhere") is digits


def test_a_dataset_cannot_be_changed():
    dataset = load_dataset("digits")
    assert isinstance(dataset, Dataset)
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(dataset, "name", "other")  # noqa: B010
