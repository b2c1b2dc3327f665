"""Norms, clipping and rows of each example's gradient: by rows, and without them."""

from __future__ import annotations

import functools
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from batches import TINY, distinct_weights, experiment_of, jitted_serial, make_batch

from cnnjax import devices
from cnnjax.base.errors import InputError
from cnnjax.experiments.recipes import RECIPES
from cnnjax.faults import corrupted_routes, get_fault
from cnnjax.gradients import factored, factors, reductions, rules
from cnnjax.gradients.microbatches import microbatched
from cnnjax.gradients.objective import Objective
from cnnjax.gradients.shares import (
    batch_share,
    each_over,
    value_and_grad_of,
    with_per_example,
)
from cnnjax.laws.comparison import TOLERANCES, largest_error
from cnnjax.models import layers
from cnnjax.models.stack import Conv, Dense, Flatten, MaxPool
from cnnjax.strategies import STRATEGIES, Options
from cnnjax.types import Batch

pytestmark = pytest.mark.xdist_group("per_example")
MAX_NORM = 1.9  # between the norms of the examples: some are clipped, some are not


@functools.cache
def tiny_experiment(precision):
    with jax.enable_x64(precision == "float64"):
        return experiment_of(TINY, precision=precision)


def share_of(route, name, experiment, max_norm=MAX_NORM):
    rule = rules.serial if route == "serial" else rules.ROUTES[route]
    return rule(experiment.objective, reductions.REDUCTIONS[name](max_norm))


def examine(share, experiment, batch):
    return jax.jit(with_per_example(share))(experiment.params, batch)


def short_batch(experiment):
    """Return 13 examples of unequal weights, the last three padding."""
    batch = make_batch(experiment, 13, padding=3)
    return batch._replace(weights=batch.weights * distinct_weights(13))


def full_batch(experiment):
    """Return 16 examples of unequal weights."""
    return make_batch(experiment, 16)._replace(weights=distinct_weights(16))


@functools.cache
def found(route, name, precision="float32", *, batch_of=short_batch):
    """Return what a route says of the tiny network."""
    tiny = tiny_experiment(precision)
    return examine(share_of(route, name, tiny), tiny, batch_of(tiny))


@pytest.mark.parametrize(
    ("precision", "microbatch_size"),
    [
        ("float32", None),
        ("float32", 5),
        pytest.param("float64", None, marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("name", ["norms", "clipped", "full"])
@pytest.mark.parametrize("route", ["rows", "factors"])
def test_each_route_equals_the_serial_reference(
    route, name, microbatch_size, precision
):
    with jax.enable_x64(precision == "float64"):
        tiny = tiny_experiment(precision)
        share = share_of(route, name, tiny)
        if microbatch_size is not None:
            share = microbatched(share, size=microbatch_size)
        actual = examine(share, tiny, short_batch(tiny))
        error = largest_error(actual, found("serial", name, precision))
        assert error <= TOLERANCES[precision]


# The second convolution has few positions and a large kernel.
FEW_POSITIONS = replace(
    TINY,
    model=replace(
        TINY.model,
        layers=(
            Conv(8, kernel_size=3, padding=1),
            MaxPool(2),
            Conv(32, kernel_size=3),
            Flatten(),
            Dense(3),
        ),
    ),
)


@pytest.mark.parametrize(
    "recipe",
    [
        "few_positions",
        "sgd_dropout_cnn",
        "tanh_mlp_housing_wide",
        # Of the same kinds of layers.
        pytest.param("adam_cosine_cnn", marks=pytest.mark.slow),
        pytest.param("momentum_mlp_serial", marks=pytest.mark.slow),
        pytest.param("tanh_mlp_cifar10_deep", marks=pytest.mark.slow),
    ],
)
def test_every_kind_of_network_can_do_without_rows(recipe):
    recipes = {"few_positions": FEW_POSITIONS, **RECIPES}
    experiment = experiment_of(recipes[recipe], batch_size=6)
    batch = make_batch(experiment, 6, padding=1)
    shares = [share_of(route, "clipped", experiment) for route in ("factors", "serial")]
    actual, expected = (examine(share, experiment, batch) for share in shares)
    assert largest_error(actual, expected) <= 1e-5


@pytest.mark.parametrize("route", ["rows", "factors"])
def test_the_mean_of_the_rows_is_the_batch_gradient(route):
    tiny = tiny_experiment("float32")
    batch = full_batch(tiny)
    _, _, each = found(route, "full", batch_of=full_batch)
    mean = jax.tree.map(
        lambda rows: np.average(rows, axis=0, weights=batch.weights).astype(rows.dtype),
        each["grads"],
    )
    _, expected = jitted_serial(tiny.loss_fn)(tiny.params, batch)
    assert largest_error(mean, expected) <= 1e-5


@pytest.mark.parametrize("route", ["serial", "rows", "factors"])
def test_norms_and_clipping_are_what_numpy_says(route):
    batch = full_batch(tiny_experiment("float32"))
    _, _, rows = found("rows", "full", batch_of=full_batch)
    flat = np.concatenate(
        [np.reshape(leaf, (16, -1)) for leaf in jax.tree.leaves(rows["grads"])], axis=1
    )
    norms = np.linalg.norm(flat, axis=1)
    assert norms.min() < MAX_NORM < norms.max()
    shortened = flat * np.minimum(1, MAX_NORM / norms)[:, None]
    expected = np.average(shortened, axis=0, weights=batch.weights)
    metrics, grads, each = found(route, "clipped", batch_of=full_batch)
    got = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(grads)])
    np.testing.assert_allclose(each["grad_norm"], norms, rtol=1e-5)
    np.testing.assert_allclose(got, expected, atol=1e-5 * np.abs(expected).max())
    mean_norm = np.average(norms, weights=batch.weights)
    assert metrics.means["grad_norm"] == pytest.approx(mean_norm, rel=1e-5)


@pytest.mark.parametrize("name", ["norms", "clipped"])
def test_without_rows_memory_is_that_of_the_batch_gradient(name):
    """By XLA's own analysis; with rows it is more than ten times as much."""
    experiment = experiment_of(RECIPES["adam_cosine_cnn"], batch_size=128)
    batch = make_batch(experiment, 128)

    def temporary_bytes(share):
        program = (
            jax.jit(value_and_grad_of(share)).lower(experiment.params, batch).compile()
        )
        return program.memory_analysis().temp_size_in_bytes

    allowed = 1.5 * temporary_bytes(batch_share(experiment.loss_fn))
    assert temporary_bytes(share_of("factors", name, experiment)) <= allowed
    assert temporary_bytes(share_of("rows", name, experiment)) > allowed


@pytest.mark.parametrize("route", ["rows", "factors"])
def test_clipping_the_mean_is_caught(route):
    tiny = tiny_experiment("float32")
    fault = get_fault("clip_after_the_mean")
    rule = corrupted_routes([fault])[route]
    share = rule(tiny.objective, reductions.clipped(MAX_NORM))
    _, wrong, _ = examine(share, tiny, short_batch(tiny))
    _, expected, _ = found("serial", "clipped")
    assert largest_error(wrong, expected) > 0.01


@pytest.mark.parametrize(
    "device_map",
    [devices.over_shard_map, devices.over_pmap],
    ids=lambda f: f.__name__,
)
@pytest.mark.parametrize("route", ["rows", "factors"])
def test_clipping_goes_over_devices(route, device_map):
    tiny = tiny_experiment("float32")
    mesh = devices.make_mesh(4)
    batch = short_batch(tiny)
    _, expected, _ = found("serial", "clipped")
    run = jax.jit(device_map(share_of(route, "clipped", tiny), mesh))
    params = devices.replicate(mesh)(tiny.params)
    _, grads = run(params, devices.split(mesh)(batch))
    assert largest_error(grads, expected) <= 1e-5


def test_the_factored_mean_goes_over_devices():
    tiny = tiny_experiment("float32")
    mesh = devices.make_mesh(4)
    batch = short_batch(tiny)
    expected = jitted_serial(tiny.loss_fn)(tiny.params, batch)
    share = rules.factored(tiny.objective)
    run = jax.jit(devices.over_shard_map(share, mesh))
    found_there = run(devices.replicate(mesh)(tiny.params), devices.split(mesh)(batch))
    assert largest_error(found_there, expected) <= 1e-5


def test_a_sum_of_bfloat16_is_not_rounded_before_its_end():
    rng = np.random.default_rng(0)
    shape = (3, 2, 40)
    both = factors.Factors(*(jnp.asarray(rng.standard_normal(shape), "bfloat16"),) * 2)
    coefficients = np.array([1 / 3, 0, -0.7], np.float32)
    _, bias = factors.weighted_sum(both, jnp.asarray(coefficients))
    cotangents = np.asarray(both.cotangents, np.float32)
    expected = np.einsum("b,bpf->f", coefficients, cotangents)
    np.testing.assert_allclose(bias, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["factored", "factored_norms", "shard_map_factored"])
def test_factors_are_asked_for(name):
    expected = r"expected Objective\(loss_fn, factors_fn=.* 'jit' for the mean, 'vmap'"
    tiny = tiny_experiment("float32")
    strategy = STRATEGIES[name](tiny.objective.loss_fn)
    with pytest.raises(InputError, match=expected):
        jax.eval_shape(strategy.value_and_grad, tiny.params, short_batch(tiny))


@pytest.mark.parametrize("reduction", [*reductions.REDUCTIONS.values()])
def test_the_batch_at_once_has_no_gradient_of_an_example(reduction):
    with pytest.raises(InputError, match="forms no per-example gradients, got one"):
        rules.batch(Objective(lambda *_: None), reduction(1.0))


def test_factors_cannot_do_what_changes_more_than_the_length():
    own = reductions.Reduction(lambda grads: reductions.Reduced(grads, {}, {}))
    with pytest.raises(InputError, match="the rule factored cannot do; use 'vmap'"):
        rules.factored(tiny_experiment("float32").objective, own)


@pytest.mark.parametrize("name", ["vmap", "factored", "shard_map_vmap", "pmap_vmap"])
def test_a_reduction_goes_with_every_rule_that_forms_gradients(name):
    tiny = tiny_experiment("float32")
    options = Options(devices.make_mesh(4), reduction=reductions.clipped(MAX_NORM))
    strategy = STRATEGIES[name](tiny.objective, options)
    placed = strategy.put_state(tiny.params), strategy.put_batch(short_batch(tiny))
    metrics, grads = jax.jit(strategy.value_and_grad)(*placed)
    expected_metrics, expected, _ = found("serial", "clipped")
    assert largest_error(grads, expected) <= 1e-5
    assert largest_error(metrics.means, expected_metrics.means) <= 1e-5


def test_a_gradient_of_zero_stays_and_a_nan_is_told():
    norms = jnp.array([0.0, 0.5, 2.0, jnp.inf, jnp.nan])
    factor = reductions.clip_factor(norms, max_norm=1.0)
    np.testing.assert_array_equal(factor, [1.0, 1.0, 0.5, 0.0, np.nan])


@pytest.mark.parametrize("max_norm", [0.0, -1.0, float("nan"), 1e-46, 1e-13])
def test_a_norm_to_clip_to_is_above_what_squares_lose(max_norm):
    with pytest.raises(InputError, match="expected max_norm of at least 1e-12"):
        reductions.clipped(max_norm)


@pytest.mark.parametrize(
    ("positions", "form"),
    [(1, factors.Factors), (2, factors.LayerGradients), (9, factors.LayerGradients)],
)
def test_what_is_not_formed_has_one_position(positions, form):
    rng = np.random.default_rng(0)
    inputs = rng.standard_normal((3, positions, 5)).astype(np.float32)
    cotangents = rng.standard_normal((3, positions, 7)).astype(np.float32)
    kernels = np.einsum("bpi,bpf->bif", inputs, cotangents)
    expected = (kernels**2).sum((1, 2)) + (cotangents.sum(1) ** 2).sum(1)
    both = factors.Factors(jnp.asarray(inputs), jnp.asarray(cotangents))
    added_up = factors.added_up(both)
    assert type(added_up) is form
    coefficients = jnp.array([0.5, 0.0, -2.0])
    sums = (
        np.einsum("b,bif->if", coefficients, kernels),
        np.einsum("b,bpf->f", coefficients, cotangents),
    )
    for gradients in (added_up, factors.layer_gradients(both)):
        norms = factors.squared_norms(gradients)
        np.testing.assert_allclose(norms, expected, rtol=1e-5)
    for gradients in (added_up, both, factors.layer_gradients(both)):
        found_sums = factors.weighted_sum(gradients, coefficients)
        for one, right in zip(found_sums, sums, strict=True):
            assert largest_error(one, right) <= 1e-5


# Factors of 8 examples, 4 positions, 40 inputs and 24 features. Gradients are longer
# than a max_norm of 1, so that each is clipped.
def _flat(rng):
    return np.broadcast_to(rng.random((8, 1, 40)) + 0.5, (8, 4, 40))


def _cancelling(rng, to):
    cotangents = 1e3 * rng.standard_normal((8, 4, 24))
    left = to * rng.standard_normal((8, 4, 24))
    return cotangents - cotangents.mean(axis=1, keepdims=True) + left


ADVERSE = {
    "nothing cancels": lambda rng: (
        rng.standard_normal((8, 4, 40)),
        rng.standard_normal((8, 4, 24)),
    ),
    **{
        f"flat images, cancelled to {to:g}": lambda rng, to=to: (
            _flat(rng),
            _cancelling(rng, to),
        )
        for to in (0, 0.01, 0.1, 1, 10)
    },
    "nearly flat images": lambda rng: (
        _flat(rng) + 1e-4 * rng.standard_normal((8, 4, 40)),
        _cancelling(rng, 0.1),
    ),
    "inputs cancel": lambda rng: (
        _cancelling(rng, 0.1).repeat(2, axis=2)[:, :, :40],
        np.broadcast_to(rng.standard_normal((8, 1, 24)), (8, 4, 24)),
    ),
    "opposite pairs": lambda rng: (
        _flat(rng),
        1e4 * np.array([1, -1, 1, -1 + 1e-6])[:, None] * rng.random((8, 1, 24)),
    ),
}


@functools.cache
def clip_each_alone():
    """Return what is added for each example, at weight 0.7 of 2.9, and its norm."""

    def one(inputs, cotangents):
        both = {"layer": factors.Factors(inputs[None], cotangents[None])}
        share = factored.scaled_share(
            lambda *_: ({"loss": jnp.zeros(1)}, both), reductions.clipped(1.0).factor_of
        )
        shape = (inputs.shape[1], cotangents.shape[1])
        params = {"layer": {"kernel": jnp.zeros(shape), "bias": jnp.zeros(shape[1])}}
        batch = Batch(None, None, jnp.full(1, 0.7), None)
        _, grads, each = share(params, batch, jnp.float32(2.9))
        return grads, each["grad_norm"][0]

    return jax.jit(jax.vmap(one))


def lengths(tree):
    """Return the norm of each example's part of a tree, by float64."""
    leaves = [np.asarray(leaf, np.float64) for leaf in jax.tree.leaves(tree)]
    return np.sqrt(sum((leaf**2).reshape(len(leaf), -1).sum(1) for leaf in leaves))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", ADVERSE)
def test_no_gradient_gets_past_its_clipping_where_terms_cancel(name, dtype):
    made = ADVERSE[name](np.random.default_rng(0))
    inputs, cotangents = (jnp.asarray(np.float32(a), dtype) for a in made)
    added, norms = clip_each_alone()(inputs, cotangents)
    assert np.max(lengths(added)) <= 0.7 / 2.9 * (1 + 1e-6)
    x, d = (np.asarray(a, np.float64) for a in (inputs, cotangents))
    true = lengths((np.einsum("bpi,bpf->bif", x, d), d.sum(1)))
    terms = lengths((np.einsum("bpi,bpf->bif", abs(x), abs(d)), abs(d).sum(1)))
    assert np.max(np.abs(norms - true) / terms) <= 1e-6
    clipped = true > 1.01 + 1e-6 * terms
    np.testing.assert_allclose(lengths(added)[clipped], 0.7 / 2.9, rtol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    ("of_inputs", "of_cotangents", "in_range"),
    [
        (1e25, 1e-25, True),
        (1e-25, 1e15, True),
        (1e15, 1e-20, True),
        (1e30, 0, True),
        (0, 1e12, True),
        (1e-30, 1e-30, True),
        (1e12, 1e12, False),
        (1e37, 1e30, False),
    ],
)
def test_what_is_far_out_of_range_is_never_nan_or_too_long(
    of_inputs, of_cotangents, in_range, dtype
):
    rng = np.random.default_rng(0)
    inputs = of_inputs * rng.random((8, 1, 40))
    cotangents = of_cotangents * rng.standard_normal((8, 1, 24))
    x, d = (jnp.asarray(np.float32(a), dtype) for a in (inputs, cotangents))
    added, norms = clip_each_alone()(x, d)
    assert np.max(lengths(added)) <= 0.7 / 2.9 * (1 + 1e-6)
    x, d = (np.asarray(a, np.float64) for a in (x, d))
    true = lengths((np.einsum("bpi,bpf->bif", x, d), d.sum(1)))
    expected = true if in_range else np.inf  # told, not wrong: nothing of it is added
    np.testing.assert_allclose(norms, expected, rtol=1e-5, atol=1e-17)


# One convolution of flat images has the same patch at each of 4 positions, and the last
# layer hands back cotangents that nearly cancel over them.
ONE_CONVOLUTION = replace(
    TINY,
    model=replace(TINY.model, layers=(Conv(32, kernel_size=7), Flatten(), Dense(3))),
)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("route", ["serial", "rows", "factors"])
def test_no_route_lets_flat_images_past_their_clipping(route, precision):
    experiment = experiment_of(ONE_CONVOLUTION, precision=precision, batch_size=8)
    kernel = 1e3 * experiment.params["dense_2"]["kernel"].reshape(4, 32, 3)
    kernel = (kernel - kernel.mean(axis=0, keepdims=True)).reshape(128, 3)
    dense = {**experiment.params["dense_2"], "kernel": kernel}
    params = {**experiment.params, "dense_2": dense}
    batch = make_batch(experiment, 8)
    shades = jnp.linspace(60, 255, 8).astype(batch.inputs.dtype)[:, None, None, None]
    batch = batch._replace(inputs=jnp.broadcast_to(shades, batch.inputs.shape))
    share = share_of(route, "clipped", experiment, max_norm=1e-2)

    def alone(example):
        of_one = jax.tree.map(lambda a: a[None], example)
        return share(params, of_one, jnp.float32(1)).grads

    added = lengths(jax.jit(jax.vmap(alone))(batch))
    np.testing.assert_allclose(added, 1e-2, rtol=1e-6)


def test_rounding_to_bfloat16_makes_no_clipped_gradient_longer():
    rng = np.random.default_rng(0)
    grads = {"kernel": jnp.asarray(rng.standard_normal((64, 50, 3)), "bfloat16")}
    shortened = jax.vmap(reductions.clipped(1.0))(grads).grads
    np.testing.assert_allclose(lengths(shortened), 1, rtol=1e-6)


def test_patches_are_ordered_as_a_kernel_is():
    rng = np.random.default_rng(0)
    image = jnp.asarray(rng.standard_normal((6, 5, 2)).astype(np.float32))
    kernel = jnp.asarray(rng.standard_normal((3, 2, 2, 4)).astype(np.float32))
    padding = ((1, 0), (0, 2))
    rows, grid = layers.patches(image, kernel_size=(3, 2), padding=padding)
    expected = layers.conv2d_xla(image, kernel, padding=padding)
    assert grid == expected.shape[:2]
    products = (rows @ kernel.reshape(-1, 4)).reshape(expected.shape)
    assert largest_error(products, expected) <= 1e-5


@pytest.mark.parametrize("route", ["rows", "factors"])
def test_rows_are_written_over_those_of_an_earlier_batch(route):
    tiny = tiny_experiment("float32")
    share = share_of(route, "full", tiny)
    batch = short_batch(tiny)
    other = batch._replace(inputs=batch.inputs[::-1])
    _, _, old = examine(share, tiny, other)
    each = each_over(share)(tiny.params, batch, old)
    assert largest_error(each, found("serial", "full")[2]) <= 1e-5
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(old))
