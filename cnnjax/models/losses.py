"""Losses and metrics of ONE example; the gradient rules take means over a batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, ArrayLike, Float, Int, Integer, Key, Num, Shaped

from cnnjax.base.arguments import function, known_name
from cnnjax.base.errors import expect
from cnnjax.types import NO_PREDICTION, Label, LossFn, Params

Loss = tuple[Float[Array, ""], dict[str, Float[Array, ""]]]
# loss_of_output(output of the network, label) -> (loss, metrics), for ONE example.
LossOfOutput = Callable[[Float[Array, " classes"], Label], Loss]


def softmax_cross_entropy(
    logits: Float[Array, " classes"], label: Integer[ArrayLike, ""]
) -> Loss:
    """Return the cross-entropy, in nats, and the metric "accuracy", 0 or 1.

        loss = -log softmax(logits)[label] = log sum_j exp(logits[j]) - logits[label]

    "accuracy" is 1 if `predicted_class` is the label; NO_PREDICTION counts as wrong.
    """
    number = jnp.asarray(label)
    loss = optax.softmax_cross_entropy_with_integer_labels(logits, number)
    # Not in the label's type: in uint8, -1 would be 255.
    predicted = predicted_class(logits).astype(jnp.int32)
    correct = predicted == number.astype(jnp.int32)
    return loss, {"accuracy": correct.astype(logits.dtype)}


def smoothed(loss_of_output: LossOfOutput, amount: float) -> LossOfOutput:
    """Return the loss of ONE example whose label shares `amount` with all classes.

        loss = (1 - amount) loss + amount (log sum_j exp(logits[j]) - mean_j logits[j])

    It is the cross-entropy, in nats, of logits [classes] with a target of 1 - amount +
    amount / classes for the label and amount / classes for every other. The metrics
    stay. Source: Szegedy et al., "Rethinking the Inception Architecture for Computer
    Vision", 2016, arXiv:1512.00567.
    """

    def of_output(logits: Float[Array, " classes"], label: Label) -> Loss:
        loss, metrics = loss_of_output(logits, label)
        uniform = jax.nn.logsumexp(logits) - jnp.mean(logits)
        return (1.0 - amount) * loss + amount * uniform, metrics

    return of_output


def predicted_class(logits: Float[Array, " classes"]) -> Int[Array, ""]:
    """Return argmax(logits), the first of equal ones.

    It is NO_PREDICTION if the softmax is undefined: if a logit is NaN or +infinity, or
    all are -infinity. (A logit of -infinity rules its class out.)
    """
    has_softmax = jnp.isfinite(jnp.max(logits))  # the maximum is NaN if any logit is
    return jnp.where(has_softmax, jnp.argmax(logits), NO_PREDICTION)


def weighted_by_class(
    loss_of_output: LossOfOutput, weights: tuple[float, ...]
) -> LossOfOutput:
    """Return a loss of ONE example times the weight of its class; metrics stay.

    The mean over a batch is not divided by the sum of these weights. So an example has
    the same part in every batch, and shares of a batch add up under every strategy.
    """

    def of_output(logits: Float[Array, " classes"], label: Label) -> Loss:
        loss, metrics = loss_of_output(logits, label)
        return loss * jnp.asarray(weights, loss.dtype)[label], metrics

    return of_output


def balanced(labels: Int[np.ndarray, " examples"], classes: int) -> tuple[float, ...]:
    """Return weights that give every class the same part in the loss.

        weight = examples / (classes x examples of the class)

    It is 0 for a class without examples. Source: King and Zeng, "Logistic Regression in
    Rare Events Data", 2001; scikit-learn's "balanced".

    >>> balanced(np.array([0, 0, 0, 1]), 2)
    (0.6666666666666666, 2.0)
    """
    counts = np.bincount(labels, minlength=classes)
    shares = len(labels) / (classes * np.maximum(counts, 1))
    return tuple(float(w) for w in np.where(counts > 0, shares, 0.0))


def mean_squared_error(
    prediction: Float[Array, " targets"], target: Float[Array, " targets"]
) -> Loss:
    """Return the mean squared error over targets, in squared units of the target.

        loss = mean over t of (prediction[t] - target[t])^2

    Raises:
        InputError: prediction and target have different shapes.
    """
    what = f"targets of the prediction's shape {prediction.shape}"
    expect(what, target.shape, target.shape == prediction.shape)
    return jnp.mean(jnp.square(prediction - target)), {}


class OutputLoss(NamedTuple):
    """A loss of the network's output, and how the output becomes a prediction."""

    of_output: LossOfOutput
    # predict(output): the class; None: a regression (the output is the prediction).
    predict: Callable[[Float[Array, " classes"]], Int[Array, ""]] | None = None

    @property
    def classifies(self) -> bool:
        """Whether the network predicts a class."""
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

    The example is raw (uint8 or float): it is preprocessed inside the compiled step.
    `get_loss` returns a loss by name.

    Raises:
        InputError: one of the three arguments is not a function.
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
