"""`evaluate.py`, `predict.py`, `export.py` and `page.py`, as a user calls them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import own_digits
import pytest
from PIL import Image

SCRIPTS = Path(__file__).parent.parent / "scripts"
pytestmark = pytest.mark.xdist_group("run_scripts")


@pytest.fixture(scope="module")
def folder(forks, tmp_path_factory):
    """A folder with a run in it, and with pictures."""
    folder = tmp_path_factory.mktemp("used")
    flags = ("--recipe=momentum_mlp_per_sample", "--dataset=digits", "--epochs=2")
    done = forks.run(
        SCRIPTS / "train.py", *flags, "--batch_size=32", "--workdir=run", cwd=folder
    )
    assert done.returncode == 0, done.stderr
    (folder / "own").mkdir()
    for digit in (0, 3):
        (folder / "own" / f"{digit}.png").write_bytes(
            own_digits.draw(digit, 0, pen=0.1)
        )
    (folder / "own" / "bad.txt").write_text("no picture")
    (folder / "bad.png").write_text("no picture")
    Image.new("L", (30, 30), 255).save(folder / "white.png")
    return folder


@pytest.fixture
def call(forks, folder):
    def call(name: str, *flags: str):
        script = SCRIPTS / f"{name}.py"
        return forks.run(script, *flags, cwd=folder, COLUMNS="80")

    return call


def lines_of(done) -> list[str]:
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert max(map(len, lines)) <= 80
    return lines


def test_an_evaluation_is_that_of_the_run(call, folder):
    result = json.loads((folder / "run" / "result.json").read_text())
    text = lines_of(call("evaluate", "run", "--pictures=seen"))
    accuracy = f"accuracy  {100 * result['test_accuracy']:.2f} %: "
    assert any(line.startswith(accuracy) for line in text)
    assert text[-3:] == [
        "seen/confusion.png",
        "seen/calibration.png",
        "seen/mistakes.png",
    ]
    for line in text[-3:]:
        with Image.open(folder / line) as picture:
            assert min(picture.size) > 300
    done = call("evaluate", "run", "--json")
    found = json.loads(done.stdout)
    assert found["accuracy"] == result["test_accuracy"]
    assert found["loss"] == result["test_loss"]
    assert sum(map(sum, found["confusion"])) == found["examples"]
    assert found["class_names"] == list("0123456789")


def test_own_pictures_are_shown_and_named(call):
    text = lines_of(call("predict", "run", "own/3.png"))
    assert text[-1].startswith("own/3.png: ")
    assert text[-1].count(" %)") == 3
    assert any("@@" in line for line in text)
    many = lines_of(call("predict", "run", "own"))
    assert [line.partition(":")[0] for line in many[2:]] == ["own/0.png", "own/3.png"]
    done = call("predict", "run", "own", "--json", "--raw")
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row["picture"] for row in rows] == ["own/0.png", "own/3.png"]
    assert all(len(row["guesses"]) == 3 for row in rows)


def test_a_picture_that_is_unlike_has_a_hint(call, folder):
    """Noise has one, a digit has none; not where the data have changed."""
    noise = np.random.default_rng(0).integers(0, 256, (28, 28)).astype(np.uint8)
    Image.fromarray(noise).save(folder / "noise.png")
    text = lines_of(call("predict", "run", "noise.png", "--raw"))
    assert text[-2:] == [
        "  hint: unlike the training data:",
        "  it is farther from the training images than 99.5 % of the test's",
    ]
    done = call("predict", "run", "noise.png", "own/3.png", "--raw", "--json")
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert rows[0]["unlike"] == "pixels"
    assert not any("hint" in line for line in lines_of(call("predict", "run", "own")))
    changed = shutil.copytree(folder / "run", folder / "changed")
    config = json.loads((changed / "config.json").read_text())
    config["data"] = dict.fromkeys(config["data"], "0" * 64)
    (changed / "config.json").write_text(json.dumps(config))
    (changed / "result.json").unlink()
    done = call("predict", "changed", "noise.png", "--raw", "--json")
    assert "unlike" not in json.loads(done.stdout)
    shutil.rmtree(changed)


def test_a_page_of_a_run_is_one_file_that_fetches_nothing(call, folder):
    result = json.loads((folder / "run" / "result.json").read_text())
    assert lines_of(call("page", "run")) == ["run/report.html"]
    page = (folder / "run" / "report.html").read_text()
    assert f"<strong>{100 * result['test_accuracy']:.2f} %</strong> of the" in page
    for name in ("Curves", "Confusion", "Calibration", "Classes", "Network"):
        assert f">{name}</h2>" in page
    assert page.count("<img ") == page.count('src="data:image/png;base64,') == 5
    assert page.count("<script>") == page.count("<script") == 1
    assert "http:" not in page
    assert "https:" not in page
    assert "optimizer.algorithm.momentum" in page
    assert "--recipe=momentum_mlp_per_sample" in page
    assert lines_of(call("page", "run", "--out=a.html", "--part=train")) == ["a.html"]


def test_names_in_a_page_are_no_html(call, folder, tmp_path):
    run = shutil.copytree(folder / "run", tmp_path / "run")
    config = json.loads((run / "config.json").read_text())
    config["recipe"]["name"] = "<script>alert(1)</script>"
    config["recipe"]["summary"] = "<img src=x onerror=alert(1)>"
    (run / "config.json").write_text(json.dumps(config))
    (run / "result.json").unlink()  # it has the digest of the file
    assert call("page", str(run), f"--out={tmp_path / 'a.html'}").returncode == 0
    page = (tmp_path / "a.html").read_text()
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "<img src=x" not in page


def test_an_export_is_told(call, folder):
    text = lines_of(call("export", "run", "--to=to", "--formats=numpy,safetensors"))
    assert text[-3].startswith("numpy        weights.npz, network.py: loaded again, ")
    assert text[-2] == "safetensors  params.safetensors: loaded again, the same bits"
    assert text[-1] == "in to"
    assert sorted(
        path.name for path in (folder / "to").iterdir() if path.is_file()
    ) == [
        "network.py",
        "params.safetensors",
        "weights.npz",
    ]


def test_a_training_step_is_exported(call, folder):
    """Momentum, and the data set read again."""
    text = lines_of(call("export", "run", "--to=step", "--formats=train_step"))
    said = "train_step   step.stablehlo, state.safetensors: loaded again, "
    assert text[-2].startswith(said)


@pytest.mark.parametrize(
    ("call_of", "said"),
    [
        (("evaluate",), "expected the workdir of one run, got 0"),
        (("evaluate", "nowhere"), "expected the folder of a run, got 'nowhere'"),
        (("evaluate", "own"), "own holds no run of train.py: it has no config.json"),
        (
            ("evaluate", "run", "--part=some"),
            "flag --part=some: value should be one of",
        ),
        (
            ("evaluate", "run", "--dataset=mnits"),
            "unknown dataset 'mnits'; did you mean",
        ),
        (("evaluate", "run", "--dataset=idx", "--data_dir=own"), "own"),
        (("evaluate", "run", "--seed=3"), "expected seed=0 of run, got 3"),
        (("evaluate", "run", "--pictures=bad.png"), "bad.png"),
        (
            ("predict",),
            "expected the workdir of a run, and pictures or folders, got []",
        ),
        (
            ("predict", "run", "none.png"),
            "cannot read none.png: No such file or direct",
        ),
        (("predict", "run", "bad.png"), "bad.png: expected a picture (BMP, GIF, JPEG,"),
        (("predict", "run", "white.png"), "white.png: expected something drawn, got a"),
        (("predict", "run", "run/checkpoints"), "expected pictures (.bmp, .gif,"),
        (
            ("export", "run", "--formats=onxx"),
            "unknown format 'onxx'; did you mean onnx",
        ),
        (("export", "run", "--to="), "expected a folder for --to, got ''"),
        (("export", "run", "--to=bad.png"), "bad.png"),
        (("page",), "expected the workdir of one run, got 0"),
        (("page", "own"), "own holds no run of train.py: it has no config.json"),
        (
            ("page", "run", "--out=a.pdf"),
            "expected an HTML file for --out, got",
        ),
        (("page", "run", "--out=bad.png/a.html"), "bad.png"),
    ],
)
def test_bad_input_is_told_in_one_line(call_of, said, call, folder):
    before = sorted(map(str, folder.rglob("*")))
    done = call(*call_of)
    assert done.returncode == 2, done.stdout
    assert done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith(f"{call_of[0]}.py: error: ")
    assert said in done.stderr
    assert sorted(map(str, folder.rglob("*"))) == before
