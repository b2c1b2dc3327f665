"""A recipe from its description in config.json: `results.plain`, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

from cnnjax.base.errors import InputError
from cnnjax.data.augmentation import Augmentation
from cnnjax.data.preprocessing import Preprocessing
from cnnjax.data.splits import Split
from cnnjax.experiments.recipe import Recipe
from cnnjax.models.initializers import Initializer
from cnnjax.models.kinds import KINDS as LAYERS
from cnnjax.models.stack import ModelConfig
from cnnjax.results.plain import from_plain
from cnnjax.training.algorithms import ALGORITHMS
from cnnjax.training.optimizers import OptimizerConfig
from cnnjax.training.schedules import SCHEDULES

# What a description may be made of: nothing else is made, whatever a file says.
KINDS = {
    kind.__name__: kind
    for kind in (
        *(Recipe, ModelConfig, Initializer, OptimizerConfig),
        *LAYERS,
        *ALGORITHMS.values(),
        *SCHEDULES.values(),
        *get_args(Split),
        *get_args(Augmentation),
        *get_args(Preprocessing),
    )
}


def recipe_of(described: Mapping[str, Any]) -> Recipe:
    """Return the recipe that `plain(recipe)` describes, with every value checked.

    Raises:
        InputError: it has another kind of layer or optimizer than this library's, a
            field that is not known, or a value that the recipe refuses.
    """
    recipe = from_plain(described, KINDS, where="recipe")
    if not isinstance(recipe, Recipe):
        raise InputError(
            f"expected the description of a Recipe, got {type(recipe).__name__}"
        )
    return recipe
