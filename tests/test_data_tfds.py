"""TFDS datasets, prepared and read without TensorFlow."""

from __future__ import annotations

import dataclasses
import gzip
import logging
import os
import struct
import subprocess
import sys
import tracemalloc
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from cnnjax.base.errors import InputError
from cnnjax.data import Dataset, load_dataset
from cnnjax.data import tfds as source
from cnnjax.data.tfds_builder import prepare_for_tfds
from cnnjax.types import Examples

REPOSITORY = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def no_progress_bars():
    tfds.disable_progress_bar()
    yield
    tfds.enable_progress_bar()


def make_examples(count: int, seed: int, shape=(6, 5, 1)) -> Examples:
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (count, *shape), np.uint8)
    return Examples(images, (np.arange(count) % 3).astype(np.int32))


TEST = make_examples(5, 1)
TOY = Dataset(
    name="toy",
    train=make_examples(12, 0),
    test=TEST,
    class_names=("ant", "bee", "cow"),
)


def prepare(folder, features, splits, file_format="array_record"):
    """Prepare a set called `custom` with any features and splits."""

    class Custom(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            return tfds.core.DatasetInfo(
                builder=self, features=tfds.features.FeaturesDict(features)
            )

        def _split_generators(self, dl_manager):
            del dl_manager
            return {
                name: self._generate_examples(rows) for name, rows in splits.items()
            }

        def _generate_examples(self, rows):
            yield from enumerate(rows)

    builder = Custom(data_dir=str(folder), file_format=file_format)
    builder.download_and_prepare(download_dir=str(folder / "unused"))


IMAGE, LABEL = tfds.features.Image, tfds.features.ClassLabel(num_classes=3)


def png(tmp_path, height=4, width=4):
    path = tmp_path / f"{height}x{width}.png"
    Image.fromarray(np.full((height, width), 7, np.uint8)).save(path)
    return str(path)


def read(name, folder) -> Any:
    return load_dataset(f"tfds:{name}", data_dir=str(folder))


def error_of(name, folder) -> str:
    with pytest.raises(InputError) as caught:
        read(name, folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def multiset(examples: Any):
    pairs = zip(examples.inputs, examples.labels, strict=True)
    return sorted((image.tobytes(), int(label)) for image, label in pairs)


def test_what_is_prepared_is_what_is_read(tmp_path, capfd):
    folder = prepare_for_tfds(TOY, output_dir=str(tmp_path))
    assert folder == tmp_path / "toy" / "3.0.1"
    assert {path.suffix for path in folder.glob("toy-*")} == {
        ".array_record-00000-of-00001"
    }
    dataset = read("toy", tmp_path)
    assert dataset.name == "tfds:toy"
    assert dataset.class_names == ("ant", "bee", "cow")
    for got, expected in ((dataset.train, TOY.train), (dataset.test, TEST)):
        assert got.inputs.shape == expected.inputs.shape
        assert got.inputs.dtype == np.uint8
        assert got.labels.dtype == np.int32
        assert multiset(got) == multiset(expected)
    assert "tensorflow" not in sys.modules
    assert capfd.readouterr() == ("", "")


def test_tfds_itself_reads_what_is_prepared(tmp_path):
    prepare_for_tfds(TOY, output_dir=str(tmp_path))
    rows = list(tfds.data_source("toy", split="test", data_dir=str(tmp_path)))
    assert sorted(row["label"] for row in rows) == sorted(TEST.labels)
    assert {row["image"].tobytes() for row in rows} == {
        image.tobytes() for image in TEST.inputs
    }


@pytest.mark.parametrize("channels", [3, 4])
def test_colour_images_are_kept(tmp_path, channels):
    images = make_examples(12, 0, (6, 5, channels))
    colours = dataclasses.replace(TOY, name=f"of_{channels}", train=images, test=None)
    prepare_for_tfds(colours, output_dir=str(tmp_path))
    dataset = read(f"of_{channels}", tmp_path)
    assert dataset.test is None
    assert dataset.train.inputs.shape == (12, 6, 5, channels)
    assert multiset(dataset.train) == multiset(images)


IMAGES, LABELS = make_examples(6, 2)
NO_IMAGES = "expected an image classification dataset, uint8 [examples, height, width,"
NOT_KEPT = {
    "a regression": ({"class_names": ()}, NO_IMAGES),
    "floats": ({"train": Examples(IMAGES / 255, LABELS)}, "got 'toy', float32 of"),
    "no channels": ({"train": Examples(IMAGES[..., 0], LABELS)}, "shape (6, 6, 5),"),
    "two channels": ({"train": Examples(IMAGES.repeat(2, -1), LABELS)}, NO_IMAGES),
    "a label too large": (
        {"train": Examples(IMAGES, LABELS + 1)},
        "got labels 1 to 3; count classes from 0",
    ),
    "class names alike": ({"class_names": ("ant", "ant", "cow")}, "class names that"),
    "an empty class name": ({"class_names": ("", "bee", "cow")}, "class names that"),
    "a class name of two lines": (
        {"class_names": ("ant\nbee", "bee", "cow")},
        "class names that differ, each a line of text",
    ),
    "spaces beside one": ({"class_names": ("ant ", "bee", "cow")}, "class names that"),
    **{
        f"the name {name!r}": ({"name": name}, "expected a dataset name of small lett")
        for name in (
            *("", "Toy", "my toy", "my-toy", "1toy", "_toy", "toy_", "a__b", "caf\xe9"),
            *("tfds:toy", "a/b", "..", "toy\n"),
        )
    },
}


@pytest.mark.parametrize(("changes", "reason"), NOT_KEPT.values(), ids=NOT_KEPT)
def test_what_tfds_cannot_keep_is_refused_and_nothing_is_written(
    tmp_path, changes, reason
):
    wrong = dataclasses.replace(TOY, test=None, **changes)
    with pytest.raises(InputError) as caught:
        prepare_for_tfds(wrong, output_dir=str(tmp_path))
    assert "\n" not in str(caught.value)
    assert reason in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_folders_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    for folder, reason in (
        (str(tmp_path / "file"), "(Not a directory); give another --output_dir"),
        (str(tmp_path / "file/in"), f"cannot write to {tmp_path}/file/in ("),
        ("~nosuchuser/tfds", "expected output_dir to be a folder, got '~nosuchuser/t"),
    ):
        with pytest.raises(InputError) as caught:
            prepare_for_tfds(TOY, output_dir=folder)
        assert reason in str(caught.value)


def test_absl_is_quiet_only_while_reading(tmp_path, caplog, monkeypatch):
    prepare_for_tfds(TOY, output_dir=str(tmp_path))
    logger = logging.getLogger("absl")
    monkeypatch.setattr(logger, "level", logging.INFO)
    with caplog.at_level(logging.NOTSET):
        read("toy", tmp_path)
    assert [record for record in caplog.records if record.name == "absl"] == []
    assert logger.level == logging.INFO


def test_preparing_twice_is_refused(tmp_path):
    folder = prepare_for_tfds(TOY, output_dir=str(tmp_path))
    before = {path: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(InputError, match="holds a prepared dataset; delete it"):
        prepare_for_tfds(TOY, output_dir=str(tmp_path))
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


def test_not_prepared(tmp_path):
    message = error_of("mnist", tmp_path)
    assert f"no TFDS dataset 'mnist' is prepared in {tmp_path}" in message
    assert "scripts/prepare_tfds.py" in message
    assert "tfds build mnist --file_format=array_record" in message
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "name",
    [
        *("mn ist", "../x", "mnist/..", "mnist/", "mnist/a/b", "mnist/a=b", "_x", "1x"),
        *("mnist:1", "mnist:../x", "kaggle:mnist", "mnist\n", "caf\xe9"),
    ],
)
def test_a_name_that_is_no_name(tmp_path, name):
    assert error_of(name, tmp_path) == (
        "expected tfds: and a name of letters, digits and underscores, as in "
        f"tfds:mnist, tfds:emnist/letters or tfds:mnist:3.0.1, got {name!r}"
    )


@pytest.mark.parametrize(
    "name", ["mnist", "MNIST", "emnist/letters:3.*.*", "c4/en.no-clean+2:10.0.1"]
)
def test_a_name_that_is_one(tmp_path, name):
    assert f"no TFDS dataset {name!r} is prepared" in error_of(name, tmp_path)


@pytest.mark.parametrize("split", ["test", "validation", None])
def test_which_split_is_the_test_set(tmp_path, split):
    rows = [{"image": png(tmp_path), "label": label} for label in (0, 1, 2)]
    held_out = {split: rows[2:], "validation": rows[1:]} if split == "test" else {}
    held_out = {"validation": rows[1:]} if split == "validation" else held_out
    prepare(
        tmp_path,
        {"image": IMAGE(shape=(4, 4, 1)), "label": LABEL},
        {"train": rows, **held_out},
    )
    dataset = read("custom", tmp_path)
    assert len(dataset.train.labels) == 3
    count = {"test": 1, "validation": 2, None: None}[split]
    assert (dataset.test and len(dataset.test.labels)) == count


def test_no_training_split(tmp_path):
    rows = [{"image": png(tmp_path), "label": 0}]
    prepare(tmp_path, {"image": IMAGE(shape=(4, 4, 1)), "label": LABEL}, {"test": rows})
    assert error_of("custom", tmp_path) == (
        "expected tfds:custom to have a train split, got test"
    )


@pytest.mark.parametrize(
    "features",
    [
        {"image": IMAGE(shape=(4, 4, 1)), "score": tfds.features.Scalar(np.float32)},
        {"text": tfds.features.Scalar(np.int64), "label": LABEL},
        {"image": tfds.features.Scalar(np.int64), "label": LABEL},
    ],
)
def test_not_an_image_classification_set(tmp_path, features):
    values = {"image": png(tmp_path), "score": 0.5, "text": 3, "label": 1}
    if not isinstance(features.get("image"), IMAGE):
        values["image"] = 3
    prepare(tmp_path, features, {"train": [{name: values[name] for name in features}]})
    message = error_of("custom", tmp_path)
    assert "tfds:custom to be an image classification set" in message
    assert f"got features {', '.join(sorted(features))}" in message


@pytest.mark.parametrize("where", ["train", "test"])
def test_images_of_several_sizes(tmp_path, where):
    small = {"image": png(tmp_path), "label": 0}
    large = {"image": png(tmp_path, 5, 6), "label": 0}
    splits = {"train": [small, small], "test": [small]}
    splits[where] = [*splits[where][1:], large]
    features = {"image": IMAGE(shape=(None, None, 1)), "label": LABEL}
    prepare(tmp_path, features, splits)
    message = error_of("custom", tmp_path)
    assert "expected images of one size in tfds:custom" in message
    assert "4 x 4 x 1" in message
    assert "5 x 6 x 1" in message


class Rows:
    """A split of `count` images of 1 MB, the second one of the given height."""

    def __init__(self, count, height=1000):
        self.count, self.height = count, height

    def __len__(self):
        return self.count

    def __iter__(self):
        for i in range(self.count):
            if i > 1 and self.height != 1000:
                pytest.fail("reading went on after an image of another size")
            height = self.height if i == 1 else 1000
            yield {"image": np.full((height, 1000, 1), i, np.uint8), "label": i % 3}


def test_the_first_image_of_another_size_ends_the_reading():
    with pytest.raises(InputError, match="got 1000 x 1000 x 1 and 7 x 1000 x 1"):
        source._read("toy", Rows(4, height=7), num_classes=3)


def test_a_split_is_held_in_memory_once():
    tracemalloc.start()
    try:
        examples = source._read("toy", Rows(20), num_classes=3)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert examples.inputs[:, 0, 0, 0].tolist() == list(range(20))
    assert examples.labels.tolist() == [i % 3 for i in range(20)]
    assert examples.inputs.nbytes <= peak < 1.5 * examples.inputs.nbytes


def test_a_split_without_examples():
    with pytest.raises(InputError, match="at least one example in each split of tfds:"):
        source._read("toy", Rows(0), num_classes=3)


def test_a_split_without_labels(tmp_path):
    rows = [{"image": png(tmp_path), "label": -1}]
    prepare(
        tmp_path, {"image": IMAGE(shape=(4, 4, 1)), "label": LABEL}, {"train": rows}
    )
    assert error_of("custom", tmp_path).endswith(
        "expected tfds:custom labels 0 to 2, got -1 to -1 (a split without labels?)"
    )


def test_a_tfrecord_set_needs_tensorflow(tmp_path, monkeypatch):
    folder = prepare_for_tfds(TOY, output_dir=str(tmp_path))
    info = folder / "dataset_info.json"
    info.write_text(info.read_text().replace("array_record", "tfrecord"))
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    message = error_of("toy", tmp_path)
    assert "is prepared as tfrecord, which only TensorFlow reads" in message


def test_with_tensorflow_a_tfrecord_set_is_read_through_it(tmp_path, monkeypatch):
    hidden = []
    config = SimpleNamespace(set_visible_devices=lambda *args: hidden.append(args))

    class Builder:
        def as_data_source(self, split, *, decoders):
            raise NotImplementedError

        def as_dataset(self, *, split, shuffle_files):
            assert not shuffle_files
            return f"rows of {split}"

    monkeypatch.setattr("importlib.util.find_spec", lambda _: "found")
    monkeypatch.setitem(sys.modules, "tensorflow", SimpleNamespace(config=config))
    monkeypatch.setattr(tfds, "as_numpy", lambda rows: [rows])
    assert source._rows("toy", Builder(), "train") == ["rows of train"]
    assert hidden == [([], "GPU")]


def test_damaged_files(tmp_path):
    folder = prepare_for_tfds(TOY, output_dir=str(tmp_path))
    records = folder / "toy-train.array_record-00000-of-00001"
    good = records.read_bytes()
    flipped = bytearray(good)
    flipped[300] ^= 255
    for content in (bytes(flipped), good[:100], good[:-10], b""):
        records.write_bytes(content)
        assert error_of("toy", tmp_path).startswith("cannot read tfds:toy (")
    records.unlink()
    assert "No such file" in error_of("toy", tmp_path)
    (folder / "dataset_info.json").write_text("{")
    assert "dataset_info.json: expected JSON, got" in error_of("toy", tmp_path)


SCRIPT = "scripts/prepare_tfds.py"
# The script, where the official kmnist is of 9 training and 4 test images.
SCRIPT_OF_SMALL_KMNIST = f"""
import dataclasses, runpy, sys
from cnnjax.data.mnist import OFFICIAL
OFFICIAL["kmnist"] = dataclasses.replace(OFFICIAL["kmnist"], num_images=(9, 4))
sys.argv[0] = {SCRIPT!r}
runpy.run_path({SCRIPT!r}, run_name="__main__")
"""


def run_script(*flags, script=(SCRIPT,)):
    path = os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "scripts")])
    return subprocess.run(
        [sys.executable, "-W", "error", *script, *flags],
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=60,
    )


def write_kmnist(folder, train: Examples, test: Examples):
    for prefix, (images, labels) in (("train", train), ("t10k", test)):
        header = struct.pack(">4I", 0x803, *images.shape[:3])
        (folder / f"{prefix}-images-idx3-ubyte.gz").write_bytes(
            gzip.compress(header + images.tobytes())
        )
        header = struct.pack(">2I", 0x801, len(labels))
        (folder / f"{prefix}-labels-idx1-ubyte.gz").write_bytes(
            gzip.compress(header + labels.astype(np.uint8).tobytes())
        )


def test_script_prepares_what_the_idx_files_hold(tmp_path):
    train, test = make_examples(9, 2, (28, 28, 1)), make_examples(4, 3, (28, 28, 1))
    write_kmnist(tmp_path, train, test)
    output = tmp_path / "tfds"
    done = run_script(
        *("--dataset=kmnist", f"--data_dir={tmp_path}", f"--output_dir={output}"),
        script=("-c", SCRIPT_OF_SMALL_KMNIST),
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert " ".join(done.stdout.split()) == (
        f"prepared kmnist: 9 training and 4 test examples in {output}/kmnist/3.0.1"
    )
    dataset = read("kmnist", output)
    assert multiset(dataset.train) == multiset(train)
    assert multiset(dataset.test) == multiset(test)
    assert dataset.class_names[:3] == ("o", "ki", "su")
    assert [path.name for path in output.iterdir()] == ["kmnist"]


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        (["--dataset=kmnist", "--data_dir={}"], "--output_dir"),
        (["--dataset=digits", "--output_dir={}/tfds"], "mnist|fashion_mnist|kmnist"),
        (["--data_dir={}", "--output_dir={}/tfds"], "expected the four idx files"),
        (["--output_dir={}/tfds", "extra"], "extra"),
    ],
)
def test_script_tells_bad_input_in_one_line(tmp_path, flags, reason):
    done = run_script(*(flag.format(tmp_path) for flag in flags))
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("prepare_tfds.py: error: ")
    assert done.stderr.count("\n") == 1
    assert reason in done.stderr
    assert list(tmp_path.iterdir()) == []
