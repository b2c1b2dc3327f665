"""A recipe with some of its fields replaced, by name."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

from cnnjax.errors import InputError, unknown_name
from cnnjax.initializers import INITIALIZERS
from cnnjax.optimizers import ALGORITHMS, SCHEDULES, Cosine
from cnnjax.recipes import Recipe


def override(recipe: Recipe, **changes: Any) -> Recipe:
    """Return the recipe with fields of it, its model or its optimizer replaced.

    Names are those of `Recipe`, `OptimizerConfig`, and of the algorithm and schedule
    that it has. A change to None leaves the field alone. Besides:

    - `precision` sets both dtypes of the model; with "bfloat16" only the arithmetic's,
      as parameters and gradients stay float32;
    - `initializer` is a name of `initializers.INITIALIZERS`;
    - `algorithm` ("adam", "sgd") and `schedule` ("constant", "cosine") change the kind;
      a new cosine takes the recipe's epochs, unless `cosine_epochs` is given too.

    >>> from cnnjax.recipes import get_recipe
    >>> override(get_recipe("adam_cosine_cnn"), epochs=3, l2=0.0).optimizer.l2
    0.0

    Raises:
        InputError: a field that this recipe does not have, or a value that is refused.
    """
    given = {name: value for name, value in changes.items() if value is not None}
    model, optimizer = recipe.model, recipe.optimizer
    if "precision" in given:
        dtype = given.pop("precision")
        param_dtype = "float32" if dtype == "bfloat16" else dtype
        model = replace(model, dtype=dtype, param_dtype=param_dtype)
    if "initializer" in given:
        name = given["initializer"]
        if name not in INITIALIZERS:
            raise unknown_name("initializer", name, INITIALIZERS)
        given["initializer"] = INITIALIZERS[name]
    model = replace(model, **_take(given, model))
    for part, kinds in (("algorithm", ALGORITHMS), ("schedule", SCHEDULES)):
        value = getattr(optimizer, part)
        kind = given.pop(part, None)
        if kind is not None and kind not in kinds:
            raise unknown_name(part, kind, kinds)
        if kind is None or kinds[kind] is type(value):
            value = replace(value, **_take(given, value))
        elif kinds[kind] is Cosine:
            given.setdefault("cosine_epochs", given.get("epochs", recipe.epochs))
            value = Cosine(**_take(given, Cosine))
        else:
            value = kinds[kind](**_take(given, kinds[kind]))
        optimizer = replace(optimizer, **{part: value})
    optimizer = replace(optimizer, **_take(given, optimizer))
    recipe = replace(recipe, model=model, optimizer=optimizer, **_take(given, recipe))
    if given:
        kinds = (type(optimizer.algorithm).__name__, type(optimizer.schedule).__name__)
        raise InputError(
            f"recipe {recipe.name!r}, with {' and '.join(kinds)}, has no "
            f"{', '.join(given)} to set"
        )
    return recipe


def _take(given: dict[str, Any], config: Any) -> dict[str, Any]:
    """Take out of `given` the values of fields that a config has."""
    names = [field.name for field in fields(config) if field.name in given]
    return {name: given.pop(name) for name in names}
