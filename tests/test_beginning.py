"""How a run begins, when it saves, how it is stopped, and the seal of its results."""

from __future__ import annotations

import functools
import json
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from batches import TINY, random_dataset

from cnnjax.base import digests, signals
from cnnjax.base.clock import Clock
from cnnjax.base.errors import InputError
from cnnjax.base.signals import NEVER, Stop, StoppedError
from cnnjax.data.fingerprints import fingerprint
from cnnjax.experiments.beginning import REPEATING, Beginning, look
from cnnjax.experiments.experiment import prepare
from cnnjax.experiments.journal import Journal
from cnnjax.experiments.overrides import override
from cnnjax.results.checkpoints import Snapshot, Store, manifest, policy
from cnnjax.results.checkpoints.policy import Every, Timer, parse_every
from cnnjax.results.checkpoints.store import name_of, name_of_ended
from cnnjax.results.fields import read_result
from cnnjax.results.outcomes import read_outcome
from cnnjax.results.workdir import CHECKPOINTS, Workdir
from cnnjax.telling.folder import Keeping, opened
from cnnjax.training.loop import LoopState

DATASET = random_dataset(TINY, train=49, test=23)
OTHER_DATA = random_dataset(TINY, train=48, test=23)
ENVIRONMENT = {"jax": "0.10", "platform": "cpu", "num_devices": 1, "date": "today"}
COMMAND = ["train.py", "--workdir=here"]


class Case(NamedTuple):
    """A folder, and what a start in it asks for."""

    folder: Path
    journal: Journal

    @property
    def store(self) -> Store:
        return Store(self.folder / CHECKPOINTS)

    def look(self, **how: Any) -> Beginning:
        given = {
            "config": self.journal.config(),
            "environment": self.journal.environment,
            "experiment": self.journal.experiment,
            "resume": "auto",
            "overwrite": False,
        }
        before = content_of(self.folder)
        try:
            return look(self.journal.workdir, self.store, **{**given, **how})
        finally:
            assert content_of(self.folder) == before, "nothing is changed there"

    def refused(self, **how: Any) -> str:
        with pytest.raises(InputError) as raised:
            self.look(**how)
        message = str(raised.value)
        assert "\n" not in message
        return message

    def save(self, epoch: int = 1, update: int = 0, *, name: str | None = None):
        about = {"epoch": epoch, "update": update, "about": self.journal.about()}
        store = self.store
        store.save(
            name or name_of(0, epoch, update), Snapshot({"a": np.zeros(3)}, about)
        )
        store.close()

    def finish(self) -> None:
        self.journal.workdir.write_result(RESULT)

    def start(self) -> None:
        self.journal.start(COMMAND)


RESULT = {
    "recipe": "tiny",
    "dataset": "random",
    "strategy": "jit",
    "seed": 0,
    "faults": [],
    "epochs": 3,
    "test_accuracy": 0.1 + 0.2,
    "test_loss": 1e-05,
    "environment": {},
}


def content_of(folder: Path) -> dict[str, bytes]:
    return {
        str(path): path.read_bytes() if path.is_file() else b""
        for path in folder.rglob("*")
    }


@functools.cache
def experiment_of(data: str = "own", **changes: Any):
    settings = {"strategy": "jit", "batch_size": 8, "epochs": 3, **changes}
    dataset = {"own": DATASET, "other": OTHER_DATA}[data]
    return prepare(override(TINY, **settings), dataset)


def case_of(
    folder: Path,
    *,
    data: str = "own",
    seeds=(0,),
    environment=ENVIRONMENT,
    **changes: Any,
) -> Case:
    dataset = {"own": DATASET, "other": OTHER_DATA}[data]
    journal = Journal(
        workdir=Workdir(folder),
        experiment=experiment_of(data, **changes),
        seeds=seeds,
        clock=Clock(),
        environment=environment,
        how={"evaluate_every": 1},
        data=fingerprint(dataset),
    )
    return Case(folder, journal)


@pytest.fixture
def begun(tmp_path):
    """Return a run that was stopped after its first epoch."""
    case = case_of(tmp_path / "run")
    case.start()
    case.save(1)
    return case


@pytest.fixture
def finished(begun):
    begun.save(3)
    begun.finish()
    return begun


def damage(case: Case, epoch: int) -> None:
    path = case.folder / CHECKPOINTS / name_of(0, epoch, 0) / manifest.FILE
    path.write_bytes(path.read_bytes()[:-9])


# -- look ----------------------------------------------------------------------------


def test_a_folder_without_a_run_begins_anew(tmp_path):
    case = case_of(tmp_path / "run")
    assert case.look() == case.look(resume="never") == Beginning("fresh")
    case.folder.mkdir()
    (case.folder / "notes.txt").write_text("mine")
    assert case.look() == case.look(overwrite=True) == Beginning("fresh")
    assert "--resume=must with a run to resume" in case.refused(resume="must")


def test_a_run_that_was_stopped_is_resumed(begun):
    for resume in ("auto", "must"):
        beginning = begun.look(resume=resume)
        assert (beginning.kind, beginning.told) == ("resumed", ())
        assert beginning.about["starts"] == 1
        assert beginning.about["config"]["recipe"]["epochs"] == 3


def test_a_run_without_a_checkpoint_begins_anew_and_says_so(tmp_path):
    case = case_of(tmp_path / "run")
    case.start()
    beginning = case.look()
    assert beginning.kind == "fresh"
    assert beginning.told == ("no checkpoint was saved: it starts anew",)
    assert "with a checkpoint to resume" in case.refused(resume="must")


def test_never_refuses_what_is_there_and_overwrite_does_not(begun):
    told = begun.refused(resume="never")
    for part in ("an unfinished run", "config.json", "--workdir", "--overwrite"):
        assert part in told
    assert begun.look(overwrite=True) == Beginning("fresh")
    assert begun.look(overwrite=True, resume="never") == Beginning("fresh")
    assert "must" in begun.refused(overwrite=True, resume="must")
    begun.finish()
    assert "already holds a run (result.json" in begun.refused(resume="never")


def test_a_finished_run_is_finished(finished):
    for resume in ("auto", "must"):
        beginning = finished.look(resume=resume)
        assert (beginning.kind, beginning.told) == ("finished", ())
    shutil.rmtree(finished.folder / CHECKPOINTS)
    assert finished.look().kind == "finished"


@pytest.mark.parametrize("kind", ["begun", "finished"])
def test_another_run_is_refused_and_what_differs_is_named(request, kind):
    """Mistake: training goes on with other settings than it was begun with."""
    folder = request.getfixturevalue(kind).folder
    other = case_of(folder, batch_size=4, learning_rate=0.5)
    told = other.refused()
    assert "holds another run" in told
    assert "recipe.batch_size was 8, is 4" in told
    assert "recipe.optimizer.learning_rate was 0.1, is 0.5" in told
    assert "seed was 0, is 1" in case_of(folder, seeds=(1,)).refused()
    assert other.look(overwrite=True).kind == "fresh"


@pytest.mark.parametrize("kind", ["begun", "finished"])
def test_other_data_is_refused_and_named(request, kind):
    """Mistake: training goes on with other examples under the same name."""
    folder = request.getfixturevalue(kind).folder
    told = case_of(folder, data="other").refused()
    assert "a run on other data: training inputs has changed: sha256" in told
    assert "recipe." not in told


@pytest.mark.parametrize("kind", ["begun", "finished"])
@pytest.mark.parametrize("seeds", [(0, 1), (0, 1, 2)])
def test_one_seed_is_not_several(request, kind, seeds):
    """Mistake: a run of one seed counts as the end of a run of several."""
    folder = request.getfixturevalue(kind).folder
    assert "holds another run" in case_of(folder, seeds=seeds).refused()


@pytest.mark.parametrize(("then", "now"), [((0, 1), (0, 1, 2)), ((0, 1, 2), (0, 1))])
@pytest.mark.parametrize("ends", [False, True])
def test_fewer_seeds_are_not_more(tmp_path, then, now, ends):
    case = case_of(tmp_path / "run", seeds=then)
    case.start()
    case.save(name=name_of_ended(0))
    if ends:
        case.finish()
    assert "holds another run" in case_of(case.folder, seeds=now).refused()


@pytest.mark.parametrize(
    ("then", "now"), [([], ["a"]), (["a"], []), (["a"], ["a", "b"])]
)
def test_a_fault_that_is_switched_in_since_is_refused(begun, then, now):
    """Mistake: half of a run has the fault, and the results say all of it has."""
    journal = begun.journal
    faulty = [
        replace(journal, experiment=journal.experiment._replace(faults=tuple(names)))
        for names in (then, now)
    ]
    Case(begun.folder, faulty[0]).save(2)
    assert "fault" in Case(begun.folder, faulty[1]).refused()


@pytest.mark.parametrize("kind", ["begun", "finished"])
def test_a_longer_run_goes_on_if_its_rates_are_the_same(request, kind):
    folder = request.getfixturevalue(kind).folder
    assert case_of(folder, epochs=5).look().kind == "resumed"
    assert "--epochs of at least 3" in case_of(folder, epochs=2).refused()


def test_a_longer_run_of_several_seeds_is_refused(tmp_path):
    """Mistake: the seeds that have ended are not trained further, the others are."""
    case = case_of(tmp_path / "run", seeds=(0, 1))
    case.start()
    case.save(name=name_of_ended(0))
    assert "epochs" in case_of(case.folder, seeds=(0, 1), epochs=5).refused()


def test_a_longer_run_without_checkpoints_is_refused(finished):
    shutil.rmtree(finished.folder / CHECKPOINTS)
    told = case_of(finished.folder, epochs=5).refused()
    assert "without checkpoints; --overwrite" in told


@pytest.mark.parametrize("epochs", [2, 5])
def test_a_schedule_that_depends_on_the_epochs_is_refused_with_the_reason(
    tmp_path, epochs
):
    """Mistake: the rates jump where it goes on, and no run had such a schedule."""
    case = case_of(tmp_path / "run", schedule="one_cycle")
    case.start()
    case.save(1)
    assert case.look().kind == "resumed"
    told = case_of(case.folder, schedule="one_cycle", epochs=epochs).refused()
    assert "of 3 epochs, and its learning rate depends on that" in told
    assert f"to {epochs}; choose another --workdir" in told


def test_a_run_of_an_earlier_version_has_the_defaults_of_what_it_did_not_know(begun):
    """Mistake: it cannot go on, or goes on with a setting that it never had."""
    about = begun.journal.about()
    for field in ("validation", "patience", "class_weights"):
        del about["config"]["recipe"][field]
    del about["config"]["recipe"]["optimizer"]["schedule_free"]
    facts = {"epoch": 2, "update": 0, "about": about}
    store = begun.store
    store.save(name_of(0, 2, 0), Snapshot({"a": np.zeros(3)}, facts))
    store.close()
    assert begun.look().kind == "resumed"
    told = case_of(begun.folder, validation=0.25).refused()
    assert "recipe.validation was 0.0, is 0.25" in told


def test_another_strategy_may_go_on_within_rounding(begun):
    beginning = case_of(begun.folder, strategy="factored").look()
    assert beginning.kind == "resumed"
    (line,) = beginning.told
    assert "recipe.strategy was 'jit', is 'factored'" in line
    assert "equal within rounding, not bit for bit" in line


def test_another_machine_may_go_on_within_rounding(begun):
    now = {**ENVIRONMENT, "platform": "gpu", "date": "tomorrow"}
    beginning = begun.look(environment=now)
    (line,) = beginning.told
    assert "platform was 'cpu', is 'gpu'" in line
    assert "date" not in line


def told_on_a_gpu(folder: Path, flags: str, later: str) -> tuple[str, ...]:
    """Return what is said where a run goes on, on a GPU, with flags of XLA."""
    environment = {**ENVIRONMENT, "platform": "gpu", "xla_flags": flags}
    case = case_of(folder, environment=environment)
    case.start()
    case.save(1)
    return case.look(environment={**environment, "xla_flags": later}).told


def test_a_gpu_repeats_its_bits_only_with_flags_of_xla(tmp_path):
    """XLA times its kernels at each start: measured on an H200."""
    deterministic, _ = REPEATING
    for number, flags in enumerate(("", deterministic)):
        (line,) = told_on_a_gpu(tmp_path / str(number), flags, flags)
        assert "XLA times its kernels at each start" in line
        assert f"XLA_FLAGS='{' '.join(REPEATING)}'" in line
    flags = " ".join((*REPEATING, "--another=1"))
    assert told_on_a_gpu(tmp_path / "repeating", flags, flags) == ()
    (line,) = told_on_a_gpu(tmp_path / "later", "", flags)
    assert "xla_flags was '', is '--xla_gpu_deterministic_ops=true" in line


def test_a_damaged_checkpoint_is_told_and_an_older_one_used(begun):
    begun.save(2)
    damage(begun, 2)
    (begun.folder / CHECKPOINTS / "7").mkdir()
    beginning = begun.look()
    assert beginning.kind == "resumed"
    assert len(beginning.told) == 2
    for name in ("7", name_of(0, 2, 0)):
        assert any(f"passed over checkpoint {name}: " in t for t in beginning.told)


def test_no_good_checkpoint_is_an_error_that_names_them_all(begun):
    """Mistake: it starts anew without a word, and days of training are lost."""
    begun.save(2)
    for epoch in (1, 2):
        damage(begun, epoch)
    for resume in ("auto", "must"):
        told = begun.refused(resume=resume)
        assert "no good checkpoint" in told
        assert "--overwrite starts anew" in told
        for epoch in (1, 2):
            assert f"{name_of(0, epoch, 0)}: manifest.json is damaged" in told
    assert begun.look(overwrite=True) == Beginning("fresh")


@pytest.mark.parametrize("how", ["damaged", "removed"])
def test_a_damaged_config_is_made_again_from_a_checkpoint(begun, how):
    config = begun.folder / "config.json"
    config.unlink() if how == "removed" else config.write_text('{"recipe": ')
    assert begun.look().kind == "resumed"
    assert "another run" in case_of(begun.folder, batch_size=4).refused()
    shutil.rmtree(begun.folder / CHECKPOINTS)
    if how == "damaged":
        told = begun.refused()
        assert "config.json is damaged" in told
        assert "--overwrite" in told


@pytest.mark.parametrize("name", ["result.json", "config.json", "metrics.jsonl"])
def test_a_damaged_result_is_told_and_made_again(finished, name):
    path = finished.folder / name
    path.write_bytes(path.read_bytes() + b"\n")
    if name == "result.json":
        path.write_text("{")
    beginning = finished.look()
    assert beginning.kind == "resumed"
    (line,) = beginning.told
    assert name in line
    assert line.endswith("the end of the run is made again")
    shutil.rmtree(finished.folder / CHECKPOINTS)
    told = finished.refused()
    assert name in told
    assert "--overwrite" in told


def test_somebody_elses_folder_of_checkpoints_is_not_removed(tmp_path):
    """Mistake: another program's checkpoints are lost without --overwrite."""
    case = case_of(tmp_path / "run")
    precious = case.folder / CHECKPOINTS / "100" / "weights"
    precious.parent.mkdir(parents=True)
    precious.write_text("days of training")
    assert "holds no checkpoint of ours; move what is there" in case.refused()
    assert precious.exists()


def test_a_run_that_saves_no_more_is_resumed_all_the_same(begun):
    """Mistake: it counts as a second start, but is trained from its first update."""
    keeping = Keeping(Every(), 2, "must", overwrite=False)
    with opened(begun.journal, keeping, COMMAND, stop=NEVER) as (keeper, beginning):
        assert beginning.status is None
        assert begun.journal.starts == [2]
        assert not keeper.keeps
        assert keeper.newest() is not None


# -- policy --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "every"),
    [
        ("60s", Every(seconds=60.0)),
        ("0.5s", Every(seconds=0.5)),
        ("2m", Every(seconds=120.0)),
        ("1.5h", Every(seconds=5400.0)),
        ("5 epochs", Every(epochs=5)),
        ("1epoch", Every(epochs=1)),
        ("1000updates", Every(updates=1000)),
        ("1update", Every(updates=1)),
        ("never", Every()),
    ],
)
def test_what_checkpoint_every_may_say(text, every):
    assert parse_every(text) == every
    assert parse_every(text).never == (text == "never")


@pytest.mark.parametrize(
    "text",
    [
        *("", "60", "s", "0s", "0epochs", "-1s", "1.5epochs", "2.0updates", "1e3s"),
        *("nans", "infs", "60s\n", "1d", "Never", "60S", "1h30m", "9" * 400 + "s"),
        *("1.s", ".5s", "\x1b[31m60s", "60s,5epochs"),
    ],
)
def test_what_it_may_not_say(text):
    with pytest.raises(InputError) as raised:
        parse_every(text)
    message = str(raised.value)
    assert message.isprintable()
    assert "expected --checkpoint_every=60s, 5epochs, 1000updates or never" in message


def walk(epochs: int = 4, steps: int = 10, per_call: int = 2):
    """Iterate over the positions that a loop shows."""
    for epoch in range(epochs):
        yield from ((epoch, update) for update in range(per_call, steps + 1, per_call))
        yield (epoch + 1, 0)


def saved_at(every: Every, positions, clock=None) -> list[tuple[int, int]]:
    timer, saved = Timer(every), []
    for epoch, update in positions:
        if timer.due(LoopState(None, None, epoch, update)):
            timer.saved()
            saved.append((epoch, update))
        if clock is not None:
            clock[0] += 1.0
    return saved


def test_a_checkpoint_of_every_so_many_epochs_or_updates():
    """Mistakes: an epoch's end counts twice; one due within a call is left out."""
    assert saved_at(Every(), walk()) == []
    assert saved_at(Every(epochs=2), walk()) == [(2, 0), (4, 0)]
    assert saved_at(Every(updates=2), walk(1)) == [(0, u) for u in range(2, 11, 2)]
    assert saved_at(Every(updates=5), walk(2)) == [(0, 6), (1, 2), (1, 8)]
    assert saved_at(Every(updates=15), walk(4)) == [(1, 6), (3, 2)]


def test_a_checkpoint_of_every_so_many_seconds(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(policy.time, "monotonic", lambda: clock[0])
    positions = list(walk(2))
    saved = saved_at(Every(seconds=4.0), positions, clock)
    assert saved == [positions[index] for index in (4, 8)]


# -- signals -------------------------------------------------------------------------

# Without the imports of the package, which take a second.
LOADED = f"""
import importlib.util, signal, sys, time
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # nohup, and some CI, ignore it for all
spec = importlib.util.spec_from_file_location("signals", {signals.__file__!r})
signals = importlib.util.module_from_spec(spec)
sys.modules["signals"] = signals
spec.loader.exec_module(signals)
def ready(): print("ready", flush=True)
sys.argv = ["/some/where/train.py"]
"""
AT_ONCE = """
with signals.Stop("; nothing is lost") as stop:
    ready()
    time.sleep(60)
"""
DEFERRED = """
with signals.Stop("; nothing is lost") as stop:
    with stop.deferred():
        stop.check()
        ready()
        while stop.number is None:
            time.sleep(0.01)
        try:
            stop.check(" after epoch 3")
        except signals.StoppedError as error:
            print(error, flush=True)
            sys.exit(error.status)
"""
STUCK = """
with signals.Stop("; nothing is lost") as stop, stop.deferred():
    ready()
    while True:
        time.sleep(60)
"""
AFTERWARDS = """
with signals.Stop("; nothing is lost") as stop:
    with stop.deferred():
        pass
    ready()
    time.sleep(60)
"""
RESTORED = """
def own(number, frame):
    print("own", flush=True)
    sys.exit(7)
signal.signal(signal.SIGTERM, own)
with signals.Stop() as stop:
    pass
ready()
time.sleep(60)
"""
COMPUTING = """
import jax, jax.numpy as jnp
with signals.Stop("; nothing is lost") as stop:
    sines = jax.jit(lambda n: jax.lax.fori_loop(
        0, n, lambda _, a: jnp.sin(a), jnp.ones(1000)))
    sines(1).block_until_ready()
    ready()
    sines(10**9).block_until_ready()
"""


def sent(script: str, *numbers: signal.Signals, between: float = 0.2):
    """Run a script, send it signals, and return its status and what it has said."""
    process = subprocess.Popen(
        [sys.executable, "-c", LOADED + script],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        for index, number in enumerate(numbers):
            if index or script == COMPUTING:
                time.sleep(between)
                assert process.poll() is None
            process.send_signal(number)
        out, err = process.communicate(timeout=20)
    finally:
        process.kill()
    return process.returncode, out, err


@pytest.mark.parametrize(
    ("script", "number", "status"),
    [
        (AT_ONCE, signal.SIGTERM, 143),
        (AT_ONCE, signal.SIGINT, 130),
        (AT_ONCE, signal.SIGHUP, 129),
        (AFTERWARDS, signal.SIGTERM, 143),
        (COMPUTING, signal.SIGTERM, 143),  # within one call into C++
    ],
)
def test_a_signal_ends_the_process_at_once(script, number, status):
    told = f"train.py: stopped by {number.name}; nothing is lost\n"
    assert sent(script, number) == (status, "", told)


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)]
)
def test_a_signal_waits_for_whoever_checks(number, status):
    told = f"stopped by {number.name} after epoch 3\n"
    assert sent(DEFERRED, number) == (status, told, "")


@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM])
def test_a_second_interrupt_does_not_wait(first):
    told = "train.py: stopped by SIGINT\n"
    assert sent(STUCK, first, signal.SIGINT) == (130, "", told)


def test_a_second_sigterm_waits():
    """Mistake: a job manager that repeats itself makes the last state be lost."""
    again = (signal.SIGTERM,) * 3
    assert sent(STUCK, *again, signal.SIGINT, between=0.1)[0] == 130


def test_the_handlers_are_put_back():
    assert sent(RESTORED, signal.SIGTERM) == (7, "own\n", "")


def test_stop_is_quiet_until_a_signal_comes():
    stop = Stop()
    stop.check()
    stop.number = signal.SIGTERM
    with pytest.raises(StoppedError, match="stopped by SIGTERM here") as raised:
        stop.check(" here")
    assert (raised.value.status, raised.value.number) == (143, signal.SIGTERM)


# -- the seal ------------------------------------------------------------------------


def names_of(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.is_file())


@pytest.fixture
def sealed(tmp_path):
    case = case_of(tmp_path / "run")
    case.start()
    case.journal.workdir.append_lines("metrics.jsonl", ['{"epoch": 1}'])
    case.journal.workdir.write_bytes("params.safetensors", bytes(100))
    case.finish()
    assert names_of(case.folder) == [
        *("config.json", "metrics.jsonl", "params.safetensors", "result.json")
    ]
    return case.folder


def test_a_sealed_result_is_read(sealed):
    result = read_result(sealed)
    files = ("config.json", "metrics.jsonl", "params.safetensors")
    assert result["files"] == {name: digests.of_file(sealed / name) for name in files}
    assert read_outcome(str(sealed)).scores == {0: RESULT["test_accuracy"]}


@pytest.mark.parametrize("read", [read_result, lambda path: read_outcome(str(path))])
@pytest.mark.parametrize("name", ["config.json", "metrics.jsonl", "params.safetensors"])
def test_a_damaged_file_of_a_run_is_named(sealed, name, read):
    path, draw = sealed / name, random.Random(0)
    content = path.read_bytes()
    for _ in range(10):
        flipped = bytearray(content)
        flipped[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
        for damaged in (bytes(flipped), content[:-1], content + b"\n", b""):
            path.write_bytes(damaged)
            with pytest.raises(InputError, match=re.escape(name)):
                read(sealed)
    path.unlink()
    with pytest.raises(InputError, match=re.escape(name)):
        read(sealed)
    path.write_bytes(content)
    read(sealed)


def test_a_flipped_bit_of_the_result_is_named(sealed):
    """A few flips change nothing: those of the 17th digit, or of an e to an E."""
    path, draw = sealed / "result.json", random.Random(0)
    content = path.read_bytes()
    before = json.loads(content)
    del before["digest"]
    refused = 0
    for _ in range(100):
        flipped = bytearray(content)
        flipped[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
        path.write_bytes(flipped)
        try:
            got = read_result(sealed)
        except InputError as error:
            refused += "result.json" in str(error)
        else:
            assert {name: got[name] for name in before} == before
    assert refused > 90, "some are not found, or not named"


@pytest.mark.parametrize("field", ["test_accuracy", "epochs", "seed"])
def test_an_edited_number_is_told(sealed, field):
    result = json.loads((sealed / "result.json").read_text())
    result[field] = 1
    (sealed / "result.json").write_text(json.dumps(result))
    with pytest.raises(InputError, match="result.json is not what the run wrote"):
        read_result(sealed)


def test_a_seal_of_which_the_digest_is_gone_is_broken(sealed):
    result = json.loads((sealed / "result.json").read_text())
    del result["digest"]
    (sealed / "result.json").write_text(json.dumps({**result, "test_accuracy": 1.0}))
    with pytest.raises(InputError, match="result.json"):
        read_result(sealed)


def test_a_run_without_a_seal_is_read_as_before(sealed):
    result = json.loads((sealed / "result.json").read_text())
    del result["digest"], result["files"]
    (sealed / "result.json").write_text(json.dumps({**result, "test_accuracy": 0.5}))
    (sealed / "metrics.jsonl").write_text('{"epoch": 2}\n')
    assert read_result(sealed)["test_accuracy"] == 0.5
    assert read_outcome(str(sealed)).scores == {0: 0.5}
