"""The runs of a sweep: each as train.py would train it, in a folder of its own.

Several may be trained at once, each in a thread: XLA computes and compiles without
holding Python. A run ends in the same bits, whatever is trained beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any, NamedTuple

from cnnjax.base.clock import Clock
from cnnjax.base.compile_cache import CompileCache
from cnnjax.base.signals import Stop
from cnnjax.data.dataset import Dataset
from cnnjax.data.fingerprints import fingerprint
from cnnjax.data.splits import Split
from cnnjax.experiments import groups
from cnnjax.experiments.experiment import Experiment, prepare
from cnnjax.experiments.journal import Journal
from cnnjax.experiments.overrides import override
from cnnjax.experiments.recipe import Recipe
from cnnjax.results.workdir import Workdir
from cnnjax.strategies import Options
from cnnjax.studies.sweeping.choosing import Tried, read_tried
from cnnjax.studies.sweeping.grid import Choice, choices_of
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
    group_size: int  # seeds of a run that are trained as one program
    at_once: int  # runs that are trained side by side
    noted: Mapping[str, Any]  # in config.json, besides the recipe
    environment: Mapping[str, Any]
    command: Sequence[str]
    cache: CompileCache

    def prepare(self, recipe: Recipe, dataset: Dataset, seed: int) -> Experiment:
        """Return the experiment of a recipe and a seed; see `prepare`."""
        recipe, options = self.settle(recipe)
        return prepare(recipe, dataset, seed=seed, options=options)


def recipes_of(
    base: Recipe, axes: Mapping[str, list[Any]], split: Split
) -> dict[Choice, Recipe]:
    """Return the recipe of each choice.

    Raises:
        InputError: a recipe cannot have one of the values.
    """
    return {
        choice: override(base, split=split, **choice.values)
        for choice in choices_of(axes)
    }


def train_runs(
    recipes: Mapping[Choice, Recipe],
    dataset: Dataset,
    folder: Path,
    how: How,
    *,
    on_begin: Callable[[Choice, int], None] = ignore,
    on_end: Callable[[Tried, int], None] = ignore,
    stop: Stop,
) -> list[Tried]:
    """Train the run of each choice, `how.at_once` at a time; return what each gave.

    What is finished is left alone. What cannot be trained is refused before any is.
    Where a run fails, those that have begun are trained to their end; no other begins.
    `on_begin(choice, number of runs that have ended)` is called in a thread of a run,
    `on_end(result, that number)` in the thread of the caller, as the runs end.

    Raises:
        InputError, StoppedError: as `train_run`.
    """
    for recipe in recipes.values():
        how.prepare(recipe, dataset, how.seeds[0])
    tried: dict[Choice, Tried] = {}

    def one(choice: Choice) -> Tried:
        on_begin(choice, len(tried))
        path = folder / choice.name
        train_run(recipes[choice], dataset, path, how, stop=stop)
        return read_tried(choice, path)

    def ended(result: Tried) -> None:
        tried[result.choice] = result
        on_end(result, len(tried))

    if how.at_once == 1:  # in this thread: nothing computes meanwhile
        for choice in recipes:
            ended(one(choice))
        return list(tried.values())
    with ThreadPoolExecutor(how.at_once) as pool:
        runs = [pool.submit(one, choice) for choice in recipes]
        try:
            for run in as_completed(runs):
                ended(run.result())
        finally:
            pool.shutdown(cancel_futures=True)
    return [tried[choice] for choice in recipes]


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
