"""Loss and metrics of ONE example; their means over a batch are the gradients' job."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
import optax
from jaxtyping import Array, ArrayLike, Float, Int, Integer, Key, Num, Shaped

from cnnjax.base.arguments import function, known_name
from cnnjax.base.errors import expect
from cnnjax.types import NO_PREDICTION, Label, LossFn, Params

Loss = tuple[Float[Array, ""], dict[str, Float[Array, ""]]]
# loss_of_output(output of the network, label) -> (loss, metrics), of ONE example.
LossOfOutput = Callable[[Float[Array, " classes"], Label], Loss]


def softmax_cross_entropy(
    logits: Float[Array, " classes"], label: Integer[ArrayLike, ""]
) -> Loss:
    """Return -log softmax(logits)[label] in nats, and whether the prediction is right.

    The prediction is `predicted_class`; where there is none, it is wrong.
    """
    number = jnp.asarray(label)
    loss = optax.softmax_cross_entropy_with_integer_labels(logits, number)
    # Not in the label's type: -1 as a byte is 255.
    predicted = predicted_class(logits).astype(jnp.int32)
    correct = predicted == number.astype(jnp.int32)
    return loss, {"accuracy": correct.astype(logits.dtype)}


def predicted_class(logits: Float[Array, " classes"]) -> Int[Array, ""]:
    """Return the class of the largest logit, the first of equal ones.

    It is NO_PREDICTION where the softmax is undefined: where a logit is NaN or
    +infinity, or all are -infinity. (Some of -infinity are classes ruled out.)
    """
    has_softmax = jnp.isfinite(jnp.max(logits))  # the largest of any and NaN is NaN
    return jnp.where(has_softmax, jnp.argmax(logits), NO_PREDICTION)


def mean_squared_error(
    prediction: Float[Array, " targets"], target: Float[Array, " targets"]
) -> Loss:
    """Return the mean over targets of (prediction - target)^2, in squared units.

    Raises:
        InputError: a target of another shape than the prediction's.
    """
    what = f"targets of the prediction's shape {prediction.shape}"
    expect(what, target.shape, target.shape == prediction.shape)
    return jnp.mean(jnp.square(prediction - target)), {}


class OutputLoss(NamedTuple):
    """A loss of the network's output, and what the output predicts."""

    of_output: LossOfOutput
    # predict(output): the class; None: a regression, whose output is the prediction.
    predict: Callable[[Float[Array, " classes"]], Int[Array, ""]] | None = None

    @property
    def classifies(self) -> bool:
        """Whether a class is predicted."""
        return self.predict is not None


LOSSES: dict[str, OutputLoss] = {
    "softmax_cross_entropy": OutputLoss(softmax_cross_entropy, predicted_class),
    "mean_squared_error": OutputLoss(mean_squared_error),
}


def get_loss(name: str) -> LossOfOutput:
    """Return the loss of this name.

    Raises:
        InputError: a loss that is not in `LOSSES`.
    """
    return LOSSES[known_name("loss", name, LOSSES)].of_output


def make_loss_fn(
    apply_fn: Callable[..., Float[Array, " classes"]],
    *,
    loss_of_output: LossOfOutput,
    preprocess: Callable[[Num[Array, "*example"]], Float[Array, "*example"]],
) -> LossFn:
    """Build `loss_fn(params, example, label, key) -> (loss, metrics)` of one example.

    The example is raw (uint8 or float): it is preprocessed here, inside the step.
    `get_loss` has the losses by name.

    Raises:
        InputError: one of the three is no function.
    """
    function("apply_fn", apply_fn)
    function("loss_of_output (see get_loss)", loss_of_output)
    function("preprocess", preprocess)

    def loss_fn(
        params: Params,
        example: Num[ArrayLike, "*example"],
        label: Shaped[ArrayLike, "*target"],
        key: Key[Array, ""] | None,
    ) -> Loss:
        output = apply_fn(params, preprocess(jnp.asarray(example)), key=key)
        return loss_of_output(output, jnp.asarray(label))

    return loss_fn
