"""The data set of a run, read again, and its parts, as the run divides them."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, get_args

import numpy as np

from cnnjax.base.arguments import instance_of, optional
from cnnjax.base.errors import InputError
from cnnjax.data import load_dataset
from cnnjax.data.dataset import Dataset
from cnnjax.data.fingerprints import changed, fingerprint
from cnnjax.data.splits import divided
from cnnjax.experiments.experiment import keys_of
from cnnjax.experiments.recipe import Recipe
from cnnjax.loaded.reading import Settings
from cnnjax.results.folders import shown_path
from cnnjax.types import Examples

Part = Literal["test", "train", "validation", "all"]
PARTS = get_args(Part)


def data_of(
    path: Path, settings: Settings, given: Dataset | None, data_dir: str | None
) -> Dataset:
    """Return the data set that is given, or that of the run, read again.

    Raises:
        InputError: it is missing, or is not what it was when the run was trained.
    """
    optional(instance_of(Dataset))("dataset (see load_dataset)", given)
    if given is not None:
        return given
    dataset = load_dataset(settings.recipe.dataset, data_dir=data_dir)
    before = settings.data
    told = changed(before, fingerprint(dataset)) if before else None
    if told is not None:
        raise InputError(
            f"{shown_path(path)} was trained on other data: {told}; bring it back, or "
            "evaluate on other data by name"
        )
    return dataset


def examples_of(recipe: Recipe, dataset: Dataset, seed: int, part: Part) -> Examples:
    """Return the examples of a part, by the recipe's split and the seed.

    "train" is what was trained on; "all" has the others, too.

    Raises:
        InputError: the recipe holds nothing out for validation.
    """
    key, share = keys_of(seed).split, recipe.validation
    count = None if part == "all" else recipe.num_train
    train, test, validation = divided(
        dataset, recipe.split, share, key=key, num_train=count
    )
    parts = {"train": train, "test": test, "validation": validation}
    if part == "all":
        there = [own for own in parts.values() if own is not None]
        return Examples(*map(np.concatenate, zip(*there, strict=True)))
    found = parts[part]
    if found is None:
        raise InputError(
            f"expected the part test, train or all, got {part}: {recipe.name!r} was "
            "trained without --validation"
        )
    return found
