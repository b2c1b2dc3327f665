"""Faults of a program that goes through its batch sample by sample, or by threads."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from cnnjax import factors
from cnnjax.errors import InputError
from cnnjax.faults.fault import (
    ON_ONE_DEVICE,
    SEVERAL_EXAMPLES,
    Fault,
    Needs,
    Requirement,
    layer_of,
)
from cnnjax.gradients import batch_value_and_grad, total_weight, whole
from cnnjax.stack import Conv, Dense
from cnnjax.strategies import NO_OPTIONS, Builder, Options
from cnnjax.types import Batch, LossFn, Metrics, Params, Strategy


def overwrite_conv_gradient(builder: Builder) -> Builder:
    """Let the last example of the batch alone train the convolutions, at its weight.

    Their gradient is w_n g_n / sum of w, where it should be the sum over all examples.
    """

    def build(loss_fn: LossFn, options: Options = NO_OPTIONS) -> Strategy:
        right = builder(loss_fn, options)
        gradient_of_one = batch_value_and_grad(loss_fn)

        def value_and_grad(params: Params, batch: Batch) -> tuple[Metrics, Params]:
            metrics, grads = right.value_and_grad(params, batch)
            positions = jnp.arange(batch.weights.size)
            at = jnp.max(jnp.where(batch.weights > 0, positions, 0))
            last = jax.tree.map(lambda a: lax.dynamic_slice_in_dim(a, at, 1), batch)
            _, alone = gradient_of_one(params, last)
            fraction = last.weights[0] / total_weight(batch)
            mixed = {
                name: jax.tree.map(lambda g: g * fraction.astype(g.dtype), alone[name])
                if own["kernel"].ndim == 4
                else own
                for name, own in grads.items()
            }
            return metrics, mixed

        return right._replace(value_and_grad=value_and_grad)

    return build


def share_activations(builder: Builder) -> Builder:
    """Combine the errors of every other example with its neighbour's activations.

    Threads keep their own gradients, and write what their layers compute into one
    network: where another thread wrote last, an error meets another example's input
    of its layer. Here that is so for one example of each two, always alike, where the
    program raced. The first layer reads the example itself, which is nobody else's.
    """

    def build(loss_fn: LossFn, options: Options = NO_OPTIONS) -> Strategy:
        right = builder(loss_fn, options)
        factors_fn = options.factors_fn
        if factors_fn is None:
            raise InputError("shared_activations expected Options(factors_fn=...)")

        def wrong_factors(
            params: Params, batch: Batch
        ) -> tuple[factors.Values, dict[str, factors.Factors]]:
            values, own = factors_fn(params, batch)
            first, *later = own
            shared = {
                name: own[name]._replace(inputs=read_the_neighbours(own[name].inputs))
                for name in later
            }
            return values, {first: own[first], **shared}

        gradient = whole(factors.norms_share(wrong_factors))

        def value_and_grad(params: Params, batch: Batch) -> tuple[Metrics, Params]:
            metrics, _ = right.value_and_grad(params, batch)
            return metrics, gradient(params, batch)[1]

        return right._replace(value_and_grad=value_and_grad)

    return build


def read_the_neighbours(inputs: Array) -> Array:
    """Put what belongs to example i + 1 in the place of example i, for odd i."""
    odd = jnp.arange(inputs.shape[0]) % 2 == 1
    odd = odd.reshape(-1, *(1,) * (inputs.ndim - 1))
    return jnp.where(odd, jnp.roll(inputs, -1, axis=0), inputs)


_TWO_LAYERS = Requirement(
    "a network with at least 2 dense layers",
    "--recipe=momentum_mlp_per_sample",
    lambda _: "one with fewer",
    lambda setting: (
        sum(isinstance(layer, Dense) for layer in setting.model.layers) >= 2
    ),
)

FAULTS = (
    Fault(
        name="overwritten_conv_gradient",
        summary="Only the last example of a batch trains the convolutions, at its "
        "weight of 1/n.",
        seen="A C library (system D) that goes through the batch example by example: "
        "dense layers add their gradients up, the convolution assigns them; Adam hides "
        "it.",
        needs=Needs(
            strategies=ON_ONE_DEVICE,
            recipe=(SEVERAL_EXAMPLES, layer_of(Conv, "convolution")),
        ),
        corrupt=overwrite_conv_gradient,
    ),
    Fault(
        name="shared_activations",
        summary="The errors of every other example meet the activations of its "
        "neighbour.",
        seen="Threads that go through a batch with gradients of their own and one "
        "network for all (system A): each writes its activations over the others'.",
        needs=Needs(strategies=ON_ONE_DEVICE, recipe=(SEVERAL_EXAMPLES, _TWO_LAYERS)),
        corrupt=share_activations,
    ),
)
