"""bfloat16 arithmetic: parameters, gradients, sums and the optimizer stay float32."""

from __future__ import annotations

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from batches import TINY, experiment_of, jitted_serial, make_batch
from strategy_table import DIVIDED

from cnnjax import devices, models
from cnnjax.experiments.runs import run
from cnnjax.gradients import microbatches
from cnnjax.gradients.factors import make_factors_fn
from cnnjax.gradients.objective import Objective
from cnnjax.gradients.shares import batch_value_and_grad
from cnnjax.laws.comparison import TOLERANCES, largest_error
from cnnjax.models import losses
from cnnjax.models.initializers import PYTORCH
from cnnjax.models.stack import Activation, Conv, Dense, Flatten, ModelConfig
from cnnjax.strategies import STRATEGIES, Options
from cnnjax.types import Batch


@functools.cache
def experiments():
    return experiment_of(TINY), experiment_of(TINY, precision="bfloat16", epochs=4)


@pytest.mark.parametrize("name", STRATEGIES)
def test_strategies_agree_in_bfloat16_as_well(name):
    tiny, half = experiments()
    mesh = devices.make_mesh(4) if name in DIVIDED else None
    strategy = STRATEGIES[name](half.objective, half.options._replace(mesh=mesh))
    batch = make_batch(tiny, 16)
    _, in_float32 = jitted_serial(tiny.loss_fn)(tiny.params, batch)
    _, expected = jitted_serial(half.loss_fn)(half.params, batch)
    params = strategy.put_state(half.params)
    compiled = strategy.run != "eager"
    run = jax.jit(strategy.value_and_grad) if compiled else strategy.value_and_grad
    _, grads = run(params, strategy.put_batch(batch))
    assert largest_error(grads, expected) <= 2.0**-6  # which compares the dtypes, too
    assert largest_error(grads, in_float32) > 1e-4  # so it did compute in bfloat16


@pytest.mark.parametrize("name", ["jit", "vmap_norms", "factored_norms"])
def test_no_type_is_promoted_without_a_word(name):
    _, half = experiments()
    value_and_grad = STRATEGIES[name](half.objective, half.options).value_and_grad
    with jax.numpy_dtype_promotion("strict"):
        jax.eval_shape(value_and_grad, half.params, make_batch(half, 4))


def test_a_network_learns_in_bfloat16():
    _, half = experiments()
    result = run(half)
    losses = [record.train["loss"] for record in result.records]
    assert losses[-1] < 0.9 * losses[0]
    assert {leaf.dtype.name for leaf in jax.tree.leaves(result.params)} == {"float32"}


# A network that counts. Its parameters, inputs and targets are small whole numbers, so
# that bfloat16 computes one example exactly, but for the sum over positions in the
# gradient of the convolution's kernel. What is left is the error of the sums over
# examples. The gradients of a bias have one sign: no error of theirs can cancel.
def counting(dtype, param_dtype="float32"):
    return ModelConfig(
        input_shape=(6, 6, 1),
        layers=(Conv(2, kernel_size=3), Activation("relu"), Flatten(), Dense(1)),
        initializer=PYTORCH,
        dtype=dtype,
        param_dtype=param_dtype,
    )


def counting_params(dtype="float32"):
    kernel = np.zeros((3, 3, 1, 2))
    kernel[[0, 1, 2], [0, 1, 0], 0, 0] = kernel[[0, 1, 2], [2, 0, 1], 0, 1] = 1
    dense = np.tile([[1.0], [-1.0]], (16, 1))  # one sign for each of the two filters
    params = {
        "conv_0": {"kernel": kernel, "bias": np.zeros(2)},
        "dense_3": {"kernel": dense, "bias": np.zeros(1)},
    }
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), params)


def counting_loss(apply_fn):
    return losses.make_loss_fn(
        apply_fn, loss_of_output=losses.mean_squared_error, preprocess=lambda x: x
    )


def counting_objective(config, loss_fn):
    own = models.NetworkLoss(
        config=config,
        loss_of_output=losses.mean_squared_error,
        preprocess=lambda x: x,
    )
    factors_fn = make_factors_fn(own.tapped, models.zero_taps(config))
    return Objective(loss_fn, factors_fn)


def counting_batch(size):
    images = np.random.default_rng(0).integers(0, 2, (size, 6, 6, 1))
    targets = jnp.full((size, 1), -60.0)  # 2 (prediction - target) is 24 to 216
    return Batch(jnp.asarray(images, jnp.float32), targets, jnp.ones(size), None)


@functools.cache
def counted_in_float64(size):
    with jax.enable_x64(True):
        loss_fn = counting_loss(models.make_apply(counting("float64", "float64")))
        params, batch = counting_params("float64"), counting_batch(size)
        _, grads = jax.jit(batch_value_and_grad(loss_fn))(params, batch)
        return jax.tree.map(np.asarray, grads)


def errors_of_sums(name, loss_fn, options, *, size, param_dtype="float32"):
    """Return the largest relative error of biases, and that of kernels."""
    strategy = STRATEGIES[name](loss_fn, options)
    compiled = strategy.run != "eager"
    run = jax.jit(strategy.value_and_grad) if compiled else strategy.value_and_grad
    params = strategy.put_state(counting_params(param_dtype))
    _, grads = run(params, strategy.put_batch(counting_batch(size)))
    assert {leaf.dtype.name for leaf in jax.tree.leaves(grads)} == {param_dtype}
    wide = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), grads)
    expected = counted_in_float64(size)
    return tuple(
        max(
            largest_error(wide[layer][leaf], own[leaf])
            for layer, own in expected.items()
        )
        for leaf in ("bias", "kernel")
    )


# A product of bfloat16 is rounded, once, when it is complete; on each device, or for
# each microbatch. (A rounding is up to 2^-9; here are two, of an example and the sum.)
ROUNDED = 2.0**-8


@pytest.mark.parametrize(
    ("name", "sizes", "microbatch_size"),
    [
        *((name, (16384,), None) for name in STRATEGIES),
        *((name, (16, 256, 4096), None) for name in ("jit", "shard_map")),
        *((name, (16384,), 64) for name in ("jit", "factored", "shard_map")),
    ],
)
def test_sums_over_examples_are_as_good_for_many_as_for_few(
    name, sizes, microbatch_size
):
    config = counting("bfloat16")
    loss_fn = counting_loss(models.make_apply(config))
    objective = counting_objective(config, loss_fn)
    options = Options(devices.make_mesh(4), microbatch_size)
    for size in sizes:
        of_bias, of_kernel = errors_of_sums(name, objective, options, size=size)
        assert of_bias <= TOLERANCES["float32"], size
        assert of_kernel <= ROUNDED, size


@pytest.mark.parametrize(
    ("name", "microbatch_size"),
    [("serial", None), ("jit", None), ("jit", 8), ("factored", 8), ("shard_map", 8)],
)
def test_parameters_of_bfloat16_round_the_sum_and_not_its_parts(name, microbatch_size):
    config = counting("bfloat16", "bfloat16")
    loss_fn = counting_loss(models.make_apply(config))
    objective = counting_objective(config, loss_fn)
    options = Options(devices.make_mesh(4), microbatch_size)
    errors = errors_of_sums(
        name, objective, options, size=16384, param_dtype="bfloat16"
    )
    assert max(errors) <= 2 * ROUNDED


class OfFlax(nn.Module):
    """The same network of Flax's own layers: they add the bias in bfloat16."""

    @nn.compact
    def __call__(self, x):
        """Return the prediction for one example."""
        x = nn.Conv(2, (3, 3), padding="VALID", dtype="bfloat16", name="conv_0")(x)
        x = nn.Dense(1, dtype="bfloat16", name="dense_3")(nn.relu(x).ravel())
        return x.astype("float32")


@pytest.mark.parametrize("name", ["eager", "jit", "sharded", "shard_map", "pmap"])
def test_a_bias_that_is_added_in_bfloat16_is_caught(name):
    network = OfFlax()
    loss_fn = counting_loss(lambda params, x, key: network.apply({"params": params}, x))
    options = Options(mesh=devices.make_mesh(4))
    of_bias, _ = errors_of_sums(name, loss_fn, options, size=1024)
    assert of_bias > 100 * TOLERANCES["float32"]


def test_microbatches_that_are_added_in_bfloat16_are_caught(monkeypatch):
    monkeypatch.setattr(microbatches, "widen", lambda a: a)
    config = counting("bfloat16", "bfloat16")
    loss_fn = counting_loss(models.make_apply(config))
    objective = counting_objective(config, loss_fn)
    options = Options(devices.make_mesh(4), 8)
    errors = errors_of_sums(
        "jit", objective, options, size=16384, param_dtype="bfloat16"
    )
    assert min(errors) > 10 * ROUNDED
