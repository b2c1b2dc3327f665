"""The laws for a stranger's own network, loss and strategies: `laws.check`.

Nothing here is of cnnjax but the laws: the network is a few lines of `jnp`, and the
strategies, right and wrong, are written as people write them.
"""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax import lax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from cnnjax import devices, laws
from cnnjax.base.errors import InputError
from cnnjax.strategies import STRATEGIES, Options
from cnnjax.types import Batch, Metrics, Strategy

pytestmark = pytest.mark.xdist_group("laws_check")
RNG = np.random.default_rng(0)
# A list of pairs: no names, and no layers of this library.
PARAMS = [
    (RNG.normal(size=(6, 5)).astype(np.float32), np.zeros(5, np.float32)),
    (RNG.normal(size=(5, 3)).astype(np.float32), np.zeros(3, np.float32)),
]
SIZE = 16
BATCH = Batch(
    RNG.normal(size=(SIZE, 6)).astype(np.float32),
    RNG.integers(0, 3, SIZE),
    np.ones(SIZE),
    None,
)
WITH_KEYS = BATCH._replace(keys=jax.random.split(jax.random.key(0), SIZE))
PADDED = BATCH._replace(weights=np.arange(SIZE) < 11)


def loss_fn(params, example, label, key):
    """Return the cross-entropy of two layers; with a key, some units are dropped."""
    hidden = jnp.tanh(example @ params[0][0] + params[0][1])
    if key is not None:
        hidden = hidden * jax.random.bernoulli(key, 0.5, hidden.shape)
    logits = hidden @ params[1][0] + params[1][1]
    loss = -jax.nn.log_softmax(logits)[label]
    return loss, {"right": logits.argmax() == label}


def mesh_of_four() -> Mesh:
    return jax.make_mesh((4,), ("rows",), devices=jax.devices()[:4])


# One device, by hand.


def each_of(params, batch):
    return jax.vmap(loss_fn, (None, 0, 0, 0))(params, *batch[:2], batch.keys)


def sums_of(params, batch):
    """Return (sum of the weighted losses, of the metric) over these examples."""
    losses, metrics = each_of(params, batch)
    weights = batch.weights
    return jnp.sum(losses * weights), jnp.sum(metrics["right"] * weights)


def own_value_and_grad(params, batch):
    total = batch.weights.sum()
    (loss, right), grads = jax.value_and_grad(sums_of, has_aux=True)(params, batch)
    means = {"loss": loss / total, "right": right / total}
    return Metrics(means, total), jax.tree.map(lambda g: g / total, grads)


def copied(tree):
    return jax.tree.map(jnp.copy, tree)


def of_one_device(value_and_grad) -> Strategy:
    return Strategy(value_and_grad, copied, lambda batch: batch, "loop")


# Four devices, by hand.


def over_devices(body) -> Strategy:
    """Run body(params, part) on each of four devices: right, if the body is."""
    mesh = mesh_of_four()
    everywhere, in_parts = NamedSharding(mesh, P()), NamedSharding(mesh, P("rows"))
    return Strategy(
        value_and_grad=jax.shard_map(
            body, mesh=mesh, in_specs=(P(), P("rows")), out_specs=P(), check_vma=False
        ),
        put_state=lambda tree: jax.device_put(copied(tree), everywhere),
        put_batch=lambda batch: jax.device_put(batch, in_parts),
        run="loop",
    )


def right_body(params, part):
    total = lax.psum(part.weights.sum(), "rows")
    (loss, right), grads = jax.value_and_grad(sums_of, has_aux=True)(params, part)
    own = {"loss": loss, "right": right}, grads
    means, grads = jax.tree.map(lambda v: lax.psum(v, "rows") / total, own)
    return Metrics(means, total), grads


def mean_of_local_means(params, part):
    metrics, grads = own_value_and_grad(params, part)
    means, grads = lax.pmean((metrics.means, grads), "rows")
    return Metrics(means, lax.psum(metrics.weight, "rows")), grads


def summed_twice(params, part):
    metrics, grads = right_body(params, part)
    return metrics, lax.psum(grads, "rows")


def without_weights(params, batch):
    ones = jnp.ones_like(batch.weights)
    return own_value_and_grad(params, batch._replace(weights=ones))


def keys_by_position(params, batch):
    keys = jax.random.split(jax.random.key(3), len(batch.weights))
    return own_value_and_grad(params, batch._replace(keys=keys))


def reversed_sign(params, batch):
    metrics, grads = own_value_and_grad(params, batch)
    return metrics, jax.tree.map(jnp.negative, grads)


def names_of(findings: tuple[laws.Finding, ...]) -> set[str]:
    return {finding.law for finding in findings}


BATCHES = {"plain": BATCH, "keys": WITH_KEYS, "short": PADDED}
QUICK = (("jit", "plain"), ("vmap", "keys"), ("shard_map", "keys"))


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        pytest.param(*at, marks=[] if at in QUICK else [pytest.mark.slow])
        for at in itertools.product(("jit", "vmap", "shard_map"), BATCHES)
    ],
)
def test_an_own_network_obeys_in_every_form(name, kind):
    options = Options(devices.make_mesh(4)) if name == "shard_map" else Options()
    assert laws.check(name, loss_fn, PARAMS, BATCHES[kind], options=options) == ()


def test_own_strategies_obey():
    for right in (of_one_device(own_value_and_grad), over_devices(right_body)):
        assert laws.check(right, loss_fn, PARAMS, WITH_KEYS) == ()


EQUAL = "gradients_equal_the_reference"
WRONG = {
    "mean of local means": (lambda: over_devices(mean_of_local_means), {EQUAL}),
    "N times too large": (lambda: over_devices(summed_twice), {EQUAL, "weights_weigh"}),
    "weights dropped": (
        lambda: of_one_device(without_weights),
        {EQUAL, "weights_weigh", "weight_zero_removes_an_example"},
    ),
    "keys by position": (
        lambda: of_one_device(keys_by_position),
        {EQUAL, "permutation_changes_nothing"},
    ),
    "the sign reversed": (lambda: of_one_device(reversed_sign), {EQUAL, "loss_falls"}),
}


@pytest.mark.parametrize("what", WRONG)
def test_an_own_wrong_strategy_is_named_by_the_laws_that_it_breaks(what):
    wrong, broken = WRONG[what]
    findings = laws.check(wrong(), loss_fn, PARAMS, WITH_KEYS)
    assert broken <= names_of(findings)
    assert all("\n" not in str(finding) for finding in findings)


def test_a_mean_of_local_means_is_told_where_it_shows():
    (first, *_) = laws.check(over_devices(mean_of_local_means), loss_fn, PARAMS, BATCH)
    assert str(first).startswith(f"{EQUAL}: metrics off by ")
    assert str(first).endswith("for a batch of 16 examples, 0 of them padding")


def test_a_wrong_scale_is_told_as_it_is():
    (first, *_) = laws.check(over_devices(summed_twice), loss_fn, PARAMS, BATCH)
    assert "gradient off by 3.0e+00" in first.objection
    assert "metrics" not in first.objection  # the loss is right


# What costs time or memory, or the caller's arrays.


def on_every_device() -> Strategy:
    """Copy the batch to all devices, whose compiler then divides nothing."""
    everywhere = NamedSharding(mesh_of_four(), P())
    return Strategy(
        own_value_and_grad,
        lambda tree: jax.device_put(copied(tree), everywhere),
        lambda batch: jax.device_put(batch, everywhere),
        "loop",
    )


def printing(params, batch):
    metrics, grads = own_value_and_grad(params, batch)
    jax.debug.callback(lambda loss: None, metrics.means["loss"])
    return metrics, grads


COSTLY = {
    "the_work_is_divided": on_every_device,
    "no_callback": lambda: of_one_device(printing),
    "the_callers_parameters_survive": lambda: of_one_device(
        own_value_and_grad
    )._replace(put_state=lambda tree: tree),
    "no_host_to_device_transfer": lambda: of_one_device(own_value_and_grad)._replace(
        put_batch=lambda batch: jax.tree.map(np.asarray, batch)
    ),
    "placement_is_kept": lambda: over_devices(right_body)._replace(put_state=copied),
}


@pytest.mark.parametrize("law", COSTLY)
def test_what_a_strategy_costs_is_named(law):
    named = names_of(laws.check(COSTLY[law](), loss_fn, PARAMS, BATCH))
    assert named - {"a_step_traces_once"} == {law}  # other places, another program


def test_an_own_gradient_of_another_kind_is_named():
    def in_half(params, batch):
        metrics, grads = own_value_and_grad(params, batch)
        return metrics, jax.tree.map(lambda g: g.astype(jnp.bfloat16), grads)

    found = laws.check(of_one_device(in_half), loss_fn, PARAMS, BATCH)
    told = dict(found)["structure_and_dtype_are_kept"]
    assert told == "gradient [0][0] is bfloat16[6, 5], and its parameter float32[6, 5]"

    def first_layer(params, batch):
        metrics, grads = own_value_and_grad(params, batch)
        return metrics, grads[:1]

    found = laws.check(of_one_device(first_layer), loss_fn, PARAMS, BATCH)
    assert names_of(found) == {"structure_and_dtype_are_kept"}


# Other types, more examples than are taken at a time, other forms of a strategy.


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["bfloat16", "float64"])
def test_other_types_have_bounds_of_their_own(dtype):
    with jax.enable_x64(dtype == "float64"):
        params = jax.tree.map(lambda p: jnp.asarray(p, dtype), PARAMS)
        batch = BATCH._replace(inputs=jnp.asarray(BATCH.inputs, dtype))
        assert laws.check("vmap", loss_fn, params, batch) == ()
        wrong = of_one_device(reversed_sign)
        assert EQUAL in names_of(laws.check(wrong, loss_fn, params, batch))


@pytest.mark.slow
def test_arithmetic_of_another_type_than_the_parameters_is_said():
    def halved(params, example, label, key):
        low = jax.tree.map(lambda p: p.astype(jnp.bfloat16), (params, example))
        return loss_fn(*low, label, key)

    assert laws.check("jit", halved, PARAMS, BATCH, dtype="bfloat16") == ()


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("jit", marks=pytest.mark.slow),
        pytest.param("sharded", marks=pytest.mark.slow),
        "shard_map",
    ],
)
def test_microbatches_obey(name):
    options = Options(devices.make_mesh(4), microbatch_size=3)
    assert laws.check(name, loss_fn, PARAMS, BATCH, options=options) == ()


def test_a_row_and_an_own_builder_are_strategies():
    def build(objective, options):
        assert objective(PARAMS, BATCH.inputs[0], 0, None)
        return of_one_device(own_value_and_grad)

    for builder in (STRATEGIES["jit"], build):
        assert laws.check(builder, loss_fn, PARAMS, BATCH) == ()


class Model:
    """A network whose loss is a method, and which cannot be hashed."""

    __hash__ = None

    def loss(self, params, example, label, key):
        return loss_fn(params, example, label, key)


def test_the_callers_own_are_left_as_they_are():
    params = jax.tree.map(jnp.asarray, PARAMS)
    before = jax.tree.map(np.array, params)
    laws.check("jit", Model().loss, params, BATCH, optimizer=optax.adam(0.1))
    jax.tree.map(np.testing.assert_array_equal, params, before)


REFUSED = {
    "strategy 'jitt'; did you mean jit": {"strategy": "jitt"},
    "a function that builds one, got 3": {"strategy": 3},
    "to return a Strategy, got None": {"strategy": lambda *_: None},
    "loss_fn to be a function, got 7": {"objective": 7},
    "batch of kind Batch, got 'all'": {"batch": "all"},
    "at least 2 examples at a weight above 0, got 1": {
        "batch": BATCH._replace(weights=np.arange(SIZE) == 0)
    },
    "a pytree of at least one array, got []": {"params": []},
    "of a floating-point type, got int": {"params": {"p": 3}},
    "dtype 'float16'; did you mean": {"dtype": "float16"},
    "options of kind Options, got None": {"options": None},
    "optimizer (see make_optimizer) of kind": {"optimizer": 0.1},
    "got no factors_fn; make one with": {"strategy": "factored"},
    "value_and_grad to return (Metrics, gradients), got PyTreeDef(*)": {
        "strategy": of_one_device(lambda params, batch: batch.weights.sum())
    },
}


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("message", REFUSED)
def test_what_cannot_be_checked_is_refused_in_one_line(message):
    given = {"strategy": "jit", "objective": loss_fn, "params": PARAMS, "batch": BATCH}
    with pytest.raises(InputError) as refused:
        laws.check(**{**given, **REFUSED[message]})
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


def test_options_beside_a_strategy_that_is_built_are_refused():
    strategy, options = of_one_device(own_value_and_grad), Options(microbatch_size=2)
    with pytest.raises(InputError, match="no options with a Strategy"):
        laws.check(strategy, loss_fn, PARAMS, BATCH, options=options)
