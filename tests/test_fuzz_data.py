"""Damaged files: every reader returns a valid data set, or refuses in one line.

500 examples for each reader, always the same; with CNNJAX_SOAK=1 in the environment,
20,000 others.
"""

from __future__ import annotations

import functools
import gzip
import io
import json
import shutil
import tarfile

import numpy as np
import pytest
import tensorflow_datasets as tfds
from damage import FUZZED, damaged, read_or_refused
from hypothesis import given
from hypothesis import strategies as st

from cnnjax.data import Dataset, cifar10, idx, load_dataset, tfds_json
from cnnjax.data.tfds_builder import prepare_for_tfds
from cnnjax.types import Examples

RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzzed")


def write(folder, contents):
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name, content in contents.items():
        (folder / name).write_bytes(content)


def idx_of(array: np.ndarray) -> bytes:
    header = bytes((0, 0, 8, array.ndim))
    return header + np.array(array.shape, ">u4").tobytes() + array.tobytes()


IDX = {
    name: idx_of(np.arange(n * (1 if "labels" in name else 9), dtype=np.uint8) % 5)
    if "labels" in name
    else idx_of(RNG.integers(0, 256, (n, 3, 3), np.uint8))
    for name, n in zip(idx.FILES, (6, 6, 5, 5), strict=True)
}
IDX_HEADER = tuple(range(16))


@FUZZED
@given(data=st.data(), name=st.sampled_from(idx.FILES))
def test_idx(folder, data, name):
    content = data.draw(damaged(IDX[name], places=IDX_HEADER))
    write(folder / "idx", {**IDX, name: content})
    read = read_or_refused("idx", folder)
    # What is read is noted: a change cannot go unseen between two runs.
    write(folder / "idx", IDX)
    whole = load_dataset("idx", data_dir=str(folder))
    assert read is None or (read.files != whole.files) == (content != IDX[name])


@FUZZED
@given(data=st.data(), name=st.sampled_from(idx.FILES), times=st.integers(1, 2))
def test_gzip(folder, data, name, times):
    content = IDX[name]
    for _ in range(times):
        content = gzip.compress(content, mtime=0)
    tail = tuple(range(len(content) - 8, len(content)))
    content = data.draw(damaged(content, places=(*range(10), *tail)))
    write(folder / "idx", {**IDX, name: content})
    read = read_or_refused("idx", folder)
    # A checksum is in the file: what is read is what was written.
    if read is not None and content.startswith(b"\x1f\x8b"):
        write(folder / "idx", IDX)
        assert read.files == load_dataset("idx", data_dir=str(folder)).files


RECORDS = {
    name: bytes([number]) + RNG.bytes(3072) for number, name in enumerate(cifar10.FILES)
}


@FUZZED
@given(data=st.data(), name=st.sampled_from(cifar10.FILES), zipped=st.booleans())
def test_cifar10_records(folder, data, name, zipped):
    content = data.draw(damaged(RECORDS[name], places=(0, 1, 3072)))
    kept = gzip.compress(content, 1) if zipped else content
    write(folder / "cifar10", {**RECORDS, name: kept})
    read = read_or_refused("cifar10", folder)
    if read is not None:
        write(folder / "cifar10", RECORDS)
        whole = load_dataset("cifar10", data_dir=str(folder))
        assert (read.files != whole.files) == (content != RECORDS[name])


def tar_of(kind: int) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=kind) as archive:
        for name, content in RECORDS.items():
            # Names of more than 100 characters need a header of their own.
            member = tarfile.TarInfo(f"{'long/' * 30 if '3' in name else ''}{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return file.getvalue()


FORMATS = (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)
TARS = [tar_of(kind) for kind in FORMATS]
FIELDS = tuple(at for start in (0, 3584, 7168) for at in (0, 124, 135, 148, 156, 257))


def with_checksums(content: bytes) -> bytes:
    """Return an archive whose headers at multiples of 3,584 bytes are valid again."""
    result = bytearray(content)
    for start in range(0, len(result) - 512, 3584):
        header = result[start : start + 512]
        header[148:156] = b" " * 8
        result[start + 148 : start + 156] = b"%06o\0 " % sum(header)
    return bytes(result)


@FUZZED
@given(data=st.data(), whole=st.sampled_from(TARS), valid=st.booleans())
def test_tar(folder, data, whole, valid):
    content = data.draw(damaged(whole, places=FIELDS))
    content = with_checksums(content) if valid else content
    zipped = data.draw(st.booleans())
    kept = gzip.compress(content, 1) if zipped else content
    write(folder / "cifar10", {cifar10.ARCHIVE: kept})
    read = read_or_refused("cifar10", folder)
    if read is not None:  # what is noted are the records, wherever they were
        write(folder / "cifar10", RECORDS)
        whole = load_dataset("cifar10", data_dir=str(folder))
        same = all(
            np.array_equal(mine, own)
            for part in ("train", "test")
            for mine, own in zip(getattr(read, part), getattr(whole, part), strict=True)
        )
        assert (read.files == whole.files) == same


HEADER = "price,area,bedrooms,bathrooms,stories,mainroad,parking"
ROWS = ("100,50,2,1,1,yes,0", "300,150,4,3,2,no,2", '150,"100",3,2,3,yes,1')
TABLE = "\n".join((HEADER, *ROWS, "")).encode()
CELLS = st.one_of(
    st.text(max_size=20),
    st.sampled_from(["1e999", "-0", "1" * 5000, "nan", '"', "\r", "\0", "1_0"]),
)


@FUZZED
@given(data=st.data(), cell=st.one_of(st.none(), CELLS))
def test_csv(folder, data, cell):
    content = data.draw(damaged(TABLE))
    if cell is not None:
        content = TABLE.replace(b"150", cell.encode("utf-8", "surrogatepass"))
    write(folder / "housing", {"Housing.csv": content})
    read = read_or_refused("housing", folder)
    if read is not None:
        write(folder / "housing", {"Housing.csv": TABLE})
        whole = load_dataset("housing", data_dir=str(folder))
        assert (read.files != whole.files) == (content != TABLE)


class Contents(dict):
    """Files by name; hypothesis would print all of it."""

    def __repr__(self):
        return f"Contents of {', '.join(self)}"


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """Return the folder of a small TFDS dataset, its content, and it as read."""
    root = tmp_path_factory.mktemp("tfds")
    images = RNG.integers(0, 256, (6, 4, 4, 1), np.uint8)
    examples = Examples(images, np.arange(6, dtype=np.int32) % 3)
    names = ("ant", "bee", "cow")
    toy = Dataset(name="toy", train=examples, test=examples, class_names=names)
    tfds.disable_progress_bar()
    folder = prepare_for_tfds(toy, output_dir=str(root))
    files = sorted(folder.iterdir())
    contents = Contents((path.name, path.read_bytes()) for path in files)
    return folder, contents, load_dataset("tfds:toy", data_dir=str(root))


@FUZZED
@given(data=st.data())
def test_tfds(prepared, data):
    folder, contents, whole = prepared
    name = data.draw(st.sampled_from(sorted(contents)))
    # The first bytes of a shard are its header, and the last 64 KiB are its index.
    content = data.draw(damaged(contents[name], places=(*range(0, 700, 7), 65536)))
    (folder / name).write_bytes(content)
    try:
        read = read_or_refused("tfds:toy", folder.parents[1])
    finally:
        (folder / name).write_bytes(contents[name])
    if read is None:
        return
    assert (read.files != whole.files) == (content != contents[name])
    if "array_record" in name:  # it has checksums
        np.testing.assert_array_equal(read.train.inputs, whole.train.inputs)
        np.testing.assert_array_equal(read.train.labels, whole.train.labels)


def places_in(value, path=()):
    """Yield where the values of a JSON object are, each as a path of keys."""
    yield path
    items = enumerate(value) if isinstance(value, list) else ()
    items = value.items() if isinstance(value, dict) else items
    for key, inner in items:
        yield from places_in(inner, (*path, key))


def deep(levels: int):
    value: list = []
    for _ in range(levels):
        value = [value]
    return value


ODD_VALUES = st.one_of(
    st.sampled_from([None, True, -1, 0, 10**30, 1.5, float("nan"), "", [], {}, [{}]]),
    st.sampled_from(["../toy", "/etc/passwd", "{SPLIT}", "a\nb", "\ud800", "1" * 5000]),
    st.sampled_from(
        ["999999999999999", "array_record", "tfrecord", "parquet", "riegeli"]
    ),
    st.sampled_from(["os.path", "float32", "int64", "string", *tfds_json.KINDS]),
    st.sampled_from([deep(60), {"features": {}}, {"numClasses": "-3"}]),
)


@FUZZED
@given(
    name=st.sampled_from(("features.json", "dataset_info.json")),
    place=st.integers(0, 999),
    odd=ODD_VALUES,
    as_key=st.booleans(),
)
def test_tfds_values(prepared, name, place, odd, as_key):
    folder, contents, _ = prepared
    root = {"root": json.loads(contents[name])}
    places = list(places_in(root))[1:]
    path = places[place % len(places)]
    holder = functools.reduce(lambda value, key: value[key], path[:-1], root)
    if as_key and isinstance(holder, dict):  # a key in place of a value
        holder[str(odd)[:40]] = holder.pop(path[-1])
    else:
        holder[path[-1]] = odd
    (folder / name).write_text(json.dumps(root.get("root", root)))
    try:
        read_or_refused("tfds:toy", folder.parents[1])
    finally:
        (folder / name).write_bytes(contents[name])


def npz_of(**arrays: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)
    return file.getvalue()


PIXELS = RNG.integers(0, 256, (6, 5, 4), np.uint8)
NPZ = npz_of(x_train=PIXELS, y_train=np.arange(6) % 3)


@FUZZED
@given(data=st.data())
def test_npz(folder, data):
    content = data.draw(damaged(NPZ, places=tuple(range(60))))
    write(folder / "npz", {"own.npz": content})
    read = read_or_refused("npz:own.npz", folder / "npz")
    if read is not None:  # a checksum is in the file
        np.testing.assert_array_equal(read.train.inputs[..., 0], PIXELS)
