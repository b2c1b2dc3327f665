"""A network as a stack of layers: what it is made of, and how large that is.

A layer here is a description. `models` turns it into Flax modules.
"""

from __future__ import annotations

import contextlib
import math
from dataclasses import dataclass
from typing import Any, Literal, get_args

import jax.numpy as jnp

from cnnjax.base.arguments import (
    at_least,
    instance_of,
    known_name,
    named,
    settle,
    several,
    single,
)
from cnnjax.base.errors import InputError, expect
from cnnjax.models import layers
from cnnjax.models.initializers import Initializer

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Conv:
    """Convolve at stride 1 with square kernels; `padding` zeros on every side."""

    features: int
    kernel_size: int
    padding: int = 0

    def __post_init__(self) -> None:
        """Raise InputError for values that no network could have."""
        one = at_least(1)
        settle(self, features=one, kernel_size=one, padding=at_least(0))


@dataclass(frozen=True)
class MaxPool:
    """Take the maximum of each window x window block."""

    window: int

    def __post_init__(self) -> None:
        """Raise InputError for values that no network could have."""
        settle(self, window=at_least(1))


@dataclass(frozen=True)
class Activation:
    """Apply a function of `layers.ACTIVATIONS` to each entry."""

    name: str

    def __post_init__(self) -> None:
        """Raise InputError for values that no network could have."""
        known_name("activation", self.name, layers.ACTIVATIONS)


@dataclass(frozen=True)
class Flatten:
    """Lay the axes out as one, the last axis fastest."""


@dataclass(frozen=True)
class Dense:
    """Multiply by a kernel and add a bias."""

    features: int

    def __post_init__(self) -> None:
        """Raise InputError for values that no network could have."""
        settle(self, features=at_least(1))


@dataclass(frozen=True)
class Dropout:
    """In training, zero each entry with probability `rate` and rescale the rest."""

    rate: float

    def __post_init__(self) -> None:
        """Raise InputError for values that no network could have."""
        settle(self, rate=single("in [0, 1)", lambda rate: 0.0 <= rate < 1.0))


Layer = Conv | MaxPool | Activation | Flatten | Dense | Dropout
MatmulPrecision = Literal["default", "high", "highest"]
FLOATS = ("float16", "bfloat16", "float32", "float64")


def float_type(name: str, dtype: Any) -> str:
    """Keep the name of a type of `FLOATS`, which may be given as a type, too.

    Raises:
        InputError: another type, or none.
    """
    with contextlib.suppress(TypeError):  # of what is no type
        dtype = dtype if dtype is None else jnp.dtype(dtype).name
    return known_name(name, dtype, FLOATS)


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """A stack of layers, how its parameters are drawn, and its precision.

    `matmul_precision` is that of convolutions and products in float32 on a GPU or TPU:
    "highest" is full float32, less is faster. A CPU always computes in full.
    """

    input_shape: Shape
    layers: tuple[Layer, ...]
    initializer: Initializer
    dtype: str = "float32"  # of the arithmetic
    param_dtype: str = "float32"  # of parameters and gradients
    matmul_precision: MatmulPrecision = "highest"

    def __post_init__(self) -> None:
        """Raise InputError for values that no network could have."""
        settle(
            self,
            input_shape=several(at_least(1)),
            layers=several(instance_of(*get_args(Layer))),
            initializer=instance_of(Initializer),
            dtype=float_type,
            param_dtype=float_type,
            matmul_precision=named(get_args(MatmulPrecision)),
        )
        expect("at least one layer", self.layers, bool(self.layers))

    @property
    def has_dropout(self) -> bool:
        """Whether training draws random numbers: then each example needs a key."""
        return any(isinstance(layer, Dropout) for layer in self.layers)


@dataclass(frozen=True, kw_only=True)
class LayerRow:
    """One layer of a network with its sizes, for one example."""

    name: str
    layer: Layer
    input_shape: Shape
    output_shape: Shape
    parameters: int
    macs: int  # multiply-accumulates of one forward pass
    behind: str | None  # the last layer with parameters before it; None: there is none


def layer_rows(config: ModelConfig) -> tuple[LayerRow, ...]:
    """Work out name, shapes, parameters and MACs of every layer of a network.

    Raises:
        InputError: a layer that does not fit the shape that it is given.
    """
    rows: list[LayerRow] = []
    shape, behind = config.input_shape, None
    for index, layer in enumerate(config.layers):
        name = f"{type(layer).__name__.lower()}_{index}"
        output_shape, parameters, macs = _sizes(name, layer, shape)
        rows.append(
            LayerRow(
                name=name,
                layer=layer,
                input_shape=shape,
                output_shape=output_shape,
                parameters=parameters,
                macs=macs,
                behind=behind,
            )
        )
        shape, behind = output_shape, name if parameters else behind
    return tuple(rows)


def _sizes(name: str, layer: Layer, shape: Shape) -> tuple[Shape, int, int]:
    """Return output shape, parameters and MACs of one layer."""
    match layer:
        case Conv(features, kernel_size, padding) if len(shape) == 3:
            height, width = (n + 2 * padding - kernel_size + 1 for n in shape[:2])
            weights = kernel_size**2 * shape[2] * features
            macs = height * width * weights
            sizes = (height, width, features), weights + features, macs
        case MaxPool(window) if len(shape) == 3:
            sizes = (shape[0] // window, shape[1] // window, shape[2]), 0, 0
        case Dense(features) if len(shape) == 1:
            weights = shape[0] * features
            sizes = (features,), weights + features, weights
        case Flatten():
            sizes = (math.prod(shape),), 0, 0
        case Activation() | Dropout():
            sizes = shape, 0, 0
        case _:
            raise InputError(f"layer {name}: {layer} does not fit an input of {shape}")
    if min(sizes[0]) < 1:
        raise InputError(
            f"layer {name}: {layer} leaves nothing of an input of {shape}; "
            "use a larger image or a smaller kernel or window"
        )
    return sizes
