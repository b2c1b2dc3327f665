"""Cached advice: the fastest strategy is found once per machine and experiment."""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from cnnjax.base.compile_cache import CompileCache, cache_folder
from cnnjax.base.errors import InputError
from cnnjax.experiments.experiment import Experiment
from cnnjax.experiments.overrides import override
from cnnjax.experiments.recipes import Recipe
from cnnjax.measuring.advice import Advice
from cnnjax.measuring.advice_text import advice_line
from cnnjax.measuring.candidates import candidates_for
from cnnjax.results.environment import describe_environment
from cnnjax.results.plain import plain
from cnnjax.results.workdir import Workdir
from cnnjax.strategies import STRATEGIES, Options

FILE = "advice.json"
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

    Advice holds for one network, optimizer, batch size and machine.
    """
    key = key_of(experiment)
    folder = cache_folder()
    path = folder and folder / FILE
    known = _read(path) if path else {}
    entry = known.get(key)
    if entry is None:
        with cache.off():  # compile time is part of the answer
            found = advise(experiment)
        entry = {
            "strategy": found.best.candidate.strategy,
            "microbatch_size": found.best.candidate.microbatch_size,
            "why": advice_line(found),
            "date": datetime.date.today().isoformat(),
        }
        with contextlib.suppress(InputError):
            Workdir(folder).write_json(FILE, {**known, key: entry})
    told = f"tried {entry['date']}; {_memory(path, key)}"
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


def _memory(path: Path | None, key: str) -> str:
    """Say whether the advice is remembered, and where."""
    if path is None:
        return "not remembered: there is no cache folder"
    if key not in _read(path):
        return f"not remembered: {path} cannot be written"
    return f"remembered in {path}"


def _read(path: Path) -> dict[str, Any]:
    """Return all remembered advice; empty if the file is missing or damaged."""
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}
