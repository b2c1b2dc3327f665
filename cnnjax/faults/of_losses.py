"""Faults of the loss that training differentiates, or of the values it reports.

A wrong loss is a function of the right one, so that several faults can be combined.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jaxtyping import Array, Float, Int

from cnnjax.faults.fault import Fault
from cnnjax.faults.needs import CLASSES, REGRESSION, Needs
from cnnjax.models.losses import Loss, LossOfOutput


def softmax_before_cross_entropy(right: LossOfOutput) -> LossOfOutput:
    """Pass the softmax of the logits to the loss, as its logits."""

    def wrong(logits: Float[Array, " classes"], label: Int[Array, ""]) -> Loss:
        return right(jax.nn.softmax(logits), label)

    return wrong


def reverse_output_gradient(right: LossOfOutput) -> LossOfOutput:
    """Change the gradient with respect to the logits to onehot - logits.

    The value does not change. onehot - logits is minus the gradient of a squared error,
    which gradient descent then increases.
    """

    def wrong(logits: Float[Array, " classes"], label: Int[Array, ""]) -> Loss:
        value, metrics = right(logits, label)
        error = jax.nn.one_hot(label, logits.shape[0], dtype=logits.dtype) - logits
        return _value_and_gradient_of(value, -0.5 * jnp.sum(error**2)), metrics

    return wrong


def report_entropy(right: LossOfOutput) -> LossOfOutput:
    """Report the entropy of the prediction; the gradient does not change.

    The entropy does not depend on the label: it is small if the network is confident.
    """

    def wrong(logits: Float[Array, " classes"], label: Int[Array, ""]) -> Loss:
        loss, metrics = right(logits, label)
        entropy = optax.softmax_cross_entropy(logits, jax.nn.softmax(logits))
        return _value_and_gradient_of(entropy, loss), metrics

    return wrong


def measure_reflected_ratio(right: LossOfOutput) -> LossOfOutput:
    """Add an "accuracy": the mean of |r| for r <= 1 and |2 - r| above, r = pred / y."""

    def wrong(
        prediction: Float[Array, " targets"], target: Float[Array, " targets"]
    ) -> Loss:
        loss, metrics = right(prediction, target)
        ratio = prediction / target
        reflected = jnp.abs(jnp.where(ratio > 1, 2 - ratio, ratio))
        return loss, {**metrics, "accuracy": jnp.mean(reflected)}

    return wrong


def _value_and_gradient_of(value: Array, differentiated: Array) -> Array:
    """Return a number with the value of one expression and another's gradient."""
    nothing = differentiated - lax.stop_gradient(differentiated)
    return lax.stop_gradient(value) + nothing


_CLASSIFIES = Needs(recipe=(CLASSES,))
_REGRESSES = Needs(recipe=(REGRESSION,))

FAULTS = (
    Fault(
        name="softmax_before_cross_entropy",
        summary="The network ends in a softmax, and the loss applies a second one.",
        seen="PyTorch's CrossEntropyLoss after a softmax layer (system C): the loss "
        "cannot fall below 1.4612, and if the first softmax is saturated, right or "
        "wrong, the gradient vanishes.",
        place="loss",
        needs=_CLASSIFIES,
        corrupt=softmax_before_cross_entropy,
    ),
    Fault(
        name="reversed_output_gradient",
        summary="The error of the output is target - logit, used in a descent step.",
        seen="A hand-written NumPy network (system E): no softmax, and the wrong sign.",
        place="loss",
        needs=_CLASSIFIES,
        corrupt=reverse_output_gradient,
    ),
    Fault(
        name="entropy_reported_as_loss",
        summary="The entropy of the prediction is reported as the training loss.",
        seen="p log p summed over classes instead of y log p (system E): it falls to 0 "
        "while the network learns nothing.",
        place="loss",
        needs=_CLASSIFIES,
        corrupt=report_entropy,
    ),
    Fault(
        name="reflected_ratio_accuracy",
        summary="A regression reports the mean of |f(prediction / target)| as its "
        '"accuracy", f(r) = 2 - r above 1.',
        seen="System B: r = 3 scores 1, and so does any prediction near the mean of "
        "targets that vary little.",
        place="metric",
        needs=_REGRESSES,
        corrupt=measure_reflected_ratio,
    ),
)
