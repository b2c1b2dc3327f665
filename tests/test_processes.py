"""Several processes: same bits, own rows only, and an end when one is lost."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest
from batches import TINY, distinct_weights, experiment_of, make_batch
from safetensors.numpy import load_file
from strategy_table import ACROSS_PROCESSES

from cnnjax import devices
from cnnjax.base.errors import InputError
from cnnjax.devices.blame import blame
from cnnjax.devices.processes import Cluster, join
from cnnjax.gradients.shares import serial_value_and_grad
from cnnjax.laws.comparison import TOLERANCES, largest_error
from cnnjax.strategies import STRATEGIES
from cnnjax.training.evaluation import make_evaluate
from cnnjax.types import Batch

ROOT = Path(__file__).parent.parent
TRAIN = ROOT / "scripts" / "train.py"
LAUNCH = (sys.executable, ROOT / "scripts" / "launch_local.py", "--num_processes=2")
PROC = Path("/proc/self/task").exists()
# A network that compiles quickly, for runs that are there to be ended.
QUICK = ("--recipe=momentum_mlp_per_sample", "--strategy=shard_map")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("processes")


def start(*command: object, cwd: Path) -> subprocess.Popen:
    paths = [str(ROOT / "scripts"), str(ROOT / "tests"), os.environ.get("PYTHONPATH")]
    return subprocess.Popen(
        list(map(str, command)),
        cwd=cwd,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(filter(None, paths)),
            "XDG_CACHE_HOME": str(cwd / "cache"),
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen, *, timeout: float = 300):
    """Return (status, stdout, stderr); nothing is left running."""
    try:
        out, err = process.communicate(timeout=timeout)
    finally:
        process.terminate()  # the launcher then ends its own
    return process.returncode, out, err


def launch(*arguments: object, cwd: Path):
    return finish(start(*LAUNCH, "--", *arguments, cwd=cwd))


def train(folder: Path, name: str, *flags: str, launcher=LAUNCH) -> dict:
    flags = ("--strategy=sharded", "--epochs=1", f"--workdir={name}", *flags)
    prefix = (*launcher, "--") if launcher else (sys.executable,)
    status, out, err = finish(start(*prefix, TRAIN, *flags, cwd=folder))
    assert (status, err) == (0, ""), out + err
    assert out.startswith("Python "), out  # Gloo's greeting is not there
    # Nor is what process 1 says.
    assert len(re.findall(r"^    1  ", out, re.MULTILINE)) == 1
    assert "4 CPU devices" in out
    return load_file(folder / name / "params.safetensors")


# Adam would hide a wrong scale, and divides rounding by as small a number. Few updates:
# of many pooling windows, rounding decides in one or another which pixel is largest.
SGD = ("--algorithm=sgd", "--learning_rate=0.05", "--num_train=300")


@pytest.fixture(scope="module")
def two_by_two(folder):
    """Train for an epoch with two processes of two devices."""
    return train(folder, "two_by_two", "--num_devices=2", *SGD)


@pytest.mark.slow
def test_bits_repeat(folder, two_by_two):
    train(folder, "again", "--num_devices=2", *SGD)
    files = [folder / run / "params.safetensors" for run in ("two_by_two", "again")]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_processes_agree_with_one_process(folder, two_by_two):
    one_by_four = train(folder, "one_by_four", "--num_devices=4", *SGD, launcher=())
    assert largest_error(two_by_two, one_by_four) <= TOLERANCES["float32"]
    result = json.loads((folder / "two_by_two" / "result.json").read_text())
    assert result["environment"]["num_processes"] == 2
    assert result["environment"]["num_devices"] == 4
    assert result["test_examples"] == 360


def check_placement(process: dict[str, np.ndarray], index: int) -> None:
    """Of 14 rows, filled up to 16, each process feeds eight, in one process's order."""
    own = np.arange(8 * index, 8 * index + 8)
    assert process["mesh"].ravel().tolist() == [0, 0, 1, 1]
    for name in Batch._fields:
        np.testing.assert_array_equal(process[f"placed_{name}"], own)
    np.testing.assert_array_equal(process["keys_held"], process["keys_of_all"][own])


def check_gather(process: dict[str, np.ndarray], index: int) -> None:
    """In a compiled loop each device takes its 4 of 16 rows of the resident set."""
    own = np.arange(8 * index, 8 * index + 8)
    np.testing.assert_array_equal(process["gathered_rows"], own)
    expected = process["expected_inputs"][own]
    np.testing.assert_array_equal(process["gathered_inputs"], expected)
    program = str(process["program"])
    assert re.findall(r"u8\[(\d+),[\d,]*\]\S* gather\(", program) == ["4"]


def check_values(process: dict[str, np.ndarray], expected: dict) -> None:
    """Gradients and metrics are those of one process; state survives donation."""
    whole = np.arange(24.0, dtype=np.float32).reshape(8, 3)
    np.testing.assert_array_equal(process["to_host"], whole)
    assert process["key_survives"].tolist() == [0, 3]
    assert process["params_survive"].shape == (3, 3, 1, 4)
    for strategy in ACROSS_PROCESSES:
        grads = {name: process[f"{strategy}/{name}"] for name in expected["grads"]}
        assert largest_error(grads, expected["grads"]) <= TOLERANCES["float32"]
    evaluated = process["evaluated"]
    np.testing.assert_allclose(evaluated, expected["evaluated"], rtol=1e-6)


def test_two_processes_hold_their_parts_and_compute_the_whole(folder):
    """In `several_processes.py`, which ends by disagreeing with itself."""
    script = ROOT / "tests" / "several_processes.py"
    status, out, err = launch(script, f"--output={folder}", cwd=folder)
    assert (status, out) == (2, ""), err
    assert err == (
        "several_processes.py: error: process 1 has other rows than process 0; start "
        "all with the same flags, on the same files\n"
    )
    experiment = experiment_of(TINY, strategy="shard_map")
    batch = make_batch(experiment, 14)._replace(weights=distinct_weights(14))
    reference = jax.jit(serial_value_and_grad(experiment.loss_fn))
    _, grads = reference(experiment.params, batch)
    evaluate = make_evaluate(experiment.loss_fn, experiment.test, experiment.params)
    expected = {
        "grads": {
            jax.tree_util.keystr(path): leaf
            for path, leaf in jax.tree.leaves_with_path(grads)
        },
        "evaluated": list(evaluate(experiment.params).values()),
    }
    for index in (0, 1):
        with np.load(folder / f"{index}.npz") as noted:
            process = dict(noted)
        check_placement(process, index)
        check_gather(process, index)
        check_values(process, expected)
        refused = [name for name in STRATEGIES if name not in ACROSS_PROCESSES]
        assert process["refused"].tolist() == [
            f"strategy {name!r} expected one process, got 2; use sharded, "
            "shard_map, shard_map_vmap, shard_map_factored"
            for name in refused
        ]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("workdir", "message"),
    [
        ("kept", "workdir kept already holds a run"),
        ("/proc/run", "cannot write /proc/run"),
    ],
)
def test_a_refused_workdir_ends_all_in_one_line(workdir, message, tmp_path):
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "result.json").write_text("{}")
    status, out, err = launch(TRAIN, *QUICK, f"--workdir={workdir}", cwd=tmp_path)
    assert (status, out) == (2, ""), err
    assert err.startswith(f"train.py: error: {message}")
    assert len(err.splitlines()) == 1
    assert [path.name for path in (tmp_path / "kept").iterdir()] == ["result.json"]


def test_processes_of_a_cluster_find_each_other(tmp_path, monkeypatch):
    """By the variables of Slurm; and one line is told, not one of each process."""
    (tmp_path / "result.json").write_text("{}")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    monkeypatch.setenv("JAX_COORDINATOR_PORT", str(port))
    monkeypatch.setenv("JAX_COORDINATOR_BIND_ADDRESS", f"127.0.0.1:{port}")
    slurm = {"JOB_ID": 1, "STEP_NODELIST": "127.0.0.1", "NTASKS": 2}
    started = []
    for index in (0, 1):
        for name, value in {**slurm, "PROCID": index, "LOCALID": index}.items():
            monkeypatch.setenv(f"SLURM_{name}", str(value))
        command = (sys.executable, TRAIN, "--distributed", *QUICK, "--workdir=.")
        started.append(start(*command, cwd=tmp_path))
    ended = [finish(process) for process in started]
    assert [(status, out) for status, out, _ in ended] == [(2, ""), (2, "")], ended
    assert ended[0][2].startswith("train.py: error: workdir . already holds result.")
    assert len(ended[0][2].splitlines()) == 1
    assert ended[1][2] == ""


@pytest.mark.slow
def test_a_disk_that_fills_up_ends_all_in_one_line(tmp_path):
    wrapper = Path(__file__).parent / "faults" / "disturbed_at.py"
    flags = (*QUICK, "--workdir=run", "--epochs=1")
    disturbed = (wrapper, "full", "25", "run", "count", TRAIN)
    status, _, err = launch(*disturbed, *flags, cwd=tmp_path)
    assert status == 2
    assert err.startswith("train.py: error: cannot ")
    assert "No space left on device" in err
    assert len(err.splitlines()) == 1


def child_of(launcher: subprocess.Popen, index: int) -> int:
    """Return the pid of a process that the launcher started."""
    children = Path(f"/proc/{launcher.pid}/task/{launcher.pid}/children").read_text()
    for child in children.split():
        command = Path(f"/proc/{child}/cmdline").read_text().split("\0")
        if f"--process_index={index}" in command:
            return int(child)
    raise AssertionError(f"no process {index} among {children}")


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def start_endless(folder: Path, name: str) -> tuple[subprocess.Popen, list[int]]:
    """Start a run that would not end, and wait until it has trained an epoch."""
    flags = (*QUICK, "--num_devices=1", "--epochs=100000", f"--workdir={name}")
    launcher = start(*LAUNCH, "--heartbeat_seconds=5", "--", TRAIN, *flags, cwd=folder)
    metrics = folder / name / "metrics.jsonl"
    limit = time.monotonic() + 240
    while not (metrics.exists() and metrics.stat().st_size):
        if launcher.poll() is not None or time.monotonic() > limit:
            raise AssertionError(finish(launcher))
        time.sleep(0.05)
    return launcher, [child_of(launcher, index) for index in (0, 1)]


def check_nothing_is_half_written(run: Path) -> None:
    assert {path.name for path in run.iterdir()} == {"config.json", "metrics.jsonl"}
    json.loads((run / "config.json").read_text())
    text = (run / "metrics.jsonl").read_text()
    assert text.endswith("\n")
    epochs = [json.loads(line)["epoch"] for line in text.splitlines()]
    assert epochs == list(range(1, len(epochs) + 1))


@pytest.mark.skipif(not PROC, reason="reads /proc")
@pytest.mark.parametrize("lost", [pytest.param(0, marks=pytest.mark.slow), 1])
def test_a_lost_process_ends_the_others(lost, folder):
    name = f"lost_{lost}"
    launcher, children = start_endless(folder, name)
    os.kill(children[lost], signal.SIGKILL)
    before = time.monotonic()
    status, _, err = finish(launcher, timeout=60)
    assert time.monotonic() - before < 5  # it is noticed at once
    assert status == 128 + signal.SIGKILL
    assert err == (
        f"launch_local.py: process {lost} was lost (signal 9, SIGKILL); the others "
        "end, too\n"
    )
    assert not any(map(is_running, children))
    check_nothing_is_half_written(folder / name)


@pytest.mark.skipif(not PROC, reason="reads /proc")
@pytest.mark.slow
@pytest.mark.parametrize("lost", [0, 1])
def test_a_stopped_process_is_lost_too(lost, folder):
    launcher, children = start_endless(folder, f"stopped_{lost}")
    os.kill(children[lost], signal.SIGSTOP)
    before = time.monotonic()
    status, _, err = finish(launcher, timeout=60)
    assert 4 < time.monotonic() - before < 15  # the flag's 5 s count
    assert status == 128 + signal.SIGSTOP
    assert err == (
        f"launch_local.py: process {lost} was lost (signal 19, SIGSTOP); the others "
        "end, too\n"
    )
    assert not any(map(is_running, children))


@pytest.mark.skipif(not PROC, reason="reads /proc")
@pytest.mark.slow
def test_children_end_with_a_launcher_that_is_killed(folder):
    launcher, children = start_endless(folder, "orphans")
    launcher.kill()
    limit = time.monotonic() + 10
    while any(map(is_running, children)) and time.monotonic() < limit:
        time.sleep(0.05)
    assert not any(map(is_running, children))
    launcher.communicate()
    check_nothing_is_half_written(folder / "orphans")


FOLLOWER = """
import sys, time
from cnnjax.devices import lifeline
lifeline.hold()
print("ready", file=sys.stderr, flush=True)
time.sleep(1000)
"""


@pytest.mark.skipif(not PROC, reason="reads /proc")
@pytest.mark.parametrize(
    ("lost", "signum"),
    [(0, signal.SIGKILL), (1, signal.SIGSTOP), (None, signal.SIGKILL)],
)
def test_the_launcher_ends_who_has_not_joined_yet(lost, signum, tmp_path):
    """One is killed or stopped, or the launcher itself is killed."""
    launcher = start_stubborn(tmp_path, script=FOLLOWER)
    assert launcher.stderr.readline() == "ready\n"
    time.sleep(1)
    children = [child_of(launcher, index) for index in (0, 1)]
    before = time.monotonic()
    os.kill(launcher.pid if lost is None else children[lost], signum)
    status, _, err = finish(launcher, timeout=30)
    limit = time.monotonic() + 10
    while any(map(is_running, children)) and time.monotonic() < limit:
        time.sleep(0.05)
    assert not any(map(is_running, children))
    assert time.monotonic() - before < 8
    if lost is None:
        assert status == -signal.SIGKILL
        return
    assert status == 128 + signum
    assert err == (
        f"launch_local.py: process {lost} was lost (signal {int(signum)}, "
        f"{signum.name}); the others end, too\n"
    )


def test_who_is_to_blame():
    """Not who aborts, or ends by its own status, because another was lost."""
    killed = "process 1 was lost (signal 9, SIGKILL)"
    assert blame([1, -9, -6]) == ([1], 137, killed)
    assert blame([75, -9, -6]) == ([1], 137, killed)
    assert blame([2, 0, 2, -6]) == ([0, 2], 2, "")
    assert blame([75, 0, 2, 75]) == ([2], 2, "")
    assert blame([75, 75]) == ([0, 1], 75, "")
    aborted = "process 1 was lost (signal 6, SIGABRT)"
    assert blame([None, -6]) == ([1], 134, aborted)
    assert blame([75, -6]) == ([1], 134, aborted)
    stopped = "process 1 was lost (signal 19, SIGSTOP)"
    assert blame([75, None], stopped=[1]) == ([1], 147, stopped)


STUBBORN = """
import sys, time
index = next(a[-1] for a in sys.argv if a.startswith("--process_index"))
print("I am", index, file=sys.stderr, flush=True)
if "fail" in sys.argv and index == "1":
    time.sleep(1)
    sys.exit(7)
time.sleep(1000)
"""


def start_stubborn(
    folder: Path, *arguments: str, script: str = STUBBORN
) -> subprocess.Popen:
    """Start processes that know nothing of each other, with little patience."""
    (folder / "stubborn.py").write_text(script)
    run = "import _script, launch_local; from cnnjax.devices import launcher; "
    run += "launcher.MARGIN_SECONDS = 1; _script.run(launch_local.main)"
    flags = ("--heartbeat_seconds=1", "--", "stubborn.py", *arguments)
    return start(sys.executable, "-c", run, *flags, cwd=folder)


def test_a_process_that_does_not_follow_is_killed(tmp_path):
    status, _, err = finish(start_stubborn(tmp_path, "fail"), timeout=30)
    assert status == 7
    assert err.splitlines() == [
        "I am 0",
        "launch_local.py: process 0 has not ended in time, and is killed",
        "launch_local.py: process 1 failed, saying:",
        "I am 1",
    ]


@pytest.mark.parametrize(
    ("signum", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)]
)
@pytest.mark.skipif(not PROC, reason="reads /proc")
def test_ending_the_launcher_ends_all(signum, status, tmp_path):
    launcher = start_stubborn(tmp_path)
    assert launcher.stderr.readline() == "I am 0\n"
    children = [child_of(launcher, index) for index in (0, 1)]
    assert all(map(is_running, children))
    launcher.send_signal(signum)
    assert finish(launcher, timeout=60)[0] == status
    assert not any(map(is_running, children))


WRITE_FOREVER = """
import sys
from cnnjax.results.workdir import open_workdir
folder = open_workdir(sys.argv[1])
folder.start({}, room=0)
contents = [bytes([value]) * 3_000_000 for value in range(8)]
for count in range(10**9):
    folder.write_bytes("params.safetensors", contents[count % 8])
    folder.append_json_lines("metrics.jsonl", [{"epoch": count, "text": "x" * 500}])
"""


def test_a_file_is_whole_whenever_its_writer_is_killed(tmp_path):
    """What may remain is the file aside, which the next run replaces."""
    run = tmp_path / "run"
    writer = start(sys.executable, "-c", WRITE_FOREVER, run, cwd=tmp_path)
    limit = time.monotonic() + 60
    while not (run / "params.safetensors").exists() and time.monotonic() < limit:
        time.sleep(0.01)
    time.sleep(0.5)
    for _ in range(50):  # stopped anywhere, as if killed there
        writer.send_signal(signal.SIGSTOP)
        content = (run / "params.safetensors").read_bytes()
        assert len(content) == 3_000_000
        assert len(set(content)) == 1
        lines = (run / "metrics.jsonl").read_text()
        assert not lines or lines.endswith("}\n")
        writer.send_signal(signal.SIGCONT)
        time.sleep(0.003)
    writer.kill()
    writer.communicate()
    aside = re.compile(r"\.[0-9a-f]{8}\.partial$")  # a file not yet in its place
    left = {aside.sub("", path.name) for path in run.iterdir()}
    assert left == {"config.json", "metrics.jsonl", "params.safetensors"}


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            {"coordinator_address": "127.0.0.1:1"},
            "--process_index together, got --coordinator_address only",
        ),
        (
            {"num_processes": 2, "process_index": 0},
            "got --num_processes and --process_index only",
        ),
        (
            {
                "coordinator_address": "127.0.0.1:1",
                "num_processes": 2,
                "process_index": 2,
            },
            "expected --process_index from 0 to 1, got 2",
        ),
        (
            {"coordinator_address": "here", "num_processes": 2, "process_index": 0},
            "expected --coordinator_address=HOST:PORT with a port from 1 to 65535, got "
            "'here'",
        ),
        (
            {
                "coordinator_address": "127.0.0.1:0",
                "num_processes": 2,
                "process_index": 0,
            },
            "with a port from 1 to 65535, got '127.0.0.1:0'",
        ),
        (
            {
                "coordinator_address": "[::1]:70000",
                "num_processes": 2,
                "process_index": 0,
            },
            "with a port from 1 to 65535, got '[::1]:70000'",
        ),
        (
            {"distributed": True, "num_processes": 2},
            "expected --distributed or --num_processes, got both",
        ),
        ({"heartbeat_seconds": 5}, "several processes for --heartbeat_seconds, got 5"),
    ],
)
def test_flags_that_contradict_each_other_are_refused(flags, message):
    with pytest.raises(InputError, match=re.escape(message)):
        join(Cluster(**flags))


def test_no_cluster_to_join_is_told_in_one_line(folder):
    status, out, err = finish(start(sys.executable, TRAIN, "--distributed", cwd=folder))
    assert (status, out) == (2, "")
    assert err.startswith("train.py: error: --distributed: JAX detects no cluster here")
    assert len(err.splitlines()) == 1


def test_in_one_process_the_mesh_is_as_before():
    assert devices.make_mesh(3).devices.ravel().tolist() == jax.devices()[:3]
    with pytest.raises(InputError, match="from 1 to the 8 available cpu devices"):
        devices.make_mesh(9)
