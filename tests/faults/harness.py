"""Runs of train.py that are disturbed, and what they must end in all the same."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from safetensors.numpy import load_file

from cnnjax.base.durable import SUFFIX
from cnnjax.results.checkpoints.store import Store

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
TRAIN = ROOT / "scripts" / "train.py"
LAUNCH = ROOT / "scripts" / "launch_local.py"
TIMES = {"seconds", "examples_per_second", "train_seconds"}
MOST_STARTS = 60
LIMIT_SECONDS = 300
# Two processes compile anew at each start, and LLVM takes most of that.
QUICKLY = {"XLA_FLAGS": "--xla_backend_optimization_level=0"}
NOTHING = MappingProxyType[str, str]({})

# Distinct batches, dropout, batches that are not whole; a checkpoint every few updates.
COMMON = (
    *("--dataset=digits", "--num_train=300", "--recipe=sgd_dropout_cnn", "--epochs=2"),
    *("--batch_size=64", "--checkpoint_every=3updates", "--log_steps"),
)
SEEDS = (*COMMON[:-1], "--num_seeds=3")
COURSES: dict[str, tuple[str, ...]] = {
    "jit": (*COMMON, "--strategy=jit"),
    "factored": (*COMMON, "--strategy=factored"),
    "vmap": (*COMMON, "--strategy=vmap"),
    "shard_map": (*COMMON, "--strategy=shard_map", "--num_devices=2"),
    "seeds": (*SEEDS, "--strategy=jit"),
    "seeds_in_groups": (*SEEDS, "--strategy=jit", "--group_size=2"),
}


class Ended(NamedTuple):
    """How a program ended."""

    status: int
    out: str
    err: str
    seconds: float


Runner = Callable[[Sequence[str], Path], Ended]


def from_shell(argv: Sequence[str], cwd: Path) -> Ended:
    """Run a Python script to its end, as from a shell."""
    return wait_for(start(argv, cwd))


def start(
    argv: Sequence[object], cwd: Path, environment: Mapping[str, str] = NOTHING
) -> subprocess.Popen[str]:
    """Start a Python script in a process of its own."""
    return subprocess.Popen(
        [sys.executable, *map(str, argv)],
        cwd=cwd,
        env={**os.environ, "COLUMNS": "80", "PYTHONPATH": str(ROOT), **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for(running: subprocess.Popen[str]) -> Ended:
    """Wait for a process; one that hangs is killed, and fails."""
    begun = time.monotonic()
    try:
        out, err = running.communicate(timeout=LIMIT_SECONDS)
    except subprocess.TimeoutExpired:
        running.kill()
        running.communicate()
        raise AssertionError(f"{running.args} did not end") from None
    return Ended(running.returncode, out, err, time.monotonic() - begun)


class Course:
    """One command, in an undisturbed form and in disturbed ones."""

    def __init__(self, name: str, flags: Sequence[str], folder: Path, run: Runner):
        """Use a folder of its own; the undisturbed run is made when it is asked for."""
        self.name, self.flags, self.folder = name, flags, folder
        self._run, self._expected, self._changes = run, None, None
        folder.mkdir(parents=True, exist_ok=True)

    def argv(self, workdir: str) -> list[str]:
        """Return the command that trains in a folder."""
        return [str(TRAIN), f"--workdir={workdir}", *self.flags]

    def train(self, workdir: str) -> Ended:
        """Give the command, undisturbed."""
        return self._run(self.argv(workdir), self.folder)

    def killed_at(self, change: int, workdir: str) -> Ended:
        """Give the command, and kill it before a change of its folder."""
        return self._disturbed("kill", change, workdir)

    def full_from(self, change: int, workdir: str, mode: str = "full") -> Ended:
        """Give the command, on a disk that is full from a change on.

        With "limit" it is the system that refuses larger files, those of C++ as well.
        """
        return self._disturbed(mode, change, workdir)

    def moved_at(self, change: int, workdir: str) -> Ended:
        """Give the command, and move its folder before a change."""
        return self._disturbed("move", change, workdir)

    def _disturbed(self, mode: str, change: int, workdir: str) -> Ended:
        wrapper, count = str(HERE / "disturbed_at.py"), f"{workdir}.count"
        argv = [wrapper, mode, str(change), workdir, count, *self.argv(workdir)]
        return self._run(argv, self.folder)

    def changes(self) -> int:
        """Return how many changes an undisturbed run makes in its folder."""
        if self._changes is not None:
            return self._changes
        ended = self.killed_at(0, "counted")
        assert ended.status == 0, ended.err
        assert "is finished" not in ended.out, "it was counted before"
        self._changes = int((self.folder / "counted.count").read_text())
        return self._changes

    @property
    def expected(self) -> dict[str, Any]:
        """What an undisturbed run ends in."""
        if self._expected is None:
            ended = self.train("undisturbed")
            assert ended.status == 0, ended.err
            self._expected = end_of(self.folder / "undisturbed")
        return self._expected

    def copy(self, workdir: str, to: str) -> Path:
        """Copy a folder as it is, to disturb the copy."""
        shutil.rmtree(self.folder / to, ignore_errors=True)
        shutil.copytree(self.folder / workdir, self.folder / to)
        return self.folder / to

    def check(self, workdir: str) -> None:
        """Give the command again: it goes on, and ends as the undisturbed one."""
        from_where = goes_on_from(self.folder / workdir)
        ended = self.train(workdir)
        assert ended.status == 0, (self.name, workdir, ended.err)
        assert from_where in " ".join(ended.out.split()), (from_where, ended.out)
        assert ended.err == "", (self.name, workdir, ended.err)
        got = end_of(self.folder / workdir)
        different = [name for name in self.expected if got[name] != self.expected[name]]
        assert not different, (self.name, workdir, different)
        left = [path.name for path in (self.folder / workdir).rglob(f"*{SUFFIX}")]
        assert not left, (self.name, workdir, left)


def goes_on_from(workdir: Path) -> str:
    """Return what a program must say when it begins in a folder: from where it goes on.

    A run trained anew ends in the same bits, too: they do not show that it resumed.
    """
    if (workdir / "result.json").exists():
        return "is finished"
    folder = workdir / "checkpoints"
    there = sorted(folder.iterdir()) if folder.is_dir() else []
    names = [path.name for path in there if not path.name.endswith(SUFFIX)]
    if not names:
        return ""
    _, _, newest = names[-1].partition("-")
    if newest == "ended":
        return ": trained by an earlier start"
    epoch, update = map(int, newest.split("-"))
    if update:
        return f"resumed in epoch {epoch + 1}, after update {update}"
    return f"resumed after epoch {epoch}"


def end_of(workdir: Path, *, with_state: bool = True) -> dict[str, Any]:
    """Return what a run has ended in, without the times: bits, not numbers.

    The state of the optimizer is in the last checkpoint of a single run.
    """
    tensors = load_file(workdir / "params.safetensors")
    ended = {
        "params": {name: array.tobytes() for name, array in tensors.items()},
        "predictions": (workdir / "predictions.csv").read_text(),
        "metrics": timeless(workdir / "metrics.jsonl"),
    }
    if (workdir / "steps.csv").exists():
        ended["steps"] = (workdir / "steps.csv").read_text()
    if (workdir / "seeds.jsonl").exists():
        ended["seeds"] = timeless(workdir / "seeds.jsonl")
        return ended
    if not with_state:
        return ended
    store = Store(workdir / "checkpoints")
    last = store.read(store.names()[-1])
    store.close()
    state = {n: a.tobytes() for n, a in last.arrays.items() if not n.startswith("rec")}
    return {**ended, "state": state}


def timeless(path: Path) -> list[dict[str, Any]]:
    """Return the lines of a JSON file without their times."""
    rows = map(json.loads, path.read_text().splitlines())
    return [{n: v for n, v in row.items() if n not in TIMES} for row in rows]


def files_of(workdir: Path) -> list[Path]:
    """Return every file of a run's folder that a program reads back."""
    return sorted(
        path
        for path in workdir.rglob("*")
        if path.is_file() and path.suffix != ".png" and path.name != ".lock"
    )


def flip(path: Path, rng: random.Random) -> str:
    """Flip one bit of a file; say which."""
    content = bytearray(path.read_bytes())
    place, bit = rng.randrange(len(content)), rng.randrange(8)
    content[place] ^= 1 << bit
    path.write_bytes(bytes(content))
    return f"bit {bit} of byte {place} of {path.name}"


def truncate(path: Path, rng: random.Random) -> str:
    """Cut a file off; say where."""
    size = rng.randrange(path.stat().st_size)
    os.truncate(path, size)
    return f"{path.name} cut to {size} bytes"
