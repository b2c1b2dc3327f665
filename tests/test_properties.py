"""What holds for every small network, at every batch size."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from batches import distinct_weights
from hypothesis import HealthCheck, given, reject, settings
from hypothesis import strategies as st

from cnnjax import devices, models
from cnnjax.base.errors import InputError
from cnnjax.data.order import example_keys
from cnnjax.gradients.factors import make_factors_fn
from cnnjax.gradients.objective import Objective
from cnnjax.gradients.shares import serial_value_and_grad
from cnnjax.laws.comparison import TOLERANCES, largest_error
from cnnjax.models.initializers import PYTORCH
from cnnjax.models.losses import (
    make_loss_fn,
    softmax_cross_entropy,
)
from cnnjax.models.stack import (
    Activation,
    Conv,
    Dense,
    Dropout,
    Flatten,
    Layer,
    MaxPool,
    ModelConfig,
    Shape,
    layer_rows,
)
from cnnjax.strategies import STRATEGIES, Options
from cnnjax.types import Batch

CLASSES = 3
pointwise = st.one_of(
    st.sampled_from(["relu", "tanh", "leaky_relu"]).map(Activation),
    st.sampled_from([0.25, 0.5]).map(Dropout),
)
kernels = st.integers(1, 3)
convs = st.builds(Conv, kernels, kernel_size=kernels, padding=st.integers(0, 1))
of_images = st.one_of(convs, st.just(MaxPool(2)), pointwise)
of_rows = st.one_of(st.integers(1, 5).map(Dense), pointwise)
sides = st.integers(4, 7)


def network(shape: Shape, images: list[Layer], rows: list[Layer]) -> ModelConfig:
    """Stack the layers, then a classifier; reject what does not fit the image."""
    config = ModelConfig(
        input_shape=shape,
        layers=(*images, Flatten(), *rows, Dense(CLASSES)),
        initializer=PYTORCH,
    )
    try:
        layer_rows(config)
    except InputError:
        reject()
    return config


def random_batch(config: ModelConfig, size: int, *, padding: int) -> Batch:
    rng = np.random.default_rng(size)
    images = rng.standard_normal((size, *config.input_shape)).astype(np.float32)
    weights = distinct_weights(size) * (jnp.arange(size) < size - padding)
    return Batch(
        inputs=jnp.asarray(images),
        labels=jnp.asarray(rng.integers(0, CLASSES, size).astype(np.int32)),
        weights=weights,
        keys=example_keys(jax.random.key(1), 0, batch_size=size),
    )


def check_one_gradient(config: ModelConfig, size: int, padding: int) -> None:
    loss_fn = make_loss_fn(
        models.make_apply(config),
        loss_of_output=softmax_cross_entropy,
        preprocess=lambda image: image,
    )
    params = models.init(jax.random.key(0), config)
    batch = random_batch(config, size, padding=min(padding, size - 1))
    own = models.NetworkLoss(
        config=config,
        loss_of_output=softmax_cross_entropy,
        preprocess=lambda image: image,
    )
    factors_fn = make_factors_fn(own.tapped, models.zero_taps(config))
    objective = Objective(loss_fn, factors_fn)
    expected = jax.jit(serial_value_and_grad(loss_fn))(params, batch)
    for name in ("jit", "vmap", "factored", "shard_map"):
        strategy = STRATEGIES[name](objective, Options(devices.make_mesh(4)))
        placed = strategy.put_state(params), strategy.put_batch(batch)
        result = jax.jit(strategy.value_and_grad)(*placed)
        assert largest_error(result, expected) <= TOLERANCES["float32"], name


# Only plain values are drawn: beartype's checks use `random`, which a strategy may not.
given_networks = given(
    shape=st.tuples(sides, sides, st.integers(1, 2)),
    images=st.lists(of_images, max_size=4),
    rows=st.lists(of_rows, max_size=2),
    size=st.integers(1, 9),
    padding=st.integers(0, 4),
)
settled = functools.partial(
    settings,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)


@settled(max_examples=3)
@given_networks
def test_every_network_has_one_gradient(shape, images, rows, size, padding):
    check_one_gradient(network(shape, images, rows), size, padding)


@pytest.mark.slow
@settled(max_examples=30)
@given_networks
def test_many_networks_have_one_gradient(shape, images, rows, size, padding):
    check_one_gradient(network(shape, images, rows), size, padding)
