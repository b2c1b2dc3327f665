"""A batch is what it says, or is refused: alike under every strategy."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from forms import BATCH, PARAMS, mean_of_losses, returning
from strategy_table import DIVIDED

from cnnjax import devices
from cnnjax.base.errors import InputError
from cnnjax.laws.comparison import largest_error
from cnnjax.models.contract import check_params
from cnnjax.strategies import STRATEGIES, Options, make_strategy

pytestmark = pytest.mark.xdist_group("batches")  # its programs serve all tests
LOSS = returning(lambda loss, *_: loss)
NAMES = tuple(name for name in STRATEGIES if "factored" not in name)
SIZE = len(BATCH.weights)
NAN, INF = float("nan"), float("inf")


@functools.cache
def strategy_of(name):
    mesh = devices.make_mesh(3) if name in DIVIDED else None
    return make_strategy(name, LOSS, Options(mesh))


def value_and_grad(name, batch, *, put):
    """Take the gradient of a batch, after `put_batch` or of the arrays as they are."""
    strategy = strategy_of(name)
    batch = strategy.put_batch(batch) if put else batch
    return strategy.value_and_grad(strategy.put_state(PARAMS), batch)


def check_refused(batch, told):
    """Check that every strategy says this of a batch, in one line."""
    for name in NAMES:
        for put in (True, False):
            with pytest.raises(InputError) as caught:
                value_and_grad(name, batch, put=put)
            assert told in str(caught.value), (name, put, str(caught.value))
            assert "\n" not in str(caught.value)


def with_one(value):
    return np.r_[np.ones(SIZE - 1), value]


REFUSED = {
    "a column": (
        np.ones((SIZE, 1)),
        "weights of shape (12,): one per input, got (12, 1",
    ),
    "one for all": (np.ones(1), "weights of shape (12,): one per input, got (1,)"),
    "a scalar": (jnp.float32(1), "weights of shape (12,): one per input, got ()"),
    "too few": (np.ones(11), "weights of shape (12,): one per input, got (11,)"),
    "none": (None, "weights that are real numbers, got dtype('O')"),
    "words": (["1"] * SIZE, "weights that are real numbers, got dtype('<U1')"),
    "complex": (
        np.ones(SIZE) + 1j,
        "weights that are real numbers, got dtype('complex",
    ),
    "negative": (with_one(-1), "got -1.0 for example 11"),
    "adding up to 0": (np.r_[np.ones(6), -np.ones(6)], "got -1.0 for example 6"),
    "NaN": (with_one(NAN), "got nan for example 11"),
    "infinite": (with_one(INF), "got inf for example 11"),
    "above float32": (with_one(1e50), "got inf for example 11"),
    "below float32": (with_one(1e-44), "for example 11"),
    "denormal": (jnp.asarray(np.float32(with_one(1e-40))), "for example 11"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_weights_that_no_example_has_are_refused(what):
    weights, told = REFUSED[what]
    check_refused(BATCH._replace(weights=weights), told)


ACCEPTED = {
    "a list": [1.0] * 11 + [0.0],
    "truth values": np.arange(SIZE) < 7,
    "whole numbers": np.arange(SIZE),
    "beyond 32 bits": 2**32 * np.arange(SIZE),
    "near 2**40": 2**40 + np.arange(SIZE),
    "float64": np.linspace(0.5, 1.5, SIZE),
    "half": np.linspace(0.5, 1.5, SIZE).astype(np.float16),
    "the largest": np.full(SIZE, 3e38, np.float32),
    "the smallest": np.full(SIZE, 1.2e-38, np.float32),
    "far apart": np.r_[3e38, np.ones(SIZE - 1)].astype(np.float32),
}


@pytest.mark.parametrize("what", ACCEPTED)
def test_weights_of_any_type_and_unit_weigh_right(what):
    weights = ACCEPTED[what]
    scaled = np.asarray(weights, np.float64) / np.max(np.asarray(weights, np.float64))
    expected, exact = jax.value_and_grad(mean_of_losses)(PARAMS, jnp.float32(scaled))
    for name in NAMES:
        metrics, grads = value_and_grad(name, BATCH._replace(weights=weights), put=True)
        assert largest_error(grads, exact) <= 1e-5, name
        assert metrics.means["loss"] == pytest.approx(expected, rel=1e-5), name


@pytest.mark.parametrize("value", [-1.0, NAN, INF])
def test_weights_that_are_not_known_yet_make_everything_nan(value):
    """While it is traced, nothing can be refused; nor is it a gradient."""
    weights = jnp.asarray(with_one(value), jnp.float32)
    for name in NAMES:
        run = jax.jit(strategy_of(name).value_and_grad)
        metrics, grads = run(PARAMS, BATCH._replace(weights=weights))
        assert np.isnan(metrics.means["loss"]), name
        assert all(np.isnan(leaf).any() for leaf in jax.tree.leaves(grads)), name


PARTS = {
    "fewer labels": ({"labels": BATCH.labels[:-1]}, "labels of 12 examples"),
    "more labels": ({"labels": jnp.zeros(13, int)}, "labels of 12 examples"),
    "one label": ({"labels": jnp.int32(1)}, "labels of 12 examples"),
    "fewer keys": ({"keys": jax.random.split(jax.random.key(0), 11)}, "keys of 12"),
    "fewer inputs": ({"inputs": BATCH.inputs[:3]}, "weights of shape (3,)"),
    "no axis": ({"inputs": jnp.float32(1)}, "at least one example, got ()"),
    "nothing": (
        {"inputs": BATCH.inputs[:0], "labels": BATCH.labels[:0], "weights": np.ones(0)},
        "at least one example, got (0,)",
    ),
}


@pytest.mark.parametrize("what", PARTS)
def test_parts_of_other_lengths_are_refused(what):
    changes, told = PARTS[what]
    check_refused(BATCH._replace(**changes), told)


@pytest.mark.parametrize(
    ("leaf", "told"), [(jnp.arange(3), "int32"), (jnp.ones(3) * 1j, "complex64")]
)
def test_parameters_that_have_no_gradient_are_refused(leaf, told):
    told = rf"floating-point type, got {told} at params\['offset'\]"
    with pytest.raises(InputError, match=told):
        check_params({**PARAMS, "offset": leaf})
    check_params({**PARAMS, "offset": jnp.ones(3, jnp.bfloat16)})


def test_a_mesh_of_explicit_axes_is_refused():
    mesh = jax.make_mesh((3, 1), ("data", "model"), devices=jax.devices()[:3])
    for name in DIVIDED:
        with pytest.raises(InputError, match="with axes of AxisType.Auto"):
            make_strategy(name, LOSS, Options(mesh))
    with pytest.raises(InputError, match="a mesh of devices, made by"):
        make_strategy("sharded", LOSS, Options(mesh.abstract_mesh))
