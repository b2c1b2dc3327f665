"""The table of contenders; each runs in its own process.

So the allocator, threads and libraries of one cannot disturb another. To add one, add a
file in `peers/` with a function `make(case, task, **options)`, and a row here.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

# What is computed. "mean": an update from the mean gradient; "bfloat16": that, with
# float32 parameters and bfloat16 arithmetic; "norms": an update from the mean, and the
# norm of each example's gradient; "clipped": an update from the mean of the clipped
# per-example gradients; "full": every per-example gradient, without an update; "peak":
# matrix products.
Task = Literal["mean", "bfloat16", "norms", "clipped", "full", "peak"]

OF_A_BATCH: tuple[Task, ...] = ("mean", "bfloat16")  # no single example's gradient


class Contender(NamedTuple):
    """What a peer's `make` returns."""

    run: Callable[[int], None]  # runs this many updates; returns when they are done
    # result() -> its result for the first batch, named and shaped like our parameters.
    result: Callable[[], Any]
    facts: Mapping[str, Any]  # versions, stages, memory: ready for JSON
    # train(epochs, seed) trains from a seed's parameters -> for each epoch, "epoch",
    # "accuracy" and {"train", "compile", "wall"}_seconds so far.
    train: Callable[[int, int], list[dict[str, Any]]] | None = None


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One row: the file that makes it, its options and its environment."""

    name: str
    module: str  # in peers/
    task: Task = "mean"
    options: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    needs: tuple[str, ...] = ()  # packages
    on_gpu: bool = False  # only makes sense on a GPU

    @property
    def ours(self) -> bool:
        """Whether it is cnnjax."""
        return self.module == "ours"

    @property
    def tuned(self) -> bool:
        """Whether its allocator is set to keep freed memory."""
        return KEEP_MEMORY.items() <= self.environment.items()

    @property
    def missing(self) -> tuple[str, ...]:
        """Return what it needs but is not available: packages, a GPU."""
        there = importlib.util.find_spec
        packages = tuple(name for name in self.needs if there(name) is None)
        no_gpu = self.on_gpu and shutil.which("nvidia-smi") is None
        return (*packages, "a GPU") if no_gpu else packages


# glibc returns large blocks to the system at once, so every update faults their pages
# in again. With these settings it keeps them, which helps programs that allocate at
# every update.
KEEP_MEMORY = {
    "MALLOC_MMAP_THRESHOLD_": "4294967296",
    "MALLOC_TRIM_THRESHOLD_": "8589934592",
    "MALLOC_TOP_PAD_": "268435456",
}


# By default JAX reserves most of a GPU's memory, but several contenders must fit.
SHARE_THE_GPU = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}


def ours(task: Task = "mean", **options: Any) -> Entry:
    """Return a row for cnnjax: a strategy or a per-example rule, run as in training."""
    words = [str(options.get("strategy") or options.get("rule") or "jit")]
    if "microbatch_size" in options:
        words.append(f"microbatch {options['microbatch_size']}")
    if task == "bfloat16":
        words.append(task)
    name = f"cnnjax {', '.join(words)}"
    return Entry(name=name, module="ours", task=task, options=options)


def tuned(entry: Entry) -> Entry:
    """Return the same row with an allocator that keeps freed memory."""
    environment = {**entry.environment, **KEEP_MEMORY}
    return replace(entry, name=f"{entry.name}, tuned", environment=environment)


def both(entry: Entry) -> tuple[Entry, Entry]:
    """Return a row both as installed and tuned."""
    return entry, tuned(entry)


def _pytorch() -> Iterator[Entry]:
    for form in ("eager", "channels_last", "compile", "cuda_graphs"):
        for fused in (False, True):  # the optimizer passes over memory often, or once
            yield from both(
                Entry(
                    name=f"pytorch {form}{', fused' if fused else ''}",
                    module="pytorch",
                    options={"form": form, "fused": fused},
                    needs=("torch",),
                    on_gpu=form == "cuda_graphs",
                )
            )
        yield Entry(
            name=f"pytorch {form}, fused, bfloat16",
            module="pytorch",
            task="bfloat16",
            options={"form": form, "fused": True},
            needs=("torch",),
            on_gpu=form == "cuda_graphs",
        )
    for task in ("norms", "clipped", "full"):
        for name, module, needs in (
            ("torch.func", "torch_func", ("torch",)),
            ("opacus hooks", "opacus_hooks", ("torch", "opacus")),
            ("opacus ghost", "opacus_ghost", ("torch", "opacus")),
        ):
            if module == "opacus_ghost" and task == "full":
                continue  # it does not form per-example gradients
            if module == "opacus_hooks" and task == "norms":
                continue  # they cost as much as the clipped mean
            yield from both(
                Entry(name=f"{name} {task}", module=module, task=task, needs=needs)
            )
    yield from both(
        Entry(
            name="fastdp clipped",
            module="fastdp_clip",
            task="clipped",
            needs=("torch", "fastDP"),
        )
    )


def _jax_peers() -> Iterator[Entry]:
    for name, module, needs in (
        ("flax", "flax_form", ()),
        ("flax nnx", "nnx_form", ()),
        ("equinox", "equinox_form", ("equinox",)),
    ):
        for words, loop in (("scan", "scan"), ("python loop", "python")):
            yield from both(
                Entry(
                    name=f"{name} {words}",
                    module=module,
                    options={"loop": loop},
                    needs=needs,
                )
            )
    for task in ("norms", "clipped"):
        yield from both(Entry(name=f"optax {task}", module="optax_clip", task=task))
        for words, options in (("", {}), (", microbatch 1", {"microbatch_size": 1})):
            yield from both(
                Entry(
                    name=f"jax_privacy {task}{words}",
                    module="jax_privacy_clip",
                    task=task,
                    options=options,
                    needs=("jax_privacy",),
                )
            )


def _table() -> Iterator[Entry]:
    yield Entry(name="matmul jax", module="matmul", task="peak")
    yield Entry(
        name="matmul pytorch",
        module="torch_matmul",
        task="peak",
        needs=("torch",),
    )
    yield from both(ours(strategy="jit"))
    for strategy in ("vmap", "serial"):
        yield ours(strategy=strategy)
    for size in (8, 16, 32):
        yield ours(strategy="jit", microbatch_size=size)
    yield from both(ours(strategy="factored"))
    for size in (16, 32):  # the default forms
        yield from both(ours(strategy="factored", microbatch_size=size))
    for strategy in ("jit", "factored"):
        yield ours("bfloat16", strategy=strategy)
    for rule in ("norms_by_factors", "norms_by_rows"):
        yield ours("norms", rule=rule)
    for rule in ("clipped_by_factors", "clipped_by_rows"):
        yield ours("clipped", rule=rule)
    for rule in ("full_by_factors", "full_by_rows"):
        yield ours("full", rule=rule)
    yield ours("norms", rule="norms_by_factors", microbatch_size=16)
    yield ours("clipped", rule="clipped_by_factors", microbatch_size=16)
    yield from _pytorch()
    yield from _jax_peers()
    keras = {"KERAS_BACKEND": "jax"}
    yield from both(
        Entry(
            name="keras on jax", module="keras_jax", environment=keras, needs=("keras",)
        )
    )
    yield from both(Entry(name="numpy", module="plain_numpy"))


CONTENDERS: dict[str, Entry] = {entry.name: entry for entry in _table()}


class ContenderError(Exception):
    """A contender ended or gave no valid answer; the message is its last output."""


class Process:
    """A contender in its own process, which runs only on request."""

    def __init__(self, entry: Entry, folder: Path) -> None:
        """Start it on a case; its first answer comes when it is built."""
        self.entry = entry
        self._complaints = tempfile.TemporaryFile()  # noqa: SIM115
        told = {
            "module": entry.module,
            "task": entry.task,
            "options": dict(entry.options),
        }
        script = str(Path(__file__).with_name("contender.py"))
        self._process = subprocess.Popen(
            [sys.executable, script, json.dumps(told), str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._complaints,
            env={**SHARE_THE_GPU, **os.environ, **entry.environment},
            text=True,
        )

    def answer(self) -> dict[str, Any]:
        """Return its next answer.

        Raises:
            ContenderError: it has ended instead.
        """
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        try:
            return json.loads(line)
        except ValueError as error:
            self._process.kill()
            self._process.wait()
            words = self._last_words()
            self.end()
            raise ContenderError(words) from error

    def ask(self, **message: Any) -> dict[str, Any]:
        """Send a request; return the answer.

        Raises:
            ContenderError: it has ended, or ends instead of answering.
        """
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            print(json.dumps(message), file=self._process.stdin, flush=True)
        return self.answer()

    def run(self, steps: int) -> float:
        """Run this many steps; return their seconds.

        Raises:
            ContenderError: it has ended, or ends instead of answering.
        """
        return self.ask(do="run", steps=steps)["seconds"]

    def end(self) -> None:
        """End it, if it still runs."""
        self._process.kill()
        self._process.wait()
        for file in (self._process.stdin, self._process.stdout, self._complaints):
            with contextlib.suppress(BrokenPipeError):
                assert file is not None
                file.close()

    def _last_words(self) -> str:
        self._complaints.seek(0)
        lines = self._complaints.read().decode(errors="replace").strip().splitlines()
        # JAX ends with a hint on tracebacks; the error itself begins a line.
        told = [line for line in lines if re.match(r"[\w.]+(Error|Exception)\b", line)]
        return (told or lines or [f"status {self._process.returncode}"])[-1]
