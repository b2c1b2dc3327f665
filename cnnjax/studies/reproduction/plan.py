"""Plan which runs and seeds to train, and the folder of each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from cnnjax.base.errors import InputError
from cnnjax.base.intake import read_bytes
from cnnjax.data.dataset import Dataset
from cnnjax.data.fingerprints import changed
from cnnjax.data.splits import count_train
from cnnjax.experiments.recipe import FASTEST, Recipe
from cnnjax.models.stack import layer_rows
from cnnjax.results.fields import read_config
from cnnjax.results.plain import plain
from cnnjax.studies.published.run import PublishedRun, System

Scale = Literal["quick", "full"]

# The cost of starting, compiling and testing, in multiply-adds of training.
START_WORK = 5e10


@dataclass(frozen=True, kw_only=True)
class Job:
    """One seed of one published run, trained by one call of train.py."""

    system: str  # its letter
    run: PublishedRun
    seed: int
    recipe: Recipe  # as trained at this scale
    folder: Path  # train.py's workdir

    @property
    def name(self) -> str:
        """Return a name such as "C batch_8 seed 0"."""
        return f"{self.system} {self.run.name} seed {self.seed}"

    @property
    def complaint(self) -> Path:
        """Return the file beside the folder that records why the job failed."""
        return self.folder.with_name(f"{self.folder.name}.stderr")

    @property
    def done(self) -> bool:
        """Whether its training has finished."""
        return (self.folder / "result.json").exists()

    @property
    def whole(self) -> bool:
        """Whether it trains all epochs of its run; the quick scale may shorten it."""
        return self.recipe.epochs == self.run.settled().epochs

    def flags(self, data_dir: str) -> list[str]:
        """Return the flags for train.py; an interrupted run is replaced."""
        return [
            *self.run.flags(),
            *([] if self.whole else [f"--epochs={self.recipe.epochs}"]),
            f"--seed={self.seed}",
            f"--data_dir={data_dir}",
            f"--workdir={self.folder}",
            "--on_nan=continue",  # that a run diverged is a finding
        ]

    def epochs_done(self) -> int:
        """Return how many epochs its metrics.jsonl has so far."""
        try:
            return read_bytes(self.folder / "metrics.jsonl").count(b"\n")
        except InputError:
            return 0


def plan(systems: Iterable[System], *, scale: Scale, workdir: Path) -> list[Job]:
    """Return every job of these systems at a scale, in order.

    A run of all epochs is in LETTER/NAME/seed_K. One that the quick scale shortens is
    in LETTER/NAME/N_epochs/seed_K, so that it is never mistaken for a complete one. If
    the complete one is done, the quick scale uses it.

    Raises:
        InputError: a folder holds a run with different settings.
    """
    jobs = []
    for system in systems:
        for run in system.runs:
            whole = run.settled()
            for seed in range(run.seeds if scale == "full" else int(run.at_quick)):
                base = workdir / system.letter / run.name
                job = Job(
                    system=system.letter,
                    run=run,
                    seed=seed,
                    recipe=whole,
                    folder=base / f"seed_{seed}",
                )
                epochs = run.quick_epochs or whole.epochs
                if scale == "quick" and epochs < whole.epochs and not job.done:
                    job = replace(
                        job,
                        recipe=replace(whole, epochs=epochs),
                        folder=base / f"{epochs}_epochs" / f"seed_{seed}",
                    )
                check_settings(job)
                jobs.append(job)
    return jobs


def finished(systems: Iterable[System], *, workdir: Path) -> list[Job]:
    """Return every finished job of these systems in a workdir, at either scale.

    Raises:
        InputError: a folder holds a run with different settings.
    """
    systems = list(systems)
    jobs = [
        *plan(systems, scale="quick", workdir=workdir),
        *plan(systems, scale="full", workdir=workdir),
    ]
    return [job for job in {job.folder: job for job in jobs}.values() if job.done]


def check_settings(job: Job) -> None:
    """Refuse a folder that holds a different run, which would be counted as this job.

    Where the recipe names no strategy, any will do: all compute the same gradient.

    Raises:
        InputError: recipe, faults or seed differ from the job's, or config.json is
            damaged or missing.
    """
    path = job.folder / "config.json"
    if not path.exists():
        if job.done:
            raise InputError(f"{job.folder} has a result.json but no config.json")
        return
    config = read_config(job.folder)
    found = {name: config.get(name) for name in ("recipe", "faults", "seed")}
    wanted = plain(
        {"recipe": job.recipe, "faults": list(job.run.faults), "seed": job.seed}
    )
    if job.recipe.strategy == FASTEST and isinstance(found["recipe"], dict):
        wanted["recipe"]["strategy"] = found["recipe"].get("strategy")
    for place, was, is_to_be in _differences(found, wanted, ""):
        raise InputError(
            f"{job.folder} holds a different run, not {job.name}: {place} was {was!r}, "
            f"expected {is_to_be!r}; choose another --workdir, or remove that folder"
        )


def check_data(job: Job, data: Mapping[str, str] | None) -> None:
    """Refuse a run on other data than that of the campaign now: they would be mixed.

    `data` is the fingerprint of the job's data set; None: it is not there.

    Raises:
        InputError: a file has changed since that run was begun.
    """
    if data is None or not (job.folder / "config.json").exists():
        return
    earlier = read_config(job.folder).get("data")
    told = changed(earlier, data) if earlier else None
    if told is not None:
        raise InputError(
            f"{job.folder} holds a run on other data: {told}; bring the data back, or "
            "choose another --workdir"
        )


def work(job: Job, dataset: Dataset) -> float:
    """Estimate the cost of a job in multiply-adds, to predict its share of the time.

    Each example passes through the network, and each update through the parameters.
    """
    recipe = job.recipe
    rows = layer_rows(recipe.model)
    examples = count_train(dataset, recipe.split, num_train=recipe.num_train)
    updates = -(-examples // (recipe.batch_size or examples))
    macs = examples * sum(row.macs for row in rows)
    macs += updates * sum(row.parameters for row in rows)
    return START_WORK + recipe.epochs * macs


def _differences(found: Any, wanted: Any, place: str) -> Iterable[tuple[str, Any, Any]]:
    """Yield (place, was, expected) for each difference; summaries are ignored."""
    if isinstance(found, dict) and isinstance(wanted, dict):
        for name in sorted((found.keys() | wanted.keys()) - {"summary"}):
            inner = f"{place}.{name}" if place else name
            yield from _differences(found.get(name), wanted.get(name), inner)
    elif found != wanted:
        yield place, found, wanted
