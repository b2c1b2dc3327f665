"""Faults of a layer: of what it computes, of its gradient, of the parameters it uses.

Where only the gradient is wrong, the layer is written as a sum: its right value, held
constant, and something that is zero and has the wrong gradient.
"""

from __future__ import annotations

from collections.abc import Callable

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from cnnjax.faults.fault import (
    SEVERAL_CHANNELS,
    TWO_DENSE_LAYERS,
    Fault,
    Needs,
    layer_of,
)
from cnnjax.gradients import rules
from cnnjax.models.network import Around, LayerFn
from cnnjax.models.stack import Conv, Dense, LayerRow, MaxPool
from cnnjax.strategies import STRATEGIES
from cnnjax.types import Params

# Of parameters that are not the layers' own, the factors of a layer know nothing.
BY_PARAMETERS = tuple(
    name for name, row in STRATEGIES.items() if row.rule is not rules.factored
)


def of_layers(
    applies: Callable[[LayerRow], bool], change: Callable[[LayerFn], LayerFn]
) -> Callable[[Around], Around]:
    """Build the `corrupt` that changes the layers of a network that it applies to."""

    def corrupt(right: Around) -> Around:
        def around(row: LayerRow, layer_fn: LayerFn) -> LayerFn:
            layer_fn = right(row, layer_fn)
            return change(layer_fn) if applies(row) else layer_fn

        return around

    return corrupt


def is_behind_dense(row: LayerRow) -> bool:
    """Return whether a dense layer hands its error back to another dense layer."""
    hidden = row.behind is not None and row.behind.startswith("dense")
    return isinstance(row.layer, Dense) and hidden


def ignore_weights_in_the_error(right: LayerFn) -> LayerFn:
    """Hand the sum of a layer's errors back, to each of its inputs alike."""

    def wrong(x: Array) -> Array:
        return right(lax.stop_gradient(x)) + _zero_with_gradient(x.sum())

    return wrong


def scramble_channels(right: LayerFn) -> LayerFn:
    """Hand the error of each channel back through the pool to the next channel."""

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
    """Use the first plane of each kernel for every channel: it sees their sum."""
    kernel = own["kernel"]
    return {**own, "kernel": jnp.broadcast_to(kernel[:, :, :1], kernel.shape)}


def drop_bias(own: dict[str, Array]) -> dict[str, Array]:
    """Use a bias of zero."""
    return {**own, "bias": jnp.zeros_like(own["bias"])}


def sum_over_taps(own: dict[str, Array]) -> dict[str, Array]:
    """Give every tap of a plane the sum of the gradients of all its taps."""
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
        seen="A NumPy network written by hand (system E): 4,500 weights in a layer of "
        "500 filters on 500 channels that should have 2,250,000.",
        place="parameters",
        needs=Needs(strategies=BY_PARAMETERS, recipe=(SEVERAL_CHANNELS,)),
        corrupt=of_convolutions(share_first_plane),
    ),
    Fault(
        name="bias_never_added",
        summary="The biases of the convolutions are never added.",
        seen="System E: they are drawn, and updated, and not used.",
        place="parameters",
        needs=_CONVOLVES,
        corrupt=of_convolutions(drop_bias),
    ),
    Fault(
        name="one_scalar_for_all_taps",
        summary="All taps of a kernel's plane are moved by one number, the sum of "
        "their gradients.",
        seen="System E: a sum over the patch, where each tap has its own.",
        place="parameters",
        needs=_CONVOLVES,
        corrupt=of_convolutions(sum_over_taps),
    ),
    Fault(
        name="hidden_error_ignores_weights",
        summary="The error of a hidden dense layer is the sum of the next one's "
        "errors, without its weights.",
        seen="System E: a backward pass that forgets to multiply.",
        place="layer",
        needs=Needs(recipe=(TWO_DENSE_LAYERS,)),
        corrupt=of_layers(is_behind_dense, ignore_weights_in_the_error),
    ),
    Fault(
        name="pool_gradient_scrambled",
        summary="A pool hands the error of each channel back to the next channel.",
        seen="System E: indices of the maxima read in another order of axes than they "
        "were written in.",
        place="layer",
        needs=Needs(recipe=(layer_of(MaxPool, "max pool"),)),
        corrupt=of_layers(
            lambda row: isinstance(row.layer, MaxPool), scramble_channels
        ),
    ),
)
