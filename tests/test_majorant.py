"""Derivatives that do not cancel: the same values, terms added, all else as it is."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax.laws.majorant import without_cancelling

X = jnp.array([-20.0, -1.5, 0.0, 0.3, 2.0, 9.0])
Y = np.tanh(np.asarray(X, np.float64))
S = 1 / (1 + np.exp(-np.asarray(X, np.float64)))
CANCELLING = {
    "tanh": (jnp.tanh, 1 + Y**2),
    "lax.tanh": (jax.lax.tanh, 1 + Y**2),
    "flax": (nn.tanh, 1 + Y**2),
    "compiled": (jax.jit(jax.jit(jnp.tanh)), 1 + Y**2),
    "sigmoid": (jax.nn.sigmoid, S * (1 + S)),
    "both": (lambda x: jnp.tanh(x) + 3 * nn.sigmoid(x), 1 + Y**2 + 3 * S * (1 + S)),
}
OTHERS = {
    "relu": jax.nn.relu,  # has a derivative of its own, 0 at 0
    "softplus": jax.nn.softplus,
    "loop": lambda x: jax.lax.fori_loop(0, 3, lambda _, v: v * x, x),
    "branch": lambda x: jax.lax.cond(x > 0, jnp.sin, jnp.cos, x),
    "log softmax": lambda x: jax.nn.log_softmax(jnp.stack([x, 0.5 * x]))[0],
}


@pytest.mark.parametrize("name", [*CANCELLING, *OTHERS])
def test_values_stay_as_they_are(name):
    fn = CANCELLING[name][0] if name in CANCELLING else OTHERS[name]
    np.testing.assert_array_equal(jax.vmap(without_cancelling(fn))(X), jax.vmap(fn)(X))


@pytest.mark.parametrize("name", CANCELLING)
def test_terms_are_added(name):
    fn, expected = CANCELLING[name]
    slopes = jax.vmap(jax.grad(without_cancelling(fn)))(X)
    np.testing.assert_allclose(slopes, expected, rtol=1e-6)


@pytest.mark.parametrize("name", OTHERS)
def test_other_derivatives_stay_as_they_are(name):
    fn = OTHERS[name]
    slopes = jax.vmap(jax.grad(without_cancelling(fn)))(X)
    np.testing.assert_array_equal(slopes, jax.vmap(jax.grad(fn))(X))


def test_trees_go_in_and_come_out():
    def fn(params, key):
        return jnp.tanh(params["w"]), {"twice": 2 * params["w"], "key": key}

    value, others = without_cancelling(fn)({"w": jnp.float32(3)}, None)
    assert value == jnp.tanh(jnp.float32(3))
    assert others == {"twice": 6, "key": None}
