"""A recipe with some of its fields replaced, by name."""

from __future__ import annotations

from dataclasses import fields, is_dataclass, replace
from typing import Any

from cnnjax.base.arguments import instance_of, known_name
from cnnjax.base.errors import InputError, nearest
from cnnjax.experiments.recipes import Recipe
from cnnjax.models.initializers import INITIALIZERS
from cnnjax.models.stack import float_type
from cnnjax.training.algorithms import ALGORITHMS
from cnnjax.training.schedules import SCHEDULES, Cosine

_PARTS = ("model", "optimizer")  # parts whose fields can be named directly


def override(recipe: Recipe, **changes: Any) -> Recipe:
    """Return a recipe with fields of it, its model or its optimizer replaced.

    Names are the fields of `Recipe`, `ModelConfig`, `OptimizerConfig`, and of the
    recipe's algorithm and schedule. A value of None leaves the field unchanged. Also:

    - `precision` sets both dtypes of the model; "bfloat16" sets only that of the
      arithmetic, and parameters and gradients stay float32;
    - `initializer` can be a name of `initializers.INITIALIZERS`;
    - `algorithm` (a name of `algorithms.ALGORITHMS`) and `schedule` (one of
      `schedules.SCHEDULES`) change the kind; a new cosine uses the recipe's epochs,
      unless `cosine_epochs` is given, too;
    - `algorithm`, `schedule`, `model` and `optimizer` can also be given as values,
      which replace that part; other fields given are then set in the new part.

    >>> from cnnjax.experiments.recipes import get_recipe
    >>> override(get_recipe("adam_cosine_cnn"), epochs=3, l2=0.0).optimizer.l2
    0.0

    Raises:
        InputError: a field that this recipe does not have, or an invalid value.
    """
    instance_of(Recipe)("recipe (see get_recipe)", recipe)
    given = {name: value for name, value in changes.items() if value is not None}
    whole_parts = {name: given.pop(name) for name in _PARTS if name in given}
    recipe = replace(recipe, **whole_parts)
    model, optimizer = recipe.model, recipe.optimizer
    if "precision" in given:
        dtype = float_type("precision", given.pop("precision"))
        given.setdefault("dtype", dtype)
        given.setdefault("param_dtype", "float32" if dtype == "bfloat16" else dtype)
    if isinstance(initializer := given.get("initializer"), str):
        name = known_name("initializer", initializer, INITIALIZERS)
        given["initializer"] = INITIALIZERS[name]
    given.setdefault("epochs", recipe.epochs)  # also used by a new cosine schedule
    algorithm = _part(given, "algorithm", ALGORITHMS, optimizer.algorithm)
    schedule = _part(given, "schedule", SCHEDULES, optimizer.schedule)
    optimizer = replace(
        optimizer,
        **{"algorithm": algorithm, "schedule": schedule, **_take(given, optimizer)},
    )
    model = replace(model, **_take(given, model))
    recipe = replace(recipe, model=model, optimizer=optimizer, **_take(given, recipe))
    if given:
        kinds = type(algorithm).__name__, type(schedule).__name__
        parts = (recipe, model, optimizer, algorithm, schedule)
        known = {field.name for part in parts for field in fields(part)}
        near = [one for name in given for one in nearest(name, known)]
        hint = f"; did you mean {' or '.join(near)}?" if near else ""
        raise InputError(
            f"recipe {recipe.name!r}, with {' and '.join(kinds)}, has no "
            f"{', '.join(given)} to set{hint}"
        )
    return recipe


def _part(given: dict[str, Any], name: str, kinds: dict[str, type], now: Any) -> Any:
    """Return the requested algorithm or schedule, with fields taken from `given`."""
    asked = given.pop(name, now)
    if isinstance(asked, str):
        kind = kinds[known_name(name, asked, kinds)]
        if not isinstance(now, kind):
            if kind is Cosine:
                given.setdefault("cosine_epochs", given["epochs"])
            return kind(**_take(given, kind))
        asked = now
    if isinstance(asked, type) or not is_dataclass(asked):
        instance_of(*kinds.values())(name, asked)
    own: Any = asked
    return replace(own, **_take(given, own))


def _take(given: dict[str, Any], config: Any) -> dict[str, Any]:
    """Remove the fields of a config from `given`, and return their values."""
    names = [field.name for field in fields(config) if field.name in given]
    return {name: given.pop(name) for name in names}
