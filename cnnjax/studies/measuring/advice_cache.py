"""Cached advice: the fastest strategy is found once per machine and experiment."""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import json
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from cnnjax.base.compile_cache import CompileCache, cache_folder
from cnnjax.base.errors import InputError
from cnnjax.base.intake import read_text
from cnnjax.experiments.experiment import Experiment
from cnnjax.experiments.overrides import override
from cnnjax.experiments.recipes import Recipe
from cnnjax.results.environment import describe_environment
from cnnjax.results.fields import LARGEST, parse
from cnnjax.results.lock import alone_in
from cnnjax.results.plain import plain
from cnnjax.results.workdir import Workdir
from cnnjax.strategies import STRATEGIES, Options
from cnnjax.studies.measuring.advice import Advice
from cnnjax.studies.measuring.advice_text import advice_line
from cnnjax.studies.measuring.candidates import candidates_for

FILE = "advice.json"
MOST_BYTES = 2**22
MOST_ENTRIES = 1000  # the oldest is forgotten
LOCK_TRIES, LOCK_SECONDS = 40, 0.05  # until another process has written its own
DAMAGED = "; what was there before was damaged and is left out"
# The parts of the environment that decide which strategy is fastest.
MACHINE = (
    *("cnnjax", "jax", "jaxlib", "flax", "platform", "device_kind", "num_devices"),
    *("num_cores", "machine", "cpu_model", "xla_flags"),
)


class Choice(NamedTuple):
    """The strategy that was found to be the fastest for an experiment."""

    strategy: str
    microbatch_size: int | None
    why: str
    remembered: str  # since when and where; or why it is not

    def recipe_and_options(self, experiment: Experiment) -> tuple[Recipe, Options]:
        """Return the experiment's recipe with this strategy, and its options."""
        divides = STRATEGIES[self.strategy].divides
        mesh = experiment.options.mesh if divides else None
        recipe = override(experiment.recipe, strategy=self.strategy)
        return recipe, Options(mesh, self.microbatch_size)


def choose(
    experiment: Experiment,
    *,
    advise: Callable[[Experiment], Advice],
    cache: CompileCache,
) -> Choice:
    """Return the remembered advice for an experiment; else call `advise` and store it.

    Advice holds for one network, optimizer, batch size and machine. A file of it that
    is damaged is told of and written anew: it is only a convenience.
    """
    key = key_of(experiment)
    folder = cache_folder()
    known, damage = _read(folder) if folder else ({}, "")
    entry = known.get(key)
    if entry is None or not _is_tried(entry, experiment):
        with cache.off():  # compile time is part of the answer
            found = advise(experiment)
        entry = {
            "strategy": found.best.candidate.strategy,
            "microbatch_size": found.best.candidate.microbatch_size,
            "why": advice_line(found),
            "date": datetime.date.today().isoformat(),
        }
        if folder:
            _remember(folder, key, entry)
    told = f"tried {entry['date']}; {_memory(folder, key)}{damage}"
    return Choice(entry["strategy"], entry["microbatch_size"], entry["why"], told)


def key_of(experiment: Experiment) -> str:
    """Return a hash of everything that the advice depends on."""
    environment, recipe = describe_environment(), experiment.recipe
    mesh = experiment.options.mesh
    told = {
        "model": plain(recipe.model),
        "loss": recipe.loss,
        "algorithm": plain(recipe.optimizer.algorithm),
        "batch_size": experiment.loop.batch_size,
        "devices": mesh and mesh.size,
        "candidates": [str(one) for one in candidates_for(experiment)],
        **{name: environment[name] for name in MACHINE},
    }
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:16]


def _remember(folder: Path, key: str, entry: Mapping[str, Any]) -> None:
    """Add an entry, if the folder can be written; others may be doing the same."""
    for _ in range(LOCK_TRIES):
        try:
            with alone_in(folder):
                _add(folder, key, entry)
            return
        except InputError:
            time.sleep(LOCK_SECONDS)
    _add(folder, key, entry)  # where nothing can be locked


def _add(folder: Path, key: str, entry: Mapping[str, Any]) -> None:
    known, _ = _read(folder)  # with what others have added since
    kept = dict(list({**known, key: entry}.items())[-MOST_ENTRIES:])
    with contextlib.suppress(InputError):
        Workdir(folder).write_json(FILE, kept)


def _memory(folder: Path | None, key: str) -> str:
    """Say whether the advice is remembered, and where."""
    if folder is None:
        return "not remembered: there is no cache folder"
    if key not in _read(folder)[0]:
        return f"not remembered: {folder / FILE} cannot be written"
    return f"remembered in {folder / FILE}"


def _read(folder: Path) -> tuple[dict[str, Any], str]:
    """Return all remembered advice, and what to say of a file that is damaged.

    Of a damaged file, all that can be used is kept: nothing, or the entries that name a
    strategy.
    """
    path = folder / FILE
    if not os.path.lexists(path):
        return {}, ""
    try:
        known = parse(path, read_text(path, most=MOST_BYTES))
    except InputError:
        return {}, DAMAGED
    kept = {key: entry for key, entry in known.items() if _is_advice(entry)}
    return kept, "" if len(kept) == len(known) else DAMAGED


def _is_tried(entry: Mapping[str, Any], experiment: Experiment) -> bool:
    """Whether an entry names one of the strategies that would be tried here."""
    named = entry["strategy"], entry["microbatch_size"]
    return named in {
        (one.strategy, one.microbatch_size) for one in candidates_for(experiment)
    }


def _is_advice(entry: Any) -> bool:
    """Whether an entry is one that `choose` has written."""
    if not isinstance(entry, dict):
        return False
    size = entry.get("microbatch_size")
    whole = isinstance(size, int) and not isinstance(size, bool)
    texts = all(isinstance(entry.get(name), str) for name in ("why", "date"))
    named = isinstance(entry.get("strategy"), str) and entry["strategy"] in STRATEGIES
    return texts and named and (size is None or (whole and 1 <= size <= LARGEST))
