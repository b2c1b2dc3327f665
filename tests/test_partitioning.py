"""A mesh of two axes: batches along "data", dense kernels along "model"."""

from __future__ import annotations

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from batches import (
    TINY,
    distinct_weights,
    experiment_of,
    jitted_serial,
    make_batch,
    random_dataset,
)
from jax.sharding import PartitionSpec as P

from cnnjax import devices
from cnnjax.base.errors import InputError
from cnnjax.devices.partitioning import partition_specs
from cnnjax.experiments.experiment import prepare
from cnnjax.experiments.overrides import override
from cnnjax.laws.comparison import largest_error
from cnnjax.strategies import Options, make_strategy
from cnnjax.training.epochs import train
from cnnjax.training.step import init_state, make_train_step
from cnnjax.training.updates import LoopConfig
from cnnjax.types import Examples

MESHES = [(1, 2), (2, 2), (4, 2), (1, 4)]


@functools.cache
def tiny_experiment():
    return experiment_of(TINY)


def sharded(mesh_shape):
    data, model = mesh_shape
    mesh = devices.make_mesh(data * model, model_devices=model)
    return make_strategy("sharded", tiny_experiment().loss_fn, Options(mesh))


@pytest.mark.parametrize("mesh_shape", MESHES)
def test_gradients_equal_the_reference_and_lie_where_parameters_do(mesh_shape):
    tiny, strategy = tiny_experiment(), sharded(mesh_shape)
    params = strategy.put_state(tiny.params)
    run = jax.jit(strategy.value_and_grad)
    batch = make_batch(tiny, 13, padding=3)
    for case in (batch, batch._replace(weights=distinct_weights(13))):
        metrics, grads = run(params, strategy.put_batch(case))
        expected = jitted_serial(tiny.loss_fn)(tiny.params, case)
        assert largest_error((metrics, grads), expected) <= 1e-5
    for leaf, param in zip(*map(jax.tree.leaves, (grads, params)), strict=True):
        assert leaf.sharding.is_equivalent_to(param.sharding, leaf.ndim)


def test_dense_kernels_are_cut_and_the_optimizers_moments_with_them():
    tiny, strategy = tiny_experiment(), sharded((2, 2))
    state = strategy.put_state(init_state(tiny.params, tiny.optimizer))
    step = jax.jit(make_train_step(strategy.value_and_grad, tiny.optimizer))
    after, _ = step(state, strategy.put_batch(make_batch(tiny, 16)))
    for held in (state, after):
        kernels = {
            jax.tree_util.keystr(path, simple=True, separator="/"): leaf
            for path, leaf in jax.tree_util.tree_leaves_with_path(held)
            if leaf.ndim == 2
        }
        assert len(kernels) == 4  # two dense layers, and their momentum
        for name, kernel in kernels.items():
            part = kernel.addressable_shards[0].data.shape
            rows, columns = kernel.shape
            by_features = (rows, columns // 2) if "dense_4" in name else None
            assert part == (by_features or (rows // 2, columns)), name


def test_training_on_the_mesh_is_training():
    tiny = tiny_experiment()

    def trained(strategy):
        params, records = train(
            tiny.params,
            Examples(*(a[:48] for a in tiny.train)),
            strategy=strategy,
            optimizer=tiny.optimizer,
            schedule=tiny.schedule,
            config=LoopConfig(batch_size=20, epochs=2),
            keys=tiny.keys,
        )
        return jax.tree.map(np.array, params), records[-1].train["loss"]

    params, loss = trained(sharded((2, 2)))
    expected, expected_loss = trained(make_strategy("jit", tiny.loss_fn))
    assert largest_error(params, expected) <= 1e-4
    assert loss == pytest.approx(expected_loss, abs=1e-4)


def test_a_rule_that_does_not_divide_is_passed_over():
    shapes = {
        "dense_1": {"kernel": (6, 8), "bias": (8,)},  # by features
        "dense_2": {"kernel": (8, 3), "bias": (3,)},  # by inputs
        "dense_3": {"kernel": (5, 3), "bias": (3,)},  # not at all
        "conv_0": {"kernel": (3, 3, 4, 4), "bias": (4,)},
    }
    tree = jax.tree.map(
        lambda shape: jax.ShapeDtypeStruct(shape, "float32"),
        shapes,
        is_leaf=lambda node: isinstance(node, tuple),
    )
    assert partition_specs(tree, model_devices=4) == {
        "dense_1": {"kernel": P(None, "model"), "bias": P("model")},
        "dense_2": {"kernel": P("model", None), "bias": P()},
        "dense_3": {"kernel": P(), "bias": P()},
        "conv_0": {"kernel": P(), "bias": P()},
    }
    whole = partition_specs(tree, model_devices=1)
    assert set(jax.tree.leaves(whole, is_leaf=lambda s: isinstance(s, P))) == {P()}


class OwnNetwork(nn.Module):
    """A module as others write it, whose layers Flax names, or they do."""

    names: tuple[str | None, ...]  # of its dense layers; None: Flax's own

    @nn.compact
    def __call__(self, x):
        for name in self.names:
            x = nn.tanh(nn.Dense(6, name=name)(x.reshape(-1)))
        return x


def own_experiment(*names):
    """Return parameters, loss and batch of an own module."""
    network = OwnNetwork(names)
    params = network.init(jax.random.key(0), jnp.zeros((8, 8, 1)))["params"]

    def loss_fn(params, example, label, key):
        outputs = network.apply({"params": params}, example / 255.0)
        return jnp.square(outputs - label).mean(), {}

    return params, loss_fn, make_batch(tiny_experiment(), 13, padding=3)


@pytest.mark.parametrize("names", [(None,), (None, None), ("head", None)])
def test_dense_layers_that_flax_names_are_cut(names):
    params, loss_fn, batch = own_experiment(*names)
    options = Options(devices.make_mesh(4, model_devices=2))
    strategy = make_strategy("sharded", loss_fn, options)
    placed = strategy.put_state(params)
    for name, layer in placed.items():
        part = layer["kernel"].addressable_shards[0].data.shape
        assert part[1] == (6 if name == "head" else 3), name
    actual = jax.jit(strategy.value_and_grad)(placed, strategy.put_batch(batch))
    assert largest_error(actual, jitted_serial(loss_fn)(params, batch)) <= 1e-5


@pytest.mark.parametrize(
    ("names", "model_devices"),
    [(("head",), 2), (("a", "b"), 4), ((None,), 5), ((None, "Dense"), 7)],
)
def test_devices_that_have_nothing_to_cut_are_refused(names, model_devices):
    params, loss_fn, batch = own_experiment(*names)
    mesh = devices.make_mesh(model_devices, model_devices=model_devices)
    strategy = make_strategy("sharded", loss_fn, Options(mesh))
    with pytest.raises(InputError, match=f"that {model_devices} model_devices can sha"):
        jax.eval_shape(strategy.value_and_grad, params, batch)


def test_an_experiment_with_nothing_to_cut_is_refused_before_it_runs():
    mesh = devices.make_mesh(5, model_devices=5)  # 64, 12, 3: none is a multiple
    recipe = override(TINY, strategy="sharded")
    with pytest.raises(InputError, match="use model_devices=1"):
        prepare(recipe, random_dataset(TINY), options=Options(mesh))


def test_only_sharded_cuts_kernels():
    mesh = devices.make_mesh(4, model_devices=2)
    with pytest.raises(InputError, match="only 'sharded' partitions kernels"):
        make_strategy("shard_map", tiny_experiment().loss_fn, Options(mesh))


@pytest.mark.parametrize("model_devices", [0, 3, 8])
def test_the_mesh_is_made_of_whole_rows(model_devices):
    with pytest.raises(InputError, match="to divide the 4 devices"):
        devices.make_mesh(4, model_devices=model_devices)
