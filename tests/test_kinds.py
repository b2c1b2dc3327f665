"""Strides, averages, normalization, residual connections: by NumPy, everywhere."""

from __future__ import annotations

import functools
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from batches import TINY, distinct_weights, experiment_of, jitted_serial, make_batch
from strategy_table import DIVIDED

from cnnjax.base.errors import InputError
from cnnjax.devices import make_mesh
from cnnjax.experiments.described import recipe_of
from cnnjax.experiments.experiment import with_strategy
from cnnjax.gradients import reductions, rules
from cnnjax.gradients.shares import with_per_example
from cnnjax.laws.comparison import TOLERANCES, largest_error
from cnnjax.loaded.exports import numpy_form, onnx_form
from cnnjax.models import layers
from cnnjax.models.stack import (
    Activation,
    AvgPool,
    Conv,
    Dense,
    Flatten,
    GlobalAvgPool,
    GroupNorm,
    ModelConfig,
    Residual,
    layer_rows,
)
from cnnjax.results.plain import plain
from cnnjax.strategies import STRATEGIES, Options
from cnnjax.training.algorithms import is_weight

LAYERS = (
    Conv(4, 3, padding=1, stride=2),  # 9 x 9 to 5 x 5
    GroupNorm(2),
    Activation("relu"),
    Conv(4, 3, padding=1),
    GroupNorm(1),
    Activation("tanh"),
    Residual(3),
    AvgPool(2),
    Conv(6, 1),
    GlobalAvgPool(),
    GroupNorm(3, eps=0.1),  # of a vector
    Dense(3),
)
MODEL = replace(TINY.model, input_shape=(9, 9, 1), layers=LAYERS)
RICH = replace(TINY, model=MODEL)
RNG = np.random.default_rng(0)


@functools.cache
def experiment(precision: str = "float32"):
    with jax.enable_x64(precision == "float64"):
        found = experiment_of(RICH, precision=precision)
        # Scales of 1 and biases of 0 would hide a mistake.
        leaves, tree = jax.tree.flatten(found.params)
        rng = np.random.default_rng(1)
        moved = [leaf + 0.3 * rng.normal(size=leaf.shape) for leaf in leaves]
        typed = [
            jnp.asarray(m, leaf.dtype) for m, leaf in zip(moved, leaves, strict=True)
        ]
        return found._replace(params=jax.tree.unflatten(tree, typed))


def batch_of(found):
    batch = make_batch(found, 13, padding=3)
    return batch._replace(weights=batch.weights * distinct_weights(13))


# -- by NumPy ------------------------------------------------------------------------


def numpy_conv(x, kernel, padding, stride):
    x = np.pad(x, ((padding, padding), (padding, padding), (0, 0)))
    size = kernel.shape[0]
    rows, columns = ((n - size) // stride + 1 for n in x.shape[:2])
    out = np.zeros((rows, columns, kernel.shape[3]))
    for i in range(rows):
        for j in range(columns):
            block = x[i * stride : i * stride + size, j * stride : j * stride + size]
            out[i, j] = np.tensordot(block, kernel, 3)
    return out


def numpy_norm(x, groups, eps):
    out = np.empty_like(x)
    size = x.shape[-1] // groups
    for group in range(groups):
        own = slice(group * size, (group + 1) * size)
        part = x[..., own]
        out[..., own] = (part - part.mean()) / np.sqrt(part.var() + eps)
    return out


def numpy_mean(x, window):
    rows, columns = (n // window for n in x.shape[:2])
    out = np.zeros((rows, columns, x.shape[2]))
    for i, j in np.ndindex(rows, columns):
        block = x[i * window : (i + 1) * window, j * window : (j + 1) * window]
        out[i, j] = block.mean(axis=(0, 1))
    return out


@pytest.mark.parametrize("stride", [1, 2, 3, 5])
@pytest.mark.parametrize(("size", "padding"), [(3, 0), (3, 1), (2, 1), (1, 0), (5, 2)])
def test_a_convolution_with_a_stride(size, padding, stride):
    image, kernel = RNG.normal(size=(9, 7, 2)), RNG.normal(size=(size, size, 2, 3))
    layer = Conv(3, size, padding, stride)
    wanted = numpy_conv(image, kernel, padding, stride)
    assert layer.sizes(image.shape).output_shape == wanted.shape
    x, w = jnp.float32(image), jnp.float32(kernel)
    both = ((padding, padding), (padding, padding))
    for form in (layers.conv2d_im2col, layers.conv2d_xla):
        found = form(x, w, padding=both, stride=stride)
        np.testing.assert_allclose(found, wanted, atol=1e-5)
    np.testing.assert_allclose(layer.multiply("highest")(x, w), wanted, atol=1e-5)
    rows = layer.as_matrix(x) @ w.reshape(-1, 3)
    np.testing.assert_allclose(rows.reshape(wanted.shape), wanted, atol=1e-5)
    assert layer.sizes(image.shape).macs == wanted.size * size * size * 2


@pytest.mark.parametrize("window", [1, 2, 3, 7])
def test_an_average_of_blocks(window):
    image = RNG.normal(size=(9, 7, 2))
    found = layers.avg_pool2d(jnp.float32(image), window=window)
    np.testing.assert_allclose(found, numpy_mean(image, window), atol=1e-6)


@pytest.mark.parametrize("shape", [(4, 5, 6), (6,), (1, 1, 6)])
@pytest.mark.parametrize("groups", [1, 2, 3, 6])
def test_groups_are_normalized(shape, groups):
    x = 5 + 3 * RNG.normal(size=shape)
    found = layers.group_norm(jnp.float32(x), groups=groups, eps=1e-3)
    np.testing.assert_allclose(found, numpy_norm(x, groups, 1e-3), atol=2e-5)


def test_a_normalization_of_bfloat16_sums_in_float32():
    x = (100 + RNG.normal(size=(16, 16, 2))).astype(np.float32)
    rounded = jnp.asarray(x, jnp.bfloat16)
    found = layers.group_norm(rounded, groups=1, eps=1e-5)
    assert found.dtype == jnp.bfloat16
    exact = numpy_norm(np.asarray(rounded, np.float64), 1, 1e-5)
    np.testing.assert_allclose(np.asarray(found, np.float64), exact, atol=0.02)


def test_what_a_scale_multiplies_is_what_its_gradient_is_made_of():
    """Mistake: in bfloat16, the rows that the factored rule keeps are rounded again."""
    x = jnp.asarray(RNG.normal(size=(4, 4, 2)), jnp.bfloat16)
    layer, ones = GroupNorm(1), jnp.ones(2)
    wide = layer.multiply("highest")(x.astype(jnp.float32), ones)
    np.testing.assert_array_equal(layer.as_matrix(x), wide.reshape(16, 2))


def forward(params, x):
    """Return the logits of the rich network by NumPy, in float64."""
    at = {row.name: row for row in layer_rows(MODEL)}
    seen = []
    for name, row in at.items():
        layer, own = row.layer, params.get(name, {})
        seen.append(x)
        match layer:
            case Conv(_, _, padding, stride):
                x = numpy_conv(x, own["kernel"], padding, stride) + own["bias"]
            case GroupNorm(groups, eps):
                x = numpy_norm(x, groups, eps) * own["scale"] + own["bias"]
            case Activation("relu"):
                x = np.maximum(x, 0)
            case Activation("tanh"):
                x = np.tanh(x)
            case Residual(over):
                x = x + seen[-1 - over]
            case AvgPool(window):
                x = numpy_mean(x, window)
            case GlobalAvgPool():
                x = x.mean(axis=(0, 1))
            case Dense():
                x = x @ own["kernel"] + own["bias"]
    return x


def test_the_network_is_what_numpy_makes_of_it():
    found = experiment()
    params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), found.params)
    for image in found.train.inputs[:3]:
        logits = forward(params, image / 255)
        np.testing.assert_allclose(
            found.apply_fn(found.params, image), logits, atol=1e-5
        )


def test_its_gradient_is_what_finite_differences_make_of_it():
    """Along random directions, of each leaf alone; in float64."""
    with jax.enable_x64(True):
        found = experiment("float64")
        batch = batch_of(found)
        value_and_grad = jitted_serial(found.objective)
        _, gradient = value_and_grad(found.params, batch)
        step, rng = 1e-6, np.random.default_rng(2)
        for layer, leaves in found.params.items():
            for leaf, values in leaves.items():
                way = rng.normal(size=values.shape)

                def loss_at(sign, layer=layer, leaf=leaf, way=way):
                    own = {**found.params[layer]}
                    own[leaf] = own[leaf] + sign * step * way
                    moved = {**found.params, layer: own}
                    return float(value_and_grad(moved, batch)[0].means["loss"])

                slope = (loss_at(1) - loss_at(-1)) / (2 * step)
                wanted = float(np.vdot(way, gradient[layer][leaf]))
                assert slope == pytest.approx(wanted, rel=1e-4, abs=1e-8), (layer, leaf)


# -- under every strategy ------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in STRATEGIES if name != "serial"])
def test_every_strategy_computes_its_gradient(name):
    found = experiment()
    batch = batch_of(found)
    _, wanted = jitted_serial(found.objective)(found.params, batch)
    mesh = make_mesh(2) if name in DIVIDED else None
    strategy = with_strategy(found, name, Options(mesh)).strategy
    placed = strategy.put_state(found.params), strategy.put_batch(batch)
    _, gradient = strategy.value_and_grad(*placed)
    assert largest_error(gradient, wanted) <= TOLERANCES["float32"]


@pytest.mark.parametrize("reduction", ["norms", "clipped", "full"])
def test_gradients_of_single_examples(reduction):
    """Without rows, too: a scale's gradient is a product entry by entry."""
    found = experiment()

    def examined(rule):
        share = rule(found.objective, reductions.REDUCTIONS[reduction](0.5))
        return jax.jit(with_per_example(share))(found.params, batch_of(found))

    wanted = examined(rules.serial)
    for rule in rules.ROUTES.values():
        assert largest_error(examined(rule), wanted) <= TOLERANCES["float32"]


# -- what goes with a network --------------------------------------------------------


def test_scales_are_no_weights_for_l2():
    params = experiment().params
    assert is_weight(params)["groupnorm_1"] == {"scale": False, "bias": False}
    assert is_weight(params)["conv_0"] == {"kernel": True, "bias": False}
    rows = {row.name: row for row in layer_rows(MODEL)}
    counted = sum(row.parameters for row in rows.values())
    assert counted == sum(leaf.size for leaf in jax.tree.leaves(params))


def test_scales_begin_at_one_and_biases_at_zero():
    own = experiment_of(RICH).params["groupnorm_1"]
    np.testing.assert_array_equal(own["scale"], np.ones(4))
    np.testing.assert_array_equal(own["bias"], np.zeros(4))


def test_a_recipe_with_every_kind_is_read_back():
    assert recipe_of(plain(RICH)) == RICH


def test_the_page_of_numpy_runs_every_kind(tmp_path):
    found = experiment()
    flat = {
        f"{layer}/{leaf}": np.asarray(values)
        for layer, leaves in found.params.items()
        for leaf, values in leaves.items()
    }
    np.savez(tmp_path / "weights.npz", **flat)
    source = numpy_form.source_of(RICH, classifies=True)
    names = {"__file__": str(tmp_path / "network.py")}
    exec(compile(source, "network.py", "exec"), names)
    images = found.train.inputs[:5]
    wanted = jax.vmap(lambda x: found.apply_fn(found.params, x))(images)
    np.testing.assert_allclose(names["logits"](images), wanted, atol=1e-5)


def test_the_batched_form_for_onnx_runs_every_kind():
    found = experiment()
    run = type("Run", (), {"recipe": RICH, "params": found.params})
    images = found.train.inputs[:5]
    wanted = jax.vmap(lambda x: found.apply_fn(found.params, x))(images)
    outputs = onnx_form.batched(run, jnp.asarray(images))
    np.testing.assert_allclose(outputs, wanted, atol=1e-5)


@pytest.mark.parametrize(
    ("shape", "wrong", "told"),
    [
        ((8, 8, 1), [GroupNorm(2)], "does not fit an input"),
        ((8, 8, 1), [Residual(1)], "does not fit an input"),
        ((8, 8, 1), [Conv(1, 3, padding=1), Residual(2)], "does not fit an input"),
        ((8, 8, 1), [Conv(2, 3, padding=1), Residual(1)], "does not fit an input"),
        ((8, 8, 1), [Flatten(), AvgPool(2)], "does not fit an input"),
        ((8, 8, 1), [Flatten(), GlobalAvgPool()], "does not fit an input"),
        ((8, 8, 1), [AvgPool(9)], "has no output"),
        ((8, 8, 1), [Conv(1, 9, stride=2)], "has no output"),
    ],
)
def test_what_does_not_fit_is_named(shape, wrong, told):
    config = ModelConfig(
        input_shape=shape, layers=tuple(wrong), initializer=TINY.model.initializer
    )
    with pytest.raises(InputError, match=told):
        layer_rows(config)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Conv(1, 3, stride=0),
        lambda: Conv(1, 3, stride=1.5),
        lambda: AvgPool(0),
        lambda: GroupNorm(0),
        lambda: GroupNorm(1, eps=0.0),
        lambda: Residual(0),
        lambda: layers.avg_pool2d(jnp.zeros((2, 2, 1)), window=3),
        lambda: layers.conv2d(jnp.zeros((4, 4, 1)), jnp.zeros((1, 1, 1, 1)), stride=0),
    ],
)
def test_bad_values_are_refused(make):
    with pytest.raises(InputError):
        make()
