"""Faults of programs that process a batch example by example, or in threads."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from cnnjax.faults.fault import Builder, Fault
from cnnjax.faults.needs import (
    SEVERAL_EXAMPLES,
    TWO_DENSE_LAYERS,
    WHOLE_BATCHES,
    Needs,
    layer_of,
)
from cnnjax.gradients import factored, factors, padding
from cnnjax.gradients.objective import Objective, factors_of
from cnnjax.gradients.shares import batch_value_and_grad, value_and_grad_of
from cnnjax.models.stack import Conv
from cnnjax.strategies import NO_OPTIONS, Options, names_of
from cnnjax.types import Batch, Metrics, Params, Strategy


def overwrite_conv_gradient(builder: Builder) -> Builder:
    """Let only the last example of the batch train the convolutions, at its weight.

    Their gradient is w_n g_n / sum_i w_i instead of sum_i w_i g_i / sum_i w_i.
    """

    def build(objective: Objective, options: Options = NO_OPTIONS) -> Strategy:
        right = builder(objective, options)
        gradient_of_one = batch_value_and_grad(objective.loss_fn)

        def value_and_grad(params: Params, batch: Batch) -> tuple[Metrics, Params]:
            metrics, grads = right.value_and_grad(params, batch)
            at = _last(batch)
            last = jax.tree.map(lambda a: lax.dynamic_slice_in_dim(a, at, 1), batch)
            _, alone = gradient_of_one(params, last)
            fraction = last.weights[0] / padding.total_weight(batch)
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
    """Let all examples of a batch use the activations of the last one.

    In the original program each example had its own thread and its own gradient, but
    all threads shared one network, so that each overwrote the activations of the
    others. An example's own label and input are then combined with another example's
    hidden activations and prediction, in the error and in the reported loss. The
    original had a race; here the last example always wins.

    Raises:
        InputError: while it is traced, an objective without `factors_fn`.
    """

    def build(objective: Objective, options: Options = NO_OPTIONS) -> Strategy:
        right, factors_fn = builder(objective, options), factors_of(objective)

        def wrong_factors(
            params: Params, batch: Batch, weights: Array
        ) -> tuple[factors.Values, dict[str, factors.Factors]]:
            written = batch.inputs[_last(batch)]
            shared = jnp.broadcast_to(written[None], batch.inputs.shape)
            _, own = factors_fn(params, batch, weights)
            values, others = factors_fn(params, batch._replace(inputs=shared), weights)
            first = next(iter(others))  # its input is the example itself, not shared
            read = others[first]._replace(inputs=own[first].inputs)
            return values, {**others, first: read}

        share = factored.scaled_share(wrong_factors, jnp.ones_like)

        def value_and_grad(params: Params, batch: Batch) -> tuple[Metrics, Params]:
            metrics, grads = value_and_grad_of(share)(params, batch)
            means = {k: v for k, v in metrics.means.items() if k != "grad_norm"}
            return metrics._replace(means=means), grads

        return right._replace(value_and_grad=value_and_grad)

    return build


def _last(batch: Batch) -> Array:
    """Return the position of the last example that is not padding."""
    positions = jnp.arange(batch.weights.size)
    return jnp.max(jnp.where(batch.weights > 0, positions, 0))


FAULTS = (
    Fault(
        name="overwritten_conv_gradient",
        summary="Only the last example of a batch trains the convolutions, at its "
        "weight of 1/n.",
        seen="A C library (system D) that processes the batch example by example: "
        "dense layers add their gradients up, but the convolution overwrites them; "
        "Adam hides it.",
        needs=Needs(
            strategies=names_of(divides=False),
            recipe=(SEVERAL_EXAMPLES, layer_of(Conv, "convolution")),
        ),
        corrupt=overwrite_conv_gradient,
        parts=("gradient",),
    ),
    Fault(
        name="shared_activations",
        summary="All examples of a batch use the activations of the last one, each "
        "with its own label.",
        seen="Threads with their own gradients that share one network (system A): each "
        "overwrites the activations of the others.",
        needs=Needs(
            strategies=names_of(divides=False),
            recipe=(SEVERAL_EXAMPLES, TWO_DENSE_LAYERS, WHOLE_BATCHES),
        ),
        corrupt=share_activations,
        # It recomputes the gradient from factors, which use the layers' own parameters.
        replaces=("gradient", "weights", "keys", "parameters"),
    ),
)
