"""Rows of docs/reliability.md that a user meets: the message, the status, what is kept.

Other rows are tested where the code is: faults/, test_beginning, test_checkpoints,
test_compile_cache, test_data_bounds, test_divergence, test_environment, test_joining.
"""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from harness import goes_on_from, start, wait_for
from published_runs import write_houses

from cnnjax.data import load_dataset
from cnnjax.data.fingerprints import fingerprint
from cnnjax.results.checkpoints.store import Store

ROOT = Path(__file__).parent.parent
SCRIPTS = ROOT / "scripts"
pytestmark = pytest.mark.xdist_group("what_happens")  # they share compiled programs
COMMON = (
    *("--dataset=digits", "--num_train=128", "--recipe=momentum_mlp_per_sample"),
    *("--batch_size=32", "--epochs=3", "--strategy=jit"),
)
GOES_ON = "is kept: the same command goes on from there\n"


@pytest.fixture
def train(forks, tmp_path):
    """Train with the common flags and others, after some Python."""

    def train(*flags: str, before: str = "", common=COMMON):
        wrapper, own = tmp_path / "train.py", str(SCRIPTS / "train.py")
        wrapper.write_text(
            f"import os, runpy, sys\nsys.path[0], sys.argv[0] = {str(SCRIPTS)!r}, "
            f"{own!r}\n{before}\nrunpy.run_path({own!r}, run_name='__main__')\n"
        )
        return forks.run(wrapper, *common, *flags, cwd=tmp_path, COLUMNS="80")

    return train


def contents(run: Path) -> dict[str, bytes]:
    files = [path for path in run.rglob("*") if path.is_file()]
    return {str(p): p.read_bytes() for p in files if p.name != ".lock"}


def names_in(run: Path) -> list[str]:
    return Store(run / "checkpoints").names()


def is_finite(snapshot) -> bool:
    numbers = [a for a in snapshot.arrays.values() if a.dtype.kind == "f"]
    return all(np.isfinite(array).all() for array in numbers)


EVERY = "--checkpoint_every=1updates"


@pytest.mark.parametrize(
    ("asking", "status"),
    [
        (signal.SIGTERM, 143),
        pytest.param(signal.SIGHUP, 129, marks=pytest.mark.slow),
        pytest.param(signal.SIGINT, 130, marks=pytest.mark.slow),
    ],
)
def test_a_signal_while_compiling_keeps_the_first_update(asking, status, tmp_path):
    """It is told in a line, and the same command goes on from there."""
    argv = [SCRIPTS / "train.py", *COMMON, "--workdir=w"]
    environment = {"JAX_COMPILATION_CACHE_DIR": str(tmp_path / "cold")}
    running = start(argv, tmp_path, environment)
    while (line := running.stdout.readline()) != "compiling\n":
        assert line, running.stderr.read()
    running.send_signal(asking)
    ended = wait_for(running)
    where = goes_on_from(tmp_path / "w").removeprefix("resumed")
    assert where
    assert (ended.status, ended.err) == (
        status,
        f"train.py: stopped by {asking.name}{where}; the same command goes on from "
        "there\n",
    )


@pytest.mark.parametrize("seconds", [0.6, 1.2])
def test_an_early_interrupt_is_not_lost(seconds, tmp_path):
    """Also among the imports, whose callbacks may lose an exception."""
    running = start([SCRIPTS / "train.py", *COMMON, "--workdir=w"], tmp_path)
    time.sleep(seconds)
    running.send_signal(signal.SIGINT)
    ended = wait_for(running)
    assert (ended.status, ended.err.count("\n") <= 1) == (130, True), ended.err
    assert "Traceback" not in ended.err
    assert not (tmp_path / "w" / "result.json").exists()


@pytest.mark.slow
def test_more_epochs_end_as_if_they_had_been_asked_for_at_once(train, tmp_path):
    constant = ("--schedule=constant", "--checkpoint_every=1epochs")
    assert train(*constant, "--epochs=5", "--workdir=whole").returncode == 0
    assert train(*constant, "--keep_checkpoints=1", "--workdir=w").returncode == 0
    kept = names_in(tmp_path / "w")
    assert len(kept) in (1, 2)  # the newest, and the best
    done = train(*constant, "--epochs=5", "--workdir=w")
    assert (done.returncode, done.stderr) == (0, "")
    assert "\nresumed after epoch 3\n" in done.stdout
    whole, longer = (
        (tmp_path / name / "params.safetensors").read_bytes() for name in ("whole", "w")
    )
    assert longer == whole


def test_other_data_is_refused(train, tmp_path):
    """Files without an official checksum are noted, and compared."""
    write_houses(tmp_path)
    flags = ("--recipe=tanh_mlp_housing_narrow", "--data_dir=.", "--epochs=2")
    done = train(*flags, "--workdir=run", common=())
    assert done.returncode == 0, done.stderr
    noted = json.loads((tmp_path / "run" / "config.json").read_text())["data"]
    assert noted == fingerprint(load_dataset("housing", data_dir=str(tmp_path)))
    rows = (tmp_path / "Housing.csv").read_text().splitlines(keepends=True)
    (tmp_path / "Housing.csv").write_text("".join(rows[:-1]))
    before = contents(tmp_path / "run")
    done = train(*flags, "--workdir=run", common=())
    assert done.returncode == 2
    said = "workdir run holds a run on other data: Housing.csv has changed"
    assert done.stderr.startswith(f"train.py: error: {said}")
    assert done.stderr.count("\n") == 1
    assert contents(tmp_path / "run") == before


def test_the_last_good_checkpoint_of_a_run_that_diverged_is_kept(train, tmp_path):
    flags = ("--algorithm=sgd", "--schedule=constant", "--learning_rate=1e14")
    done = train(*flags, EVERY, "--keep_checkpoints=20", "--workdir=w")
    assert (done.returncode, done.stderr) == (3, "")
    told = " ".join(done.stdout.split())
    kept = names_in(tmp_path / "w")
    assert kept, told
    assert f"the last good checkpoint is w/checkpoints/{kept[-1]}" in told
    store = Store(tmp_path / "w" / "checkpoints")
    assert all(is_finite(store.read(name)) for name in kept)


def test_some_seeds_that_diverge_are_named(train, tmp_path):
    """The mean is that of the others."""
    spoil = (
        "import jax\nfrom cnnjax import experiments\n"
        "old = experiments.prepare\n"
        "def prepare(*args, seed, **how):\n"
        "    made = old(*args, seed=seed, **how)\n"
        "    lost = jax.tree.map(lambda leaf: leaf * float('nan'), made.params)\n"
        "    return made._replace(params=lost) if seed == 1 else made\n"
        "experiments.prepare = prepare\n"
    )
    done = train("--num_seeds=3", "--epochs=1", "--workdir=w", before=spoil)
    assert (done.returncode, done.stderr) == (3, "")
    assert "\nleft out because they diverged: seed 1\n" in done.stdout
    assert "test accuracy, 2 seeds: mean " in done.stdout
    result = json.loads((tmp_path / "w" / "result.json").read_text())
    assert result["seeds_diverged"] == [1]


def test_seeds_that_learn_nothing_are_named(train):
    """Too small a rate to learn anything."""
    done = train("--num_seeds=2", "--epochs=1", "--learning_rate=1e-12")
    assert done.returncode == 0, done.stderr
    said = "nothing was learned by seed 0, seed 1: no better than a guess, always the"
    assert said in done.stdout


def test_seeds_say_where_they_go_on(train, tmp_path):
    """One that had ended is not trained again."""
    flags = ("--num_seeds=2", EVERY, "--workdir=w")
    stop = (
        "from cnnjax.results.checkpoints.keeper import Keeper\nold = Keeper.on_state\n"
        "def on_state(self, at, keys, group=0, last=None):\n"
        "    old(self, at, keys, group, last)\n"
        "    if group == 1 and at.epoch == 1: self.close(); os._exit(9)\n"
        "Keeper.on_state = on_state\n"
    )
    assert train(*flags, before=stop).returncode == 9
    done = train(*flags)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    first = lines.index("seed 0: trained by an earlier start")
    assert lines.index("seed 1: resumed in epoch 1, after update 4") > first
    rows = (tmp_path / "w" / "metrics.jsonl").read_text().splitlines()
    assert [(r["seed"], r["epoch"]) for r in map(json.loads, rows)] == [
        (seed, epoch) for seed in (0, 1) for epoch in (1, 2, 3)
    ]


FULL_AT = (
    "import errno\n"
    "from cnnjax.base import durable\n"
    "old = durable.{name}\n"
    "def refuse(path, *rest):\n"
    "    if path.name == {file!r}:\n"
    "        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))\n"
    "    return old(path, *rest)\n"
    "durable.{name} = refuse\n"
)


@pytest.mark.parametrize(
    "file",
    ["params.safetensors", pytest.param("result.json", marks=pytest.mark.slow)],
)
def test_a_disk_that_is_full_at_the_very_end_keeps_the_network(file, train, tmp_path):
    full = FULL_AT.format(name="write_bytes", file=file)
    done = train("--workdir=w", before=full)
    (newest,) = names_in(tmp_path / "w")
    assert newest.endswith("000000003-000000000")
    assert (done.returncode, done.stderr) == (
        2,
        f"train.py: error: cannot write w/{file}: No space left on device; choose "
        f"another --workdir or make room there; w/checkpoints/{newest} {GOES_ON}",
    )
    assert not (tmp_path / "w" / "result.json").exists()
    again = train("--workdir=w")
    assert again.returncode == 0, again.stderr
    assert "\nresumed after epoch 3\n" in again.stdout
    assert "seconds" in again.stdout


def check_that_epoch_1_is_kept(train, refuse: str, reason: str, run: Path) -> None:
    """Train into `run`, refusing the checkpoint of epoch 2; then as it should be."""
    done = train("--checkpoint_every=1epochs", "--workdir=w", before=refuse)
    (kept,) = names_in(run)
    assert kept.endswith("000000001-000000000")
    assert (done.returncode, done.stderr) == (
        2,
        f"train.py: error: cannot save a checkpoint in w/checkpoints: {reason}; make "
        f"room there; w/checkpoints/{kept} {GOES_ON}",
    )
    again = train("--checkpoint_every=1epochs", "--workdir=w")
    assert "\nresumed after epoch 1\n" in again.stdout


def test_no_room_for_a_checkpoint_keeps_those_before(train, tmp_path):
    """The one that is being written is lost, and the run ends in one line."""
    full = (
        "import errno\nfrom cnnjax.results.checkpoints import manifest\n"
        "old = manifest.write\n"
        "def write(path, snapshot):\n"
        "    if snapshot.facts['epoch'] == 2:\n"
        "        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))\n"
        "    old(path, snapshot)\n"
        "manifest.write = write\n"
    )
    reason = "No space left on device"
    check_that_epoch_1_is_kept(train, full, reason, tmp_path / "w")


@pytest.mark.slow
def test_what_the_system_refuses_to_c_is_told_as_shortly(train, tmp_path):
    """Arrays are written by C++. Mistake: its own text, and a traceback an array."""
    full = (
        "import resource\n"
        "from cnnjax.results.checkpoints import arrays\n"
        "old = arrays.write\n"
        "def write(folder, named):\n"
        "    if '-000000002-' in str(folder):\n"
        "        resource.setrlimit(resource.RLIMIT_FSIZE, (100000, 100000))\n"
        "    old(folder, named)\n"
        "arrays.write = write\n"
    )
    check_that_epoch_1_is_kept(train, full, "File too large", tmp_path / "w")


GONE = (
    "train.py: error: w was removed, moved or replaced while train.py was using it; "
    "start again"
)


@pytest.mark.slow
@pytest.mark.parametrize("every", ["1epochs", "1updates", "never"])
@pytest.mark.parametrize(
    "vanish",
    [
        "while os.path.exists('w'): shutil.rmtree('w', True)",
        "os.rename('w', 'moved')",
        "os.rename('w', 'moved'); os.mkdir('w')",
    ],
)
def test_a_folder_that_vanishes_while_it_is_trained_into(
    every, vanish, train, tmp_path
):
    """Also while a save adds to it. Mistake: a save makes it again, without config."""
    before = (
        "import os, shutil\nfrom cnnjax.results.checkpoints.keeper import Keeper\n"
        "old, seen = Keeper.on_state, []\n"
        "def on_state(self, at, *args, **named):\n"
        "    if at.epoch == 2 and not seen:\n"
        "        seen.append(at)\n"
        f"        {vanish}\n"
        "    old(self, at, *args, **named)\n"
        "Keeper.on_state = on_state\n"
    )
    flags = (f"--checkpoint_every={every}", "--workdir=w")
    done = train(*flags, before=before)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert done.stderr.startswith(GONE)
    if (moved := tmp_path / "moved").exists():
        goes_on = train(flags[0], "--workdir=moved")
        assert ("resumed in " in goes_on.stdout) == (every == "1updates")
        assert (moved / "metrics.jsonl").read_text().count("\n") == 3
    again = train(*flags)
    assert again.returncode == 0, again.stderr
    assert (tmp_path / "w" / "metrics.jsonl").read_text().count("\n") == 3
    for file in ("config.json", "result.json"):
        assert (tmp_path / "w" / file).exists()


@pytest.mark.slow
def test_a_full_stdout_loses_no_run(train, tmp_path):
    """What was trained until then is kept."""
    full = "os.dup2(os.open('/dev/full', os.O_WRONLY), 1)"
    done = train(EVERY, "--workdir=w", before=full)
    assert done.returncode == 2
    assert done.stderr == (
        "train.py: error: cannot write to stdout: [Errno 28] No space left on device\n"
    )
    again = train(EVERY, "--workdir=w")
    assert (again.returncode, again.stderr) == (0, "")


def test_data_is_only_read(train, tmp_path):
    """Nothing is opened to be written, made or removed beside the data."""
    data = tmp_path / "data"
    data.mkdir()
    write_houses(data)
    watch = (
        f"below = {str(data)!r}\n"
        "def watch(event, args):\n"
        "    named = bool(args) and isinstance(args[0], (str, os.PathLike))\n"
        "    writes = event == 'open' and isinstance(args[2], int) and args[2] & 3\n"
        "    changes = event in ('os.mkdir', 'os.rename', 'os.remove', 'os.rmdir')\n"
        "    if named and (writes or changes) and os.path.abspath(args[0]).startswith("
        "below):\n"
        "        raise PermissionError(13, 'read-only', str(args[0]))\n"
        "sys.addaudithook(watch)\n"
    )
    flags = ("--recipe=tanh_mlp_housing_narrow", f"--data_dir={data}", "--epochs=1")
    done = train(*flags, "--workdir=w", before=watch, common=())
    assert (done.returncode, done.stderr) == (0, "")
    assert [path.name for path in data.iterdir()] == ["Housing.csv"]


def test_a_finished_run_that_is_damaged_is_made_again(train, tmp_path):
    """From its last checkpoint, and nothing else is trained."""
    assert train("--workdir=w").returncode == 0
    network = tmp_path / "w" / "params.safetensors"
    whole = network.read_bytes()
    network.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    done = train("--workdir=w")
    assert (done.returncode, done.stderr) == (0, "")
    told = " ".join(done.stdout.split())
    assert "w/params.safetensors is not what the run wrote (its sha256 differs)" in told
    assert "the end of the run is made again" in told
    assert "resumed after epoch 3" in told
    assert network.read_bytes() == whole


def test_links_in_a_workdir_are_never_written_through(train, tmp_path):
    precious = tmp_path / "precious"
    precious.write_text("mine")
    run = tmp_path / "w"
    run.mkdir()
    swept = ("room.0a1b2c3d.partial", "x.1a2b3c4d.partial")
    for name in ("config.json", "metrics.jsonl", *swept):
        (run / name).symlink_to(precious)
    refused = train("--epochs=1", "--workdir=w")
    assert refused.returncode == 2
    assert refused.stderr.startswith("train.py: error: w/config.json is damaged: ")
    done = train("--epochs=1", "--workdir=w", "--overwrite")
    assert done.returncode == 0, done.stderr
    assert precious.read_text() == "mine"
    assert not [path for path in run.iterdir() if path.is_symlink()]
    (run / ".lock").unlink()
    (run / ".lock").symlink_to(precious)
    refused = train("--epochs=1", "--workdir=w", "--overwrite")
    assert refused.returncode == 2
    assert "cannot write into w: " in refused.stderr
    assert precious.read_text() == "mine"


def test_the_room_that_a_run_needs_is_told(train, tmp_path):
    little = (
        "import shutil\nold = shutil.disk_usage\n"
        "shutil.disk_usage = lambda path: old(path)._replace(free=2**20)\n"
    )
    done = train("--workdir=w", before=little)
    assert done.returncode == 2
    assert "cannot write w: the run needs " in done.stderr
    assert " MiB, 1 MiB are free; " in done.stderr
    assert not (tmp_path / "w" / "config.json").exists()
