"""A network is a stack of layers, described by a config and applied to ONE example."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Key, Num

from cnnjax import initializers, layers
from cnnjax.errors import InputError, unknown_name
from cnnjax.initializers import Initializer
from cnnjax.types import Params

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Conv:
    """Convolve at stride 1 with square kernels; `padding` zeros on every side."""

    features: int
    kernel_size: int
    padding: int = 0


@dataclass(frozen=True)
class MaxPool:
    """Take the maximum of each window x window block."""

    window: int


@dataclass(frozen=True)
class Activation:
    """Apply a function of `layers.ACTIVATIONS` to each entry."""

    name: str


@dataclass(frozen=True)
class Flatten:
    """Lay the axes out as one, the last axis fastest."""


@dataclass(frozen=True)
class Dense:
    """Multiply by a kernel and add a bias."""

    features: int


@dataclass(frozen=True)
class Dropout:
    """In training, zero each entry with probability `rate` and rescale the rest."""

    rate: float


Layer = Conv | MaxPool | Activation | Flatten | Dense | Dropout


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """A stack of layers, how its parameters are drawn, and its precision."""

    input_shape: Shape
    layers: tuple[Layer, ...]
    initializer: Initializer
    dtype: str = "float32"  # of the arithmetic
    param_dtype: str = "float32"  # of parameters and gradients

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


def layer_rows(config: ModelConfig) -> tuple[LayerRow, ...]:
    """Work out name, shapes, parameters and MACs of every layer of a network.

    Raises:
        InputError: a layer that does not fit the shape that it is given.
    """
    rows: list[LayerRow] = []
    shape = config.input_shape
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
            )
        )
        shape = output_shape
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
        case Activation(function):
            if function not in layers.ACTIVATIONS:
                raise unknown_name("activation", function, layers.ACTIVATIONS)
            sizes = shape, 0, 0
        case Dropout(rate) if 0.0 <= rate < 1.0:
            sizes = shape, 0, 0
        case _:
            raise InputError(f"layer {name}: {layer} does not fit an input of {shape}")
    if min(sizes[0]) < 1:
        raise InputError(
            f"layer {name}: {layer} leaves nothing of an input of {shape}; "
            "use a larger image or a smaller kernel or window"
        )
    return sizes


class Network(nn.Module):
    """The Flax module of a config: the same stack, one example in, logits out."""

    config: ModelConfig

    @nn.compact
    def __call__(
        self, example: Num[Array, "*example"], *, deterministic: bool
    ) -> Float[Array, " classes"]:
        """Apply the layers in order; `deterministic` switches dropout off."""
        x = example.astype(self.config.dtype)
        for row in layer_rows(self.config):
            x = self._module(row, deterministic)(x)
        return x.astype(self.config.param_dtype)

    def _module(
        self, row: LayerRow, deterministic: bool
    ) -> Callable[[Array], Float[Array, "..."]]:
        match row.layer:
            case Conv(features, kernel_size, padding):
                return nn.Conv(
                    features,
                    (kernel_size, kernel_size),
                    padding=[(padding, padding), (padding, padding)],
                    conv_general_dilated=layers.conv_general_dilated,
                    **self._settings(row, kernel_size**2 * row.input_shape[-1]),
                )
            case Dense(features):
                return nn.Dense(features, **self._settings(row, row.input_shape[0]))
            case Dropout(rate):
                return nn.Dropout(rate, deterministic=deterministic, name=row.name)
            case MaxPool(window):
                return functools.partial(layers.max_pool2d, window=window)
            case Activation(name):
                return layers.ACTIVATIONS[name]
            case Flatten():
                return jnp.ravel

    def _settings(self, row: LayerRow, fan_in: int) -> dict:
        """Return what conv and dense layers share: name, precision, initialisers."""
        init = self.config.initializer

        def kernel_init(key: Array, shape: Shape, dtype) -> Array:
            scale = initializers.kernel_scale(init, shape)
            return initializers.draw(
                key, shape, dtype, distribution=init.distribution, scale=scale
            )

        def bias_init(key: Array, shape: Shape, dtype) -> Array:
            scale = initializers.bias_scale(init, fan_in)
            return initializers.draw(
                key, shape, dtype, distribution="uniform", scale=scale
            )

        return {
            "name": row.name,
            "dtype": self.config.dtype,
            "param_dtype": self.config.param_dtype,
            "kernel_init": kernel_init,
            "bias_init": bias_init,
        }


def init(key: Key[Array, ""], config: ModelConfig) -> Params:
    """Draw the parameters of a network: {layer: {"kernel": ..., "bias": ...}}.

    Raises:
        InputError: a layer that does not fit the shape that it is given.
    """
    example = jnp.zeros(config.input_shape, config.dtype)
    return Network(config).init(key, example, deterministic=True)["params"]


def make_apply(
    config: ModelConfig,
) -> Callable[..., Float[Array, " classes"]]:
    """Build `apply(params, example, *, key=None) -> logits` of one example.

    `example` has shape `config.input_shape`; logits have `config.param_dtype`. With
    `key=None` the network is evaluated; a key drives the dropout of training.
    """
    network = Network(config)

    def apply(
        params: Params,
        example: Num[Array, "*example"],
        *,
        key: Key[Array, ""] | None = None,
    ) -> Float[Array, " classes"]:
        rngs = {} if key is None else {"dropout": key}
        return cast(
            Array,  # a pair only where other collections are asked for
            network.apply(
                {"params": params}, example, deterministic=key is None, rngs=rngs
            ),
        )

    return apply
