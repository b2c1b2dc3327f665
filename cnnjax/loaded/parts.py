"""The parts of a data set, as a run divides them."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np

from cnnjax.base.errors import InputError
from cnnjax.data.dataset import Dataset
from cnnjax.data.splits import divided
from cnnjax.experiments.experiment import keys_of
from cnnjax.experiments.recipe import Recipe
from cnnjax.types import Examples

Part = Literal["test", "train", "validation", "all"]
PARTS = get_args(Part)


def examples_of(recipe: Recipe, dataset: Dataset, seed: int, part: Part) -> Examples:
    """Return the examples of a part, by the recipe's split and the seed.

    Raises:
        InputError: the recipe holds nothing out for validation.
    """
    key, share = keys_of(seed).split, recipe.validation
    train, test, validation = divided(dataset, recipe.split, share, key=key)
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
