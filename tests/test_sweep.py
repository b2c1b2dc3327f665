"""Sweeps: chosen by the validation examples alone, resumed, told in full."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from cnnjax.base import signals
from cnnjax.base.errors import InputError
from cnnjax.data.dataset import Dataset
from cnnjax.data.splits import (
    OFFICIAL,
    HoldOut,
    count_train,
    split_dataset,
    validation_split,
)
from cnnjax.experiments.described import recipe_of
from cnnjax.experiments.overrides import override
from cnnjax.experiments.recipes import get_recipe
from cnnjax.results.plain import plain
from cnnjax.studies.sweeping import choosing, grid, runs, telling
from cnnjax.types import Examples

SWEEP = Path(__file__).parent.parent / "scripts" / "sweep.py"
PARSERS = {"l2": float, "batch_size": int, "shuffle": str}
BRIEF = ("--recipe=tanh_mlp_cifar10_shallow", "--epochs=1", "--strategy=jit")


# -- splits --------------------------------------------------------------------------


def numbered(num_train: int, num_test: int | None) -> Dataset:
    """Return a dataset in which every example is its own number."""

    def examples(first: int, count: int) -> Examples:
        rows = np.arange(first, first + count)
        return Examples(rows.astype(np.float32)[:, None], rows[:, None])

    test = None if num_test is None else examples(num_train, num_test)
    return Dataset(
        name="numbers", train=examples(0, num_train), test=test, class_names=()
    )


def parts(split, dataset, seed=0):
    key = jax.random.key(seed)
    train, test = split_dataset(dataset, split, key=key)
    return set(train.labels.ravel().tolist()), set(test.labels.ravel().tolist())


@pytest.mark.parametrize("before", [OFFICIAL, HoldOut(0.2), HoldOut(0.3, HoldOut(0.2))])
def test_validation_examples_are_training_examples_of_the_split_before(before):
    """Mistake: to choose by what the test measures, or to train on either."""
    dataset = numbered(100, 30)
    train, test = parts(before, dataset)
    kept, validation = parts(split := validation_split(before, 0.25), dataset)
    assert kept | validation == train
    assert not kept & validation
    assert not test & (kept | validation)
    assert len(validation) == round(0.25 * len(train))
    assert count_train(dataset, split) == len(kept)


def test_validation_examples_are_drawn_anew():
    """Mistake: the same key twice, so that the parts are those of one permutation."""
    dataset = numbered(1000, None)
    _, test = parts(HoldOut(0.5), dataset)
    _, validation = parts(HoldOut(0.5, HoldOut(0.5)), dataset)
    others = sorted(set(range(1000)) - test)
    places = [others.index(row) for row in sorted(validation)]
    assert 200 < np.mean(places) < 300
    assert parts(HoldOut(0.5, HoldOut(0.5)), dataset, seed=1)[1] != validation
    key = jax.random.key(0)  # the default of `parts`
    kept = np.asarray(jax.random.permutation(key, 1000))[500:]
    anew = np.asarray(jax.random.permutation(jax.random.fold_in(key, 1), 500))
    assert validation == set(kept[anew[:250]].tolist())


def test_a_split_of_a_split_is_read_back():
    recipe = override(get_recipe("adam_cosine_cnn"), split=HoldOut(0.1, HoldOut(0.2)))
    assert recipe_of(plain(recipe)) == recipe


@pytest.mark.parametrize("of", [0.2, "official", OFFICIAL])
def test_only_a_hold_out_comes_before_another(of):
    with pytest.raises(InputError, match="of"):
        HoldOut(0.1, of)


# -- the choices ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "settings to sweep"),
        (";;", "settings to sweep"),
        ("l2", "NAME=VALUE,VALUE"),
        ("l2=", "NAME=VALUE,VALUE"),
        ("l2=1,,2", "NAME=VALUE,VALUE"),
        ("l3=1", "unknown setting to sweep 'l3'; known: batch_size, l2"),
        ("l2=1;l2=2", "each setting once"),
        ("l2=1,1.0", "each value of l2 once"),
        ("l2=nan", "a finite l2"),
        ("l2=1,inf", "a finite l2"),
        ("l2=much", "values of l2"),
        ("batch_size=1.5", "values of batch_size"),
        ("l2=" + ",".join(map(str, range(1001))), "at most 1,000 combinations"),
    ],
)
def test_what_is_no_sweep_is_refused(text, told):
    with pytest.raises(InputError, match=told):
        grid.parse_sweep(text, PARSERS)


def test_choices_are_all_combinations_once():
    choices = grid.choices_of(grid.parse_sweep("l2=0,1;batch_size=1,2,3", PARSERS))
    assert len({one.name for one in choices}) == len(choices) == 6
    assert {tuple(one.values) for one in choices} == {("l2", "batch_size")}


def tried(score, *, name="a", metric="accuracy", diverged=False):
    choice = grid.Choice((("l2", name),))
    return choosing.Tried(choice, Path(name), metric, {0: score}, diverged)


def test_the_best_is_the_highest_accuracy_or_the_lowest_loss():
    rows = [tried(0.5), tried(0.9, name="b"), tried(0.9, name="c")]
    assert choosing.best_of(rows) is rows[1]  # the first of equals
    assert choosing.second_of(rows, rows[1]) is rows[2]
    losses = [tried(0.5, metric="loss"), tried(0.9, metric="loss")]
    assert choosing.best_of(losses) is losses[0]


def test_a_choice_that_diverged_is_never_chosen():
    rows = [tried(0.9, diverged=True), tried(0.5)]
    assert choosing.best_of(rows) is rows[1]
    assert choosing.second_of(rows, rows[1]) is None
    with pytest.raises(InputError, match="without diverging"):
        choosing.best_of(rows[:1])


@pytest.mark.parametrize("metric", ["accuracy", "loss"])
def test_a_picture_is_drawn_of_every_kind_of_sweep(metric):
    axes = {"l2": [0.0, 1e-4, 1e-2], "shuffle": ["once", "every_epoch"]}
    rows = [
        choosing.Tried(one, Path("x"), metric, {0: 0.5, 1: 0.6}, at == 2)
        for at, one in enumerate(grid.choices_of(axes))
    ]
    assert telling.draw_sweep(rows, title="$a_b$").startswith(b"\x89PNG")
    words = grid.choices_of({"shuffle": ["once", "every_epoch"]})
    rows = [choosing.Tried(one, Path("x"), metric, {0: 0.5}, False) for one in words]
    assert telling.draw_sweep(rows, title="words").startswith(b"\x89PNG")


def test_what_fails_ends_a_sweep_after_what_has_begun(monkeypatch, tmp_path):
    """Mistake: an error is lost in its thread, or more runs begin after it."""
    begun, release = [], threading.Event()

    def train_run(recipe, dataset, path, how, *, stop):
        begun.append(path.name)
        if path.name == "l2=0.1":
            raise InputError("no room")
        release.wait(60)

    monkeypatch.setattr(runs, "train_run", train_run)
    monkeypatch.setattr(runs, "read_tried", lambda choice, path: release.set())
    how = SimpleNamespace(prepare=lambda *_: None, seeds=[0], at_once=2)
    choices = [grid.Choice((("l2", value),)) for value in (0.1, 0.2, 0.3, 0.4)]
    threading.Timer(1.0, release.set).start()
    with pytest.raises(InputError, match="no room"):
        runs.train_runs(dict.fromkeys(choices), None, tmp_path, how, stop=None)
    assert begun[:1] == ["l2=0.1"]
    assert set(begun) <= {"l2=0.1", "l2=0.2", "l2=0.3"}


def test_a_signal_waits_for_all_runs_that_are_trained(monkeypatch):
    """Mistake: the run that ends first lets the next signal end the others unsaved."""
    ended: list[int] = []
    monkeypatch.setattr(signals, "end_at_once", lambda number, _: ended.append(number))
    stop = signals.Stop()
    with stop.deferred():
        with stop.deferred():
            pass
        stop._heard(signal.SIGTERM)
        assert (stop.number, ended) == (signal.SIGTERM, [])
    stop._heard(signal.SIGTERM)
    assert ended == [signal.SIGTERM]


# -- the script ----------------------------------------------------------------------


def made(folder: Path, *, test_labels: int) -> Path:
    """Write arrays: two classes, dark and light. The test's labels are as asked."""
    rng = np.random.default_rng(0)
    labels = np.arange(80) % 2
    images = rng.integers(0, 100, (80, 4, 4)) + 120 * labels[:, None, None]
    images = images.astype(np.uint8)
    tests = (labels[:20] + test_labels) % 2
    path = folder / f"data{test_labels}.npz"
    np.savez(path, x_train=images, y_train=labels, x_test=images[:20], y_test=tests)
    return path


def swept(forks, folder: Path, data: Path, *flags: str, sweep="learning_rate=0.01,0.1"):
    told = (*BRIEF, f"--dataset=npz:{data}", f"--workdir={folder}", f"--sweep={sweep}")
    return forks.run(SWEEP, *told, *flags, cwd=folder.parent)


@pytest.fixture(scope="module")
def undisturbed(forks, tmp_path_factory):
    """A sweep: its folder, and what was printed."""
    folder = tmp_path_factory.mktemp("sweep") / "swept"
    done = swept(forks, folder, made(folder.parent, test_labels=0))
    assert (done.returncode, done.stderr) == (0, "")
    return folder, done.stdout


def found(folder: Path) -> dict:
    return json.loads((folder / "sweep.json").read_text())


def test_a_sweep_says_what_was_chosen_and_tests_it_once(undisturbed):
    folder, said = undisturbed
    rows = found(folder)["tried"]
    assert [row["learning_rate"] for row in rows] == [0.01, 0.1]
    best = max(rows, key=lambda row: row["validation_accuracy"])
    assert found(folder)["chosen"] == best["folder"]
    (test,) = found(folder)["test_by_seed"].values()
    assert test["examples"] == 20
    assert f"chosen: {best['folder']}\n" in said
    assert f"test accuracy: {100 * test['accuracy']:.2f} %" in said
    assert said.count("looked at once") == 1
    lines = [line for line in said.splitlines() if str(folder.parent) not in line]
    assert max(map(len, lines)) <= 80
    for row in rows:
        config = json.loads((folder / row["folder"] / "config.json").read_text())
        assert config["recipe"]["split"]["fraction"] == 0.1
        predicted = (folder / row["folder"] / "predictions.csv").read_text()
        assert predicted.count("\n") == 1 + 8  # a tenth of 80


def test_the_test_examples_have_no_part_in_the_choice(forks, undisturbed, tmp_path):
    """With every label of the test exchanged, all is the same but the test."""
    folder, _ = undisturbed
    done = swept(forks, tmp_path / "swept", made(tmp_path, test_labels=1))
    assert done.returncode == 0, done.stderr
    before, after = found(folder), found(tmp_path / "swept")
    tests = [of.pop("test_by_seed")["0"]["accuracy"] for of in (before, after)]
    assert before == after
    assert sum(tests) == pytest.approx(1)
    for row in before["tried"]:
        params = f"{row['folder']}/params.safetensors"
        assert (folder / params).read_bytes() == (
            tmp_path / "swept" / params
        ).read_bytes()


def test_a_killed_sweep_ends_in_the_same_table(forks, undisturbed, tmp_path):
    folder, said = undisturbed
    data, to = made(tmp_path, test_labels=0), tmp_path / "swept"
    told = (*BRIEF, f"--dataset=npz:{data}", f"--workdir={to}")
    command = [sys.executable, SWEEP, *told, "--sweep=learning_rate=0.01,0.1"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        first = to / "learning_rate=0.01" / "result.json"
        for _ in range(1200):
            if first.exists():
                break
            time.sleep(0.1)
        os.kill(process.pid, signal.SIGKILL)
    finally:
        process.kill()
        process.wait()
    assert first.exists()
    assert not (to / "sweep.json").exists()
    kept = first.stat().st_mtime_ns
    done = swept(forks, to, data)
    assert done.returncode == 0, done.stderr
    assert first.stat().st_mtime_ns == kept  # it was not trained again
    assert found(to) == found(folder)
    table, again = (text[text.index("\n\nlearning") :] for text in (said, done.stdout))
    assert again.replace(str(to), str(folder)) == table


def test_runs_side_by_side_end_in_the_same_bits(forks, undisturbed, tmp_path):
    """Mistake: a run is given what another one in its thread has left."""
    folder, said = undisturbed
    data, to = made(tmp_path, test_labels=0), tmp_path / "swept"
    done = swept(forks, to, data, "--runs_at_once=2")
    assert (done.returncode, done.stderr) == (0, "")
    assert found(to) == found(folder)
    for row in found(folder)["tried"]:
        for name in ("params.safetensors", "predictions.csv"):
            kept = Path(row["folder"]) / name
            assert (to / kept).read_bytes() == (folder / kept).read_bytes()
    head = "\n\nlearning_rate  seeds"  # above it, a line for each run as it ends
    table, again = (text[text.index(head) :] for text in (said, done.stdout))
    assert again.replace(str(to), str(folder)) == table


def test_a_signal_stops_all_runs_that_are_side_by_side(forks, undisturbed, tmp_path):
    """Mistake: the first run that is stopped lets the signal end the others unsaved."""
    data, to = made(tmp_path, test_labels=0), tmp_path / "swept"
    flags = (*BRIEF[:1], "--strategy=jit", "--runs_at_once=2", "--resume=auto")
    told = (*flags, "--epochs=200000", f"--dataset=npz:{data}", f"--workdir={to}")
    command = [sys.executable, SWEEP, *told, "--sweep=learning_rate=0.01,0.1"]
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    logs = [to / f"learning_rate={rate}" / "metrics.jsonl" for rate in (0.01, 0.1)]
    try:
        for _ in range(1200):
            if all(log.exists() and log.read_bytes().count(b"\n") > 2 for log in logs):
                break
            time.sleep(0.1)
        process.terminate()
        _, said = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 143, said
    assert said.count(b"\n") == 1
    assert b"the same command" in said
    for log in logs:
        assert any((log.parent / "checkpoints").glob("0*/manifest.json")), log


def test_more_values_extend_a_sweep(forks, undisturbed):
    """A choice that is there already is not trained again."""
    folder, _ = undisturbed
    kept = {
        path: path.stat().st_mtime_ns for path in folder.glob("*/params.safetensors")
    }
    wider = "learning_rate=0.01,0.1,3e38"
    data = folder.parent / "data0.npz"
    done = swept(forks, folder, data, sweep=wider)
    assert done.returncode == 0, done.stderr
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    rows = found(folder)["tried"]
    assert [row["diverged"] for row in rows] == [False, False, True]
    assert "learning_rate=3e+38: validation accuracy" in done.stdout
    assert "(diverged)" in done.stdout


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--sweep="], "expected settings for --sweep"),
        (
            ["--sweep=lr=1"],
            "unknown setting to sweep 'lr'; did you mean learning_rate?",
        ),
        (["--sweep=shuffle=never,no"], "values of shuffle, got 'no'"),
        (["--sweep=batch_size=8,100"], "batch_size from 1 to the 72 training examples"),
        (["--sweep=l2=1,2", "--l2=1"], "a sweep of l2, or --l2"),
        (["--sweep=l2=0,-1"], "l2"),
        (["--sweep=l2=0,1", "--validation=1"], "validation in [0, 1)"),
        (["--sweep=l2=0,1", "--log_steps"], "or --log_steps or"),
        (["--sweep=patience=1,2"], "unknown setting to sweep"),
        (["--sweep=l2=0,1", "--workdir="], "a folder for --workdir"),
    ],
)
def test_what_is_refused_is_one_line_and_trains_nothing(forks, tmp_path, flags, told):
    data = made(tmp_path, test_labels=0)
    words = (*BRIEF, f"--dataset=npz:{data}", "--workdir=swept", *flags)
    done = forks.run(SWEEP, *words, cwd=tmp_path)
    assert done.returncode == 2
    assert told in done.stderr
    assert done.stderr.startswith("sweep.py: error: ")
    assert done.stderr.count("\n") == 1
    assert not list(tmp_path.glob("swept/*/config.json"))
