"""Bombs, special files, folders that claim too much: refused in one line, cheaply."""

from __future__ import annotations

import ast
import contextlib
import errno
import gzip
import io
import json
import os
import signal
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from cnnjax.base.errors import InputError
from cnnjax.data import Dataset, cifar10, idx, load_dataset, streams
from cnnjax.data.idx_file import parse_idx, read_idx_file
from cnnjax.data.tar import Stream, TarError, read_members
from cnnjax.data.tfds_builder import prepare_for_tfds
from cnnjax.types import Examples

REPOSITORY = Path(__file__).parents[1]
ZEROS = gzip.compress(bytes(2**26), 9, mtime=0)  # 64 MiB of them in 64 KiB
NOTHING = gzip.compress(b"", mtime=0)
# Loads each data set (name, folder) of its arguments; prints, for each, what came,
# by how many MiB the peak of memory grew, and the size of the arrays in MiB.
MEASURE = """
import json, sys
from cnnjax.base.errors import InputError
from cnnjax.data import load_dataset

def peak():
    with open("/proc/self/status") as status:
        (line,) = [line for line in status if line.startswith("VmHWM")]
    return int(line.split()[1]) / 1024

for name, folder in json.loads(sys.argv[1]):
    before, size = peak(), 0
    try:
        dataset = load_dataset(name, data_dir=folder)
        got, size = "accepted", dataset.train.inputs.nbytes / 2**20
    except InputError as error:
        got = str(error)
    print(json.dumps([got, peak() - before, size]))
"""


def idx_header(*shape: int) -> bytes:
    return bytes((0, 0, 8, len(shape))) + struct.pack(f">{len(shape)}I", *shape)


def tar_header(size: bytes, kind: bytes = b"0", name: bytes = b"test_batch.bin"):
    header = bytearray(512)
    header[: len(name)] = name
    header[124:136] = size
    header[156:157] = kind
    header[257:265] = b"ustar\x0000"
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header)


def idx_files(**changes: bytes) -> dict[str, bytes]:
    images, labels = idx_header(3, 4, 4) + bytes(48), idx_header(3) + bytes(3)
    files = dict(zip(idx.FILES, (images, labels, images, labels), strict=True))
    names = {"images": idx.FILES[0], "labels": idx.FILES[1]}
    return {**files, **{names[part]: content for part, content in changes.items()}}


def zipped(content: bytes, *, gib: int = 4) -> bytes:
    return gzip.compress(content, mtime=0) + ZEROS * (16 * gib)


LARGE = b"77777777777\0"  # 8 GiB
ARCHIVE = cifar10.ARCHIVE
MNIST_LIKE = idx_header(60_000, 28, 28)
CSV = b"price,area,bedrooms,bathrooms,stories,parking\n"
BOMBS = {
    "idx of 45 MB, really 4 GiB": ("idx", idx_files(images=zipped(MNIST_LIKE))),
    "idx of 8 TB": ("idx", idx_files(images=zipped(idx_header(10**5, 9000, 9000)))),
    "idx of 7 GB, really 1 GiB": (
        "idx",
        idx_files(images=zipped(idx_header(10**6, 28, 250), gib=1)),
    ),
    "idx of labels": ("idx", idx_files(labels=zipped(idx_header(3)))),
    "zeros": ("idx", idx_files(images=ZEROS * 64)),
    "zeros, gzipped twice": ("idx", idx_files(images=gzip.compress(ZEROS * 64))),
    "empty members": ("idx", idx_files(images=NOTHING * 200_000)),
    "empty members, gzipped": (
        "idx",
        idx_files(images=gzip.compress(NOTHING * 200_000)),
    ),
    "a table": ("housing", {"Housing.csv": zipped(CSV)}),
    "a table of empty lines": ("housing", {"Housing.csv": CSV + b"\n" * 2**23}),
    "records": ("cifar10", dict.fromkeys(cifar10.FILES, ZEROS * 64)),
    "a tar of zeros": ("cifar10", {ARCHIVE: ZEROS * 64}),
    **{
        f"a tar with {what}": ("cifar10", {ARCHIVE: zipped(header)})
        for what, header in {
            "8 GiB": tar_header(LARGE),
            "another member of 8 GiB": tar_header(LARGE, name=b"other"),
            "a negative size": tar_header(b"\xff" * 12),
            "a binary size": tar_header(b"\x80" + b"\x7f" * 11),
            "a long name": tar_header(LARGE, b"L"),
            "a long link": tar_header(LARGE, b"K"),
            "own headers": tar_header(LARGE, b"x"),
            "headers of all": tar_header(LARGE, b"g"),
            "a sparse file": tar_header(LARGE, b"S"),
            "a link": tar_header(LARGE, b"2"),
            "a device": tar_header(LARGE, b"3"),
        }.items()
    },
    "a tar of links": ("cifar10", {ARCHIVE: tar_header(LARGE, b"1") * 20_000}),
}


def write(folder, files):
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)


def measured(places) -> list[tuple[str, float, float]]:
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, json.dumps(places)],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return [tuple(json.loads(line)) for line in done.stdout.splitlines()]


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="asks Linux")
def test_bombs_are_refused_without_memory(tmp_path):
    for bomb, (_, files) in BOMBS.items():
        write(tmp_path / bomb, files)
    names = {bomb: name for bomb, (name, _) in BOMBS.items()}
    places = [(name, str(tmp_path / bomb)) for bomb, name in names.items()]
    results = dict(zip(BOMBS, measured(places), strict=True))
    for bomb, (got, mib, _) in results.items():
        assert got.startswith(str(tmp_path / bomb)), (bomb, got)
        assert len(got.splitlines()) == 1, bomb
        assert mib < 200, bomb
        if bomb.startswith("a tar with"):
            assert "expected a tar archive, got a damaged one (" in got


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="asks Linux")
@pytest.mark.parametrize("kind", ["raw", "gzipped", "archive"])
def test_what_is_accepted_takes_at_most_three_times_its_size(tmp_path, kind):
    if kind == "archive":
        member = tar_header(b"%011o\0" % (3073 * 4000))[:0]
        content = bytes(3073 * 4000)
        filled = content + bytes(-len(content) % 512)
        for name in cifar10.FILES:
            size = b"%011o\0" % len(content)
            member += tar_header(size, name=name.encode()) + filled
        files, name, least = {ARCHIVE: gzip.compress(member, 1)}, "cifar10", 58
    else:
        images = idx_header(80_000, 28, 28) + bytes(80_000 * 784)
        files = idx_files(images=images, labels=idx_header(80_000) + bytes(80_000))
        files[idx.FILES[2]] = idx_header(3, 28, 28) + bytes(3 * 784)
        if kind == "gzipped":
            files = {name: gzip.compress(file, 1) for name, file in files.items()}
        name, least = "idx", 59
    write(tmp_path, files)
    ((got, mib, size),) = measured([(name, str(tmp_path))])
    assert got == "accepted"
    assert size > least
    assert mib < 3 * size


def refused(name, folder) -> str:
    with pytest.raises(InputError) as caught:
        load_dataset(name, data_dir=str(folder))
    (line,) = str(caught.value).splitlines()
    return line


@contextlib.contextmanager
def soon():
    """Fail where something waits for ever."""
    signal.signal(signal.SIGALRM, lambda *_: pytest.fail("it hangs"))
    signal.alarm(20)
    try:
        yield
    finally:
        signal.alarm(0)


FILES_OF = {
    "idx": idx_files(),
    "cifar10": {name: bytes(3073) for name in cifar10.FILES},
    "housing": {"Housing.csv": CSV + b"1,2,3,4,5,6\n2,3,4,5,6,7\n"},
}
SPECIAL = {
    "a named pipe": os.mkfifo,
    "a device": lambda path: path.symlink_to("/dev/zero"),
    "a folder": os.mkdir,
}


@pytest.mark.parametrize("make", SPECIAL.values(), ids=SPECIAL)
@pytest.mark.parametrize("name", FILES_OF)
def test_what_is_no_file_is_not_waited_for(tmp_path, name, make):
    write(tmp_path, FILES_OF[name])
    first = next(iter(FILES_OF[name]))
    (tmp_path / first).unlink()
    make(tmp_path / first)
    with soon():
        assert first in refused(name, tmp_path)


@pytest.mark.parametrize(("what", "make"), SPECIAL.items(), ids=SPECIAL)
def test_what_becomes_no_file_after_the_search_is_refused(tmp_path, what, make):
    make(tmp_path / "there")
    with soon(), pytest.raises(InputError) as caught:
        read_idx_file(tmp_path / "there")
    message = str(caught.value)
    assert f"expected a file, got {what}" in message or "Is a directory" in message


@pytest.mark.parametrize("name", FILES_OF)
@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (PermissionError(errno.EACCES, "Permission denied"), "(Permission denied)"),
        (OSError(errno.EIO, "Input/output error"), "(Input/output error)"),
        (MemoryError(), "expected content that fits in memory"),
    ],
)
def test_files_that_cannot_be_read_are_named(
    tmp_path, monkeypatch, name, error, reason
):
    def fail(path, flags):
        raise error

    write(tmp_path, FILES_OF[name])
    monkeypatch.setattr(streams, "_open", fail)
    message = refused(name, tmp_path)
    assert message.startswith(f"{tmp_path}/{next(iter(FILES_OF[name]))}: ")
    assert reason in message


@pytest.mark.parametrize("name", FILES_OF)
def test_a_folder_with_a_name_of_two_lines_is_refused_in_one(tmp_path, name):
    (tmp_path / "a\nb").mkdir()
    assert "its name has several lines; rename it" in refused(name, tmp_path / "a\nb")


@pytest.mark.parametrize("axes", [0, 9, 255])
def test_an_idx_file_with_an_odd_number_of_axes(tmp_path, axes):
    content = bytes((0, 0, 8, axes)) + struct.pack(f">{axes}I", *[1] * axes) + b"\0"
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(InputError, match=f"images of 1 to 8 axes, got {axes}"):
        parse_idx(read_idx_file(tmp_path / "file"), kind="images")


def test_lines_and_cells_of_a_table_are_bounded(tmp_path):
    rows = ["1,2,3,4,5,6", "2,3,4,5,6,7"]
    for row, reason in (
        ("1" * 9000 + "x,2,3,4,5,6", "line 4: expected a finite number"),
        ("1," * 6000, "line 4: expected at most 10000 characters, got 12001"),
    ):
        text = CSV.decode() + "\n".join([*rows, row, ""])
        (tmp_path / "Housing.csv").write_text(text)
        message = refused("housing", tmp_path)
        assert reason in message
        assert len(message) < 500


def members(content: bytes) -> dict[str, bytes | None]:
    stream = Stream(iter([content]), most=2**24)
    found = read_members(stream, ["test_batch.bin"], most=2**20)
    return {name: content and bytes(content) for name, content in found}


def test_a_member_is_read_to_its_last_byte():
    whole = tar_header(b"00000000003\0") + b"abc" + bytes(509)
    assert members(whole) == {"test_batch.bin": b"abc"}
    assert members(whole + bytes(1024)) == {"test_batch.bin": b"abc"}
    for end in (512, 514, 511, 1):
        with pytest.raises(TarError, match="unexpected end of data"):
            members(whole[:end])


@pytest.fixture
def prepared(tmp_path):
    """Return the version's folder of a small prepared dataset, tfds:toy."""
    images = np.zeros((3, 4, 4, 1), np.uint8)
    examples = Examples(images, np.arange(3, dtype=np.int32))
    names = ("ant", "bee", "cow")
    toy = Dataset(name="toy", train=examples, test=None, class_names=names)
    tfds.disable_progress_bar()
    yield prepare_for_tfds(toy, output_dir=str(tmp_path))
    tfds.enable_progress_bar()


def changed(path: Path, *keys, to) -> None:
    root = json.loads(path.read_text())
    holder = root
    for key in keys[:-1]:
        holder = holder[key]
    holder[keys[-1]] = to
    path.write_text(json.dumps(root))


FEATURES, INFO = "features.json", "dataset_info.json"
LABEL = ("featuresDict", "features", "label")
MODULE = {"type": "evil_module.Feature", "content": {}}
DICT = "tensorflow_datasets.core.features.features_dict.FeaturesDict"
CLAIMS = {
    "a module": (FEATURES, ("pythonClassName",), "evil_module.Feature"),
    "a module within": (FEATURES, (*LABEL, "pythonClassName"), "evil_module.Feature"),
    "a module, once": (FEATURES, LABEL, MODULE),
    "a module in a text": (
        FEATURES,
        LABEL,
        {"type": DICT, "content": json.dumps({"a": MODULE})},
    ),
    "a module in a message": (
        FEATURES,
        LABEL,
        {
            "type": DICT,
            "proto_cls": "tensorflow_datasets.FeaturesDict",
            "content": {"features": {"a": {"pythonClassName": "evil_module.A"}}},
        },
    ),
    "a module in JSON in JSON": (
        FEATURES,
        LABEL,
        {"pythonClassName": DICT, "jsonFeature": {"json": json.dumps({"a": MODULE})}},
    ),
    "a module in snake case": (
        FEATURES,
        LABEL,
        {"python_class_name": "evil_module.Feature"},
    ),
    "features in the other file": (
        INFO,
        ("features",),
        {"pythonClassName": "evil_module.Feature"},
    ),
    "another message": (
        FEATURES,
        LABEL,
        {"type": DICT, "proto_cls": "google.protobuf.Any", "content": {}},
    ),
    "another feature of TFDS": (
        FEATURES,
        (*LABEL, "pythonClassName"),
        "tensorflow_datasets.core.features.video_feature.Video",
    ),
    "a feature's name": (
        FEATURES,
        ("featuresDict", "features", "../label"),
        {"pythonClassName": f"{DICT}"},
    ),
    "many classes": (FEATURES, (*LABEL, "classLabel", "numClasses"), "999999999999"),
    "fewer classes": (FEATURES, (*LABEL, "classLabel", "numClasses"), "2"),
    "no number of classes": (FEATURES, (*LABEL, "classLabel", "numClasses"), "-1"),
    "many examples": (INFO, ("splits", 0, "shardLengths"), ["999999999999"]),
    "no number of examples": (INFO, ("splits", 0, "shardLengths"), ["-1"]),
    "another folder": (INFO, ("splits", 0, "filepathTemplate"), "../{SPLIT}"),
    "a split elsewhere": (INFO, ("splits", 0, "name"), "../train"),
    "a split with a long name": (INFO, ("splits", 0, "name"), "1" * 5000),
    "a name elsewhere": (INFO, ("name",), "/etc/toy"),
    "a key of no split": (INFO, ("splits", 0, "filepath_template"), "../{SPLIT}"),
}


@pytest.mark.parametrize("odd", ["\ud800", "\x1b[2J", "a\nb", "\u2028", "9" * 4000])
def test_what_tfds_says_of_a_file_is_told_in_one_printable_line(prepared, odd):
    image = ("featuresDict", "features", "image", "image")
    for keys in ((*image, "shape"), (*image, "dtype"), (*image, "shape", "dimensions")):
        text = (prepared / FEATURES).read_text()
        changed(prepared / FEATURES, *keys, to=odd)
        message = refused("tfds:toy", prepared.parents[1])
        assert message.isprintable()
        assert len(message) < 800
        (prepared / FEATURES).write_text(text)


@pytest.mark.parametrize(("file", "keys", "to"), CLAIMS.values(), ids=CLAIMS)
def test_what_a_prepared_folder_claims_is_checked_first(
    prepared, monkeypatch, file, keys, to
):
    marker = prepared.parents[1] / "imported"
    monkeypatch.syspath_prepend(str(prepared.parents[1]))
    evil = f"open({str(marker)!r}, 'w')"
    (prepared.parents[1] / "evil_module.py").write_text(evil)
    changed(prepared / file, *keys, to=to)
    message = refused("tfds:toy", prepared.parents[1])
    assert message.startswith(f"{prepared}/")
    assert len(message) < 800
    assert not marker.exists()
    assert "evil_module" not in sys.modules


DEEP = b"[" * 100_000
JSON_FILES = (FEATURES, INFO, "../.config/metadata.json")


@pytest.mark.parametrize("file", JSON_FILES)
@pytest.mark.parametrize(
    "content",
    [
        *(DEEP, b'{"a":' * 100_000, b"[" * 60 + b"]" * 60, b"", b"null", b"\xff\xfe"),
        *(b"1" * 5000, b'{"a": ' + b"1" * 5000 + b"}", b" " * (2**24 + 1), zipped(b"")),
    ],
    ids=[
        *["deep", "deep_objects", "brackets", "empty", "null", "utf16"],
        "digits",
        "in",
        "",
        "z",
    ],
)
def test_json_is_bounded(prepared, file, content):
    path = (prepared / file).resolve()
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    message = refused("tfds:toy", prepared.parents[1])
    assert message.startswith(f"{path}: expected ")
    assert len(message) < 600


@pytest.mark.parametrize("make", SPECIAL.values(), ids=SPECIAL)
@pytest.mark.parametrize(
    "file",
    [*JSON_FILES, "label.labels.txt", "toy-train.array_record-00000-of-00001", "more"],
)
def test_what_is_no_file_in_a_prepared_folder_is_not_waited_for(prepared, file, make):
    path = (prepared / file).resolve()
    path.parent.mkdir(exist_ok=True)
    path.unlink(missing_ok=True)
    make(path)
    with soon():
        if file == "more" and make is os.mkdir:  # a folder there is no matter
            assert load_dataset("tfds:toy", data_dir=str(prepared.parents[1]))
            return
        assert str(path) in refused("tfds:toy", prepared.parents[1])


def test_class_names_are_as_many_as_classes(prepared):
    for text in ("ant\nbee\n", "ant\nbee\nbee\n", "ant\nbee\ncow\ndog\n", ""):
        (prepared / "label.labels.txt").write_text(text)
        message = refused("tfds:toy", prepared.parents[1])
        assert "label.labels.txt: expected 3 class names, all different" in message
    (prepared / "label.labels.txt").write_bytes(b"caf\xe9")
    assert "expected text in UTF-8" in refused("tfds:toy", prepared.parents[1])


def png_of(width: int, height: int) -> bytes:
    """Return the start of a PNG image of this size, which says no more."""
    file = io.BytesIO()
    Image.fromarray(np.zeros((1, 1), np.uint8)).save(file, "png")
    content = bytearray(file.getvalue())
    content[16:24] = struct.pack(">II", width, height)
    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    return bytes(content)


@pytest.mark.parametrize("side", [5_000, 12_000, 30_000, 2**31 - 1])
def test_an_image_is_measured_before_it_is_decoded(side):
    from cnnjax.data.tfds import _read

    rows = [{"image": png_of(side, side), "label": 0}]
    with pytest.raises(InputError) as caught:
        _read("toy", rows, num_classes=1)
    (line,) = str(caught.value).splitlines()
    assert "expected images of at most 16777216" in line or "exceeds limit" in line


PROGRAMS = [
    path
    for part in ("cnnjax", "scripts", "benchmarks")
    for path in sorted((REPOSITORY / part).rglob("*.py"))
]
UNSAFE = {"pickle", "cPickle", "dill", "joblib", "marshal", "shelve"}


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda path: path.stem)
def test_no_program_opens_a_pickle(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = {alias.name for alias in node.names}
            names.add(getattr(node, "module", None) or "")
            assert not {name.split(".")[0] for name in names} & UNSAFE
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "np.load":
            arguments = {word.arg: ast.unparse(word.value) for word in node.keywords}
            assert arguments.get("allow_pickle") == "False"
