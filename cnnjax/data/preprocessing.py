"""Preprocessing of ONE raw example into the network's input, inside the step."""

from __future__ import annotations

import math
from dataclasses import dataclass

import jax.numpy as jnp
from jaxtyping import Array, Float, Num

from cnnjax.base.arguments import settle, several, single


@dataclass(frozen=True)
class Identity:
    """Leave the example as it is."""


@dataclass(frozen=True)
class Standardize:
    """Map pixels 0..255 to x = (pixel / 255 - mean) / std, per channel."""

    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)

    def __post_init__(self) -> None:
        """Raise InputError for invalid values."""
        settle(
            self,
            mean=several(single("to be finite", math.isfinite)),
            std=several(single("above 0", lambda std: 0.0 < std < math.inf)),
        )


@dataclass(frozen=True)
class MinMaxPerImage:
    """Map each image to x = (pixel - min) / (max - min); a flat image to 0."""


Preprocessing = Identity | Standardize | MinMaxPerImage

# Pixels / 255 and nothing more.
UNIT_SCALE = Standardize()


def preprocess(
    example: Num[Array, "*example"], *, config: Preprocessing, dtype: str
) -> Float[Array, "*example"]:
    """Preprocess one raw example; the result has its shape, and the type `dtype`."""
    x = example.astype(dtype)
    match config:
        case Identity():
            return x
        case Standardize(mean, std):
            per_channel = (1,) * (x.ndim - 1) + (-1,)
            shift, scale = (
                jnp.asarray(v, dtype).reshape(per_channel) for v in (mean, std)
            )
            return (x / 255 - shift) / scale
        case MinMaxPerImage():
            low, high = x.min(), x.max()
            return (x - low) / jnp.where(high > low, high - low, 1)
