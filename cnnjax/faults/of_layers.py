"""Faults of a layer: of its output, of its gradient, of the parameters it uses.

If only the gradient is wrong, the output is written as a sum of two terms: the right
value, with `stop_gradient`, and a term that is zero but has the wrong gradient.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from cnnjax.faults.fault import Fault
from cnnjax.faults.needs import SEVERAL_CHANNELS, TWO_DENSE_LAYERS, Needs, layer_of
from cnnjax.gradients import rules
from cnnjax.models.kinds import Conv, Dense, Layer, MaxPool, Multiply
from cnnjax.models.layers import PrecisionName
from cnnjax.models.stack import ModelConfig
from cnnjax.strategies import STRATEGIES
from cnnjax.types import Params

# The factored rule computes the gradient for the layers' own parameters, whatever was
# done to them before.
BY_PARAMETERS = tuple(
    name for name, row in STRATEGIES.items() if row.rule is not rules.factored
)


def of_layers(
    applies: Callable[[ModelConfig, int], bool], change: Callable[[Any], Layer]
) -> Callable[[ModelConfig], ModelConfig]:
    """Build the `corrupt` that changes some layers of a network.

    `applies(config, number)` decides whether layer `number` of a config is changed.
    """

    def corrupt(right: ModelConfig) -> ModelConfig:
        return replace(
            right,
            layers=tuple(
                change(layer) if applies(right, number) else layer
                for number, layer in enumerate(right.layers)
            ),
        )

    return corrupt


def is_behind_dense(config: ModelConfig, number: int) -> bool:
    """Return whether a layer, and the last one with a kernel before it, are dense."""
    before = [
        layer for layer in config.layers[:number] if isinstance(layer, Dense | Conv)
    ]
    is_dense = isinstance(config.layers[number], Dense)
    return is_dense and bool(before) and isinstance(before[-1], Dense)


@dataclass(frozen=True)
class DenseWithoutErrorWeights(Dense):
    """Pass the sum of a layer's errors back to each of its inputs, without weights."""

    def multiply(self, precision: PrecisionName) -> Multiply:
        """Return the right product, with the wrong gradient for its input."""
        right = super().multiply(precision)

        def wrong(x: Array, kernel: Array) -> Array:
            product = right(lax.stop_gradient(x), kernel)
            return product + _zero_with_gradient(x.sum())

        return wrong


@dataclass(frozen=True)
class ScrambledMaxPool(MaxPool):
    """Pass the error of each channel back through the pool to the next channel."""

    @property
    def function(self) -> Callable[[Array], Array]:
        """Return the right maxima, with the wrong gradient."""
        right = super().function

        def wrong(x: Array) -> Array:
            pooled = right(x)
            moved = jnp.roll(_zero_with_gradient(pooled), -1, axis=-1)
            return lax.stop_gradient(pooled) + moved

        return wrong


def of_convolutions(
    change: Callable[[dict[str, Array]], dict[str, Array]],
) -> Callable[[Params], Params]:
    """Build the `corrupt` that changes the kernel and bias of each convolution."""

    def corrupt(params: Params) -> Params:
        return {
            name: change(own) if own["kernel"].ndim == 4 else own
            for name, own in params.items()
        }

    return corrupt


def share_first_plane(own: dict[str, Array]) -> dict[str, Array]:
    """Use the first plane of each kernel for every channel: it convolves their sum."""
    kernel = own["kernel"]
    return {**own, "kernel": jnp.broadcast_to(kernel[:, :, :1], kernel.shape)}


def drop_bias(own: dict[str, Array]) -> dict[str, Array]:
    """Use a bias of zero."""
    return {**own, "bias": jnp.zeros_like(own["bias"])}


def sum_over_taps(own: dict[str, Array]) -> dict[str, Array]:
    """Give each tap of a plane the sum of the gradients of all taps of the plane."""
    kernel = own["kernel"]
    moved = _zero_with_gradient(kernel.sum(axis=(0, 1), keepdims=True))
    return {**own, "kernel": lax.stop_gradient(kernel) + moved}


def _zero_with_gradient(x: Array) -> Array:
    return x - lax.stop_gradient(x)


_CONVOLVES = Needs(strategies=BY_PARAMETERS, recipe=(layer_of(Conv, "convolution"),))

FAULTS = (
    Fault(
        name="one_plane_for_all_channels",
        summary="Each filter is one plane that all input channels share: a convolution "
        "of their sum.",
        seen="A hand-written NumPy network (system E): a layer of 500 filters on 500 "
        "channels with 4,500 weights instead of 2,250,000.",
        place="parameters",
        needs=Needs(strategies=BY_PARAMETERS, recipe=(SEVERAL_CHANNELS,)),
        corrupt=of_convolutions(share_first_plane),
    ),
    Fault(
        name="bias_never_added",
        summary="The biases of the convolutions are never added.",
        seen="System E: they are drawn and updated, but not used.",
        place="parameters",
        needs=_CONVOLVES,
        corrupt=of_convolutions(drop_bias),
    ),
    Fault(
        name="one_scalar_for_all_taps",
        summary="All taps of a kernel's plane are updated by the same number, the sum "
        "of their gradients.",
        seen="System E: a sum over the patch, although each tap has its own gradient.",
        place="parameters",
        needs=_CONVOLVES,
        corrupt=of_convolutions(sum_over_taps),
    ),
    Fault(
        name="hidden_error_ignores_weights",
        summary="The error of a hidden dense layer is the sum of the next layer's "
        "errors, without its weights.",
        seen="System E: a backward pass without the multiplication by the weights.",
        place="layer",
        needs=Needs(recipe=(TWO_DENSE_LAYERS,)),
        corrupt=of_layers(
            is_behind_dense, lambda layer: DenseWithoutErrorWeights(layer.features)
        ),
    ),
    Fault(
        name="pool_gradient_scrambled",
        summary="A pool passes the error of each channel back to the next channel.",
        seen="System E: the indices of the maxima are read in another order of axes "
        "than they were written.",
        place="layer",
        needs=Needs(recipe=(layer_of(MaxPool, "max pool"),)),
        corrupt=of_layers(
            lambda config, number: isinstance(config.layers[number], MaxPool),
            lambda layer: ScrambledMaxPool(layer.window),
        ),
    ),
)
