"""Training from end to end, against a plain loop in NumPy that knows no JAX."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax import devices
from cnnjax.data.order import epoch_order
from cnnjax.experiments.experiment import keys_of
from cnnjax.strategies import STRATEGIES, Options
from cnnjax.training.algorithms import Sgd
from cnnjax.training.epochs import train
from cnnjax.training.optimizers import OptimizerConfig, make_optimizer, make_schedule
from cnnjax.training.schedules import Cosine
from cnnjax.training.updates import LoopConfig, LoopKeys
from cnnjax.types import Examples

COUNT, BATCH_SIZE, EPOCHS = 11, 4, 3  # each epoch ends with a batch of three
RATE, MOMENTUM, L2 = 0.05, 0.8, 0.1
ORDER = keys_of(3).order


def loss_fn(params, example, target, key):
    """Return the squared error of a line, and its size as a metric."""
    layer = params["dense_0"]
    error = layer["kernel"] @ example + layer["bias"] - target[0]
    return error**2, {"error": jnp.abs(error)}


def examples() -> Examples:
    rng = np.random.default_rng(0)
    inputs = rng.standard_normal((COUNT, 3)).astype(np.float32)
    return Examples(inputs, rng.standard_normal((COUNT, 1)).astype(np.float32))


def trained_by_hand():
    """Return the parameters, and (weight, loss, error, rate) of every update."""
    inputs, targets = (np.asarray(a, np.float64) for a in examples())
    w, b, updates = np.array([0.3, -0.2, 0.1]), 0.5, []
    velocity_w, velocity_b = np.zeros(3), 0.0
    steps_per_epoch = -(-COUNT // BATCH_SIZE)
    for epoch in range(EPOCHS):
        order = epoch_order(ORDER, epoch, num_examples=COUNT, shuffle="every_epoch")
        for first in range(0, COUNT, BATCH_SIZE):
            rows = np.asarray(order)[first : first + BATCH_SIZE]
            error = inputs[rows] @ w + b - targets[rows, 0]
            done = len(updates) / (EPOCHS * steps_per_epoch)
            rate = RATE * (1 + np.cos(np.pi * done)) / 2
            updates.append((len(rows), np.mean(error**2), np.mean(abs(error)), rate))
            gradient = 2 * error @ inputs[rows] / len(rows) + L2 * w
            velocity_w = MOMENTUM * velocity_w + gradient
            velocity_b = MOMENTUM * velocity_b + 2 * error.mean()
            w, b = w - rate * velocity_w, b - rate * velocity_b
    return w, b, np.array(updates).reshape(EPOCHS, steps_per_epoch, 4)


@pytest.mark.parametrize(
    ("strategy", "num_devices", "microbatch_size"),
    [("jit", 1, None), ("vmap", 1, 3), ("shard_map", 3, None), ("sharded", 2, 2)],
)
def test_training_is_the_plain_loop(strategy, num_devices, microbatch_size):
    """Order, batches, gradient, L2, momentum, schedule; and what is noted of them."""
    config = OptimizerConfig(
        algorithm=Sgd(momentum=MOMENTUM),
        learning_rate=RATE,
        l2=L2,
        schedule=Cosine(cosine_epochs=EPOCHS, cosine_unit="step"),
    )
    schedule = make_schedule(config, steps_per_epoch=-(-COUNT // BATCH_SIZE))
    options = Options(devices.make_mesh(num_devices), microbatch_size=microbatch_size)
    start = {"kernel": jnp.array([0.3, -0.2, 0.1]), "bias": jnp.array(0.5)}
    params, records = train(
        {"dense_0": start},
        examples(),
        strategy=STRATEGIES[strategy](loss_fn, options),
        optimizer=make_optimizer(config, schedule),
        schedule=schedule,
        config=LoopConfig(batch_size=BATCH_SIZE, epochs=EPOCHS),
        keys=LoopKeys(ORDER, None),
    )
    w, b, updates = trained_by_hand()
    np.testing.assert_allclose(params["dense_0"]["kernel"], w, rtol=1e-4)
    np.testing.assert_allclose(params["dense_0"]["bias"], b, rtol=1e-4)
    for record, (weights, losses, errors, rates) in zip(
        records, updates.transpose(0, 2, 1), strict=True
    ):
        np.testing.assert_array_equal(record.steps.weight, weights)
        np.testing.assert_allclose(record.steps.means["loss"], losses, rtol=1e-4)
        np.testing.assert_allclose(record.steps.means["error"], errors, rtol=1e-4)
        assert record.learning_rate == pytest.approx(rates[0], rel=1e-5)
        mean = np.average(losses, weights=weights)
        assert record.train["loss"] == pytest.approx(mean, rel=1e-4)
    assert [record.step for record in records] == [3, 6, 9]
