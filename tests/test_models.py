"""Sizes of every published network, counted twice; initialisers; dropout; misfits."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax import models
from cnnjax.base.errors import InputError
from cnnjax.experiments import networks
from cnnjax.experiments.recipes import RECIPES
from cnnjax.models import initializers, stack
from cnnjax.models.network import Network
from cnnjax.models.stack import (
    Activation,
    Conv,
    Dense,
    Dropout,
    Flatten,
    MaxPool,
    ModelConfig,
)
from cnnjax.telling.text import summary

PUBLISHED = {  # parameters, multiply-accumulates of one example
    "momentum_mlp_serial": (535_818, 535_040),
    "momentum_mlp_per_operation": (535_818, 535_040),
    "momentum_mlp_per_sample": (535_818, 535_040),
    "tanh_mlp_housing_narrow": (57, 48),
    "tanh_mlp_housing_wide": (42_753, 42_304),
    "tanh_mlp_cifar10_shallow": (1_578_506, 1_577_984),
    "tanh_mlp_cifar10_deep": (1_738_890, 1_737_984),
    "sgd_dropout_cnn": (225_034, 2_631_040),
    "adam_cosine_cnn": (805_066, 1_431_296),
    "sgd_wide_cnn": (22_669_526, 295_704_160),
    "fast_mnist_cnn": (35_338, 2_320_000),
    "cifar10_cnn": (398_666, 15_050_752),
}


def test_every_recipe_has_a_published_size():
    assert PUBLISHED.keys() == RECIPES.keys()


@pytest.mark.parametrize("name", PUBLISHED)
def test_sizes_are_the_published_ones(name):
    config = RECIPES[name].model
    rows = stack.layer_rows(config)
    shapes = jax.eval_shape(lambda key: models.init(key, config), jax.random.key(0))
    parameters = sum(leaf.size for leaf in jax.tree.leaves(shapes))
    assert (parameters, sum(row.macs for row in rows)) == PUBLISHED[name]
    assert sum(row.parameters for row in rows) == parameters
    total = summary(config).splitlines()[-1].split()
    assert total == ["total", *(f"{n:,}" for n in PUBLISHED[name])]


@pytest.mark.parametrize("name", PUBLISHED)
def test_shapes_in_the_table_are_those_of_the_network(name):
    config = RECIPES[name].model
    network = Network(config)
    key = jax.random.key(0)
    example = jax.ShapeDtypeStruct(config.input_shape, jnp.float32)
    logits, state = jax.eval_shape(
        lambda example: network.init_with_output(key, example, deterministic=True),
        example,
    )
    rows = [row for row in stack.layer_rows(config) if row.parameters]
    assert logits.shape == rows[-1].output_shape
    computed = {name: tap.shape for name, tap in state["taps"].items()}
    assert computed == {f"{row.name}_tap": row.output_shape for row in rows}
    for row in rows:
        leaves = jax.tree.leaves(state["params"][row.name])
        assert sum(leaf.size for leaf in leaves) == row.parameters


def drawn(name):
    return models.init(jax.random.key(0), RECIPES[name].model)


@pytest.mark.parametrize(
    ("name", "layer", "bound"),
    [
        ("adam_cosine_cnn", "conv_0", 0.04924),
        ("adam_cosine_cnn", "dense_4", 0.01768),
        ("adam_cosine_cnn", "dense_6", 0.12039),
        ("momentum_mlp_serial", "dense_1", (2 / 784) ** 0.5),
        ("sgd_dropout_cnn", "conv_3", 288**-0.5),
        ("tanh_mlp_cifar10_shallow", "dense_1", 3072**-0.5),
    ],
)
def test_uniform_kernels_fill_their_bounds(name, layer, bound):
    kernel = drawn(name)[layer]["kernel"]
    assert 0.95 * bound < np.abs(kernel).max() <= bound * 1.0002
    assert abs(kernel.mean()) < 0.1 * bound
    np.testing.assert_allclose(kernel.std(), bound / 3**0.5, rtol=0.05)


def test_biases_are_zero_or_pytorchs():
    assert all(
        (layer["bias"] == 0).all() for layer in drawn("adam_cosine_cnn").values()
    )
    bias = drawn("sgd_dropout_cnn")["conv_3"]["bias"]
    assert 0.8 * 288**-0.5 < np.abs(bias).max() <= 288**-0.5


@pytest.mark.parametrize(
    ("init", "stddev"),
    [(initializers.HE_NORMAL, (2 / 400) ** 0.5), (initializers.NORMAL_001, 0.001)],
)
def test_normal_kernels_have_their_deviation(init, stddev):
    config = ModelConfig(input_shape=(400,), layers=(Dense(300),), initializer=init)
    kernel = models.init(jax.random.key(0), config)["dense_0"]["kernel"]
    np.testing.assert_allclose(kernel.std(), stddev, rtol=0.01)
    assert np.abs(kernel).max() > 3.5 * stddev  # not uniform, not truncated


def test_a_seed_draws_the_same_parameters_again():
    first, again = drawn("adam_cosine_cnn"), drawn("adam_cosine_cnn")
    jax.tree.map(np.testing.assert_array_equal, first, again)
    other = models.init(jax.random.key(1), RECIPES["adam_cosine_cnn"].model)
    assert not np.array_equal(first["conv_0"]["kernel"], other["conv_0"]["kernel"])


DROPPING = ModelConfig(
    input_shape=(1000,),
    layers=(Dropout(0.25), Dense(1)),
    initializer=initializers.PYTORCH,
)


def test_dropout_follows_its_key_and_rests_without_one():
    apply_fn = models.make_apply(DROPPING)
    params = {"dense_1": {"kernel": jnp.eye(1000)[:, :1] * 0 + 1, "bias": jnp.zeros(1)}}
    example = jnp.ones(1000)
    kept = apply_fn(params, example, key=jax.random.key(0)) * 0.75
    np.testing.assert_allclose(kept, np.round(kept), atol=1e-2)
    assert 690 < kept[0] < 810
    assert apply_fn(params, example) == 1000.0
    one, other = (apply_fn(params, example, key=jax.random.key(k)) for k in (0, 1))
    assert one != other
    assert one == apply_fn(params, example, key=jax.random.key(0))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_precision_is_the_configs(dtype):
    with jax.enable_x64(True):  # float64 is there, and must not creep in
        config = ModelConfig(
            input_shape=(4, 4, 1),
            layers=(Conv(2, kernel_size=3), Flatten(), Dense(2)),
            initializer=initializers.PYTORCH,
            dtype=dtype,
            param_dtype=dtype,
        )
        params = models.init(jax.random.key(0), config)
        logits = models.make_apply(config)(params, jnp.zeros((4, 4, 1), jnp.uint8))
    assert {leaf.dtype for leaf in jax.tree.leaves((params, logits))} == {
        np.dtype(dtype)
    }


EVERY_LAYER = (
    Conv(3, kernel_size=3, padding=2),
    Activation("leaky_relu"),
    MaxPool(2),
    Conv(4, kernel_size=2),
    Activation("relu"),
    Dropout(0.5),
    Flatten(),
    Dense(5),
    Activation("tanh"),
    Dense(3),
)


def logits_by_hand(params: dict, image: np.ndarray) -> np.ndarray:
    """Go through `EVERY_LAYER` one number at a time."""

    def convolved(x, *, kernel, bias, padding):
        x = np.pad(x, ((padding, padding), (padding, padding), (0, 0)))
        side, _, _, features = kernel.shape
        out = np.zeros((x.shape[0] - side + 1, x.shape[1] - side + 1, features))
        for i, j, f in np.ndindex(out.shape):
            window = x[i : i + side, j : j + side]
            out[i, j, f] = (window * kernel[..., f]).sum() + bias[f]
        return out

    x = convolved(image, **params["conv_0"], padding=2)
    x = np.where(x > 0, x, 0.001 * x)
    pooled = np.zeros((x.shape[0] // 2, x.shape[1] // 2, x.shape[2]))
    for i, j, c in np.ndindex(pooled.shape):
        pooled[i, j, c] = x[2 * i : 2 * i + 2, 2 * j : 2 * j + 2, c].max()
    x = np.maximum(convolved(pooled, **params["conv_3"], padding=0), 0)
    row = [x[place] for place in np.ndindex(x.shape)]  # the last axis is the fastest
    x = np.tanh(row @ params["dense_7"]["kernel"] + params["dense_7"]["bias"])
    return x @ params["dense_9"]["kernel"] + params["dense_9"]["bias"]


def test_a_network_of_every_layer_equals_numpy():
    config = ModelConfig(
        input_shape=(5, 6, 2),
        layers=EVERY_LAYER,
        initializer=initializers.PYTORCH,
        dtype="float64",
        param_dtype="float64",
    )
    image = np.random.default_rng(0).standard_normal((5, 6, 2))
    with jax.enable_x64(True):
        params = models.init(jax.random.key(0), config)
        logits = models.make_apply(config)(params, jnp.asarray(image))
    expected = logits_by_hand(jax.tree.map(np.asarray, params), image)
    np.testing.assert_allclose(logits, expected, rtol=1e-12)


def test_an_mlp_has_its_activations_between_its_layers():
    relu = Activation("relu")
    assert networks.mlp((7, 5), activation="relu", outputs=3) == (
        *(Flatten(), Dense(7), relu, Dense(5), relu, Dense(3)),
    )
    assert networks.mlp((), activation="relu", outputs=3) == (Flatten(), Dense(3))


def test_logits_are_as_wide_as_the_parameters():
    """A bfloat16 network ends in float32, where the loss is taken."""
    config = dataclasses.replace(DROPPING, dtype="bfloat16")
    params = models.init(jax.random.key(0), config)
    logits = models.make_apply(config)(params, jnp.ones(1000))
    assert {leaf.dtype.name for leaf in jax.tree.leaves(params)} == {"float32"}
    assert logits.dtype == "float32"


@pytest.mark.parametrize(("inputs", "bound"), [((600,), 600**-0.5), ((9,), 1 / 3)])
def test_biases_of_a_dense_layer_are_drawn_by_its_inputs(inputs, bound):
    config = ModelConfig(
        input_shape=inputs, layers=(Dense(900),), initializer=initializers.PYTORCH
    )
    bias = models.init(jax.random.key(0), config)["dense_0"]["bias"]
    assert 0.95 * bound < np.abs(bias).max() <= bound
    np.testing.assert_allclose(bias.std(), bound / 3**0.5, rtol=0.1)


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (lambda: Dropout(1.5), r"rate in \[0, 1\), got 1.5"),
        (lambda: Dense(0), "features of at least 1, got 0"),
        (lambda: MaxPool(0), "window of at least 1, got 0"),
        (lambda: Conv(3, kernel_size=0), "kernel_size of at least 1, got 0"),
        (lambda: Conv(3, kernel_size=1, padding=-1), "padding of at least 0, got -1"),
        (lambda: Activation("rleu"), "unknown activation 'rleu'; did you mean .*relu"),
    ],
)
def test_layers_that_cannot_be_are_refused(layer, message):
    with pytest.raises(InputError, match=message):
        layer()


def test_float64_is_refused_where_jax_would_draw_float32():
    config = dataclasses.replace(DROPPING, dtype="float64", param_dtype="float64")
    with pytest.raises(InputError, match="expected JAX with float64"):
        models.init(jax.random.key(0), config)


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (Dense(3), "layer dense_0: Dense.* does not fit an input of"),
        (Conv(4, kernel_size=9), "has no output for an input of"),
        (MaxPool(9), "has no output for an input of"),
    ],
)
def test_layers_that_do_not_fit_are_named(layer, message):
    config = ModelConfig(
        input_shape=(8, 8, 1), layers=(layer,), initializer=initializers.PYTORCH
    )
    with pytest.raises(InputError, match=message):
        stack.layer_rows(config)
