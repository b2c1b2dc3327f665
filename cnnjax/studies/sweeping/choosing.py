"""What each choice of a sweep gave on the validation examples, and the best of them.

A run of a sweep is trained on a split that holds validation examples out: what it calls
its test are these. The test examples are looked at once, for the choice that was made.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

import jax
import numpy as np

from cnnjax.base.errors import InputError
from cnnjax.data.dataset import Dataset
from cnnjax.data.splits import Split
from cnnjax.experiments.experiment import Experiment
from cnnjax.experiments.judging import make_test
from cnnjax.experiments.recipe import Recipe
from cnnjax.loaded import load_run
from cnnjax.results.outcomes import read_outcome
from cnnjax.results.plain import plain
from cnnjax.statistics.run_verdicts import compare_outcomes
from cnnjax.studies.sweeping.grid import Choice

BETTER = {"test_accuracy": max, "test_loss": min}


class Tried(NamedTuple):
    """One choice, trained: its scores on the validation examples."""

    choice: Choice
    path: Path
    metric: str  # "accuracy" or "loss"
    scores: Mapping[int, float]  # by seed
    diverged: bool  # any of its seeds

    @property
    def score(self) -> float:
        """Return the mean over the seeds."""
        return fmean(self.scores.values())


def read_tried(choice: Choice, path: Path) -> Tried:
    """Read what a finished run of a sweep gave.

    Raises:
        InputError: it is not finished, or damaged.
    """
    found = read_outcome(str(path))
    metric = found.metric.removeprefix("test_")
    return Tried(choice, path, metric, found.scores, bool(found.diverged))


def best_of(tried: Sequence[Tried]) -> Tried:
    """Return the choice with the best mean score, the first of equal ones.

    Choices of which a seed diverged are passed over.

    Raises:
        InputError: all diverged.
    """
    whole = [one for one in tried if not one.diverged]
    if not whole:
        raise InputError("expected a choice to train without diverging, got none")
    better = BETTER[f"test_{whole[0].metric}"]
    return better(whole, key=lambda one: one.score)


def second_of(tried: Sequence[Tried], best: Tried) -> Tried | None:
    """Return the best of the others; None: there is no other that did not diverge."""
    others = [one for one in tried if one is not best and not one.diverged]
    return best_of(others) if others else None


def verdict(best: Tried, second: Tried) -> str:
    """Say whether the best is really better than the second; see `compare_outcomes`."""
    sides = (read_outcome(str(one.path)) for one in (best, second))
    return compare_outcomes(*sides)["verdict"]


def test_of(
    best: Tried,
    dataset: Dataset,
    split: Split,
    prepare_fn: Callable[[Recipe, Dataset, int], Experiment],
) -> dict[int, dict[str, float]]:
    """Return the test metrics of the chosen networks, by seed.

    `dataset` has its test examples, and `split` is that which the recipe would have
    without a sweep. `prepare_fn(recipe, dataset, seed)` is that of the training.
    """
    found = {}
    for seed in best.scores:
        run = load_run(best.path, seed=seed if len(best.scores) > 1 else None)
        recipe = replace(run.recipe, split=split)
        experiment = prepare_fn(recipe, dataset, seed)
        measured = make_test(experiment)(recipe.epochs, jax.device_put(run.params))
        named = {name: float(np.asarray(value)) for name, value in measured.items()}
        found[seed] = {**named, "examples": len(experiment.test.labels)}
    return found


def sweep_json(
    axes: Mapping[str, list[Any]],
    tried: Sequence[Tried],
    best: Tried,
    test: Mapping[int, Mapping[str, float]],
    *,
    share: float,
) -> dict[str, Any]:
    """Return what sweep.json holds; `share` was held out to choose by."""
    rows = [
        {
            **one.choice.values,
            "folder": one.path.name,
            f"validation_{one.metric}": one.score,
            "by_seed": {str(seed): score for seed, score in one.scores.items()},
            "diverged": one.diverged,
        }
        for one in tried
    ]
    return plain(
        {
            "sweep": dict(axes),
            "validation": share,
            "tried": rows,
            "chosen": best.path.name,
            "test_by_seed": {str(seed): dict(of) for seed, of in test.items()},
        }
    )
