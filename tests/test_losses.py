"""Loss and metrics against NumPy, and means that count real examples only."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from batches import TINY, experiment_of
from scipy.special import log_softmax

from cnnjax.base.errors import InputError
from cnnjax.models.losses import (
    get_loss,
    mean_squared_error,
    predicted_class,
    softmax_cross_entropy,
)
from cnnjax.types import NO_PREDICTION


def test_cross_entropy_is_minus_the_log_probability():
    with jax.enable_x64(True):
        logits = np.random.default_rng(0).standard_normal(10) * 5
        for label in range(10):
            loss, metrics = softmax_cross_entropy(
                jnp.asarray(logits), jnp.asarray(label)
            )
            np.testing.assert_allclose(loss, -log_softmax(logits)[label], rtol=1e-12)
            assert metrics["accuracy"] == (label == logits.argmax())


def test_cross_entropy_bears_large_logits():
    loss, _ = softmax_cross_entropy(jnp.asarray([1e4, 0.0]), jnp.asarray(1))
    assert loss == 1e4


@pytest.mark.parametrize("label", [2, np.int64(2), np.uint8(2), jnp.uint8(2)])
def test_a_label_may_be_any_whole_number(label):
    logits = jnp.array([0.5, -1.0, 3.0])
    loss, metrics = softmax_cross_entropy(logits, label)
    assert loss == softmax_cross_entropy(logits, jnp.int32(2))[0]
    assert metrics["accuracy"] == 1
    experiment = experiment_of(TINY)
    image = experiment.train.inputs[0]
    own, _ = experiment.loss_fn(experiment.params, image, label, None)
    assert own == experiment.loss_fn(experiment.params, image, jnp.int32(2), None)[0]


@pytest.mark.parametrize(("largest", "label"), [(256, 0), (255, 255)])
def test_a_label_that_is_a_byte_is_compared_as_a_number(largest, label):
    logits = jnp.zeros(300).at[largest].set(5.0)
    _, metrics = softmax_cross_entropy(logits, jnp.uint8(label))
    assert metrics["accuracy"] == (largest == label)
    _, metrics = softmax_cross_entropy(logits * NAN, jnp.uint8(label))
    assert metrics["accuracy"] == 0


def test_targets_are_of_the_predictions_shape():
    # Without the check of type hints, where the tests have it.
    unchecked = getattr(mean_squared_error, "__wrapped__", mean_squared_error)
    mean_squared_error(jnp.ones(3), jnp.ones(3))
    for shape in ((), (1,), (2,)):
        with pytest.raises(InputError, match=r"shape \(3,\), got "):
            unchecked(jnp.ones(3), jnp.ones(shape))


def test_of_equal_logits_the_first_is_predicted():
    for label, correct in ((0, 1.0), (1, 0.0)):
        _, metrics = softmax_cross_entropy(jnp.zeros(3), jnp.asarray(label))
        assert metrics["accuracy"] == correct


NAN, INF = float("nan"), float("inf")


# Of every label there is, none is right where nothing is predicted.
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    ("logits", "predicted"),
    [
        ([NAN, NAN, NAN], NO_PREDICTION),
        ([NAN, 1.0, 2.0], NO_PREDICTION),
        ([2.0, 1.0, NAN], NO_PREDICTION),
        ([INF, NAN, -INF], NO_PREDICTION),
        ([INF, 1.0, 2.0], NO_PREDICTION),  # inf / inf: no softmax
        ([1.0, INF, INF], NO_PREDICTION),
        ([-INF, -INF, -INF], NO_PREDICTION),
        ([-INF, -1.0, -2.0], 1),  # a class ruled out
        ([-INF, -INF, 0.0], 2),
        ([3e38, -3e38, 0.0], 0),
        ([0.0, -0.0, 0.0], 0),
    ],
)
def test_where_there_is_no_softmax_nothing_is_predicted(logits, predicted, dtype):
    logits = jnp.asarray(logits, dtype)
    assert predicted_class(logits) == jax.jit(predicted_class)(logits) == predicted
    for label in range(3):
        loss, metrics = softmax_cross_entropy(logits, jnp.asarray(label))
        assert metrics["accuracy"] == (label == predicted)
        assert metrics["accuracy"].dtype == dtype
        if predicted == NO_PREDICTION:  # which is why a loss tells where to look
            assert not jnp.isfinite(loss)


def test_mean_squared_error_is_a_mean_over_targets():
    loss, metrics = mean_squared_error(jnp.array([1.0, 2.0]), jnp.array([0.0, 4.0]))
    assert loss == 2.5
    assert metrics == {}


def test_an_unknown_loss_is_refused():
    with pytest.raises(InputError, match="unknown loss 'mse'"):
        get_loss("mse")
