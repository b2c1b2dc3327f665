"""The runs of a sweep, each with the results of train.py in a folder of its own.

Runs whose shapes agree may be trained as one program: see `together`. The others are
trained in turn.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

from cnnjax.base.errors import InputError
from cnnjax.base.signals import Stop
from cnnjax.data.dataset import Dataset
from cnnjax.data.splits import Split
from cnnjax.experiments import groups
from cnnjax.experiments.experiment import Experiment, prepare
from cnnjax.experiments.overrides import override
from cnnjax.experiments.recipe import Recipe
from cnnjax.results.workdir import CHECKPOINTS
from cnnjax.studies.sweeping import together
from cnnjax.studies.sweeping.choosing import Tried, read_tried
from cnnjax.studies.sweeping.grid import Choice, choices_of
from cnnjax.studies.sweeping.how import How
from cnnjax.telling import training
from cnnjax.telling.folder import opened
from cnnjax.training.callbacks import ignore

# Measured with seeds, which are trained in the same way: on an H200 16 at once took
# 0.16 s of training each, and 1.2 s of everything, against 0.36 s and 9.7 s in turn; on
# two CPU cores three at once took 1.6 times as long as in turn.
AT_ONCE = 16


def default_at_once() -> int:
    """Return how many runs to train as one program, where nobody says."""
    return 1 if jax.default_backend() == "cpu" else AT_ONCE


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
    on_begin: Callable[[Sequence[Choice], int], None] = ignore,
    on_end: Callable[[Tried, int], None] = ignore,
    stop: Stop,
) -> list[Tried]:
    """Train the run of each choice, or the rest of them; return what each gave.

    What is finished is left alone. What cannot be trained is refused before any is.
    `on_begin(choices that are trained together, number of runs that have ended)` is
    called before the choices are trained, `on_end(result, that number)` for each.

    Raises:
        InputError, StoppedError: as `train_run`.
    """
    tried: dict[Choice, Tried] = {}
    for group in groups_of(recipes, dataset, folder, how):
        on_begin(group, len(tried))
        if group[1:]:
            own = {choice: recipes[choice] for choice in group}
            together.train_together(own, dataset, folder, how, stop=stop)
        else:
            (choice,) = group
            path = folder / choice.name
            train_run(recipes[choice], dataset, path, how, stop=stop)
        for choice in group:
            tried[choice] = read_tried(choice, folder / choice.name)
            on_end(tried[choice], len(tried))
    return [tried[choice] for choice in recipes]


def groups_of(
    recipes: Mapping[Choice, Recipe], dataset: Dataset, folder: Path, how: How
) -> list[list[Choice]]:
    """Return the choices that are trained together, group by group.

    A group that an earlier start began is first; it is the same again.

    Raises:
        InputError: something cannot be trained.
    """
    programs: dict[Choice, Any] = {}
    for choice, recipe in recipes.items():
        experiment = how.prepare(recipe, dataset, how.seeds[0])
        begun = [folder / choice.name / name for name in ("result.json", CHECKPOINTS)]
        if how.at_once > 1 and not any(path.exists() for path in begun):
            programs[choice] = _program_of(experiment, how)
    first = together.begun(folder, recipes, how.keeping)
    found: list[tuple[Any, list[Choice]]] = [(None, first)] * bool(first)
    for choice in recipes:
        if choice in first:
            continue
        program = programs.get(choice)
        for other, group in found:
            if program is not None and other == program and len(group) < how.at_once:
                group.append(choice)
                break
        else:
            found.append((program, [choice]))
    return [group for _, group in found]


def _program_of(experiment: Experiment, how: How) -> Any:
    """Return what is the same in runs that one program can train; None: none can."""
    try:
        groups.check_group(experiment, how.at_once)
    except InputError:
        return None
    if how.seeds[1:]:  # they are a group already: `group_size`
        return None
    size = experiment.form.options.microbatch_size
    return groups.program_of(experiment.recipe), size


def train_run(
    recipe: Recipe, dataset: Dataset, path: Path, how: How, *, stop: Stop
) -> None:
    """Train one run of a sweep, or the rest of it; a finished one is left alone.

    Raises:
        InputError: it does not fit the data set, or the folder holds another run.
        StoppedError: a signal has come; the last state is kept.
    """
    journal = how.journal(recipe, dataset, path)
    size = min(how.group_size, len(how.seeds))
    groups.check_group(journal.experiment, size)

    def prepare_fn(seed: int) -> Experiment:
        of = journal.experiment  # its strategy is settled
        return prepare(of.recipe, dataset, seed=seed, options=of.options)

    with opened(journal, how.keeping, how.command, stop=stop) as (keeper, beginning):
        if beginning.status is None:
            teller = training.Teller(ignore, ignore)
            trained = training.How(
                how.evaluate_every, how.on_nan, how.group_size, how.cache, prepare_fn
            )
            training.train(journal, keeper, teller, trained)
