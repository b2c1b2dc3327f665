"""The runs in a folder, finished or not, and what differs in their settings."""

from __future__ import annotations

import os
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from cnnjax.base.errors import InputError, expect
from cnnjax.base.intake import read_text
from cnnjax.results.fields import field, parse, read_config, read_epochs
from cnnjax.results.folders import folder_named
from cnnjax.results.outcomes import by_path, read_outcome
from cnnjax.results.schema import CONFIG, EPOCH, RESULT

DEPTH, MOST_FOLDERS = 4, 10_000
# Folders of a run that are none: they are not searched.
INSIDE = ("checkpoints",)


class Listed(NamedTuple):
    """One run of a folder."""

    path: Path
    name: str  # the path from the folder that was searched
    state: str  # "finished", "diverged", "unfinished", or "damaged"
    recipe: str = ""
    epochs: int = 0  # that are done, of a seed
    seeds: int = 0
    metric: str = ""  # test_accuracy or test_loss
    score: float | None = None  # the mean over the seeds
    train_seconds: float | None = None  # of all seeds
    settings: Mapping[str, Any] = {}  # by path: "optimizer.l2"
    why: str = ""  # what is wrong with a damaged one


def find_runs(folder: str) -> list[Listed]:
    """Return every run in a folder and below it, by name.

    A run is a folder with a config.json. One that cannot be read is listed, too, with
    the reason.

    Raises:
        InputError: there is no such folder, or no run in it.
    """
    root = folder_named(folder)
    expect("a folder of runs", folder, root.is_dir())
    found: list[Listed] = []
    what = f"at most {MOST_FOLDERS} folders in {folder}"
    for seen, (place, below, files) in enumerate(os.walk(root), start=1):
        expect(what, seen, seen <= MOST_FOLDERS)
        here = Path(place)
        deep = len(here.relative_to(root).parts)
        below[:] = sorted(n for n in below if n not in INSIDE and deep < DEPTH)
        if CONFIG.file in files:
            name = here.relative_to(root).as_posix()
            found.append(read_listed(here, root.name if name == "." else name))
    if not found:
        raise InputError(f"expected runs of train.py in {folder}, got none")
    return sorted(found, key=lambda run: run.name)


def read_listed(path: Path, name: str) -> Listed:
    """Read one run; what is wrong with it is in `why`."""
    try:
        config = read_config(path)
        recipe = config.get("recipe") or {}
        kind, seed = str(recipe.get("name", "")), config.get("seed")
        seeds = config.get("seeds") or [seed]
        own = {"seeds": ", ".join(map(str, seeds)), "faults": config.get("faults")}
        settings = {"recipe": kind, **by_path(recipe), **own}
        known = Listed(path, name, "unfinished", kind, settings=settings)
        if not (path / RESULT.file).exists():
            rows = read_epochs(path) if (path / EPOCH.file).exists() else []
            begun = {row.get("seed", seed) for row in rows}
            done = max((row["epoch"] for row in rows), default=0)
            return known._replace(epochs=done, seeds=len(begun))
        outcome, file = read_outcome(str(path)), path / RESULT.file
        result = parse(file, read_text(file))  # its seal has been compared

        def noted(name: str) -> Any:
            there = result.get(name) is not None
            return field(file, result, name, schema=RESULT) if there else None

        lost = bool(outcome.diverged)
        return known._replace(
            state="diverged" if lost else "finished",
            epochs=noted("epochs") or 0,
            seeds=len(outcome.scores),
            metric=outcome.metric,
            score=statistics.fmean(outcome.scores.values()),
            train_seconds=noted("train_seconds"),
        )
    except InputError as error:
        return Listed(path, name, "damaged", why=str(error))


def varied(runs: Sequence[Listed]) -> dict[str, list[Any]]:
    """Return the settings that are not the same in all runs, with each run's value.

    >>> runs = [Listed(Path(n), n, "finished", settings={"l2": v, "epochs": 3})
    ...         for n, v in (("a", 0.0), ("b", 0.1))]
    >>> varied(runs)
    {'l2': [0.0, 0.1]}
    """
    names = dict.fromkeys(name for run in runs for name in run.settings)
    values = {name: [run.settings.get(name) for run in runs] for name in names}
    return {
        name: own for name, own in values.items() if any(v != own[0] for v in own[1:])
    }
