"""CIFAR-10's binary version: extracted, archived, damaged, or the wrong version."""

from __future__ import annotations

import gzip
import io
import pickle
import socket
import tarfile

import numpy as np
import pooch
import pytest

from cnnjax.base.errors import InputError
from cnnjax.data import cifar10, load_dataset
from cnnjax.data.cifar10 import CLASS_NAMES, FILES

FOLDER, ARCHIVE = "cifar-10-batches-bin", "cifar-10-binary.tar.gz"


def make_files(records: int = 2) -> dict[str, bytes]:
    """Return six record files; file i has i-valued labels, test_batch has label 9."""
    rng = np.random.default_rng(0)
    files = {}
    for label, name in enumerate(FILES, start=1):
        rows = rng.integers(0, 256, (records, 3073), np.uint8)
        rows[:, 0] = 9 if name == "test_batch.bin" else label
        files[name] = rows.tobytes()
    return files


def write_files(folder, files):
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)


def archive_of(files, prefix=f"{FOLDER}/") -> bytes:
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(prefix + name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return raw.getvalue()


def error_of(folder) -> str:
    before = sorted(folder.rglob("*"))
    with pytest.raises(InputError) as caught:
        load_dataset("cifar10", data_dir=str(folder))
    assert sorted(folder.rglob("*")) == before
    assert "\n" not in str(caught.value)
    return str(caught.value)


def check(dataset, files):
    assert dataset.train.inputs.shape == (10, 32, 32, 3)
    assert dataset.test.inputs.shape == (2, 32, 32, 3)
    assert dataset.train.inputs.dtype == np.uint8
    assert dataset.train.labels.dtype == np.int32
    assert dataset.train.labels.tolist() == [1, 1, 2, 2, 3, 3, 4, 4, 5, 5]
    assert dataset.test.labels.tolist() == [9, 9]
    assert dataset.class_names == CLASS_NAMES
    # Record 1 of data_batch_2 is training example 3: pixel (row, column, channel).
    record = files["data_batch_2.bin"][3073:]
    for row, column, channel in [(0, 0, 0), (0, 1, 0), (1, 0, 1), (31, 30, 2)]:
        expected = record[1 + 1024 * channel + 32 * row + column]
        assert dataset.train.inputs[3, row, column, channel] == expected


@pytest.mark.parametrize("where", [FOLDER, ".", f"cifar10/{FOLDER}", "cifar10"])
def test_extracted_files(tmp_path, where):
    files = make_files()
    write_files(tmp_path / where, files)
    check(load_dataset("cifar10", data_dir=str(tmp_path)), files)


@pytest.mark.parametrize("prefix", [f"{FOLDER}/", f"./{FOLDER}/", "../../"])
def test_archive_is_read_and_nothing_is_extracted(tmp_path, prefix):
    files = make_files()
    folder = tmp_path / "data"
    folder.mkdir()
    # The records come in any order, among other members.
    shuffled = {"readme.html": b"hello", **dict(reversed(files.items()))}
    (folder / ARCHIVE).write_bytes(archive_of(shuffled, prefix))
    check(load_dataset("cifar10", data_dir=str(folder)), files)
    assert [path.name for path in tmp_path.rglob("*")] == ["data", ARCHIVE]


def test_missing_files_are_named(tmp_path):
    files = make_files()
    del files["data_batch_3.bin"], files["test_batch.bin"]
    write_files(tmp_path / "extracted", files)
    assert error_of(tmp_path / "extracted").endswith(
        "got all but data_batch_3.bin, test_batch.bin"
    )
    write_files(tmp_path / "archived", {ARCHIVE: archive_of(files)})
    assert "not found: data_batch_3.bin, test_batch.bin" in error_of(
        tmp_path / "archived"
    )


@pytest.mark.parametrize(
    ("right", "spelled"),
    [
        (ARCHIVE, "CIFAR-10-binary.tar.gz"),
        ("test_batch.bin", "Test_Batch.BIN"),
        ("data_batch_1.bin", "DATA_BATCH_1.BIN"),
        ("cifar-10-batches-bin", "CIFAR-10-batches-bin"),
        ("cifar-10-binary.tar", "Cifar-10-Binary.TAR"),
    ],
)
def test_a_file_whose_name_differs_in_case_is_named(tmp_path, right, spelled):
    write_files(tmp_path, {spelled: b"whatever it holds"})
    way_out = f"; rename {tmp_path / spelled} to {right}: names are case-sensitive"
    assert error_of(tmp_path).endswith(way_out)


def test_a_plain_tar_is_read(tmp_path):
    files = make_files()
    (tmp_path / "cifar-10-binary.tar").write_bytes(gzip.decompress(archive_of(files)))
    check(load_dataset("cifar10", data_dir=str(tmp_path)), files)


AGAIN = "; copy or download it again"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", f"an empty file{AGAIN}"),
        (b"\x01" * 3072, f"0 records and 3072 bytes{AGAIN}"),
        (b"\x01" * 9300, f"3 records and 81 bytes{AGAIN}"),
        (b"\x01" * 3074, "records of two labels, as CIFAR-100 has; give the files of"),
        (b"\x01" * 30740, "records of two labels, as CIFAR-100 has; give the files of"),
        (b"<!DOCTYPE html>", "an HTML page; open the page, and save the file"),
        (b"\x80\x04\x95" + b"\x01" * 99, "a Python pickle, which is never opened"),
        (b"\x89PNG\r\n", "a PNG image; write it in the expected format"),
    ],
)
def test_record_sizes(tmp_path, content, words):
    write_files(tmp_path, {**make_files(), "data_batch_4.bin": content})
    message = error_of(tmp_path)
    assert message.startswith(f"{tmp_path}/data_batch_4.bin: expected one or more")
    assert f"got {len(content)} bytes, {words}" in message
    assert (AGAIN in message) == (AGAIN in words)


@pytest.mark.parametrize(
    "name",
    [
        *("cifar-100-binary.tar.gz", "cifar-100-python.tar.gz", "train.bin"),
        *("cifar-100-binary", "cifar-100-python"),
    ],
)
def test_cifar_100_is_called_by_its_name(tmp_path, name):
    (tmp_path / name).mkdir()
    message = error_of(tmp_path)
    assert message.startswith(f"{tmp_path}/{name}: expected the binary version of CIF")
    assert "got CIFAR-100; download https://" in message


def test_an_archive_of_other_files_says_what_is_in_it(tmp_path):
    others = {"train.bin": b"1", "test.bin": b"2"}
    write_files(tmp_path, {ARCHIVE: archive_of(others, "cifar-100-binary/")})
    assert "test_batch.bin, among train.bin, test.bin; download" in error_of(tmp_path)


def test_labels_beyond_nine(tmp_path):
    write_files(tmp_path, {**make_files(), "test_batch.bin": b"\x0a" + bytes(3072)})
    assert error_of(tmp_path).endswith("expected labels 0 to 9, got 10")


def test_damaged_archives(tmp_path):
    path = tmp_path / ARCHIVE
    good = archive_of(make_files())
    path.write_bytes(good[: len(good) // 2])
    assert "damaged gzip file" in error_of(tmp_path)
    # The checksum is at the very end, beyond the end of the archive.
    path.write_bytes(good[:-8] + bytes(4) + good[-4:])
    assert (
        "damaged gzip file (Error -3 while decompressing data: incorrect data che"
        in error_of(tmp_path)
    )
    path.write_bytes(gzip.compress(gzip.decompress(good)[:5000]))
    assert "got a damaged one (unexpected end of data)" in error_of(tmp_path)
    path.write_bytes(b"<html>404</html>")
    assert "expected a tar archive, got an HTML page" in error_of(tmp_path)
    assert "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz" in error_of(
        tmp_path
    )


class Bomb:
    """Fails the test if it is ever unpickled."""

    def __reduce__(self):
        return pytest.fail, ("a pickle was opened",)


@pytest.mark.parametrize("form", ["archive", "extracted"])
def test_the_python_version_is_refused_unopened(tmp_path, form):
    pickles = {"data_batch_1": pickle.dumps(Bomb())}
    if form == "archive":
        content = archive_of(pickles, "cifar-10-batches-py/")
        write_files(tmp_path, {"cifar-10-python.tar.gz": content})
    else:
        write_files(tmp_path / "cifar-10-batches-py", pickles)
    message = error_of(tmp_path)
    assert "expected the binary version of CIFAR-10" in message
    assert "pickles are never opened" in message
    assert "cifar-10-binary.tar.gz" in message


def test_without_a_network_no_dataset_of_another_shape_is_offered(
    tmp_path, monkeypatch
):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/{ARCHIVE}"
    monkeypatch.setattr(cifar10, "URL", url)
    monkeypatch.setattr(pooch, "os_cache", lambda name: tmp_path / name)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with pytest.raises(InputError) as caught:
        load_dataset("cifar10")
    assert str(caught.value) == (
        f"cannot download cifar10 from {url} (ConnectionError); give its files with "
        "--data_dir, or connect to the network"
    )
