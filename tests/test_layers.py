"""Convolution, pool and dense against plain loops; both lowerings; ties and NaNs."""

from __future__ import annotations

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

from cnnjax import models
from cnnjax.laws.comparison import TOLERANCES, largest_error
from cnnjax.models import layers
from cnnjax.models.initializers import PYTORCH
from cnnjax.models.stack import Activation, Dense, ModelConfig

CASES = [  # height, width, channels, kernel size, features, padding
    (8, 8, 1, 5, 3, 2),
    (7, 9, 3, 3, 4, 0),
    (5, 5, 2, 1, 2, 1),
    (4, 6, 2, 4, 3, 0),
]


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


def conv2d_loops(image, kernel, padding):
    """The definition, one multiplication at a time."""
    padded = np.pad(image, (*padding, (0, 0)))
    size, _, channels, features = kernel.shape
    height, width = padded.shape[0] - size + 1, padded.shape[1] - size + 1
    out = np.zeros((height, width, features))
    for y, x, f in np.ndindex(out.shape):
        for i, j, c in np.ndindex(size, size, channels):
            out[y, x, f] += padded[y + i, x + j, c] * kernel[i, j, c, f]
    return out


def conv2d_loops_gradients(image, kernel, cotangent, padding):
    """The transposed loops: where each product came from, its share goes back."""
    padded = np.pad(image, (*padding, (0, 0)))
    size, _, channels, _ = kernel.shape
    to_padded, to_kernel = np.zeros_like(padded), np.zeros_like(kernel)
    for y, x, f in np.ndindex(cotangent.shape):
        for i, j, c in np.ndindex(size, size, channels):
            to_padded[y + i, x + j, c] += cotangent[y, x, f] * kernel[i, j, c, f]
            to_kernel[i, j, c, f] += cotangent[y, x, f] * padded[y + i, x + j, c]
    (top, bottom), (left, right) = padding
    height, width = padded.shape[:2]
    return to_padded[top : height - bottom, left : width - right], to_kernel


@pytest.mark.parametrize(
    "conv2d", [layers.conv2d, layers.conv2d_im2col, layers.conv2d_xla]
)
@pytest.mark.parametrize("case", CASES)
def test_convolution_equals_the_loops(conv2d, case, rng):
    height, width, channels, size, features, pad = case
    padding = ((pad, pad), (pad, pad))
    image = rng.standard_normal((height, width, channels))
    kernel = rng.standard_normal((size, size, channels, features))
    out, pull = jax.vjp(functools.partial(conv2d, padding=padding), image, kernel)
    expected = conv2d_loops(image, kernel, padding)
    cotangent = rng.standard_normal(expected.shape)
    gradients = conv2d_loops_gradients(image, kernel, cotangent, padding)
    tolerance = TOLERANCES["float64"]
    assert largest_error(out, expected) <= tolerance
    assert largest_error(pull(jnp.asarray(cotangent)), gradients) <= tolerance


def test_the_loops_would_catch_a_flipped_kernel(rng):
    image, kernel = rng.standard_normal((6, 6, 1)), rng.standard_normal((3, 3, 1, 2))
    padding = ((0, 0), (0, 0))
    flipped = layers.conv2d(
        jnp.asarray(image), jnp.asarray(kernel[::-1, ::-1]), padding=padding
    )
    assert largest_error(flipped, conv2d_loops(image, kernel, padding)) > 0.1


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_both_lowerings_agree_on_a_batch(dtype, rng):
    images = rng.standard_normal((16, 12, 12, 5)).astype(dtype)
    kernel = rng.standard_normal((3, 3, 5, 7)).astype(dtype)

    def outputs(conv2d):
        def loss(kernel, images):
            out = jax.vmap(
                functools.partial(conv2d, padding=((1, 1), (1, 1))), in_axes=(0, None)
            )(images, kernel)
            return jnp.sum(jnp.sin(out)), out

        return jax.jit(jax.value_and_grad(loss, argnums=(0, 1), has_aux=True))(
            kernel, images
        )

    # The scalar is a sum with cancellation: only outputs and gradients are compared.
    (_, out), gradients = outputs(layers.conv2d_im2col)
    (_, expected_out), expected = outputs(layers.conv2d_xla)
    assert (
        largest_error((out, gradients), (expected_out, expected)) <= TOLERANCES[dtype]
    )


@pytest.mark.parametrize(
    ("platform", "operation", "absent"),
    [
        ("cpu", "dot_general", "stablehlo.convolution"),
        ("cuda", "stablehlo.convolution", "dot_general"),
        ("tpu", "stablehlo.convolution", "dot_general"),
    ],
)
def test_the_lowering_is_chosen_for_the_target(platform, operation, absent):
    """Exported from a CPU, for another machine, the program is that machine's."""
    image, kernel = jnp.zeros((8, 8, 2)), jnp.zeros((3, 3, 2, 4))
    module = export.export(jax.jit(layers.conv2d), platforms=[platform])(image, kernel)
    assert operation in module.mlir_module()
    assert absent not in module.mlir_module()


@pytest.mark.parametrize("platform", ["cpu", "cuda", "tpu"])
def test_the_pool_is_the_same_program_on_every_platform(platform):
    """No platform's own reduction can then send a tie elsewhere."""

    def gradient(image):
        pool = functools.partial(layers.max_pool2d, window=2)
        return jax.grad(lambda x: pool(x).sum())(image)

    module = export.export(jax.jit(gradient), platforms=[platform])(
        jnp.zeros((4, 4, 1))
    )
    assert "select_and_scatter" not in module.mlir_module()
    assert "reduce_window" not in module.mlir_module()
    assert "stablehlo.case" not in module.mlir_module()


def max_pool2d_loops(image, cotangent, window):
    """Take each block's first largest entry, NaN above all; send its share back."""
    height, width = image.shape[0] // window, image.shape[1] // window
    out = np.zeros((height, width, image.shape[2]))
    to_image = np.zeros_like(image)
    for y, x, c in np.ndindex(out.shape):
        best = None
        for i, j in np.ndindex(window, window):
            here = (window * y + i, window * x + j, c)
            if best is None or image[here] > image[best] or np.isnan(image[here]):
                best = here
        out[y, x, c] = image[best]
        to_image[best] += cotangent[y, x, c]
    return out, to_image


@pytest.mark.parametrize("shape", [(6, 6, 2), (13, 13, 3), (5, 8, 1)])
@pytest.mark.parametrize("window", [2, 3])
@pytest.mark.parametrize("values", [3, 10**9])  # three values make many ties
def test_pool_equals_the_loops(shape, window, values, rng):
    image = rng.integers(0, values, shape).astype(np.float64)
    out, pull = jax.vjp(functools.partial(layers.max_pool2d, window=window), image)
    cotangent = rng.standard_normal(out.shape)
    expected = max_pool2d_loops(image, cotangent, window)
    np.testing.assert_array_equal(out, expected[0])
    np.testing.assert_array_equal(pull(jnp.asarray(cotangent))[0], expected[1])


def tie_gradient(pool):
    return jax.grad(lambda x: pool(x).sum())(jnp.ones((2, 2, 1)))[..., 0]


def test_a_tie_sends_the_gradient_to_the_first():
    pool = functools.partial(layers.max_pool2d, window=2)
    np.testing.assert_array_equal(tie_gradient(pool), [[1, 0], [0, 0]])
    # The mutant: the obvious maximum shares the gradient out.
    shared = tie_gradient(lambda x: x.reshape(-1).max())
    np.testing.assert_array_equal(shared, [[0.25, 0.25], [0.25, 0.25]])


@pytest.mark.parametrize("position", [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_a_nan_stays_a_nan(position):
    image = jnp.arange(4.0).reshape(2, 2, 1).at[position].set(jnp.nan)
    assert jnp.isnan(layers.max_pool2d(image, window=2)).all()
    for conv2d in (layers.conv2d_im2col, layers.conv2d_xla):
        out = conv2d(image, jnp.ones((2, 2, 1, 1)), padding=((0, 0), (0, 0)))
        assert jnp.isnan(out).all()


def test_dense_equals_the_loops(rng):
    x, kernel, bias = (rng.standard_normal(shape) for shape in ((5,), (5, 3), (3,)))
    config = ModelConfig(
        input_shape=(5,),
        layers=(Dense(3),),
        initializer=PYTORCH,
        dtype="float64",
        param_dtype="float64",
    )
    apply = models.make_apply(config)
    out, pull = jax.vjp(
        lambda x, kernel, bias: apply({"dense_0": {"kernel": kernel, "bias": bias}}, x),
        *map(jnp.asarray, (x, kernel, bias)),
    )
    expected = bias.copy()
    for i, j in np.ndindex(kernel.shape):
        expected[j] += x[i] * kernel[i, j]
    cotangent = rng.standard_normal(3)
    to_x, to_kernel = np.zeros(5), np.zeros((5, 3))
    for i, j in np.ndindex(kernel.shape):
        to_x[i] += cotangent[j] * kernel[i, j]
        to_kernel[i, j] = cotangent[j] * x[i]
    gradients = pull(jnp.asarray(cotangent))
    expected = (expected, (to_x, to_kernel, cotangent))
    assert largest_error((out, gradients), expected) <= TOLERANCES["float64"]


@pytest.mark.parametrize("name", layers.ACTIVATIONS)
def test_activation_gradients_equal_finite_differences(name):
    x = jnp.asarray([-2.0, -0.3, 0.2, 1.5])
    function = layers.ACTIVATIONS[name]
    slope = jax.vmap(jax.grad(function))(x)
    step = 1e-6
    differences = (function(x + step) - function(x - step)) / (2 * step)
    np.testing.assert_allclose(slope, differences, rtol=1e-8, atol=1e-9)


NAN, INF = float("nan"), float("inf")
# Where no finite difference says what is meant: {name: (x, value, derivative)}.
AT_THE_EDGE = {
    "relu": [
        (0.0, 0.0, 0.0),
        (-0.0, 0.0, 0.0),
        (1e-30, 1e-30, 1.0),
        (-1e-30, 0.0, 0.0),
        (30.0, 30.0, 1.0),
        (INF, INF, 1.0),
        (-INF, 0.0, 0.0),
        (NAN, NAN, None),
    ],
    "leaky_relu": [
        (0.0, 0.0, 0.001),
        (-0.0, 0.0, 0.001),
        (1e-30, 1e-30, 1.0),
        (-1e-30, -1e-33, 0.001),
        (30.0, 30.0, 1.0),
        (INF, INF, 1.0),
        (-INF, -INF, 0.001),
        (NAN, NAN, None),
    ],
    "tanh": [
        (0.0, 0.0, 1.0),
        (-0.0, 0.0, 1.0),
        (1e-30, 1e-30, 1.0),
        (-1e-30, -1e-30, 1.0),
        (9.0, np.tanh(9.0), 1 / np.cosh(9.0) ** 2),
        (INF, 1.0, 0.0),
        (-INF, -1.0, 0.0),
        (NAN, NAN, None),
    ],
}


def of_a_network(name):
    """Return the activation as a network applies it, to rows of one entry."""
    config = ModelConfig(
        input_shape=(1,),
        layers=(Activation(name),),
        initializer=PYTORCH,
        dtype="float64",
        param_dtype="float64",
    )
    return lambda x: models.make_apply(config)({}, x[None])[0]


@pytest.mark.parametrize("form", ["alone", "jit", "network", "float32", "bfloat16"])
@pytest.mark.parametrize("name", AT_THE_EDGE)
def test_activations_at_the_edge_are_as_documented(name, form):
    """At 0 above all, where black images and biases of zero put whole layers."""
    function = of_a_network(name) if form == "network" else layers.ACTIVATIONS[name]
    both = jax.vmap(jax.value_and_grad(function))
    narrow = form in ("float32", "bfloat16")
    x, values, slopes = zip(*AT_THE_EDGE[name], strict=True)
    given = jnp.asarray(x, form if narrow else "float64")
    got = (jax.jit(both) if form == "jit" else both)(given)
    rtol = 0.01 if form == "bfloat16" else 1e-6
    atol = 1e-6 if narrow else 1e-14  # 1 - tanh^2 has no digits left beyond 9
    for value, expected in zip(np.asarray(got[0], float), values, strict=True):
        np.testing.assert_allclose(value, expected, rtol=rtol, atol=1e-36)
    for slope, expected in zip(np.asarray(got[1], float), slopes, strict=True):
        if expected is not None:
            np.testing.assert_allclose(slope, expected, rtol=rtol, atol=atol)


@pytest.mark.parametrize("name", layers.ACTIVATIONS)
def test_activations_are_the_same_program_on_every_platform(name):
    both = jax.jit(jax.vmap(jax.value_and_grad(layers.ACTIVATIONS[name])))
    modules = {
        export.export(both, platforms=[platform])(jnp.zeros(8)).mlir_module()
        for platform in ("cpu", "cuda", "tpu")
    }
    operations = {tuple(re.findall(r"stablehlo\.\w+", text)) for text in modules}
    assert len(operations) == 1


def test_every_activation_says_what_it_does_at_the_edge():
    assert AT_THE_EDGE.keys() == layers.ACTIVATIONS.keys()


def test_leaky_relu_has_the_published_slope():
    np.testing.assert_allclose(
        layers.ACTIVATIONS["leaky_relu"](jnp.array(-2.0)), -0.002
    )
