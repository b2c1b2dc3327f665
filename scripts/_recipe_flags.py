"""The flags that choose a recipe and override its fields."""

from __future__ import annotations

import dataclasses

from absl import flags

from cnnjax import recipes, strategies
from cnnjax.errors import unknown_name
from cnnjax.optimizers import OptimizerConfig

FLAGS = flags.FLAGS
flags.DEFINE_string(
    "recipe", recipes.DEFAULT_RECIPE, f"What to train: {', '.join(recipes.RECIPES)}."
)
flags.DEFINE_string(
    "dataset", None, "Data set. Default: digits where it fits, else the recipe's own."
)
flags.DEFINE_string("data_dir", None, "Folder that holds the data set's files.")
flags.DEFINE_integer("seed", 0, "Seed of parameters, split, order and dropout.")
flags.DEFINE_string(
    "strategy",
    None,
    f"How gradients are computed: {', '.join(strategies.STRATEGIES)}. "
    "Default: the recipe's own.",
)
flags.DEFINE_enum(
    "precision", None, ["float32", "float64"], "Type of parameters and arithmetic."
)
OVERRIDES = ["precision"]


def _define_override(define, name: str, *args: object) -> None:
    *choices, meaning = args
    define(name, None, *choices, f"{meaning} Default: the recipe's.")
    OVERRIDES.append(name)


_define_override(flags.DEFINE_integer, "epochs", "Times that the data is seen.")
_define_override(flags.DEFINE_integer, "batch_size", "Examples of one update.")
_define_override(
    flags.DEFINE_enum, "shuffle", ["every_epoch", "once", "never"], "Order of the data."
)
_CHOICES = {
    "algorithm": ["adam", "sgd"],
    "schedule": ["constant", "cosine"],
    "cosine_unit": ["epoch", "step"],
}
for _field in dataclasses.fields(OptimizerConfig):
    _meaning = f"Optimizer: {_field.name.replace('_', ' ')}."
    if _field.name in _CHOICES:
        _define_override(
            flags.DEFINE_enum, _field.name, _CHOICES[_field.name], _meaning
        )
    elif _field.name == "cosine_epochs":
        _define_override(flags.DEFINE_integer, _field.name, _meaning)
    else:
        _define_override(flags.DEFINE_float, _field.name, _meaning)


def recipe_from_flags() -> recipes.Recipe:
    """Return the recipe that the flags ask for, with strategy and dataset settled.

    Raises:
        InputError: an unknown name, or a value that the recipe refuses.
    """
    recipe = recipes.get_recipe(FLAGS.recipe)
    if FLAGS.strategy is not None and FLAGS.strategy not in strategies.STRATEGIES:
        raise unknown_name("strategy", FLAGS.strategy, strategies.STRATEGIES)
    return recipes.override(
        recipe,
        dataset=FLAGS.dataset or recipes.default_dataset(recipe),
        strategy=FLAGS.strategy,
        **{name: FLAGS[name].value for name in OVERRIDES},
    )
