"""Loss and metrics against NumPy, and means that count real examples only."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from batches import TINY, experiment_of, make_batch, random_dataset
from scipy.special import log_softmax

from cnnjax.base.errors import InputError
from cnnjax.devices import make_mesh
from cnnjax.experiments.experiment import prepare
from cnnjax.experiments.judging import make_test
from cnnjax.experiments.overrides import override
from cnnjax.experiments.recipes import get_recipe
from cnnjax.gradients.shares import serial_value_and_grad
from cnnjax.laws.comparison import largest_error
from cnnjax.models import losses
from cnnjax.models.losses import (
    get_loss,
    mean_squared_error,
    predicted_class,
    smoothed,
    softmax_cross_entropy,
)
from cnnjax.strategies import Options
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


@pytest.mark.parametrize("amount", [0.1, 0.7])
def test_smoothed_labels_share_with_every_class(amount):
    """Against the cross-entropy with the smoothed target, and finite differences."""
    logits, label = np.array([0.3, -1.2, 2.0, 0.0]), 1
    target = np.full(4, amount / 4) + (1 - amount) * np.eye(4)[label]

    def by_hand(logits):
        return float(-target @ (logits - np.log(np.sum(np.exp(logits)))))

    with jax.enable_x64(True):
        loss_fn = smoothed(softmax_cross_entropy, amount)
        of_class = jnp.asarray(label)
        of_first = jax.value_and_grad(lambda z: loss_fn(z, of_class)[0])
        loss, gradient = of_first(jnp.asarray(logits))
        assert loss_fn(jnp.asarray(logits), of_class)[1] == {"accuracy": 0.0}
    np.testing.assert_allclose(loss, by_hand(logits), rtol=1e-12)
    differences = [
        (by_hand(logits + step) - by_hand(logits - step)) / 2e-6
        for step in 1e-6 * np.eye(4)
    ]
    np.testing.assert_allclose(gradient, differences, atol=1e-8)


def test_labels_are_smoothed_in_training_and_not_in_the_test():
    """Every rule differentiates the smoothed loss: they share one objective."""
    recipe = override(TINY, label_smoothing=0.3)
    plain, own = (prepare(r, random_dataset(r)) for r in (TINY, recipe))
    example = plain.train.inputs[0], plain.train.labels[0], jax.random.key(0)
    losses = {
        name: float(one(plain.params, *example)[0])
        for name, one in (
            *(("plain", plain.loss_fn), ("own", own.loss_fn)),
            *(("tested", own.test_loss_fn), ("plain test", plain.test_loss_fn)),
        )
    }
    assert losses["tested"] == losses["plain test"]
    assert losses["own"] != losses["plain"]
    with pytest.raises(InputError, match="label_smoothing of 0 for a regression"):
        override(get_recipe("tanh_mlp_housing_narrow"), label_smoothing=0.1)


# -- weights of classes --------------------------------------------------------------


def test_balanced_weights_give_every_class_the_same_part():
    labels = np.array([0] * 70 + [1] * 20 + [3] * 10)
    weights = losses.balanced(labels, 4)
    parts = [weights[c] * np.sum(labels == c) for c in range(4)]
    assert parts == pytest.approx([25, 25, 0, 25])
    assert weights[2] == 0.0  # of which there is none
    assert sum(weights[label] for label in labels) == pytest.approx(75)


def test_a_loss_is_multiplied_and_its_metrics_stay():
    weighted = losses.weighted_by_class(softmax_cross_entropy, (0.5, 2.0, 0.0))
    logits = jnp.array([0.3, -1.0, 2.0])
    for label, weight in enumerate((0.5, 2.0, 0.0)):
        (plain, metrics), (own, same) = (
            of(logits, jnp.int32(label)) for of in (softmax_cross_entropy, weighted)
        )
        assert own == pytest.approx(weight * float(plain))
        assert jax.tree.map(float, same) == jax.tree.map(float, metrics)


@pytest.mark.parametrize("strategy", ["jit", "factored", "shard_map"])
def test_every_rule_differentiates_the_weighted_loss(strategy):
    """The gradient is the sum over examples of weight x gradient / count, by hand."""
    recipe = override(TINY, class_weights="balanced", strategy=strategy, batch_size=8)
    dataset = random_dataset(recipe, train=40, test=8)
    mesh = make_mesh(2) if strategy == "shard_map" else None
    experiment = prepare(recipe, dataset, options=Options(mesh))
    plain = prepare(override(recipe, class_weights="none", strategy="jit"), dataset)
    weights = losses.balanced(dataset.train.labels, 3)
    batch = make_batch(plain, 8)
    own = jnp.array([weights[label] for label in np.asarray(batch.labels)])
    scaled = batch._replace(weights=own)
    _, wanted = serial_value_and_grad(plain.objective)(plain.params, scaled)
    factor = float(own.sum()) / 8  # the mean divides by the sum of the weights
    placed = experiment.strategy.put_batch(batch)
    params = experiment.strategy.put_state(experiment.params)
    _, gradient = experiment.strategy.value_and_grad(params, placed)
    wanted = jax.tree.map(lambda g: g * factor, wanted)
    assert largest_error(gradient, wanted) < 1e-5
    assert experiment.recipe.class_weights == "balanced"
    tests = [make_test(one)(0, plain.params) for one in (experiment, plain)]
    assert tests[0]["loss"] == pytest.approx(tests[1]["loss"], rel=1e-6)  # not weighted


@pytest.mark.parametrize(
    ("weights", "told"),
    [
        ("even", "class_weights"),
        ((1.0, -1.0, 1.0), "0 or more"),
        ((1.0, 2.0), "one for each of"),
    ],
)
def test_weights_that_cannot_be_are_refused(weights, told):
    dataset = random_dataset(TINY, train=40, test=8)
    with pytest.raises(InputError, match=told):
        prepare(override(TINY, class_weights=weights), dataset)


def test_a_regression_has_no_classes_to_weigh():
    with pytest.raises(InputError, match="no class_weights for a regression"):
        override(get_recipe("tanh_mlp_housing_narrow"), class_weights="balanced")
