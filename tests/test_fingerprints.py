"""Is it the data of an earlier run? Every change is noticed, and named."""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import tarfile
from pathlib import Path

import numpy as np
import pytest

from cnnjax.base.errors import InputError
from cnnjax.data import Dataset, cifar10, load_dataset
from cnnjax.data import housing as housing_source
from cnnjax.data.fingerprints import changed, fingerprint
from cnnjax.types import Examples

ARRAYS = ["training inputs", "training labels", "test inputs", "test labels"]
IMAGES = np.arange(4 * 9, dtype=np.uint8).reshape(4, 3, 3, 1)
LABELS = np.array([0, 1, 0, 1], np.int32)
OWN = Dataset(
    name="own",
    train=Examples(IMAGES, LABELS),
    test=Examples(IMAGES[:2], LABELS[:2]),
    class_names=("ant", "bee"),
)


def test_own_arrays_are_told_apart_by_each_value_type_and_shape():
    before = fingerprint(OWN)
    assert list(before) == ARRAYS
    assert changed(before, fingerprint(OWN)) is None
    other = IMAGES.copy()
    other[-1, -1, -1] ^= 1
    swapped = Examples(IMAGES, 1 - LABELS)
    floats = Examples(IMAGES.astype(np.float32), LABELS)
    for name, changes in (
        ("training inputs", {"train": Examples(other, LABELS)}),
        ("training inputs", {"train": Examples(IMAGES[:-1], LABELS[:-1])}),
        ("training inputs", {"train": Examples(IMAGES.reshape(4, 9), LABELS)}),
        ("training inputs", {"train": floats}),
        ("training labels", {"train": swapped}),
        ("test inputs", {"test": Examples(other[2:], LABELS[:2])}),
        ("test labels", {"test": Examples(IMAGES[:2], 1 - LABELS[:2])}),
    ):
        both = {"test": None} if "test" not in changes else {}
        now = fingerprint(dataclasses.replace(OWN, **both, **changes))
        whole = fingerprint(dataclasses.replace(OWN, **both))
        line = changed(whole, now)
        assert line is not None
        assert line.startswith(f"{name} has changed: sha256 {now[name][:12]}, before ")


def test_the_same_values_held_otherwise_are_the_same():
    lists = Examples(IMAGES.tolist(), LABELS.tolist())
    wide = Examples(IMAGES[::-1][::-1], LABELS.astype(">i8"))
    own = fingerprint(dataclasses.replace(OWN, train=wide))
    assert changed(fingerprint(OWN), own) is None
    held = fingerprint(dataclasses.replace(OWN, train=lists, test=lists))
    assert held["training labels"] == fingerprint(OWN)["training labels"]


def test_what_is_gone_or_new_is_named():
    before = fingerprint(OWN)
    now = fingerprint(dataclasses.replace(OWN, test=None))
    assert changed(before, now) == "'test inputs' is gone"
    assert changed(now, before) == "test inputs is new"
    assert changed({"a\nb": 3, **now}, now) == "'a\\nb' is gone"
    assert "\n" not in str(changed({"a": "x\ny"}, {"a": "z"}))


def test_the_embedded_digits_have_no_files():
    assert list(fingerprint(load_dataset("digits"))) == ARRAYS


HEADER = "price,area,bedrooms,bathrooms,stories,parking"


def housing(folder, count):
    rows = [
        ",".join(str(7 * row + column) for column in range(6)) for row in range(count)
    ]
    (folder / "Housing.csv").write_text("\n".join((HEADER, *rows, "")))
    return load_dataset("housing", data_dir=str(folder))


def test_a_table_that_was_cut_is_named(tmp_path):
    before = fingerprint(housing(tmp_path, 120))
    line = changed(before, fingerprint(housing(tmp_path, 99)))
    assert line is not None
    assert line.startswith("Housing.csv has changed: sha256 ")


def test_every_digit_of_the_official_table_counts(tmp_path, monkeypatch):
    whole = housing(tmp_path, 12)
    text = (tmp_path / "Housing.csv").read_text()
    table = np.array([line.split(",") for line in text.splitlines()[1:]], np.float64)
    table = table[:, [1, 2, 3, 4, 5, 0]]
    in_order = np.ascontiguousarray(table[np.lexsort(table.T)])
    digest = hashlib.sha256(in_order.tobytes()).hexdigest()
    monkeypatch.setattr(housing_source, "OFFICIAL_ROWS", 12)
    monkeypatch.setattr(housing_source, "OFFICIAL_SHA256", digest)
    header, *rows = text.splitlines()
    for lines in ([header, *rows], [header.upper(), *rows[::-1]]):
        (tmp_path / "Housing.csv").write_text("\r\n".join(lines))
        assert len(load_dataset("housing", data_dir=str(tmp_path)).train.labels) == 12
    assert whole.files != load_dataset("housing", data_dir=str(tmp_path)).files
    for at in (i for i, letter in enumerate(text) if letter.isdigit()):
        digit = "1" if text[at] == "0" else "0"
        (tmp_path / "Housing.csv").write_text(text[:at] + digit + text[at + 1 :])
        if float(text[at]) != float(digit):
            with pytest.raises(InputError, match="numbers of the official table"):
                load_dataset("housing", data_dir=str(tmp_path))


RECORDS = {
    name: bytes([number]) + bytes([17 * number]) * 3072
    for number, name in enumerate(cifar10.FILES)
}


def write(folder: Path, files: dict[str, bytes]) -> None:
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)


def load_cifar10(folder) -> Dataset:
    return load_dataset("cifar10", data_dir=str(folder))


def test_files_are_known_by_their_content_however_they_are_kept(tmp_path):
    write(tmp_path / "raw", RECORDS)
    write(tmp_path / "gz", {k: gzip.compress(v) for k, v in RECORDS.items()})
    for kind, mode in (("tar", "w"), ("tar.gz", "w:gz")):
        (tmp_path / kind).mkdir()
        path = tmp_path / kind / f"cifar-10-binary.{kind}"
        with tarfile.open(path, mode) as archive:
            archive.add(tmp_path / "raw", "cifar-10-batches-bin")
    prints = [fingerprint(load_cifar10(path)) for path in sorted(tmp_path.iterdir())]
    assert list(prints[0]) == [*cifar10.FILES, *ARRAYS]
    assert [changed(prints[0], other) for other in prints] == [None] * 4


def test_one_damaged_file_beside_official_ones_is_seen(tmp_path, monkeypatch):
    sha1s = tuple(hashlib.sha1(content).hexdigest() for content in RECORDS.values())
    monkeypatch.setattr(cifar10, "SHA1S", sha1s)
    monkeypatch.setattr(cifar10, "OFFICIAL_RECORDS", 1)
    write(tmp_path, RECORDS)
    load_cifar10(tmp_path)
    for name, content in RECORDS.items():
        write(tmp_path, {**RECORDS, name: content[:-1] + b"!"})
        with pytest.raises(InputError) as caught:
            load_cifar10(tmp_path)
        assert str(caught.value).startswith(f"{tmp_path}/{name}: expected the official")
    # Another number of records, or none of the official files: one's own data.
    write(tmp_path, {**RECORDS, "test_batch.bin": RECORDS["test_batch.bin"] * 2})
    assert len(load_cifar10(tmp_path).train.labels) == 5
    write(tmp_path, {name: content[:-1] + b"!" for name, content in RECORDS.items()})
    assert len(load_cifar10(tmp_path).train.labels) == 5
