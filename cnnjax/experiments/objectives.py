"""What a recipe trains: its network, its losses, and what is done to its examples."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace

from jaxtyping import Array, Key, Num

from cnnjax.data.augmentation import augment
from cnnjax.data.preprocessing import preprocess
from cnnjax.experiments.recipe import Recipe
from cnnjax.gradients.objective import Objective, make_objective
from cnnjax.models.losses import (
    LOSSES,
    LossOfOutput,
    balanced,
    smoothed,
    weighted_by_class,
)
from cnnjax.models.stack import layer_rows
from cnnjax.types import Examples


def settled(recipe: Recipe, train: Examples) -> Recipe:
    """Return the recipe with numbers as weights of the classes, where it has a word."""
    if recipe.class_weights != "balanced":
        return recipe
    (classes,) = layer_rows(recipe.model)[-1].output_shape
    return replace(recipe, class_weights=balanced(train.labels, classes))


def objective_of(recipe: Recipe) -> Objective:
    """Build the network and the losses of a recipe."""
    loss = LOSSES[recipe.loss]
    return make_objective(
        recipe.model,
        loss,
        scale_of(recipe),
        trained=trained_of(recipe, loss.of_output),
        augment=augment_of(recipe),
    )


def trained_of(recipe: Recipe, measured: LossOfOutput) -> LossOfOutput:
    """Return the loss to train: that which is measured, smoothed, weighted."""
    amount, weights = recipe.label_smoothing, recipe.class_weights
    trained = smoothed(measured, amount) if amount > 0.0 else measured
    return trained if isinstance(weights, str) else weighted_by_class(trained, weights)


def scale_of(recipe: Recipe) -> Callable[[Num[Array, "*example"]], Array]:
    """Return the preprocessing of ONE raw example, into the dtype of the model."""
    return functools.partial(
        preprocess, config=recipe.preprocessing, dtype=recipe.model.dtype
    )


def augment_of(
    recipe: Recipe,
) -> Callable[[Array, Key[Array, ""]], Array] | None:
    """Return the augmentation of ONE raw example and its key; None: there is none."""
    steps = recipe.augmentation
    return functools.partial(augment, steps=steps) if steps else None
