"""The kinds of layer: how large one is, and what it computes of ONE example.

A layer here is a description; `network` gives it parameters. A new kind is one class.
If its sizes have a `kernel_shape`, it has a kernel and a bias, and says how to
`multiply`: a matrix product of `as_matrix(input)` and the kernel. If not, it is a
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
# multiply(input, kernel) -> product: of ONE example.
Multiply = Callable[[Array, Array], Array]


class Sizes(NamedTuple):
    """How large a layer is, for one example."""

    output_shape: Shape
    kernel_shape: Shape = ()  # the last axis: features; (): it has no parameters
    macs: int = 0  # multiply-accumulates of one forward pass


@runtime_checkable
class Layer(Protocol):
    """What every kind of layer has, besides `multiply` and `as_matrix` or `function`.

    A `NamedTuple` or a frozen dataclass: networks are compared, and keys of caches.
    """

    kind: ClassVar[str]  # the first part of its parameters' name

    def sizes(self, shape: Shape) -> Sizes | None:
        """Return its sizes for an input of this shape; None: it does not fit."""
        ...


@dataclass(frozen=True)
class Conv:
    """Convolve at stride 1 with square kernels; `padding` zeros on every side."""

    features: int
    kernel_size: int
    padding: int = 0
    kind: ClassVar[str] = "conv"

    def __post_init__(self) -> None:
        """Raise InputError for values that no network could have."""
        one = at_least(1)
        settle(self, features=one, kernel_size=one, padding=at_least(0))

    def sizes(self, shape: Shape) -> Sizes | None:
        """Return its sizes for an input of this shape; None: it does not fit."""
        if len(shape) != 3:
            return None
        height, width = (n + 2 * self.padding - self.kernel_size + 1 for n in shape[:2])
        kernel = (self.kernel_size, self.kernel_size, shape[2], self.features)
        macs = height * width * math.prod(kernel)
        return Sizes((height, width, self.features), kernel, macs)

    def multiply(self, precision: layers.PrecisionName) -> Multiply:
        """Return what multiplies an image by the kernel: a convolution."""
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
        """Raise InputError for values that no network could have."""
        settle(self, features=at_least(1))

    def sizes(self, shape: Shape) -> Sizes | None:
        """Return its sizes for an input of this shape; None: it does not fit."""
        kernel = (*shape, self.features)
        macs = math.prod(kernel)
        return Sizes((self.features,), kernel, macs) if len(shape) == 1 else None

    def multiply(self, precision: layers.PrecisionName) -> Multiply:
        """Return what multiplies a vector by the kernel: a product."""
        return functools.partial(jnp.dot, precision=precision)

    def as_matrix(self, vector: Array) -> Array:
        """Return the one row that the kernel multiplies: [1, fan_in]."""
        return vector[None]


@dataclass(frozen=True)
class MaxPool:
    """Take the maximum of each window x window block."""

    window: int
    kind: ClassVar[str] = "maxpool"

    def __post_init__(self) -> None:
        """Raise InputError for values that no network could have."""
        settle(self, window=at_least(1))

    def sizes(self, shape: Shape) -> Sizes | None:
        """Return its sizes for an input of this shape; None: it does not fit."""
        if len(shape) != 3:
            return None
        return Sizes((shape[0] // self.window, shape[1] // self.window, shape[2]))

    @property
    def function(self) -> Callable[[Array], Array]:
        """Return what it computes of one image."""
        return functools.partial(layers.max_pool2d, window=self.window)


@dataclass(frozen=True)
class Activation:
    """Apply a function of `layers.ACTIVATIONS` to each entry."""

    name: str
    kind: ClassVar[str] = "activation"

    def __post_init__(self) -> None:
        """Raise InputError for values that no network could have."""
        known_name("activation", self.name, layers.ACTIVATIONS)

    def sizes(self, shape: Shape) -> Sizes:
        """Return its sizes: those of its input."""
        return Sizes(shape)

    @property
    def function(self) -> Callable[[Array], Array]:
        """Return what it computes of one array."""
        return layers.ACTIVATIONS[self.name]


@dataclass(frozen=True)
class Flatten:
    """Lay the axes out as one, the last axis fastest."""

    kind: ClassVar[str] = "flatten"

    def sizes(self, shape: Shape) -> Sizes:
        """Return its sizes: one axis."""
        return Sizes((math.prod(shape),))

    @property
    def function(self) -> Callable[[Array], Array]:
        """Return what it computes of one array."""
        return jnp.ravel


@dataclass(frozen=True)
class Dropout:
    """In training, zero each entry with probability `rate` and rescale the rest."""

    rate: float
    kind: ClassVar[str] = "dropout"

    def __post_init__(self) -> None:
        """Raise InputError for values that no network could have."""
        settle(self, rate=single("in [0, 1)", lambda rate: 0.0 <= rate < 1.0))

    def sizes(self, shape: Shape) -> Sizes:
        """Return its sizes: those of its input."""
        return Sizes(shape)


KINDS = (Conv, MaxPool, Activation, Flatten, Dense, Dropout)
