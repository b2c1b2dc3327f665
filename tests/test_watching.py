"""Who looks on while a run is trained: what they are told; they change nothing."""

from __future__ import annotations

import json
import re
import shutil
import struct
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from cnnjax.base.errors import InputError
from cnnjax.base.signals import StoppedError
from cnnjax.data import load_dataset
from cnnjax.experiments import prepare
from cnnjax.experiments.overrides import override
from cnnjax.experiments.recipes import get_recipe
from cnnjax.gradients import serial_value_and_grad
from cnnjax.loaded import load_run
from cnnjax.telling import tensorboard, watching
from cnnjax.types import Batch

ROOT = Path(__file__).parent.parent
TRAIN = ROOT / "scripts" / "train.py"
BRIEF = ("--dataset=digits", "--recipe=momentum_mlp_per_sample", "--strategy=jit")
BRIEF += ("--num_train=128", "--batch_size=32", "--epochs=2")


def trained(forks, folder: Path, *flags: str):
    """Train in a folder with the module `tracking`; return what was printed."""
    shutil.copy(ROOT / "tests" / "tracking.py", folder)
    done = forks.run(TRAIN, *BRIEF, *flags, cwd=folder)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def told(folder: Path) -> list:
    return list(map(json.loads, (folder / "told.jsonl").read_text().splitlines()))


# -- several watchers ----------------------------------------------------------------


class Failing:
    def __init__(self, error: BaseException) -> None:
        self.error, self.asked = error, 0

    def __str__(self) -> str:
        return "the watcher"

    def end(self, result):
        self.asked += 1
        raise self.error


def test_a_watcher_that_fails_is_named_and_not_asked_again():
    said = []
    heard = []
    class_of = type("Good", (), {"end": lambda self, result: heard.append(result)})
    bad = Failing(OSError("no\nroom"))
    watchers = watching.Watchers([bad, class_of()], say=said.append)
    watchers.end({"a": 1})
    watchers.end({"a": 2})
    watchers.start({}, 0)
    assert bad.asked == 1
    assert heard == [{"a": 1}, {"a": 2}]
    (line,) = said
    assert " ".join(line.split()) == (
        "warning: the watcher failed and is not asked again: OSError: no room"
    )


@pytest.mark.parametrize("error", [StoppedError(15, ""), KeyboardInterrupt()])
def test_a_signal_is_no_failure_of_a_watcher(error):
    with pytest.raises(type(error)):
        watching.Watchers([Failing(error)], say=print).end({})


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("tracking", "MODULE:FUNCTION"),
        (":report", "MODULE:FUNCTION"),
        ("tracking:", "MODULE:FUNCTION"),
        ("no_such_module:report", "ModuleNotFoundError"),
        ("tracking:no_such_function", "has no attribute"),
        ("tracking:number", "expected a function for --callback, got 3"),
    ],
)
def test_what_is_no_function_is_refused(name, wrong):
    with pytest.raises(InputError, match=wrong) as caught:
        watching.called(name)
    assert "\n" not in str(caught.value)


def test_a_module_that_raises_is_told_in_a_line(tmp_path, monkeypatch):
    (tmp_path / "odd_module.py").write_text("raise SyntaxError('a\\nb')\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="odd_module:f cannot be imported: Syntax"):
        watching.called("odd_module:f")


# -- the flags -----------------------------------------------------------------------


def test_a_callback_is_told_all_that_is_noted(forks, tmp_path):
    trained(forks, tmp_path, "--callback=tracking:report", "--workdir=run")
    events = told(tmp_path)
    assert [event for event, _ in events] == ["start", "epoch", "epoch", "end"]
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert events[0][1]["recipe"] == config["recipe"]
    assert events[0][1]["step"] == 0
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert [values for _, values in events[1:3]] == list(map(json.loads, lines))
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert events[-1][1]["accuracy"] == result["test_accuracy"]
    trained(
        forks, tmp_path, "--callback=tracking:report", "--workdir=run", "--epochs=3"
    )
    again = told(tmp_path)[len(events) :]
    assert [event for event, _ in again] == ["start", "epoch", "end"]
    assert again[0][1]["step"] == 8  # of two epochs


def test_a_callback_that_fails_changes_nothing(forks, tmp_path):
    trained(forks, tmp_path, "--workdir=alone")
    said = trained(forks, tmp_path, "--callback=tracking:fail", "--workdir=watched")
    assert said.count("warning: --callback=tracking:fail failed") == 1
    assert [event for event, _ in told(tmp_path)] == ["start", "epoch"]
    for file in ("params.safetensors", "predictions.csv"):
        alone, watched = (tmp_path / name / file for name in ("alone", "watched"))
        assert alone.read_bytes() == watched.read_bytes()


def test_of_several_seeds_each_epoch_is_told(forks, tmp_path):
    trained(forks, tmp_path, "--callback=tracking:report", "--num_seeds=2")
    events = told(tmp_path)
    seeds = [values["seed"] for event, values in events if event == "epoch"]
    assert seeds == [0, 0, 1, 1]
    assert events[-1][0] == "end"
    assert events[-1][1]["test_accuracy_over_seeds"]["n"] == 2


def test_a_profile_is_of_as_many_updates_as_asked_for(forks, tmp_path):
    said = trained(forks, tmp_path, "--profile=2", "--workdir=run")
    (line,) = [line for line in said.splitlines() if line.startswith("profile of ")]
    assert line.startswith("profile of 2 updates in run/profile; open ")
    (trace,) = (tmp_path / "run" / "profile").rglob("perfetto_trace.json.gz")
    assert trace.stat().st_size > 1000


def test_a_profile_of_more_updates_than_there_are_ends_with_them(forks, tmp_path):
    trained(forks, tmp_path, "--profile=2", "--workdir=run")
    said = trained(forks, tmp_path, "--profile=1000", "--workdir=run", "--overwrite")
    assert "profile of 7 updates in run/profile" in said
    assert len(list((tmp_path / "run" / "profile").rglob("perfetto*"))) == 1


@pytest.mark.parametrize(
    ("flags", "wrong"),
    [
        (["--tensorboard"], "--workdir with --tensorboard"),
        (["--profile=2"], "--workdir with --profile"),
        (["--profile=0", "--workdir=run"], "profile"),
        (["--tensorboard", "--num_seeds=2", "--workdir=run"], "--num_seeds=1 with"),
        (["--callback=nothing", "--workdir=run"], "MODULE:FUNCTION"),
    ],
)
def test_what_is_refused_is_refused_before_anything_is_written(
    forks, tmp_path, flags, wrong
):
    done = forks.run(TRAIN, *BRIEF, *flags, cwd=tmp_path)
    assert done.returncode == 2
    assert wrong in done.stderr
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


BLOCK = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)


class Told:
    """Stands for a library of trackers: every function of it is noted, with what."""

    def __init__(self) -> None:
        self.calls, self.summary = [], self

    def __getattr__(self, name):
        return lambda *values, **named: self.calls.append((name, values, named))


@pytest.mark.parametrize("library", ["wandb", "mlflow"])
def test_the_callbacks_that_the_docs_show(library, monkeypatch):
    """They are told of a whole run, as the libraries want to be told."""
    blocks = BLOCK.findall((ROOT / "docs" / "watching.md").read_text())
    (block,) = [block for block in blocks if f"import {library}" in block]
    monkeypatch.setitem(sys.modules, library, tracker := Told())
    names: dict = {}
    exec(block, names)
    line = {"epoch": 1, "step": 23, "train_loss": 0.5}
    report = names["report"]
    report("start", {"recipe": {"name": "a"}, "step": 0})
    report("epoch", line)
    report("end", {"accuracy": 0.9, "loss": 0.1})
    logged = [call for call in tracker.calls if call[0] in ("log", "log_metrics")]
    assert logged == [(logged[0][0], (line,), {"step": 23})]
    assert tracker.calls[0][0] in ("init", "start_run")
    assert tracker.calls[-1][0] in ("finish", "end_run")


# -- TensorBoard ---------------------------------------------------------------------


def events_of(folder: Path) -> list:
    """Read the records of the files in a folder: length, its CRC, data, its CRC."""
    event_pb2 = pytest.importorskip("tensorboardX.proto.event_pb2")
    found = []
    for path in sorted(folder.glob("events.*")):
        content = path.read_bytes()
        while content:
            (length,) = struct.unpack("<Q", content[:8])
            found.append(event_pb2.Event.FromString(content[12 : 12 + length]))
            content = content[16 + length :]
    return found


def test_tensorboard_is_shown_what_was_measured(forks, tmp_path):
    pytest.importorskip("tensorboardX")
    trained(forks, tmp_path, "--tensorboard", "--workdir=run")
    events = events_of(tmp_path / "run" / "tensorboard")
    values = [(value, event.step) for event in events for value in event.summary.value]
    lines = [
        json.loads(line)
        for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    ]
    tags = {value.tag for value, _ in values}
    for tag, name in (("loss/train", "train_loss"), ("accuracy/test", "test_accuracy")):
        shown = {step: v.simple_value for v, step in values if v.tag == tag}
        wanted = {line["step"]: line[name] for line in lines}
        assert shown == pytest.approx(wanted, rel=1e-6)
    run = load_run(tmp_path / "run")
    layers = [f"{layer}/{leaf}" for layer in run.params for leaf in run.params[layer]]
    for kind in ("parameters", "gradients"):
        assert {tag for tag in tags if tag.startswith(f"{kind}/")} == {
            f"{kind}/{name}" for name in layers
        }
    assert {"filters", "mistakes"} <= tags
    last = {v.tag: v.histo for v, step in values if step == lines[-1]["step"]}
    experiment = prepare(run.recipe, load_dataset("digits"), seed=0)
    inputs, labels = (array[: tensorboard.LOOKED_AT] for array in experiment.train)
    batch = Batch(inputs, labels, np.ones(len(labels), np.float32), None)
    value_and_grad = serial_value_and_grad(experiment.loss_fn)
    _, gradient = value_and_grad(*jax.device_put((run.params, batch)))
    for layer, leaves in run.params.items():
        for leaf, values in leaves.items():
            own = last[f"parameters/{layer}/{leaf}"]
            assert own.num == values.size
            assert own.sum == pytest.approx(float(values.sum(dtype=float)), abs=1e-4)
            theirs = np.asarray(gradient[layer][leaf], float)
            shown = last[f"gradients/{layer}/{leaf}"]
            assert shown.sum_squares == pytest.approx(
                float((theirs**2).sum()), rel=1e-3
            )


def test_tensorboard_of_a_run_that_goes_on_has_one_curve(forks, tmp_path):
    """What an earlier start wrote of later updates is purged."""
    pytest.importorskip("tensorboardX")
    trained(forks, tmp_path, "--tensorboard", "--workdir=run")
    trained(forks, tmp_path, "--tensorboard", "--workdir=run", "--epochs=3")
    events = events_of(tmp_path / "run" / "tensorboard")
    begun = [e.step for e in events if e.session_log.status == e.session_log.START]
    assert begun == [1, 9]
    trained(forks, tmp_path, "--tensorboard", "--workdir=run", "--overwrite")
    assert len(list((tmp_path / "run" / "tensorboard").iterdir())) == 1


@pytest.mark.usefixtures("unchecked")
def test_tensorboard_that_is_not_installed_is_told_in_a_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(InputError, match="needs tensorboardX, which is not installed"):
        tensorboard.TensorBoard(Path("x"), None, ())


def test_tensorboard_on_a_full_disk_does_not_hold_up_the_run(tmp_path, capfd):
    """Mistake: tensorboardX's thread dies of it, and the run waits for it for ever."""
    pytest.importorskip("tensorboardX")
    resource = pytest.importorskip("resource")
    recipe = override(get_recipe("momentum_mlp_per_sample"), dataset="digits")
    experiment = prepare(recipe, load_dataset("digits"), seed=0)
    said = []
    board = tensorboard.TensorBoard(tmp_path / "tensorboard", experiment, ())
    watchers = watching.Watchers([board], say=said.append)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    watchers.start({}, 0)
    (file,) = (tmp_path / "tensorboard").iterdir()
    written = file.read_bytes()
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(written) + 10, before[1]))
    try:
        for epoch in (1, 2):
            watchers.epoch({"epoch": epoch, "step": epoch, "lr": 0.1}, None)
        watchers.end({})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert " ".join("".join(said).split()) == (
        "warning: --tensorboard failed and is not asked again: OSError: [Errno 27] "
        "File too large"
    )
    assert file.read_bytes() == written  # half an event would damage what follows
    assert capfd.readouterr() == ("", "")
