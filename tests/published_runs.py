"""Published runs that train in a moment, and what train.py leaves of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cnnjax.results.workdir import Workdir
from cnnjax.studies.published.run import Figure, PublishedRun, System
from cnnjax.studies.reproduction.findings import find, read_trained

LOSS = Figure(what="loss", metric="test_loss", value=0.02, band=(0.0, 9.0))
FIRST = Figure(what="loss", metric="train_loss", epoch=1, value=0.5)
LATER = Figure(what="loss", metric="train_loss", epoch=3, value=0.02)
TIME = Figure(what="training", metric="train_seconds", value=0.166)
ACCURACY = Figure(what="accuracy", metric="test_accuracy", value=0.96, band=(0.9, 1.0))


def system(*runs: PublishedRun, letter: str = "B") -> System:
    return System(letter=letter, title="Homework", question="Why?", runs=runs)


def house(name: str, **fields) -> PublishedRun:
    """A run that trains in a moment: a regression of three epochs."""
    fields = {"changes": {"epochs": 3}, "figures": (LOSS, FIRST, LATER, TIME), **fields}
    recipe = "tanh_mlp_housing_narrow"
    return PublishedRun(
        name=name, title="5-8-1", recipe=recipe, one_core=True, **fields
    )


def image(name: str, **fields) -> PublishedRun:
    fields = {"figures": (ACCURACY, TIME), **fields}
    return PublishedRun(name=name, title="a CNN", recipe="sgd_dropout_cnn", **fields)


def write_houses(folder: Path) -> None:
    """Write a table of 20 houses."""
    rows = np.random.default_rng(0).integers(1, 99, (20, 6)).tolist()
    lines = ["price,area,bedrooms,bathrooms,stories,parking"]
    lines += [",".join(map(str, row)) for row in rows]
    (folder / "Housing.csv").write_text("\n".join(lines) + "\n")


def write_job(job, *, lines=(), predictions=None, **result) -> None:
    """Write what train.py leaves of a job."""
    job.folder.mkdir(parents=True)
    workdir = Workdir(job.folder)
    config = {"recipe": job.recipe, "faults": job.run.faults, "seed": job.seed}
    workdir.write_json("config.json", config)
    workdir.write_bytes("metrics.jsonl", b"")
    for line in lines:
        workdir.append_json_lines("metrics.jsonl", [line])
    if predictions is not None:
        workdir.append_predictions(job.seed, *map(np.array, predictions))
    environment = {"date": "2026-01-01", "num_cores": 1, "machine": "x86_64"}
    environment |= {"python": "3.13", "jax": "1", "flax": "1", "optax": "1"}
    environment |= {"num_devices": 1, "device_kind": "cpu", "platform": "cpu"}
    environment |= {"num_processes": 1, "commit": "abc"}
    workdir.write_json("result.json", {"environment": environment, **result})


def findings_of(systems, jobs, why="not trained yet"):
    trained = {job.folder: read_trained(job) for job in jobs if job.done}
    return find(systems, jobs, trained, reason_fn=lambda job: why)
