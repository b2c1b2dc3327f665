"""The idx files of MNIST and its likes: read, refused, downloaded."""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import http.server
import io
import pickle
import socket
import struct
import tarfile
import threading
import zipfile
from typing import Any

import numpy as np
import pooch
import pytest

from cnnjax.base.errors import InputError
from cnnjax.data import download as data_download
from cnnjax.data import load_dataset
from cnnjax.data.idx import FILES
from cnnjax.data.mnist import OFFICIAL

TRAIN_IMAGES, TRAIN_LABELS, TEST_IMAGES, TEST_LABELS = FILES


CODES = {"u1": 8, "i1": 9, ">i2": 11, ">i4": 12, ">f4": 13, ">f8": 14}


def idx(array: np.ndarray, dtype="u1") -> bytes:
    header = struct.pack(">2xBB", CODES[dtype], array.ndim)
    header += struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.astype(dtype).tobytes()


def make_files(train=7, test=3, size=(28, 28), labels=10) -> dict[str, bytes]:
    """Return the four files' raw content; the largest label, labels - 1, is there."""
    rng = np.random.default_rng(0)
    contents = []
    for count in (train, test):
        contents.append(idx(rng.integers(0, 256, (count, *size))))
        contents.append(idx(labels - 1 - np.arange(count) % labels))
    return dict(zip(FILES, contents, strict=True))


def write(folder, contents, spelling="{}"):
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        (folder / spelling.format(name)).write_bytes(content)


def make_official(monkeypatch, name, contents, **changes):
    """Make these files the official ones of `name`, for this test."""
    digests = tuple(
        hashlib.sha256(content).hexdigest() for content in contents.values()
    )
    gz = tuple(
        f"sha256:{hashlib.sha256(gzip.compress(content, mtime=0)).hexdigest()}"
        for content in contents.values()
    )
    values = {
        "url": "http://127.0.0.1:9/",
        "gz_hashes": gz,
        "sha256": digests,
        "num_images": tuple(contents[labels][7] for labels in FILES[1::2]),
        **changes,
    }
    monkeypatch.setitem(OFFICIAL, name, dataclasses.replace(OFFICIAL[name], **values))


def with_last_byte_changed(content: bytes) -> bytes:
    return content[:-1] + bytes([content[-1] ^ 1])


def error_of(name, folder) -> str:
    before = sorted(folder.rglob("*"))
    with pytest.raises(InputError) as caught:
        load_dataset(name, data_dir=str(folder))
    assert sorted(folder.rglob("*")) == before
    assert "\n" not in str(caught.value)
    return str(caught.value)


def check(dataset: Any, contents):
    for examples, images_name, labels_name in (
        (dataset.train, TRAIN_IMAGES, TRAIN_LABELS),
        (dataset.test, TEST_IMAGES, TEST_LABELS),
    ):
        assert examples.inputs.dtype == np.uint8
        assert examples.labels.dtype == np.int32
        height, width = struct.unpack(">2I", contents[images_name][8:16])
        assert examples.inputs.shape == (len(examples.labels), height, width, 1)
        # Row order, one byte a pixel, after 16 and 8 bytes of header.
        assert examples.inputs.tobytes() == contents[images_name][16:]
        assert examples.labels.tolist() == list(contents[labels_name][8:])


@pytest.mark.parametrize("where", [".", "idx"])
@pytest.mark.parametrize("dotted", [False, True])
@pytest.mark.parametrize("zipped", [False, True])
def test_every_spelling_and_place(tmp_path, where, dotted, zipped):
    contents = make_files()
    for name, content in contents.items():
        spelling = name.replace("-idx", ".idx") if dotted else name
        if zipped:
            write(tmp_path / where, {f"{spelling}.gz": gzip.compress(content)})
        else:
            write(tmp_path / where, {spelling: content})
    dataset = load_dataset("idx", data_dir=str(tmp_path))
    assert dataset.name == "idx"
    assert dataset.num_classes == 10
    assert dataset.train.inputs.shape == (7, 28, 28, 1)
    check(dataset, contents)


def test_the_folder_of_the_name_comes_first(tmp_path):
    inner, outer = make_files(train=4), make_files(train=5)
    write(tmp_path, outer)
    write(tmp_path / "idx", inner)
    check(load_dataset("idx", data_dir=str(tmp_path)), inner)


def test_an_incomplete_folder_is_passed_over_for_a_complete_one(tmp_path):
    contents = make_files()
    write(tmp_path, contents)
    write(tmp_path / "idx", {TRAIN_IMAGES: b"half a download"})
    check(load_dataset("idx", data_dir=str(tmp_path)), contents)


def test_own_idx_files_of_any_size_and_number_of_classes(tmp_path):
    contents = make_files(size=(9, 12), train=26, test=30, labels=26)
    write(tmp_path, contents)
    dataset = load_dataset("idx", data_dir=str(tmp_path))
    assert dataset.train.inputs.shape == (26, 9, 12, 1)
    assert dataset.num_classes == 26
    assert dataset.class_names[-1] == "25"
    check(dataset, contents)


def test_a_class_that_only_the_test_set_has_counts(tmp_path):
    contents = make_files(labels=3)
    contents[TEST_LABELS] = idx(np.array([0, 4, 1]))
    write(tmp_path, contents)
    assert load_dataset("idx", data_dir=str(tmp_path)).num_classes == 5


def test_idx_without_a_folder():
    with pytest.raises(InputError, match=r"idx is never downloaded.*--data_dir"):
        load_dataset("idx")


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
@pytest.mark.parametrize("level", [None, 1, 9])
def test_official_content_is_accepted_raw_or_gzipped_anew(
    tmp_path, monkeypatch, name, level
):
    contents = make_files()
    make_official(monkeypatch, name, contents)
    for file, content in contents.items():
        if level is None:
            write(tmp_path, {file: content})
        else:
            write(tmp_path, {f"{file}.gz": gzip.compress(content, level)})
    check(load_dataset(name, data_dir=str(tmp_path)), contents)


@pytest.mark.parametrize("level", [None, 1, 9])
def test_kmnist_is_accepted_raw_or_gzipped_anew(tmp_path, monkeypatch, level):
    contents = make_files()
    make_official(monkeypatch, "kmnist", contents, sha256=OFFICIAL["kmnist"].sha256)
    for file, content in contents.items():
        if level is None:
            write(tmp_path, {file: content})
        else:
            write(tmp_path, {f"{file}.gz": gzip.compress(content, level)})
    check(load_dataset("kmnist", data_dir=str(tmp_path)), contents)


@pytest.mark.parametrize("name", OFFICIAL)
def test_another_number_of_images_is_sent_to_idx(tmp_path, monkeypatch, name):
    contents = make_files()
    write(tmp_path, contents)
    way_out = "use --dataset=idx for files of your own"
    assert error_of(name, tmp_path) == (
        f"expected {name} to have 60000 training images, got 7; {way_out}"
    )
    make_official(monkeypatch, name, contents, num_images=(7, 10_000))
    assert error_of(name, tmp_path) == (
        f"expected {name} to have 10000 test images, got 3; {way_out}"
    )


@pytest.mark.parametrize(
    ("name", "owner"),
    [
        ("mnist", "fashion_mnist"),
        ("fashion_mnist", "mnist"),
        ("kmnist", "mnist"),
        ("kmnist", "fashion_mnist"),
    ],
)
@pytest.mark.parametrize("file", FILES)
def test_the_files_of_another_dataset_are_sent_to_it(
    tmp_path, monkeypatch, name, owner, file
):
    theirs = make_files()
    own = {key: with_last_byte_changed(content) for key, content in theirs.items()}
    changes = {"sha256": OFFICIAL[name].sha256} if name == "kmnist" else {}
    make_official(monkeypatch, owner, theirs)
    make_official(monkeypatch, name, own, **changes)
    write(tmp_path, {**own, file: theirs[file]})
    assert error_of(name, tmp_path) == (
        f"{tmp_path}/{file}: expected the official {name} file, but these are "
        f"{owner}'s files; use --dataset={owner}"
    )


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
def test_other_content_is_refused_with_a_way_out(tmp_path, monkeypatch, name):
    contents = make_files()
    make_official(monkeypatch, name, contents)
    changed = with_last_byte_changed(contents[TRAIN_IMAGES])
    write(tmp_path, {**contents, TRAIN_IMAGES: changed})
    message = error_of(name, tmp_path)
    digest = hashlib.sha256(contents[TRAIN_IMAGES]).hexdigest()
    assert message.startswith(
        f"{tmp_path}/{TRAIN_IMAGES}: expected the official {name} file (content sha256 "
        f"{digest[:12]}...), got "
    )
    assert "--dataset=idx for files of your own" in message


@pytest.mark.parametrize("file", FILES)
def test_one_changed_byte_in_any_file_is_seen(tmp_path, monkeypatch, file):
    contents = make_files()
    make_official(monkeypatch, "mnist", contents)
    contents[file] = with_last_byte_changed(contents[file])
    write(tmp_path, contents)
    assert f"{file}: expected the official mnist file" in error_of("mnist", tmp_path)


def test_the_constants_are_well_formed():
    for name, official in OFFICIAL.items():
        assert official.url.startswith("https://")
        assert official.url.endswith("/")
        assert len(official.class_names) == 10
        assert len(set(official.gz_hashes)) == 4
        assert official.num_images == (60_000, 10_000)
        if name == "kmnist":
            assert official.sha256 == (None,) * 4
        else:
            assert len(set(official.sha256)) == 4
            assert {len(digest or "") for digest in official.sha256} == {64}


def test_missing_files_are_named(tmp_path):
    contents = make_files()
    del contents[TRAIN_LABELS], contents[TEST_IMAGES]
    write(tmp_path, contents)
    assert error_of("mnist", tmp_path) == (
        f"{tmp_path}: expected the four idx files of mnist, raw or .gz, got all but "
        f"{TRAIN_LABELS}, {TEST_IMAGES}"
    )


def test_no_file_at_all_names_the_files_and_the_folders(tmp_path):
    message = error_of("mnist", tmp_path)
    assert all(file in message for file in FILES)
    assert message.endswith(f"got none of them in {tmp_path}/mnist or {tmp_path}")


@pytest.mark.parametrize("name", ["mnist", "idx"])
@pytest.mark.parametrize(
    ("right", "spelled"),
    [
        (TRAIN_IMAGES, TRAIN_IMAGES.upper()),
        (TRAIN_LABELS, "Train-Labels-idx1-ubyte"),
        (f"{TEST_IMAGES}.gz", f"{TEST_IMAGES}.GZ"),
        ("t10k-labels.idx1-ubyte", "T10K-labels.idx1-ubyte"),
        ("t10k-labels.idx1-ubyte.gz", "T10K-labels.IDX1-ubyte.Gz"),
    ],
)
def test_a_file_whose_name_differs_in_case_is_named(tmp_path, name, right, spelled):
    contents = make_files()
    base = right.removesuffix(".gz").replace(".idx", "-idx")
    contents[spelled] = contents.pop(base)
    write(tmp_path, contents)
    way_out = f"; rename {tmp_path / spelled} to {right}: names are case-sensitive"
    assert error_of(name, tmp_path).endswith(f"got all but {base}{way_out}")
    for file in set(contents) - {spelled}:
        (tmp_path / file).unlink()
    assert error_of(name, tmp_path).endswith(f"or {tmp_path}{way_out}")


def little_endian(content: bytes, *, magic: bool) -> bytes:
    """Return an idx file with its header's numbers in the order of a PC."""
    axes = content[3]
    shape = struct.unpack(f">{axes}I", content[4 : 4 + 4 * axes])
    start = content[3::-1] if magic else content[:4]
    return start + struct.pack(f"<{axes}I", *shape) + content[4 + 4 * axes :]


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("magic", [False, True])
@pytest.mark.parametrize("cut", [0, 1])
@pytest.mark.parametrize("count", [7, 300])
def test_a_little_endian_header_is_called_that(tmp_path, file, magic, cut, count):
    contents = make_files(train=count, test=count)
    content = little_endian(contents[file], magic=magic)
    write(tmp_path, {**contents, file: content[: len(content) - cut]})
    message = error_of("idx", tmp_path)
    assert message.startswith(f"{tmp_path}/{file}: its header is little-endian, an idx")
    assert "again" not in message


def test_a_folder_in_the_place_of_a_file(tmp_path):
    contents = make_files()
    del contents[TEST_LABELS]
    write(tmp_path, contents)
    (tmp_path / TEST_LABELS).mkdir()
    assert error_of("idx", tmp_path).endswith(f"got all but {TEST_LABELS}")


@pytest.mark.parametrize(
    ("file", "damage", "reason"),
    [
        (TRAIN_IMAGES, lambda c: c[:-1], "expected 5488 bytes of images"),
        (TRAIN_IMAGES, lambda c: c + b"0", "(7, 28, 28), got 5489"),
        (TEST_LABELS, lambda c: c[:-1], "expected 3 bytes of labels"),
        (TEST_LABELS, lambda c: c[:6], "cut off in its header"),
        (TEST_IMAGES, lambda c: c[:15], "cut off in its header"),
        (TEST_IMAGES, lambda _: b"", "got an empty file"),
        (
            TEST_IMAGES,
            lambda _: b"<!DOCTYPE html>",
            "idx file of images, raw or gzipped, got an HTML page",
        ),
        (
            TRAIN_LABELS,
            lambda _: make_files()[TRAIN_IMAGES],
            "one per image, got uint8 with 3 axes (7 x 28 x 28)",
        ),
        (TRAIN_LABELS, lambda c: b"\0\0\x0d\1" + c[4:], "expected 28 bytes of labels"),
        (TRAIN_IMAGES, lambda _: idx(np.zeros((0, 28, 28))), "got shape (0, 28, 28)"),
        (TRAIN_IMAGES, lambda _: idx(np.zeros((7, 0, 28))), "got shape (7, 0, 28)"),
        (TRAIN_LABELS, lambda _: idx(np.zeros(6)), "got 7 images in"),
        (TEST_IMAGES, lambda _: idx(np.zeros((3, 20, 28))), "got 28 x 28 x 1 in"),
    ],
)
@pytest.mark.parametrize("zipped", [False, True])
def test_damaged_files(tmp_path, file, damage, reason, zipped):
    contents = make_files()
    contents[file] = damage(contents[file])
    if zipped:
        contents = {f"{name}.gz": gzip.compress(c) for name, c in contents.items()}
    write(tmp_path, contents)
    message = error_of("idx", tmp_path)
    assert reason in message
    assert file in message


PIXELS = np.arange(7 * 28 * 28).reshape(7, 28, 28) % 256


@pytest.mark.parametrize(
    ("file", "content", "shape"),
    [
        *((TRAIN_LABELS, idx(np.arange(7), t), (7,)) for t in CODES if "f" not in t),
        (TRAIN_IMAGES, idx(PIXELS, ">i2"), (7, 28, 28, 1)),
        (TRAIN_IMAGES, idx(PIXELS, ">i4"), (7, 28, 28, 1)),
        (TRAIN_IMAGES, idx(PIXELS[..., None]), (7, 28, 28, 1)),
    ],
)
def test_other_types_of_integers_are_read(tmp_path, file, content, shape):
    write(tmp_path, {**make_files(), file: content})
    train = load_dataset("idx", data_dir=str(tmp_path)).train
    assert (train.inputs.dtype, train.labels.dtype) == (np.uint8, np.int32)
    got = train.labels if file == TRAIN_LABELS else train.inputs
    expected = np.arange(7) if file == TRAIN_LABELS else PIXELS[..., None]
    assert got.shape == shape
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("channels", [3, 4])
def test_colour_images_are_read(tmp_path, channels):
    contents = make_files()
    for file, count in ((TRAIN_IMAGES, 7), (TEST_IMAGES, 3)):
        pixels = np.arange(count * 28 * 28 * channels) % 251
        contents[file] = idx(pixels.reshape(count, 28, 28, channels))
    write(tmp_path, contents)
    dataset: Any = load_dataset("idx", data_dir=str(tmp_path))
    assert dataset.train.inputs.shape == (7, 28, 28, channels)
    assert dataset.test.inputs.tobytes() == contents[TEST_IMAGES][20:]
    message = error_of("kmnist", tmp_path)
    assert f"images of 28 x 28 x 1 pixels, got 28 x 28 x {channels}" in message


@pytest.mark.parametrize("name", ["{}", "{}.gz"])
def test_files_gzipped_twice_are_read(tmp_path, name):
    contents = make_files()
    for file, content in contents.items():
        twice = gzip.compress(gzip.compress(content))
        write(tmp_path, {name.format(file): twice})
    check(load_dataset("idx", data_dir=str(tmp_path)), contents)


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def archive(kind: str) -> bytes:
    file = io.BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(file, "w") as zipped:
            zipped.writestr(TRAIN_IMAGES, b"0")
    else:
        with tarfile.open(fileobj=file, mode="w") as tarred:
            tarred.addfile(tarfile.TarInfo(TRAIN_IMAGES))
    return file.getvalue()


def thrice(content: bytes) -> bytes:
    return gzip.compress(gzip.compress(gzip.compress(content)))


IN_PYTHON = "write it in the expected format, or make a cnnjax.Dataset of it in Python"
UNPACK = "unpack it, and give the files that are in it"
# What a file is that is whole, but none of images (above) or none of labels (below).
NO_IMAGES = {
    "standardized": (
        idx(PIXELS / 99 - 1, ">f4"),
        "got float32 from -1 to 1.57576 that",
    ),
    "channels first": (
        idx(PIXELS[:, None]),
        "(7 x 1 x 28 x 28); put the channels last: np.moveaxis(images, 1, -1)",
    ),
    "flat": (idx(PIXELS.reshape(7, -1)), "got uint8 with 2 axes (7 x 784)"),
    "labels": (idx(np.arange(7)), "got uint8 with 1 axis (7)"),
    "16 bits": (idx(PIXELS * 100, ">i2"), "expected pixels from 0 to 255, got 0 to "),
    "negative": (idx(PIXELS // 2 - 128, "i1"), "pixels from 0 to 255, got -128 to -1"),
    "HTML": (b"\n<html><head>", "got an HTML page; open the page, and save the file"),
    "zip": (archive("zip"), f"got a zip archive (.zip, .npz, .xlsx); {UNPACK}"),
    "tar": (archive("tar"), f"got a tar archive; {UNPACK}"),
    "gzipped thrice": (thrice(idx(PIXELS)), f"gzipped more than twice; {UNPACK}"),
    "PNG": (b"\x89PNG\r\n\x1a\n", f"got a PNG image; {IN_PYTHON}"),
    "npy": (npy(PIXELS), f"got a NumPy array (.npy); {IN_PYTHON}"),
    "pickle": (pickle.dumps(PIXELS), "got a Python pickle, which is never opened"),
    "LFS": (b"version https://git-lfs.github.com/spec/v1", "a Git LFS pointer; fetch"),
    "text": (b"label,1x1\n5,0", "got text that begins with 'label,1x1'; check that"),
    "zeros": (bytes(16), "got a file that begins with the bytes 00000000; check that"),
}
NO_LABELS = {
    "one-hot": (idx(np.ones((7, 10))), "got uint8 with 2 axes (7 x 10); write only"),
    "fractions": (idx(np.full(7, 0.5), ">f8"), "got float64 with 1 axis (7); write"),
    "negative": (idx(np.arange(7) - 1, ">i4"), "from 0 to 999999, got -1 to 5"),
    "too large": (
        idx(np.full(7, 2**31 - 1), ">i4"),
        "999999, got 2147483647 to 2147483647",
    ),
}


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [(TRAIN_IMAGES, *what) for what in NO_IMAGES.values()]
    + [(TEST_LABELS, *what) for what in NO_LABELS.values()],
    ids=[*NO_IMAGES, *NO_LABELS],
)
def test_a_whole_file_of_another_kind_is_called_what_it_is(
    tmp_path, file, content, words
):
    write(tmp_path, {**make_files(test=7), file: content})
    message = error_of("idx", tmp_path)
    assert message.startswith(f"{tmp_path}/{file}: expected ")
    assert words in message
    assert "download it again" not in message


@pytest.mark.parametrize("name", OFFICIAL)
@pytest.mark.parametrize("file", [TRAIN_LABELS, TEST_LABELS])
def test_a_label_out_of_range_is_told_before_the_number_of_images(tmp_path, name, file):
    contents = make_files()
    contents[file] = contents[file][:-1] + b"\x0b"
    write(tmp_path, contents)
    message = error_of(name, tmp_path)
    assert (
        f"{file}: expected {name} labels 0 to 9, got 11; use --dataset=idx" in message
    )


def test_images_of_another_size_are_sent_to_idx(tmp_path):
    write(tmp_path, make_files(size=(14, 15)))
    message = error_of("kmnist", tmp_path)
    assert "kmnist images of 28 x 28 x 1 pixels, got 14 x 15 x 1" in message
    assert "--dataset=idx" in message


@pytest.mark.parametrize("damage", ["checksum", "half", "garbage", "tail"])
def test_damaged_gzip_files(tmp_path, damage):
    contents = {f"{k}.gz": gzip.compress(v) for k, v in make_files().items()}
    good = contents[f"{TEST_IMAGES}.gz"]
    contents[f"{TEST_IMAGES}.gz"] = {
        "checksum": good[:-8] + bytes(4) + good[-4:],
        "half": good[: len(good) // 2],
        "garbage": good[:10] + b"\xff" * 50,
        "tail": good + b"more",
    }[damage]
    write(tmp_path, contents)
    message = error_of("idx", tmp_path)
    assert message.startswith(f"{tmp_path}/{TEST_IMAGES}.gz: damaged gzip file (")
    assert message.endswith("copy or download it again")


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(pooch, "os_cache", lambda name: tmp_path / "cache" / name)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    pooch.get_logger().setLevel("INFO")
    return tmp_path / "cache" / "cnnjax"


class Server(http.server.ThreadingHTTPServer):
    """Serves `files` on the loopback, and lists in `asked` what it was asked for."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}/"
        self.files: dict[str, bytes] = {}
        self.asked: list[str] = []
        self.sent_bytes: int | None = None  # of each file; None: all of it


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self):
        self.server.asked.append(self.path[1:])
        content = self.server.files.get(self.path[1:])
        self.send_response(404 if content is None else 200)
        # Announced and sent may differ: a connection that breaks.
        self.send_header("Content-Length", str(len(content or b"")))
        self.end_headers()
        self.wfile.write((content or b"")[: self.server.sent_bytes])

    def log_message(self, *args):
        pass


@pytest.fixture
def server():
    server = Server()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join(timeout=10)


def serve(server, monkeypatch, contents):
    make_official(monkeypatch, "mnist", contents, url=server.url)
    server.files = {f"{k}.gz": gzip.compress(v, mtime=0) for k, v in contents.items()}


def download_error() -> str:
    with pytest.raises(InputError) as caught:
        load_dataset("mnist")
    assert "\n" not in str(caught.value)
    return str(caught.value)


def files_in(folder):
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def test_download_once_then_from_the_cache(cache, server, monkeypatch, capfd, caplog):
    contents = make_files()
    serve(server, monkeypatch, contents)
    monkeypatch.setattr(pooch.get_logger(), "handlers", [caplog.handler])
    check(load_dataset("mnist"), contents)
    assert server.asked == [f"{file}.gz" for file in FILES]
    assert files_in(cache) == sorted(server.asked)
    check(load_dataset("mnist"), contents)
    assert len(server.asked) == 4
    assert capfd.readouterr() == ("", "")
    assert caplog.records == []
    # The cache is a folder like any other.
    check(load_dataset("mnist", data_dir=str(cache)), contents)


def test_a_damaged_file_in_the_cache_is_downloaded_again(cache, server, monkeypatch):
    contents = make_files()
    serve(server, monkeypatch, contents)
    load_dataset("mnist")
    (cache / "mnist" / f"{TEST_IMAGES}.gz").write_bytes(b"damaged")
    check(load_dataset("mnist"), contents)
    assert server.asked[4:] == [f"{TEST_IMAGES}.gz"]


def test_progress_on_a_terminal_only(cache, server, monkeypatch, capsys):
    serve(server, monkeypatch, make_files())
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    load_dataset("mnist")
    assert capsys.readouterr().err.count("100%") >= 4


def test_without_a_network_there_are_three_ways_out(cache, monkeypatch, capfd):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/"
    make_official(monkeypatch, "mnist", make_files(), url=url)
    assert download_error() == (
        f"cannot download mnist from {url}{TRAIN_IMAGES}.gz (ConnectionError); give "
        "its files with --data_dir, or connect to the network, or use --dataset=digits"
    )
    assert files_in(cache) == []
    assert capfd.readouterr() == ("", "")


def test_a_server_that_never_answers_is_given_up(cache, monkeypatch):
    monkeypatch.setattr(data_download, "TIMEOUT", (0.2, 0.2))
    with socket.socket() as mute:
        mute.bind(("127.0.0.1", 0))
        mute.listen()
        url = f"http://127.0.0.1:{mute.getsockname()[1]}/"
        make_official(monkeypatch, "mnist", make_files(), url=url)
        assert "(ReadTimeout); give its files with --data_dir" in download_error()
    assert files_in(cache) == []


def test_timeouts_are_short():
    assert max(data_download.TIMEOUT) <= 30


def test_a_download_without_end_is_given_up(cache, server, monkeypatch):
    serve(server, monkeypatch, make_files())
    monkeypatch.setattr(data_download, "MOST_BYTES", 100)
    assert download_error().startswith(f"{server.url}{TRAIN_IMAGES}.gz: expected the")
    assert files_in(cache) == []


def test_a_file_that_is_not_there(cache, server, monkeypatch):
    serve(server, monkeypatch, make_files())
    del server.files[f"{TRAIN_LABELS}.gz"]
    assert f"{TRAIN_LABELS}.gz (HTTPError); give its files" in download_error()
    assert files_in(cache) == [f"{TRAIN_IMAGES}.gz"]


def test_another_file_than_expected_is_not_kept(cache, server, monkeypatch, capfd):
    serve(server, monkeypatch, make_files())
    server.files[f"{TRAIN_IMAGES}.gz"] = b"<html>please log in</html>"
    message = download_error()
    assert message.startswith(f"{server.url}{TRAIN_IMAGES}.gz: expected the file with")
    assert OFFICIAL["mnist"].gz_hashes[0] in message
    assert "--data_dir" in message
    assert files_in(cache) == []
    assert capfd.readouterr() == ("", "")


def test_a_connection_that_breaks_leaves_no_half_file(cache, server, monkeypatch):
    serve(server, monkeypatch, make_files())
    server.sent_bytes = 100
    assert "cannot download mnist from" in download_error()
    assert files_in(cache) == []


def test_a_cache_that_cannot_be_written(cache, server, monkeypatch):
    serve(server, monkeypatch, make_files())
    cache.parent.parent.joinpath("cache").write_text("a file, not a folder")
    message = download_error()
    assert message.startswith(f"cannot write the download of mnist to {cache}")
    assert message.endswith("give its files with --data_dir")
