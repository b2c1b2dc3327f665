"""What a run writes: nothing overwritten, nothing half-written, all of it readable."""

from __future__ import annotations

import errno
import json
import math
import os

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file

from cnnjax.base import durable
from cnnjax.base.errors import InputError, unknown_name
from cnnjax.models.stack import Dense
from cnnjax.results import workdir
from cnnjax.results.fields import read_result
from cnnjax.telling import axes, examples
from cnnjax.telling.plots import draw_curves
from cnnjax.types import Examples


def test_a_run_is_not_overwritten_unless_told(tmp_path):
    first = workdir.open_workdir(str(tmp_path / "run"))
    first.start({"seed": 0}, room=100)
    assert first.found() == ["config.json", "metrics.jsonl"]
    (tmp_path / "run" / "notes.txt").write_text("mine")
    (tmp_path / "run" / "metrics.jsonl").write_text("old\n")
    again = workdir.open_workdir(str(tmp_path / "run"))
    assert (tmp_path / "run" / "metrics.jsonl").exists()  # until it starts
    again.start({"seed": 1}, room=100)
    names = sorted(path.name for path in (tmp_path / "run").iterdir())
    assert names == ["config.json", "metrics.jsonl", "notes.txt"]
    assert (tmp_path / "run" / "metrics.jsonl").read_text() == ""


def test_files_can_be_read_back(tmp_path):
    folder = workdir.open_workdir(str(tmp_path))
    folder.start({"layer": Dense(3), "rate": float("nan"), "shape": (1, 2)}, room=0)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config == {
        "layer": {"type": "Dense", "features": 3},
        "rate": None,
        "shape": [1, 2],
    }
    folder.append_json_lines("metrics.jsonl", [{"epoch": 1}])
    folder.append_json_lines("metrics.jsonl", [{"epoch": 2}])
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == [1, 2]
    kernel = np.arange(6, dtype=np.float32).reshape(2, 3).T
    folder.write_params({"dense_0": {"kernel": kernel}})
    tensors = load_file(tmp_path / "params.safetensors")
    np.testing.assert_array_equal(tensors["dense_0/kernel"], kernel)


def test_a_refusal_of_the_system_is_one_line_and_leaves_nothing(tmp_path, monkeypatch):
    folder = workdir.open_workdir(str(tmp_path))

    def refuse(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(durable.os, "fsync", refuse)
    with pytest.raises(InputError, match="No space left on device; choose another"):
        folder.write_json("result.json", {"a": 1})
    assert list(tmp_path.iterdir()) == []
    monkeypatch.undo()
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot write"):
        workdir.open_workdir(str(tmp_path / "file" / "run")).start({}, room=0)


def test_without_a_path_nothing_is_kept(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = workdir.open_workdir(None)
    folder.start({}, room=10)
    folder.append_json_lines("metrics.jsonl", [{}])
    folder.write_params({})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("names", [("loss", "accuracy"), ("loss",)])
def test_curves_are_a_picture(names, tmp_path):
    lines = [
        {"epoch": e, **{f"{p}_{n}": 1 / e for n in names for p in ("train", "test")}}
        for e in (1, 2, 3)
    ]
    path = tmp_path / "curves.png"
    path.write_bytes(draw_curves(lines, title="a run"))
    image = Image.open(path)
    assert image.size == (600 * len(names), 480)
    assert len(image.convert("RGB").getcolors(maxcolors=10**6)) > 20  # lines are there


def test_curves_without_a_number_are_an_empty_picture():
    lines = [{"epoch": 1, "train_loss": None, "train_accuracy": math.nan}]
    assert draw_curves(lines, title="diverged").startswith(b"\x89PNG")


@pytest.mark.parametrize("low", [1e-30, 0.011, 0.7, 2.3])
@pytest.mark.parametrize("times", [1.02, 1.5, 8.0, 30.0, 1e3, 1e9, 1e25])
def test_an_axis_of_logarithms_has_few_labels(low, times):
    ticks = axes.few(low, times * low)
    assert 2 <= len(ticks) <= 6
    assert all(low <= tick <= times * low for tick in ticks)
    assert len({f"{tick:g}" for tick in ticks}) == len(ticks)


def test_examples_as_text():
    image = np.array([[[0], [255]], [[128], [0]]], np.uint8)
    labelled = Examples(image[None], np.array([7]))
    shown = examples.example_as_text(labelled, 0)
    assert shown == "  @@\n++\ntest example 0, label 7"
    rows = Examples(np.array([[0.5, 1.0]]), np.array([[0.25]]))
    assert (
        examples.example_as_text(rows, 0)
        == "test example 0: [0.500, 1.000], target 0.2500"
    )
    predicted = examples.prediction_line(rows, 0, np.array([0.3]))
    assert predicted == "test example 0: target 0.2500, predicted 0.3000"


def test_an_unknown_name_is_answered_with_the_nearest():
    message = str(unknown_name("dataset", "mnits", ["mnist", "digits"]))
    assert message == (
        "unknown dataset 'mnits'; did you mean mnist? known: digits, mnist"
    )


def test_a_page_made_while_a_run_trains_can_be_made_again(tmp_path):
    """Mistake: result.json has the page's sha256, and the run is refused ever after."""
    own = workdir.Workdir(tmp_path)
    own.start({"recipe": {}}, room=1)
    own.write_bytes("report.html", b"a page")
    own.write_result({"epochs": 1})
    assert "metrics.jsonl" in (tmp_path / "result.json").read_text()
    own.write_bytes("report.html", b"another page")
    assert read_result(tmp_path)["epochs"] == 1
    own.start({"recipe": {}}, room=1)  # a new run: the page was of the other
    assert not (tmp_path / "report.html").exists()


def test_a_call_of_an_earlier_version_is_understood(tmp_path):
    with pytest.warns(DeprecationWarning, match="needs no overwrite"):
        folder = workdir.open_workdir(str(tmp_path / "run"), overwrite=True)
    folder.start({"seed": 1}, room=0)
    assert set(folder.found()) == {"config.json", "metrics.jsonl"}
