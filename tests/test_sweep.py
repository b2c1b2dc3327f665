"""Sweeps: chosen by the validation examples alone, resumed, told in full."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from unittest.mock import Mock

import jax
import numpy as np
import pytest
from batches import TINY, random_dataset

from cnnjax.base import signals
from cnnjax.base.compile_cache import CompileCache
from cnnjax.base.errors import InputError
from cnnjax.base.signals import NEVER, Stop, StoppedError
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
from cnnjax.experiments.recipe import Recipe
from cnnjax.experiments.recipes import get_recipe
from cnnjax.laws.comparison import largest_error
from cnnjax.loaded import load_run
from cnnjax.results.checkpoints.keeper import Keeper
from cnnjax.results.checkpoints.policy import Every
from cnnjax.results.environment import describe_environment
from cnnjax.results.plain import plain
from cnnjax.strategies import NO_OPTIONS
from cnnjax.studies.sweeping import choosing, grid, runs, telling, together
from cnnjax.studies.sweeping.how import How
from cnnjax.telling.folder import Keeping
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


# -- runs of one program -------------------------------------------------------------

BASE = override(
    TINY, batch_size=16, epochs=2, algorithm="sgd", schedule="constant", momentum=0.9
)
DATASET = random_dataset(TINY, train=50, test=23)


def in_a_sweep(at_once: int, **changes) -> How:
    """Return how to train in this process; a checkpoint after every epoch."""
    how = How(
        seeds=[0],
        settle=lambda recipe: (recipe, NO_OPTIONS),
        keeping=Keeping(Every(epochs=1), 2, "auto", overwrite=False),
        evaluate_every=1,
        on_nan="stop",
        group_size=1,
        at_once=at_once,
        noted={},
        environment=describe_environment(),
        command=["sweep.py"],
        cache=CompileCache(),
    )
    return how._replace(**changes)


def recipes(**axes: list) -> dict[grid.Choice, Recipe]:
    return runs.recipes_of(BASE, axes, BASE.split)


RATES = recipes(learning_rate=[0.01, 0.02, 0.03])


def names_of(groups: list[list[grid.Choice]]) -> list[list[str]]:
    return [[choice.name for choice in group] for group in groups]


def trained(folder: Path, how: How, of=RATES, stop=NEVER) -> dict[str, bytes]:
    """Train a sweep; return the parameters of each choice."""
    folder.mkdir(exist_ok=True)
    runs.train_runs(of, DATASET, folder, how, stop=stop)
    return {
        choice.name: (folder / choice.name / "params.safetensors").read_bytes()
        for choice in of
    }


@pytest.fixture(scope="module")
def of_one_program(tmp_path_factory):
    """Three runs of one program, undisturbed: their folder, and their parameters."""
    folder = tmp_path_factory.mktemp("together")
    return folder, trained(folder, in_a_sweep(3))


def test_runs_are_grouped_where_their_shapes_agree(tmp_path):
    own = recipes(learning_rate=[0.01, 0.02, 0.03], l2=[0.0, 0.1])
    groups = runs.groups_of(own, DATASET, tmp_path, in_a_sweep(2))
    assert names_of(groups) == [
        ["learning_rate=0.01,l2=0.0", "learning_rate=0.02,l2=0.0"],
        ["learning_rate=0.01,l2=0.1", "learning_rate=0.02,l2=0.1"],
        ["learning_rate=0.03,l2=0.0"],
        ["learning_rate=0.03,l2=0.1"],
    ]
    sizes = recipes(batch_size=[8, 16])
    for how, of in (
        (in_a_sweep(1), RATES),
        (in_a_sweep(3), sizes),
        (in_a_sweep(3, seeds=[0, 1]), RATES),
        (in_a_sweep(3), {c: override(r, strategy="eager") for c, r in RATES.items()}),
    ):
        groups = runs.groups_of(of, DATASET, tmp_path, how)
        assert [len(group) for group in groups] == [1] * len(of)


def test_a_run_that_was_begun_alone_stays_alone(tmp_path):
    """Mistake: it begins anew, in a group, and its checkpoints are lost."""
    (tmp_path / "learning_rate=0.02" / "checkpoints").mkdir(parents=True)
    (tmp_path / "learning_rate=0.03").mkdir()
    (tmp_path / "learning_rate=0.03" / "result.json").touch()
    four = recipes(learning_rate=[0.01, 0.02, 0.03, 0.04])
    groups = runs.groups_of(four, DATASET, tmp_path, in_a_sweep(4))
    assert [len(group) for group in groups] == [2, 1, 1]


def test_runs_of_one_program_have_all_that_they_have_alone(of_one_program, tmp_path):
    folder, _ = of_one_program
    trained(tmp_path, in_a_sweep(1))
    assert not (folder / together.FOLDER).exists()
    for choice in RATES:
        mine, alone = folder / choice.name, tmp_path / choice.name
        assert sorted(p.name for p in mine.iterdir()) == sorted(
            p.name for p in alone.iterdir()
        )
        own, other = (load_run(path) for path in (mine, alone))
        assert own.recipe == other.recipe
        assert largest_error(own.params, other.params) <= 1e-5
        logs = [(path / "metrics.jsonl").read_text() for path in (mine, alone)]
        lines = [[json.loads(line) for line in log.splitlines()] for log in logs]
        for line, same in zip(*lines, strict=True):
            assert line["learning_rate"] == same["learning_rate"]
            assert line["test_accuracy"] == same["test_accuracy"]


def test_a_run_of_a_group_can_be_trained_further_alone(of_one_program, tmp_path):
    """Its last checkpoint is one of a run alone, whose epochs are not made again."""
    shutil.copytree(of_one_program[0], folder := tmp_path / "copy")
    trained(folder, in_a_sweep(1), {c: override(r, epochs=3) for c, r in RATES.items()})
    for choice in RATES:
        log = (folder / choice.name / "metrics.jsonl").read_text().splitlines()
        assert [json.loads(line)["epoch"] for line in log] == [1, 2, 3]
        result = json.loads((folder / choice.name / "result.json").read_text())
        assert result["starts"] == 2


class Killed(BaseException):
    """The end of a program that nothing catches."""


def killed(*_, **__):
    raise Killed


def test_what_is_killed_goes_on_to_the_same_bits(of_one_program, tmp_path, monkeypatch):
    """In training: the state of all is kept; no run has a result yet."""
    save = Keeper.save

    def save_and_die(self, *given):
        save(self, *given)
        self.close()
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Keeper, "save", save_and_die)
        with pytest.raises(Killed):
            trained(tmp_path, in_a_sweep(3))
    assert not list(tmp_path.glob("*/result.json"))
    calls = Mock(wraps=together.run_group)
    monkeypatch.setattr(together, "run_group", calls)
    assert trained(tmp_path, in_a_sweep(1)) == of_one_program[1]  # whatever is asked
    (call,) = calls.call_args_list
    assert call.kwargs["resume"].epoch == 1
    assert not (tmp_path / together.FOLDER).exists()
    for choice in RATES:  # and each log is whole
        log = f"{choice.name}/metrics.jsonl"
        first, last = map(json.loads, (tmp_path / log).read_text().splitlines())
        assert (first["epoch"], last["epoch"]) == (1, 2)


@pytest.mark.parametrize("written", [0, 1, 2])
def test_killed_while_results_are_written_the_others_are_the_same(
    of_one_program, tmp_path, monkeypatch, written
):
    """Mistake: what is left is another group, and so another program."""
    write = together.write_results
    left = iter([write] * written + [killed])
    with monkeypatch.context() as patch:
        patch.setattr(together, "write_results", lambda *given: next(left)(*given))
        with pytest.raises(Killed):
            trained(tmp_path, in_a_sweep(3))
    results = list(tmp_path.glob("*/result.json"))
    assert len(results) == written
    before = [path.stat().st_mtime_ns for path in results]
    assert trained(tmp_path, in_a_sweep(3)) == of_one_program[1]
    assert [path.stat().st_mtime_ns for path in results] == before


def stopped_soon(folder: Path) -> None:
    stop = Stop()
    stop.number = signal.SIGTERM
    with pytest.raises(StoppedError, match="the same command goes on from there"):
        trained(folder, in_a_sweep(3), stop=stop)
    assert list((folder / together.FOLDER).glob("0*/manifest.json"))


def test_a_signal_stops_a_group_and_it_goes_on(of_one_program, tmp_path):
    stopped_soon(tmp_path)
    assert trained(tmp_path, in_a_sweep(3)) == of_one_program[1]


def test_more_values_leave_a_group_that_was_begun_as_it_was(of_one_program, tmp_path):
    stopped_soon(tmp_path)
    more = recipes(learning_rate=[0.005, 0.01, 0.02, 0.03])
    groups = runs.groups_of(more, DATASET, tmp_path, in_a_sweep(4))
    assert names_of(groups) == [[c.name for c in RATES], ["learning_rate=0.005"]]
    ended = trained(tmp_path, in_a_sweep(4), more)
    assert ended.items() >= of_one_program[1].items()


def test_a_group_that_is_not_asked_for_any_more_is_forgotten(tmp_path):
    stopped_soon(tmp_path)
    others = recipes(learning_rate=[0.01, 0.04])
    assert list(trained(tmp_path, in_a_sweep(4), others)) == [c.name for c in others]
    assert not (tmp_path / together.FOLDER).exists()


def test_a_group_of_other_settings_is_refused(tmp_path):
    """As a run alone is: its folder holds another run."""
    stopped_soon(tmp_path)
    longer = {c: override(r, batch_size=8) for c, r in RATES.items()}
    with pytest.raises(InputError, match="batch_size"):
        trained(tmp_path, in_a_sweep(3), longer)
    assert (tmp_path / together.FOLDER).exists()
    anew = in_a_sweep(3)
    anew = anew._replace(keeping=anew.keeping._replace(overwrite=True))
    trained(tmp_path, anew, longer)
    assert not (tmp_path / together.FOLDER).exists()


def test_a_folder_of_somebody_else_is_left_alone(tmp_path):
    notes = tmp_path / together.FOLDER / "notes.txt"
    notes.parent.mkdir()
    notes.write_text("mine")
    anew = in_a_sweep(3)
    anew = anew._replace(keeping=anew.keeping._replace(overwrite=True))
    for how in (in_a_sweep(3), anew):
        with pytest.raises(InputError, match="no together in .* but ours"):
            trained(tmp_path, how, recipes(learning_rate=[0.1, 0.2]))
    trained(tmp_path, in_a_sweep(1))
    assert notes.read_text() == "mine"


def test_a_damaged_state_of_a_group_is_not_used(of_one_program, tmp_path):
    stopped_soon(tmp_path)
    for path in (tmp_path / together.FOLDER).glob("0*/arrays/**/*"):
        if path.is_file():
            path.write_bytes(path.read_bytes()[:-1] + b"!")
    assert trained(tmp_path, in_a_sweep(3)) == of_one_program[1]


def test_a_run_of_a_group_that_diverges_leaves_the_others_alone(
    of_one_program, tmp_path
):
    wild = recipes(learning_rate=[0.01, 0.02, 3e38])
    ended = trained(tmp_path, in_a_sweep(3), wild)
    for name in ("learning_rate=0.01", "learning_rate=0.02"):
        assert ended[name] == of_one_program[1][name]
    row = choosing.read_tried(list(wild)[2], tmp_path / "learning_rate=3e+38")
    assert row.diverged


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


def test_a_sweep_of_one_program_gives_the_same_table(forks, undisturbed, tmp_path):
    folder, said = undisturbed
    data, to = made(tmp_path, test_labels=0), tmp_path / "swept"
    done = swept(forks, to, data, "--runs_at_once=2")
    assert (done.returncode, done.stderr) == (0, "")
    assert "2 choices, up to 2 in one program" in done.stdout
    assert found(to) == found(folder)
    head = "\n\nlearning_rate  seeds"  # above it, a line for each run as it ends
    table, again = (text[text.index(head) :] for text in (said, done.stdout))
    assert again.replace(str(to), str(folder)) == table


def test_a_signal_stops_a_sweep_of_one_program(forks, undisturbed, tmp_path):
    """Mistake: it waits for the last epoch, or what is trained is lost."""
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
    assert list((to / together.FOLDER).glob("0*/manifest.json"))


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
