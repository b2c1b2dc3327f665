"""Check that a dataset fits a recipe: shapes, classes, range of pixels."""

from __future__ import annotations

import numpy as np

from cnnjax.base.errors import InputError, expect
from cnnjax.data.dataset import Dataset
from cnnjax.data.preprocessing import Standardize
from cnnjax.experiments.recipes import Recipe
from cnnjax.models import stack
from cnnjax.models.losses import LOSSES
from cnnjax.models.stack import layer_rows

_WAY_TO_FIT = (
    "choose another recipe or dataset, or from Python give the recipe a model that fits"
)


def check_shapes(recipe: Recipe, dataset: Dataset) -> None:
    """Raise InputError if the examples or the preprocessing do not fit the network."""
    expected = recipe.model.input_shape
    got = tuple(dataset.train.inputs.shape[1:])
    if got != expected:
        raise InputError(
            f"recipe {recipe.name!r} expects inputs of shape {expected}, got {got} "
            f"from dataset {dataset.name!r}; {_WAY_TO_FIT}"
        )
    for step in recipe.augmentation:
        if len(expected) != 3 or min(expected[:2]) <= getattr(step, "padding", 0):
            raise InputError(
                f"recipe {recipe.name!r} expects images for {step}, larger than its "
                f"padding, got inputs of shape {expected}"
            )
    weights, outputs = recipe.class_weights, layer_rows(recipe.model)[-1].output_shape
    if not isinstance(weights, str):
        fits = outputs == (len(weights),)
        expect(f"class_weights, one for each of {outputs}", len(weights), fits)
    match recipe.preprocessing:
        case Standardize(mean, std) if not {len(mean), len(std)} <= {1, expected[-1]}:
            raise InputError(
                f"recipe {recipe.name!r} standardizes with mean {mean} and std {std}, "
                f"but its inputs of shape {expected} have {expected[-1]} channels; "
                "give mean and std one number each, or one for each channel"
            )
    outputs = stack.layer_rows(recipe.model)[-1].output_shape
    targets = tuple(dataset.train.labels.shape[1:])
    if LOSSES[recipe.loss].classifies:
        if dataset.num_classes != outputs[0]:
            has = f"{dataset.num_classes} classes" * bool(dataset.num_classes)
            raise InputError(
                f"recipe {recipe.name!r} predicts {outputs[0]} classes, but dataset "
                f"{dataset.name!r} has {has or 'no class_names'}; {_WAY_TO_FIT}"
            )
    elif dataset.num_classes or targets != outputs:
        has = "classes" if dataset.num_classes else f"targets of shape {targets}"
        raise InputError(
            f"recipe {recipe.name!r} regresses targets of shape {outputs}, but dataset "
            f"{dataset.name!r} has {has}; {_WAY_TO_FIT}"
        )


def check_pixels(
    recipe: Recipe, inputs: np.ndarray, *, part: str, may_be_dark: bool = False
) -> None:
    """Raise InputError if pixels that will be divided by 255 are not from 0 to 255.

    If no pixel is above 1, they were probably divided already. With `may_be_dark`,
    integer images are accepted even so: a few images may just be dark.
    """
    if not isinstance(recipe.preprocessing, Standardize) or not inputs.size:
        return
    low, high = float(inputs.min()), float(inputs.max())
    divided = 0 < high <= 1 and not (may_be_dark and inputs.dtype.kind in "iu")
    if low < 0 or divided or high > 255:
        raise InputError(
            f"recipe {recipe.name!r} divides pixels by 255, and expects 0 to 255; got "
            f"{part} pixels from {low:g} to {high:g} ({inputs.dtype}); give pixels 0 "
            "to 255, or the recipe preprocessing=Identity(), which does not scale them"
        )
