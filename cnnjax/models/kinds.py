"""The kinds of layer: the sizes of each, and what it computes for ONE example.

A layer here is a description; `network` gives it parameters. A new kind is one class.
If its sizes have a `kernel_shape`, it has a kernel and a bias, and defines `multiply`,
which equals a matrix product of `as_matrix(input)` and the kernel. If not, it defines
`function`.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, NamedTuple, Protocol, runtime_checkable

import jax.numpy as jnp
from jaxtyping import Array

from cnnjax.base.arguments import at_least, known_name, settle, single
from cnnjax.models import layers

Shape = tuple[int, ...]
# multiply(input, kernel) -> product, for ONE example.
Multiply = Callable[[Array, Array], Array]


class Sizes(NamedTuple):
    """The sizes of a layer, for one example."""

    output_shape: Shape
    kernel_shape: Shape = ()  # the last axis is features; (): no parameters
    macs: int = 0  # multiply-accumulates of one forward pass


@runtime_checkable
class Layer(Protocol):
    """The interface of all layers.

    A layer also has `multiply` and `as_matrix`, or `function`. It is a `NamedTuple` or
    a frozen dataclass, because networks are compared and used as keys of caches.
    """

    kind: ClassVar[str]  # the first part of the name of its parameters

    def sizes(self, shape: Shape) -> Sizes | None:
        """Return the sizes for an input of this shape; None: it does not fit."""
        ...


@dataclass(frozen=True)
class Conv:
    """Convolve at stride 1 with square kernels; `padding` zeros on every side."""

    features: int
    kernel_size: int
    padding: int = 0
    kind: ClassVar[str] = "conv"

    def __post_init__(self) -> None:
        """Raise InputError for invalid values."""
        one = at_least(1)
        settle(self, features=one, kernel_size=one, padding=at_least(0))

    def sizes(self, shape: Shape) -> Sizes | None:
        """Return the sizes for an input of this shape; None: it does not fit."""
        if len(shape) != 3:
            return None
        height, width = (n + 2 * self.padding - self.kernel_size + 1 for n in shape[:2])
        kernel = (self.kernel_size, self.kernel_size, shape[2], self.features)
        macs = height * width * math.prod(kernel)
        return Sizes((height, width, self.features), kernel, macs)

    def multiply(self, precision: layers.PrecisionName) -> Multiply:
        """Return the function that convolves an image with a kernel."""
        zeros = (self.padding, self.padding)
        return functools.partial(
            layers.conv2d, padding=(zeros, zeros), precision=precision
        )

    def as_matrix(self, image: Array) -> Array:
        """Return the patches that the kernel multiplies: [positions, fan_in]."""
        size, zeros = self.kernel_size, (self.padding, self.padding)
        both = (zeros, zeros)
        return layers.patches(image, kernel_size=(size, size), padding=both)[0]


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
class MaxPool:
    """Take the maximum of each window x window block."""

    window: int
    kind: ClassVar[str] = "maxpool"

    def __post_init__(self) -> None:
        """Raise InputError for invalid values."""
        settle(self, window=at_least(1))

    def sizes(self, shape: Shape) -> Sizes | None:
        """Return the sizes for an input of this shape; None: it does not fit."""
        if len(shape) != 3:
            return None
        return Sizes((shape[0] // self.window, shape[1] // self.window, shape[2]))

    @property
    def function(self) -> Callable[[Array], Array]:
        """Return the function that pools one image."""
        return functools.partial(layers.max_pool2d, window=self.window)


@dataclass(frozen=True)
class Activation:
    """Apply a function of `layers.ACTIVATIONS` to each entry."""

    name: str
    kind: ClassVar[str] = "activation"

    def __post_init__(self) -> None:
        """Raise InputError for invalid values."""
        known_name("activation", self.name, layers.ACTIVATIONS)

    def sizes(self, shape: Shape) -> Sizes:
        """Return the sizes, those of the input."""
        return Sizes(shape)

    @property
    def function(self) -> Callable[[Array], Array]:
        """Return the function of one array."""
        return layers.ACTIVATIONS[self.name]


@dataclass(frozen=True)
class Flatten:
    """Flatten all axes into one, in row-major order."""

    kind: ClassVar[str] = "flatten"

    def sizes(self, shape: Shape) -> Sizes:
        """Return the sizes, with one axis."""
        return Sizes((math.prod(shape),))

    @property
    def function(self) -> Callable[[Array], Array]:
        """Return the function of one array."""
        return jnp.ravel


@dataclass(frozen=True)
class Dropout:
    """Zero each entry with probability `rate`, and scale the rest by 1 / (1 - rate).

    In evaluation, do nothing. Source: Srivastava et al., "Dropout: A Simple Way to
    Prevent Neural Networks from Overfitting", JMLR 2014.
    """

    rate: float
    kind: ClassVar[str] = "dropout"

    def __post_init__(self) -> None:
        """Raise InputError for invalid values."""
        settle(self, rate=single("in [0, 1)", lambda rate: 0.0 <= rate < 1.0))

    def sizes(self, shape: Shape) -> Sizes:
        """Return the sizes, those of the input."""
        return Sizes(shape)


KINDS = (Conv, MaxPool, Activation, Flatten, Dense, Dropout)
