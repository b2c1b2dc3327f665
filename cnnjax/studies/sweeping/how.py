"""How every run of a sweep is trained; only the recipe differs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from cnnjax.base.clock import Clock
from cnnjax.base.compile_cache import CompileCache
from cnnjax.data.dataset import Dataset
from cnnjax.data.fingerprints import fingerprint
from cnnjax.experiments.experiment import Experiment, prepare
from cnnjax.experiments.journal import Journal
from cnnjax.experiments.recipe import Recipe
from cnnjax.results.workdir import Workdir
from cnnjax.strategies import Options
from cnnjax.telling.folder import Keeping
from cnnjax.training.divergence import OnNan


class How(NamedTuple):
    """How every run of a sweep is trained; only the recipe differs."""

    seeds: Sequence[int]
    settle: Callable[[Recipe], tuple[Recipe, Options]]  # strategy and options of one
    keeping: Keeping
    evaluate_every: int
    on_nan: OnNan
    group_size: int  # seeds of a run that are trained as one program
    at_once: int  # runs that are trained as one program
    noted: Mapping[str, Any]  # in config.json, besides the recipe
    environment: Mapping[str, Any]
    command: Sequence[str]
    cache: CompileCache

    def prepare(self, recipe: Recipe, dataset: Dataset, seed: int) -> Experiment:
        """Return the experiment of a recipe and a seed; see `prepare`."""
        recipe, options = self.settle(recipe)
        return prepare(recipe, dataset, seed=seed, options=options)

    def journal(self, recipe: Recipe, dataset: Dataset, path: Path) -> Journal:
        """Return the record of a run in this folder; nothing is written yet."""
        return Journal(
            workdir=Workdir(path),
            experiment=self.prepare(recipe, dataset, self.seeds[0]),
            seeds=self.seeds,
            clock=Clock(),
            environment=self.environment,
            how=self.noted,
            data=fingerprint(dataset),
            class_names=dataset.class_names,
        )
