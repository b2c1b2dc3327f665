"""The runs of a sweep: each as train.py would train it, in a folder of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from cnnjax.base.clock import Clock
from cnnjax.base.compile_cache import CompileCache
from cnnjax.base.signals import Stop
from cnnjax.data.dataset import Dataset
from cnnjax.data.fingerprints import fingerprint
from cnnjax.experiments import groups
from cnnjax.experiments.experiment import Experiment, prepare
from cnnjax.experiments.journal import Journal
from cnnjax.experiments.recipe import Recipe
from cnnjax.results.workdir import Workdir
from cnnjax.strategies import Options
from cnnjax.telling import training
from cnnjax.telling.folder import Keeping, opened
from cnnjax.training.callbacks import ignore
from cnnjax.training.divergence import OnNan


class How(NamedTuple):
    """How every run of a sweep is trained; only the recipe differs."""

    seeds: Sequence[int]
    settle: Callable[[Recipe], tuple[Recipe, Options]]  # strategy and options of one
    keeping: Keeping
    evaluate_every: int
    on_nan: OnNan
    group_size: int
    noted: Mapping[str, Any]  # in config.json, besides the recipe
    environment: Mapping[str, Any]
    command: Sequence[str]
    cache: CompileCache

    def prepare(self, recipe: Recipe, dataset: Dataset, seed: int) -> Experiment:
        """Return the experiment of a recipe and a seed; see `prepare`."""
        recipe, options = self.settle(recipe)
        return prepare(recipe, dataset, seed=seed, options=options)


def train_run(
    recipe: Recipe,
    dataset: Dataset,
    path: Path,
    how: How,
    *,
    stop: Stop,
) -> None:
    """Train one run of a sweep, or the rest of it; a finished one is left alone.

    Raises:
        InputError: it does not fit the data set, or the folder holds another run.
        StoppedError: a signal has come; the last state is kept.
    """
    settled, options = how.settle(recipe)

    def prepare_fn(seed: int) -> Experiment:
        return prepare(settled, dataset, seed=seed, options=options)

    experiment = prepare_fn(how.seeds[0])
    size = min(how.group_size, len(how.seeds))
    groups.check_group(experiment, size)
    journal = Journal(
        workdir=Workdir(path),
        experiment=experiment,
        seeds=how.seeds,
        clock=Clock(),
        environment=how.environment,
        how=how.noted,
        data=fingerprint(dataset),
        class_names=dataset.class_names,
    )
    with opened(journal, how.keeping, how.command, stop=stop) as (keeper, beginning):
        if beginning.status is None:
            teller = training.Teller(ignore, ignore)
            trained = training.How(
                how.evaluate_every, how.on_nan, how.group_size, how.cache, prepare_fn
            )
            training.train(journal, keeper, teller, trained)
