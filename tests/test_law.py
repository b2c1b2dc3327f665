"""The law itself: its reference, its bound, and what breaks it."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from batches import TINY, distinct_weights, experiment_of, make_batch
from forms import BATCH, PARAMS, cross_entropy, returning

from cnnjax.gradients.shares import serial_value_and_grad
from cnnjax.laws import law
from cnnjax.laws.comparison import TOLERANCES, largest_error
from cnnjax.laws.excess import excess
from cnnjax.laws.law import make_exact
from cnnjax.strategies import STRATEGIES
from cnnjax.types import Batch, Metrics

pytestmark = pytest.mark.xdist_group("law")
LOSS = returning(lambda loss, *_: loss)
RULES = ("jit", "vmap", "factored")
INF, NAN = float("inf"), float("nan")


@functools.cache
def tiny(dtype):
    experiment = experiment_of(TINY, precision=dtype)
    batch = make_batch(experiment, 16, padding=3)
    batch = batch._replace(weights=batch.weights * distinct_weights(16))
    forms = {
        name: jax.jit(
            STRATEGIES[name](experiment.objective, experiment.options).value_and_grad
        )
        for name in RULES
    }
    return experiment, batch, forms, make_exact(experiment.loss_fn, dtype=dtype)


@functools.cache
def parameters(dtype):
    """As drawn; random; trained on the batch; converged; far beyond."""
    experiment, batch, forms, _ = tiny(dtype)
    leaves, tree = jax.tree.flatten(experiment.params)
    keys = jax.random.split(jax.random.key(1), len(leaves))
    drawn = [
        0.5 * jax.random.normal(key, leaf.shape)
        for key, leaf in zip(keys, leaves, strict=True)
    ]
    found = {"initial": experiment.params, "random": jax.tree.unflatten(tree, drawn)}

    @functools.partial(jax.jit, static_argnums=1)
    def train(params, updates):
        def update(_, params):
            grads = forms["jit"](params, batch)[1]
            return jax.tree.map(lambda p, g: p - 0.2 * g, params, grads)

        return jax.lax.fori_loop(0, updates, update, params)

    found["trained"] = train(experiment.params, 60)
    found["converged"] = train(found["trained"], 1500)
    found["saturated"] = jax.tree.map(lambda p: 3 * p, found["converged"])
    return found


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_right_rules_obey_for_all_parameters(dtype):
    _, batch, forms, exact_fn = tiny(dtype)
    for kind, params in parameters(dtype).items():
        exact = exact_fn(params, batch)
        for name, value_and_grad in forms.items():
            metrics, grads = value_and_grad(params, batch)
            assert max(excess(metrics, grads, exact)) < 0.5, (kind, name)


def test_an_error_against_the_sum_alone_would_condemn_right_rules():
    experiment, batch, forms, _ = tiny("float32")
    params = parameters("float32")["converged"]
    serial = jax.jit(serial_value_and_grad(experiment.loss_fn))(params, batch)[1]
    errors = [largest_error(f(params, batch)[1], serial) for f in forms.values()]
    assert max(errors) > TOLERANCES["float32"]


@pytest.mark.parametrize(
    ("dtype", "factor"), [("float32", 1.001), ("bfloat16", 2.0), ("float32", -1.0)]
)
def test_a_wrong_scale_breaks_it(dtype, factor):
    _, batch, forms, exact_fn = tiny(dtype)
    for kind in ("initial", "random"):
        params = parameters(dtype)[kind]
        metrics, grads = forms["jit"](params, batch)
        wrong = jax.tree.map(lambda g: g * factor, grads)
        assert excess(metrics, wrong, exact_fn(params, batch)).grads > 5, kind


def exact_of_batch():
    metrics, grads = jax.jit(serial_value_and_grad(LOSS))(PARAMS, BATCH)
    return metrics, grads, make_exact(LOSS, dtype="float32")(PARAMS, BATCH)


def test_the_reference_is_the_mean_of_the_examples_gradients():
    *_, exact = exact_of_batch()
    each = jax.vmap(jax.grad(cross_entropy), (None, 0, 0))(PARAMS, *BATCH[:2])
    weights = np.asarray(BATCH.weights, np.float64)
    mean = jax.tree.map(
        lambda g: np.average(np.asarray(g, np.float64), axis=0, weights=weights), each
    )
    # The fractions w_i / n are rounded, once each; the sum is not.
    assert largest_error(exact.values[1], mean) <= 2e-7


def test_the_reference_loses_nothing_while_it_adds_up():
    """A million, and a thousand ones that float32 cannot add to it one by one."""
    size = 1024
    values = np.full((size, 1), 2.0**-6, np.float32)
    values[0] = 2.0**20
    batch = BATCH._replace(
        inputs=jnp.asarray(values),
        labels=jnp.zeros(size, jnp.int32),
        weights=jnp.ones(size),
    )

    def loss_fn(params, example, label, key):
        del label, key
        return params["p"] * example[0]

    params = {"p": jnp.float32(1.0)}
    exact = make_exact(loss_fn, dtype="float32")(params, batch)
    expected = values.astype(np.float64).sum() / size
    assert exact.values[1]["p"] == expected
    _, plain = jax.jit(serial_value_and_grad(loss_fn))(params, batch)
    assert plain["p"] != expected


BROKEN = {
    "a NaN": lambda m, g: (m, {"head": {**g["head"], "bias": jnp.full(3, NAN)}}),
    "an infinity": lambda m, g: (m, {"head": {**g["head"], "bias": jnp.full(3, INF)}}),
    "another shape": lambda m, g: (m, {"head": {**g["head"], "bias": jnp.zeros(4)}}),
    "a leaf less": lambda m, g: (m, {"head": {"kernel": g["head"]["kernel"]}}),
    "no gradient": lambda m, g: (m, {}),
    "a metric more": lambda m, g: (Metrics({**m.means, "x": m.weight}, m.weight), g),
    "no loss": lambda m, g: (Metrics({}, m.weight), g),
    "a loss of NaN": lambda m, g: (Metrics({"loss": jnp.float32(NAN)}, m.weight), g),
}


@pytest.mark.parametrize("what", BROKEN)
def test_what_is_of_another_kind_is_infinitely_wrong(what):
    metrics, grads, exact = exact_of_batch()
    assert max(excess(metrics, grads, exact)) < 1
    wrong_metrics, wrong_grads = BROKEN[what](metrics, grads)
    assert max(excess(wrong_metrics, wrong_grads, exact)) == INF


def test_a_diverged_batch_is_equal_to_itself_alone():
    batch = BATCH._replace(inputs=BATCH.inputs.at[0, 0].set(NAN))
    exact = make_exact(LOSS, dtype="float32")(PARAMS, batch)
    metrics, grads = jax.jit(serial_value_and_grad(LOSS))(PARAMS, batch)
    assert max(excess(metrics, grads, exact)) <= 1
    fine, fine_grads, _ = exact_of_batch()
    assert max(excess(fine, fine_grads, exact)) == INF


def squared_error(activation):
    return lambda params, x, y, key: jnp.square(activation(params["w"] * x) - y)


# The same function, of which a saturated unit is rounded in another way.
FORMS = {
    "tanh": (jnp.tanh, lambda v: 1 - 2 / (jnp.exp(2 * v) + 1)),
    "logistic": (jax.nn.sigmoid, lambda v: 1 / (1 + jnp.exp(-v))),
}


def excess_of_forms(name):
    first, second = map(squared_error, FORMS[name])
    x = jnp.linspace(12, 15, 6)
    batch = Batch(x, jnp.linspace(-1, 0.9, 6), jnp.ones(6), None)
    params = {"w": jnp.float32(1.5)}
    exact = make_exact(first, dtype="float32")(params, batch)
    return excess(*serial_value_and_grad(second)(params, batch), exact).grads


@pytest.mark.parametrize("name", FORMS)
def test_a_saturated_unit_may_be_rounded_in_another_way(name):
    assert excess_of_forms(name) < 1


def test_against_derivatives_that_cancel_it_could_not(monkeypatch):
    monkeypatch.setattr(law, "without_cancelling", lambda fn: fn)
    assert excess_of_forms("tanh") > 1e3


def linear(params, inputs, label, key):
    """A unit that adds up one product after another, and a logistic loss."""
    del key
    products = jax.lax.cumsum(params["w"] * inputs)
    return jax.nn.softplus(-label * products[-1])


def pairwise(params, inputs, label, key):
    """The same, added up in pairs."""
    del key
    return jax.nn.softplus(-label * jnp.sum(params["w"] * inputs))


def corner(loss_fn):
    """The unit's sum within a ReLU, at whose corner it lies."""
    return lambda params, x, y, key: jax.nn.relu(loss_fn(params, x, y, key) - LOG_2)


def planes(params, inputs, label, key):
    """A weight for all places, whose gradient cancels over them."""
    del key
    return label * jax.lax.cumsum(params["w"] * inputs)[-1]


def planes_in_pairs(params, inputs, label, key):
    del key
    return label * jnp.sum(params["w"] * inputs)


LOG_2 = float(np.log(2))
FAN = 4096


def cancelling(count=4):
    """Weights whose products with inputs of one sign cancel, but for rounding."""
    rng = np.random.default_rng(0)
    large = rng.uniform(50, 100, FAN // 2)
    weights = np.concatenate([large, -large]).astype(np.float32)
    inputs = np.ones((count, FAN), np.float32)
    labels = np.tile(np.float32([1, -1]), count // 2)
    batch = Batch(inputs, jnp.asarray(labels), jnp.ones(count), None)
    return {"w": jnp.asarray(weights)}, batch


def places(count=4):
    rng = np.random.default_rng(0)
    half = rng.uniform(0, 1, (count, FAN // 2)).astype(np.float32)
    inputs = np.concatenate([half, -half], axis=1)
    batch = Batch(inputs, jnp.ones(count), jnp.ones(count), None)
    return {"w": jnp.float32(0.3)}, batch


# The same function, added up in another order: what it is, and what it is given.
ORDERS = {
    "large terms that cancel on the way forward": (linear, pairwise, cancelling),
    "at the corner of a ReLU": (corner(linear), corner(pairwise), cancelling),
    "places that cancel on the way back": (planes, planes_in_pairs, places),
}


def excess_of_orders(what):
    first, second, drawn = ORDERS[what]
    params, batch = drawn()
    exact = make_exact(first, dtype="float32")(params, batch)
    metrics, grads = jax.jit(serial_value_and_grad(second))(params, batch)
    return max(excess(metrics, grads, exact))


@pytest.mark.parametrize("what", ORDERS)
def test_a_right_rule_may_add_up_in_another_order(what):
    assert excess_of_orders(what) < 1


@pytest.mark.parametrize("what", ORDERS)
def test_without_what_rounding_changes_it_could_not(what, monkeypatch):
    monkeypatch.setattr(law, "neighbours", lambda values, step: [values])
    assert excess_of_orders(what) > 1
