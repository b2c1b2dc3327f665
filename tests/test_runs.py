"""`scripts/runs.py`: every run of a folder in a row, and what differs between them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image
from run_folders import write_run

SCRIPT = Path(__file__).parent.parent / "scripts" / "runs.py"


@pytest.fixture
def list_runs(forks, tmp_path):
    """Run the script; return what it printed."""

    def run(*args: str, status: int = 0) -> str:
        done = forks.run(SCRIPT, *args, cwd=tmp_path, COLUMNS="80")
        assert done.returncode == status, done.stderr
        assert bool(done.stderr) == bool(status)
        return done.stderr if status else done.stdout

    return run


def curve(folder: Path, *values: float | None, seed: int | None = None) -> None:
    """Add lines to a run's metrics.jsonl."""
    own = {} if seed is None else {"seed": seed}
    rows = [
        {**own, "epoch": epoch, "test_loss": value, "test_accuracy": value}
        for epoch, value in enumerate(values, start=1)
    ]
    with (folder / "metrics.jsonl").open("a") as file:
        file.writelines(f"{json.dumps(row)}\n" for row in rows)


@pytest.fixture
def folder(tmp_path):
    """Make runs: a finished one, one below, one of seeds, one begun, one damaged."""
    for name, rate in (("a", 0.1), ("below/b", 0.3)):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        write_run(
            tmp_path / name,
            {0: 0.5 + rate},
            settings={"optimizer": {"learning_rate": rate}},
            epochs=2,
            train_seconds=12.34,
        )
        curve(tmp_path / name, 0.4, 0.5 + rate)
    write_run(
        tmp_path / "seeds", {0: 0.9, 1: 0.8, 2: 0.4}, of_seed={2: {"diverged": True}}
    )
    begun = tmp_path / "begun"
    write_run(begun, {0: 0.0})
    (begun / "result.json").unlink()
    curve(begun, 0.3, 0.35, 0.4)
    write_run(tmp_path / "damaged", {0: 0.5})
    (tmp_path / "damaged" / "result.json").write_text("{")
    (tmp_path / "a" / "checkpoints" / "inside").mkdir(parents=True)
    (tmp_path / "a" / "checkpoints" / "inside" / "config.json").write_text("{}")
    return tmp_path


def test_every_run_has_a_row_and_what_differs_is_told(folder, list_runs):
    text = list_runs(str(folder))
    rows = {line.split()[0]: line.split()[1:] for line in text.splitlines()[:6]}
    assert rows["run"] == ["epochs", "seeds", "test", "train", "s"]
    assert rows["a"] == ["2", "1", "60.00", "%", "12.3"]
    assert rows["below/b"] == ["2", "1", "80.00", "%", "12.3"]
    assert rows["seeds"] == ["0", "3", "70.00", "%", "(diverged)"]
    assert rows["begun"] == ["3", "1", "unfinished"]
    assert rows["damaged"] == ["damaged"]
    assert "    0.1: a\n    none: begun, seeds\n    0.3: below/b\n" in text
    assert "damaged cannot be read: " in " ".join(text.split())
    assert all(len(line) <= 80 for line in text.splitlines() if "/" not in line)


def test_the_best_come_first(folder, list_runs):
    text = list_runs(str(folder), "--json")
    rows = [json.loads(line) for line in text.splitlines()]
    names = [row["name"] for row in rows]
    assert names == ["a", "begun", "below/b", "damaged", "seeds"]
    assert rows[0]["settings"]["optimizer.learning_rate"] == 0.1
    assert "result.json is damaged" in rows[3]["why"]
    text = list_runs(str(folder), "--json", "--sort=score")
    names = [json.loads(line)["name"] for line in text.splitlines()]
    assert names == ["below/b", "seeds", "a", "begun", "damaged"]


def test_the_curves_of_all_are_in_one_picture(folder, list_runs, tmp_path):
    """A value that is not a number is left out."""
    curve(folder / "seeds", None, 0.5, seed=0)
    path = tmp_path / "curves.png"
    assert list_runs(str(folder), f"--curves={path}").endswith(f"\n{path}\n")
    with Image.open(path) as picture:
        assert picture.size == (1100, 495)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ((), "expected one folder of runs, got 0"),
        (("there", "here"), "expected one folder of runs, got 2"),
        (("nowhere",), "expected a folder of runs, got 'nowhere'"),
        (("empty",), "expected runs of train.py in empty, got none"),
        (("one", "--curves=a.jpg"), "expected a PNG file for --curves, got 'a.jpg'"),
        (("one", "--sort=age"), "sort"),
    ],
)
def test_bad_input_is_refused(args, message, list_runs, tmp_path):
    (tmp_path / "empty").mkdir()
    write_run(tmp_path / "one", {0: 0.5})
    told = list_runs(*args, status=2)
    assert message in told
    assert told.count("\n") == 1


def test_runs_without_curves_draw_nothing(list_runs, tmp_path):
    write_run(tmp_path / "one", {0: 0.5})
    told = list_runs("one", "--curves=a.png", status=2)
    assert "expected test results in one to draw, got none" in told
    assert not (tmp_path / "a.png").exists()


def test_a_run_itself_is_a_folder_of_one(tmp_path, list_runs):
    text = list_runs(write_run(tmp_path / "own", {0: 0.5}))
    assert text.splitlines()[1].split() == ["own", "0", "1", "50.00", "%"]
    assert "what differs" not in text
