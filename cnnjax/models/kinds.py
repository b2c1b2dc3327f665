"""The kinds of layer: the sizes of each, and what it computes for ONE example.

A layer here is a description; `network` gives it parameters. A new kind is one class.
If its sizes have a `kernel_shape`, it has weights and a bias, and defines `multiply`
and `as_matrix`: the matrix product of `as_matrix(input)` and the kernel, or, of a layer
that `scales`, their product entry by entry. If not, it defines `function`, as those in
functions.py do.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import jax.numpy as jnp
from jaxtyping import Array

from cnnjax.base.arguments import at_least, settle, single
from cnnjax.base.trees import widen
from cnnjax.models import layers
from cnnjax.models.functions import (
    Activation,
    AvgPool,
    Dropout,
    Flatten,
    GlobalAvgPool,
    MaxPool,
    Residual,
)
from cnnjax.models.sizes import Layer, Shape, Sizes

__all__ = [
    "KINDS",
    "Activation",
    "AvgPool",
    "Conv",
    "Dense",
    "Dropout",
    "Flatten",
    "GlobalAvgPool",
    "GroupNorm",
    "Layer",
    "MaxPool",
    "Multiply",
    "Residual",
    "Shape",
    "Sizes",
    "scales",
]
POSITIVE = single("above 0", lambda value: value > 0.0)
# multiply(input, kernel) -> product, for ONE example.
Multiply = Callable[[Array, Array], Array]


@dataclass(frozen=True)
class Conv:
    """Convolve with square kernels; `padding` zeros are on every side."""

    features: int
    kernel_size: int
    padding: int = 0
    stride: int = 1
    kind: ClassVar[str] = "conv"

    def __post_init__(self) -> None:
        """Raise InputError for invalid values."""
        one = at_least(1)
        settle(self, features=one, kernel_size=one, padding=at_least(0), stride=one)

    def sizes(self, shape: Shape) -> Sizes | None:
        """Return the sizes for an input of this shape; None: it does not fit."""
        if len(shape) != 3:
            return None
        room = (n + 2 * self.padding - self.kernel_size for n in shape[:2])
        height, width = (n // self.stride + 1 for n in room)
        kernel = (self.kernel_size, self.kernel_size, shape[2], self.features)
        macs = height * width * math.prod(kernel)
        return Sizes((height, width, self.features), kernel, macs)

    def multiply(self, precision: layers.PrecisionName) -> Multiply:
        """Return the function that convolves an image with a kernel."""
        zeros = (self.padding, self.padding)
        return functools.partial(
            layers.conv2d,
            padding=(zeros, zeros),
            precision=precision,
            stride=self.stride,
        )

    def as_matrix(self, image: Array) -> Array:
        """Return the patches that the kernel multiplies: [positions, fan_in]."""
        size, zeros = self.kernel_size, (self.padding, self.padding)
        both = (zeros, zeros)
        return layers.patches(
            image, kernel_size=(size, size), padding=both, stride=self.stride
        )[0]


@dataclass(frozen=True)
class Dense:
    """Multiply by a kernel and add a bias."""

    features: int
    kind: ClassVar[str] = "dense"

    def __post_init__(self) -> None:
        """Raise InputError for invalid values."""
        settle(self, features=at_least(1))

    def sizes(self, shape: Shape) -> Sizes | None:
        """Return the sizes for an input of this shape; None: it does not fit."""
        kernel = (*shape, self.features)
        macs = math.prod(kernel)
        return Sizes((self.features,), kernel, macs) if len(shape) == 1 else None

    def multiply(self, precision: layers.PrecisionName) -> Multiply:
        """Return the function that multiplies a vector by a kernel."""
        return functools.partial(jnp.dot, precision=precision)

    def as_matrix(self, vector: Array) -> Array:
        """Return the input as a matrix of one row, of shape [1, fan_in]."""
        return vector[None]


@dataclass(frozen=True)
class GroupNorm:
    """Normalize ONE example in groups of its channels; then scale and shift each.

    A group, with all its positions, gets mean 0 and variance 1; then each channel is
    multiplied by its scale, which begins at 1, and its bias, from 0 on, is added. With
    one group it is layer normalization over the whole example. Sources: Wu and He,
    "Group Normalization", 2018 (arXiv:1803.08494); Ba et al., "Layer Normalization",
    2016 (arXiv:1607.06450).

    There is no batch normalization here: it makes what an example gets depend on the
    rest of its batch.
    """

    groups: int = 1
    eps: float = 1e-5
    kind: ClassVar[str] = "groupnorm"
    scales: ClassVar[bool] = True

    def __post_init__(self) -> None:
        """Raise InputError for invalid values."""
        settle(self, groups=at_least(1), eps=POSITIVE)

    def sizes(self, shape: Shape) -> Sizes | None:
        """Return the sizes for an input of this shape; None: it does not fit."""
        channels = shape[-1]
        fits = len(shape) in (1, 3) and channels % self.groups == 0
        return Sizes(shape, (channels,), math.prod(shape)) if fits else None

    def multiply(self, precision: layers.PrecisionName) -> Multiply:
        """Return the function that normalizes an example and scales each channel."""

        def multiply(x: Array, scale: Array) -> Array:
            return self.normalized(x) * jnp.broadcast_to(scale, x.shape)

        return multiply

    def normalized(self, x: Array) -> Array:
        """Return the example with mean 0 and variance 1 in each group."""
        return layers.group_norm(x, groups=self.groups, eps=self.eps)

    def as_matrix(self, x: Array) -> Array:
        """Return what the scales multiply: [positions, channels], as `multiply` does.

        In float32 or wider: of bfloat16 the normalized example is not rounded again.
        """
        return self.normalized(widen(x)).reshape(-1, x.shape[-1])


def scales(layer: Layer) -> bool:
    """Whether the weights of a layer multiply its input entry by entry."""
    return getattr(layer, "scales", False)


KINDS = (
    *(Conv, Dense, GroupNorm, MaxPool, AvgPool, GlobalAvgPool),
    *(Activation, Flatten, Dropout, Residual),
)
