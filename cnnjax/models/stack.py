"""The config of a network: its layers, its initializer and its precision."""

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
)
from cnnjax.base.errors import InputError, expect
from cnnjax.models import kinds
from cnnjax.models.initializers import Initializer
from cnnjax.models.kinds import (
    Activation,
    AvgPool,
    Conv,
    Dense,
    Dropout,
    Flatten,
    GlobalAvgPool,
    GroupNorm,
    Layer,
    MaxPool,
    Residual,
    Shape,
    Sizes,
)

__all__ = [
    "FLOATS",
    "Activation",
    "AvgPool",
    "Conv",
    "Dense",
    "Dropout",
    "Flatten",
    "GlobalAvgPool",
    "GroupNorm",
    "Layer",
    "LayerRow",
    "MaxPool",
    "ModelConfig",
    "Residual",
    "Shape",
    "float_type",
    "layer_rows",
]

MatmulPrecision = Literal["default", "high", "highest"]
FLOATS = ("float16", "bfloat16", "float32", "float64")


def float_type(name: str, dtype: Any) -> str:
    """Return the name of a type of `FLOATS`, given as a name or as a type.

    Raises:
        InputError: another type, or not a type.
    """
    with contextlib.suppress(TypeError):  # not a type
        dtype = dtype if dtype is None else jnp.dtype(dtype).name
    return known_name(name, dtype, FLOATS)


def as_layer(name: str, layer: Any) -> Layer:
    """Return a layer. Raise InputError for anything else."""
    known = " or ".join(kind.__name__ for kind in kinds.KINDS)
    is_layer = isinstance(layer, Layer) and not isinstance(layer, type)
    expect(f"{name} of kind {known}, or one with kind and sizes", layer, is_layer)
    return layer


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """A stack of layers, the initializer of its parameters, and its precision.

    `matmul_precision` is that of convolutions and matrix products in float32 on a GPU
    or TPU: "highest" is full float32, lower settings are faster. A CPU always computes
    in full float32.
    """

    input_shape: Shape
    layers: tuple[Layer, ...]
    initializer: Initializer
    dtype: str = "float32"  # of the arithmetic
    param_dtype: str = "float32"  # of parameters and gradients
    matmul_precision: MatmulPrecision = "highest"

    def __post_init__(self) -> None:
        """Raise InputError for invalid values."""
        settle(
            self,
            input_shape=several(at_least(1)),
            layers=several(as_layer),
            initializer=instance_of(Initializer),
            dtype=float_type,
            param_dtype=float_type,
            matmul_precision=named(get_args(MatmulPrecision)),
        )
        expect("at least one layer", self.layers, bool(self.layers))

    @property
    def has_dropout(self) -> bool:
        """Whether training needs one key per example, for dropout."""
        return any(isinstance(layer, Dropout) for layer in self.layers)


@dataclass(frozen=True, kw_only=True)
class LayerRow:
    """One layer of a network, with its name and sizes for one example."""

    name: str
    layer: Layer
    input_shape: Shape
    sizes: Sizes

    @property
    def output_shape(self) -> Shape:
        """Return the shape of its output."""
        return self.sizes.output_shape

    @property
    def kernel_shape(self) -> Shape:
        """Return the shape of its kernel; (): no parameters."""
        return self.sizes.kernel_shape

    @property
    def parameters(self) -> int:
        """Return the number of its weights and biases."""
        kernel = self.kernel_shape
        return math.prod(kernel) + kernel[-1] if kernel else 0

    @property
    def macs(self) -> int:
        """Return the multiply-accumulates of one forward pass."""
        return self.sizes.macs


def layer_rows(config: ModelConfig) -> tuple[LayerRow, ...]:
    """Compute the name, shapes, parameter count and MACs of each layer of a network.

    Raises:
        InputError: a layer that does not fit the shape of its input.
    """
    rows: list[LayerRow] = []
    shape = config.input_shape
    for index, layer in enumerate(config.layers):
        name = f"{layer.kind}_{index}"
        sizes = layer.sizes(shape)
        if isinstance(layer, Residual):
            sizes = sizes if _fits_back(layer, rows, shape) else None
        if sizes is None:
            raise InputError(f"layer {name}: {layer} does not fit an input of {shape}")
        if min(sizes.output_shape) < 1:
            raise InputError(
                f"layer {name}: {layer} has no output for an input of {shape}; "
                "use a larger image or a smaller kernel or window"
            )
        rows.append(LayerRow(name=name, layer=layer, input_shape=shape, sizes=sizes))
        shape = sizes.output_shape
    return tuple(rows)


def _fits_back(layer: Residual, rows: list[LayerRow], shape: Shape) -> bool:
    """Whether a residual connection has a layer to go back to, of the same shape."""
    return layer.over <= len(rows) and rows[-layer.over].input_shape == shape
