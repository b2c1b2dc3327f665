"""A recipe whose network takes the examples and the classes of another data set."""

from __future__ import annotations

from dataclasses import replace
from statistics import fmean

from cnnjax.base.arguments import instance_of
from cnnjax.data.dataset import Dataset
from cnnjax.data.preprocessing import Standardize
from cnnjax.data.splits import OFFICIAL, HoldOut
from cnnjax.experiments.recipe import Recipe
from cnnjax.models.losses import LOSSES
from cnnjax.models.stack import Dense

HELD_OUT = 0.2  # of the examples, where a data set has no test set


def adapted(recipe: Recipe, dataset: Dataset) -> Recipe:
    """Return the recipe with what differs because of the data set, and nothing else.

    The network's input has the shape of the examples, its last layer as many outputs as
    there are classes. Where there is no test set, a fifth is held out. A mean and a
    standard deviation for each channel become one of each, if the channels are others.

    What cannot be adapted is left as it is, and refused where the recipe is used: a
    regression instead of classes, numbers instead of images, images that are smaller
    than the network needs.

    Raises:
        InputError: not a recipe, or not a data set.
    """
    instance_of(Recipe)("recipe (see get_recipe)", recipe)
    instance_of(Dataset)("dataset (see load_dataset)", dataset)
    shape = tuple(dataset.train.inputs.shape[1:])
    model, classifies = recipe.model, LOSSES[recipe.loss].classifies
    last = model.layers[-1]
    if not classifies or not dataset.num_classes or not isinstance(last, Dense):
        return recipe
    if len(shape) != len(model.input_shape):
        return recipe
    layers = (*model.layers[:-1], replace(last, features=dataset.num_classes))
    how = recipe.preprocessing
    if isinstance(how, Standardize) and not {len(how.mean), len(how.std)} <= {
        1,
        shape[-1],
    }:
        how = Standardize((fmean(how.mean),), (fmean(how.std),))
    needs_split = dataset.test is None and recipe.split == OFFICIAL
    return replace(
        recipe,
        model=replace(model, input_shape=shape, layers=layers),
        preprocessing=how,
        split=HoldOut(HELD_OUT) if needs_split else recipe.split,
    )


def adaptations(recipe: Recipe, published: Recipe) -> list[str]:
    """Say in words what `adapted` has changed: ["inputs of 32 x 32 x 3", ...]."""
    told = []
    if recipe.model.input_shape != published.model.input_shape:
        told.append(f"inputs of {' x '.join(map(str, recipe.model.input_shape))}")
    outputs, before = (r.model.layers[-1] for r in (recipe, published))
    if outputs != before and isinstance(outputs, Dense):
        told.append(f"{outputs.features} classes")
    if isinstance(recipe.split, HoldOut) and recipe.split != published.split:
        told.append(f"{recipe.split.fraction:.0%} of the examples held out for tests")
    if recipe.preprocessing != published.preprocessing:
        told.append("one mean and standard deviation for all channels")
    return told
