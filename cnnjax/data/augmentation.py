"""Augmentation: a random change of ONE raw image, a pure function of image and key.

In training every visit of an image has a key of its own, so it sees another change; the
test has no keys, and sees the images as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Key, Num

from cnnjax.base.arguments import at_least, settle


@dataclass(frozen=True)
class RandomFlip:
    """Mirror the image, left to right, with probability 1/2."""

    def __call__(
        self, image: Num[Array, "height width channels"], key: Key[Array, ""]
    ) -> Num[Array, "height width channels"]:
        """Return the image or its mirror image."""
        return jnp.where(jax.random.bernoulli(key), image[:, ::-1], image)


@dataclass(frozen=True)
class RandomCrop:
    """Shift the image by -padding to padding pixels, each way equally likely.

    What comes in at the border is the reflection of the image: the image is padded by
    `padding` pixels on every side (numpy.pad's mode "reflect"), and a crop of the old
    size is taken. Source: He et al., "Deep Residual Learning for Image Recognition",
    2016, section 4.2 (with zeros in place of the reflection).
    """

    padding: int

    def __post_init__(self) -> None:
        """Raise InputError for invalid values."""
        settle(self, padding=at_least(1))

    def __call__(
        self, image: Num[Array, "height width channels"], key: Key[Array, ""]
    ) -> Num[Array, "height width channels"]:
        """Return the shifted image."""
        return _cropped(image, key, padding=self.padding, mode="reflect")


@dataclass(frozen=True)
class RandomShift:
    """Shift the image by -most to most pixels, each way equally likely; zeros come in.

    For digits, whose ground is 0; `RandomCrop` reflects what is at the border.
    """

    most: int

    def __post_init__(self) -> None:
        """Raise InputError for invalid values."""
        settle(self, most=at_least(1))

    def __call__(
        self, image: Num[Array, "height width channels"], key: Key[Array, ""]
    ) -> Num[Array, "height width channels"]:
        """Return the shifted image."""
        return _cropped(image, key, padding=self.most, mode="constant")


def _cropped(image: Array, key: Key[Array, ""], *, padding: int, mode: str) -> Array:
    """Return any crop of the old size from an image padded on every side."""
    side = (padding, padding)
    padded = jnp.pad(image, (side, side, (0, 0)), mode=mode)
    top, left = jax.random.randint(key, (2,), 0, 2 * padding + 1)
    return lax.dynamic_slice(padded, (top, left, 0), image.shape)


@dataclass(frozen=True)
class Cutout:
    """Put zeros into a square, whose middle is any pixel, as far as it is inside.

    Source: DeVries and Taylor, "Improved Regularization of Convolutional Neural
    Networks with Cutout", 2017 (arXiv:1708.04552).
    """

    size: int  # pixels of a side

    def __post_init__(self) -> None:
        """Raise InputError for invalid values."""
        settle(self, size=at_least(1))

    def __call__(
        self, image: Num[Array, "height width channels"], key: Key[Array, ""]
    ) -> Num[Array, "height width channels"]:
        """Return the image with a square of zeros."""
        rows, columns = image.shape[:2]
        middle = jax.random.randint(key, (2,), 0, jnp.array([rows, columns]))
        first = middle - self.size // 2

        def inside(count: int, low: Array) -> Array:
            places = jnp.arange(count)
            return (places >= low) & (places < low + self.size)

        cut = jnp.outer(inside(rows, first[0]), inside(columns, first[1]))
        return jnp.where(cut[..., None], jnp.zeros_like(image), image)


Augmentation = RandomFlip | RandomCrop | RandomShift | Cutout


def augment(
    image: Num[Array, "height width channels"],
    key: Key[Array, ""],
    *,
    steps: Sequence[Augmentation],
) -> Num[Array, "height width channels"]:
    """Apply the steps one after another, each with a key of its own."""
    keys = jax.random.split(key, len(steps))
    for step, own in zip(steps, keys, strict=True):
        image = step(image, own)
    return image
