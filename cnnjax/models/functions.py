"""The layers without parameters: pools, activations, dropout, residual connections."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import jax.numpy as jnp
from jaxtyping import Array

from cnnjax.base.arguments import at_least, known_name, settle, single
from cnnjax.models import layers
from cnnjax.models.sizes import Shape, Sizes


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
class AvgPool:
    """Take the mean of each window x window block."""

    window: int
    kind: ClassVar[str] = "avgpool"

    def __post_init__(self) -> None:
        """Raise InputError for invalid values."""
        settle(self, window=at_least(1))

    def sizes(self, shape: Shape) -> Sizes | None:
        """Return the sizes for an input of this shape; None: it does not fit."""
        return MaxPool(self.window).sizes(shape)

    @property
    def function(self) -> Callable[[Array], Array]:
        """Return the function that pools one image."""
        return functools.partial(layers.avg_pool2d, window=self.window)


@dataclass(frozen=True)
class GlobalAvgPool:
    """Take the mean of each channel over all positions.

    Source: Lin et al., "Network In Network", 2013 (arXiv:1312.4400), section 3.2.
    """

    kind: ClassVar[str] = "globalavgpool"

    def sizes(self, shape: Shape) -> Sizes | None:
        """Return the sizes for an input of this shape; None: it does not fit."""
        return Sizes(shape[2:]) if len(shape) == 3 else None

    @property
    def function(self) -> Callable[[Array], Array]:
        """Return the function of one image."""
        return layers.mean_over_positions


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


@dataclass(frozen=True)
class Residual:
    """Add the input of the layer that is `over` layers before this one.

    So the layers between compute what is added to their input, which must have the
    shape of their output. Source: He et al., "Deep Residual Learning for Image
    Recognition", 2016.
    """

    over: int
    kind: ClassVar[str] = "residual"

    def __post_init__(self) -> None:
        """Raise InputError for invalid values."""
        settle(self, over=at_least(1))

    def sizes(self, shape: Shape) -> Sizes:
        """Return the sizes, those of the input."""
        return Sizes(shape)
