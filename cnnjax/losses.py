"""Loss and metrics of ONE example; their means over a batch are the gradients' job."""

from __future__ import annotations

from collections.abc import Callable

import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, Key, Num

from cnnjax.errors import unknown_name
from cnnjax.types import Label, LossFn, Params, TappedLossFn

Loss = tuple[Float[Array, ""], dict[str, Float[Array, ""]]]
# loss_of_output(output of the network, label) -> (loss, metrics), of ONE example.
LossOfOutput = Callable[[Float[Array, " classes"], Label], Loss]


def softmax_cross_entropy(
    logits: Float[Array, " classes"], label: Int[Array, ""]
) -> Loss:
    """Return -log softmax(logits)[label] in nats, and whether the argmax is right.

    Of equal logits the first is the prediction.
    """
    loss = optax.softmax_cross_entropy_with_integer_labels(logits, label)
    correct = jnp.argmax(logits).astype(label.dtype) == label
    return loss, {"accuracy": correct.astype(logits.dtype)}


def mean_squared_error(
    prediction: Float[Array, " targets"], target: Float[Array, " targets"]
) -> Loss:
    """Return the mean over targets of (prediction - target)^2, in squared units."""
    return jnp.mean(jnp.square(prediction - target)), {}


LOSSES: dict[str, LossOfOutput] = {
    "softmax_cross_entropy": softmax_cross_entropy,
    "mean_squared_error": mean_squared_error,
}


def get_loss(name: str) -> LossOfOutput:
    """Return the loss of this name.

    Raises:
        InputError: a loss that is not in `LOSSES`.
    """
    if name not in LOSSES:
        raise unknown_name("loss", name, LOSSES)
    return LOSSES[name]


def make_loss_fn(
    apply_fn: Callable[..., Float[Array, " classes"]],
    *,
    loss_of_output: LossOfOutput,
    preprocess: Callable[[Num[Array, "*example"]], Float[Array, "*example"]],
) -> LossFn:
    """Build `loss_fn(params, example, label, key) -> (loss, metrics)` of one example.

    The example is raw (uint8 or float): it is preprocessed here, inside the step.
    `get_loss` has the losses by name.
    """

    def loss_fn(
        params: Params,
        example: Num[Array, "*example"],
        label: Label,
        key: Key[Array, ""] | None,
    ) -> Loss:
        return loss_of_output(apply_fn(params, preprocess(example), key=key), label)

    return loss_fn


def make_tapped_loss_fn(
    tapped_apply_fn: Callable[..., tuple[Float[Array, " classes"], dict]],
    *,
    loss_of_output: LossOfOutput,
    preprocess: Callable[[Num[Array, "*example"]], Float[Array, "*example"]],
) -> TappedLossFn:
    """Build the same loss with taps in the network, for `factors.make_factors_fn`.

    `tapped_loss_fn(params, taps, example, label, key) -> (loss, (metrics, inputs))`.
    """

    def tapped_loss_fn(
        params: Params,
        taps: dict[str, Float[Array, "..."]],
        example: Num[Array, "*example"],
        label: Label,
        key: Key[Array, ""] | None,
    ) -> tuple[Float[Array, ""], tuple[dict, dict]]:
        logits, inputs = tapped_apply_fn(params, taps, preprocess(example), key=key)
        value, metrics = loss_of_output(logits, label)
        return value, (metrics, inputs)

    return tapped_loss_fn
