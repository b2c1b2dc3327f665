"""Raw examples for a network, as its caller gives them."""

from __future__ import annotations

import numpy as np
from jaxtyping import ArrayLike, Num

from cnnjax.base.errors import expect
from cnnjax.base.settings import check_settings
from cnnjax.data.arrays import as_array, as_held
from cnnjax.experiments.matching import check_pixels
from cnnjax.experiments.recipe import Recipe


def as_examples(
    recipe: Recipe, images: Num[ArrayLike, "..."]
) -> Num[np.ndarray, "examples *example"]:
    """Return one raw example, or several, as a stack; a missing last axis is added.

    Raises:
        InputError: another shape than the network's, pixels that it does not expect,
            or a JAX setting under which it cannot run.
    """
    check_settings()
    inputs, own = as_array(images, "images"), recipe.model.input_shape
    if own[-1] == 1 and inputs.shape[-len(own) + 1 :] == own[:-1]:
        inputs = inputs[..., None]
    inputs = inputs[None] if inputs.shape == own else inputs
    fits = inputs.shape[1:] == own
    expect(f"one example of shape {own}, or several", inputs.shape, fits)
    inputs = as_held(inputs, "images")
    check_pixels(recipe, inputs, part="given", may_be_dark=True)
    return inputs


def is_single(recipe: Recipe, images: Num[ArrayLike, "..."]) -> bool:
    """Whether it is one example, not a stack of them."""
    own, shape = recipe.model.input_shape, np.shape(images)
    return shape == own or (own[-1] == 1 and shape == own[:-1])


def input_dtype(recipe: Recipe) -> str:
    """Return the type of raw examples: uint8 of images, or float32."""
    return "uint8" if len(recipe.model.input_shape) == 3 else "float32"


def examples_to_try(recipe: Recipe, count: int) -> Num[np.ndarray, "n *example"]:
    """Return random raw examples, always the same: to compare programs with."""
    rng, shape = np.random.default_rng(0), (count, *recipe.model.input_shape)
    if input_dtype(recipe) == "uint8":
        return rng.integers(0, 256, shape).astype(np.uint8)
    return rng.uniform(size=shape).astype(np.float32)
