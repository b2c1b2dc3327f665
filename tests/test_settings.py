"""The caller's JAX settings: alike under every kind of strategy, or refused by name."""

from __future__ import annotations

import contextlib
import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType
from strategy_table import DIVIDED

from cnnjax import data, devices, experiments
from cnnjax.base.errors import InputError
from cnnjax.base.settings import new_key, typed_keys
from cnnjax.data.order import example_keys, take_batch
from cnnjax.experiments import predictions, runs
from cnnjax.experiments.overrides import override
from cnnjax.experiments.recipes import get_recipe
from cnnjax.laws import equivalence, references
from cnnjax.laws.comparison import largest_error
from cnnjax.models.stack import Activation, Dense, Dropout, Flatten
from cnnjax.strategies import Options
from cnnjax.training.evaluation import make_evaluate, make_predict
from cnnjax.training.updates import LoopKeys
from cnnjax.types import Batch, Examples

KINDS = (
    *("serial", "eager", "jit", "vmap", "factored", "factored_norms"),
    *("sharded", "shard_map", "pmap"),
)
# All of them only in the slow tests.
MANY = ("serial", "eager", "jit", "factored", "shard_map", "pmap")
FEW = ("jit", "shard_map")
CHANGING = [  # what would change a result, unless something is done about it
    ("jax_default_prng_impl", "rbg"),
    ("jax_enable_x64", True),
    ("jax_numpy_dtype_promotion", "strict"),
]
HARMLESS = [
    ("jax_default_prng_impl", "unsafe_rbg"),
    ("jax_threefry_partitionable", False),
    ("jax_debug_nans", True),
    ("jax_debug_infs", True),
    ("jax_debug_key_reuse", True),
    ("jax_default_matmul_precision", "BF16_BF16_F32"),
    ("jax_default_device", 1),
]


SLOW = [("jax_check_tracer_leaks", True), ("jax_disable_jit", True)]


def examples(count: int, seed: int) -> Examples:
    random = np.random.default_rng(seed)
    images = random.integers(0, 256, (count, 3, 3, 1)).astype(np.uint8)
    return Examples(images, (np.arange(count) % 3).astype(np.int32))


DATASET = data.Dataset(
    name="own", train=examples(13, 0), test=examples(5, 1), class_names=tuple("abc")
)
LAYERS = (Flatten(), Dense(4), Activation("relu"), Dropout(0.5), Dense(3))


def recipe_of(name: str = "sgd_dropout_cnn", **overrides):
    recipe = get_recipe(name)
    model = dataclasses.replace(recipe.model, input_shape=(3, 3, 1), layers=LAYERS)
    recipe = dataclasses.replace(recipe, model=model)
    return override(recipe, batch_size=5, epochs=1, **overrides)


@contextlib.contextmanager
def setting(name: str, value: object):
    """Change a JAX setting for a while."""
    if name == "jax_default_device":
        value = jax.devices()[value]
    before = getattr(jax.config, name)
    jax.config.update(name, value)
    try:
        yield
    finally:
        jax.config.update(name, before)


def prepare(strategy: str, **overrides) -> experiments.Experiment:
    mesh = devices.make_mesh(2) if strategy in DIVIDED else None
    recipe = recipe_of(strategy=strategy, **overrides)
    return experiments.prepare(recipe, DATASET, options=Options(mesh))


prepared = functools.cache(prepare)  # under JAX's own settings


def batch_of(experiment: experiments.Experiment, **changes) -> Batch:
    """Return a batch that two devices cannot share equally, with weights and keys."""
    order = jnp.arange(13, dtype=jnp.int32)
    batch = take_batch(experiment.train, order, 0, batch_size=5)
    drawn = example_keys(experiment.keys.dropout, 0, batch_size=5)
    weights = jnp.array([1, 2, 0, 1, 0.5], jnp.float32)
    return batch._replace(weights=weights, keys=drawn)._replace(**changes)


def value_and_grad_of(experiment: experiments.Experiment, batch: Batch):
    strategy = experiment.strategy
    jitted = strategy.run != "eager"
    fn = jax.jit(strategy.value_and_grad) if jitted else strategy.value_and_grad
    params = strategy.put_state(experiment.params)
    metrics, grads = fn(params, strategy.put_batch(batch))
    metrics.means.pop("grad_norm", None)  # not every strategy reports it
    return jax.device_get((metrics, grads))


def agree_under(name: str, value: object, *, kinds: tuple[str, ...]) -> tuple:
    """Return what the first of these kinds has, once the others have agreed."""
    with setting(name, value):
        experiment = prepare(kinds[0])
        batch = batch_of(experiment)
        expected = value_and_grad_of(experiment, batch)
        for kind in kinds[1:]:
            actual = value_and_grad_of(prepare(kind), batch)
            # It raises ValueError for another dtype, of gradients or of metrics.
            assert largest_error(actual, expected) < 1e-5, kind
        return expected


@pytest.fixture(scope="module")
def plain():
    return agree_under("jax_debug_nans", False, kinds=("serial",))


def cases(settings, kinds, marks=()):
    return [
        pytest.param(*one, kinds, marks=marks, id=f"{one[0]}-{len(kinds)}")
        for one in settings
    ]


@pytest.mark.parametrize(
    ("name", "value", "kinds"),
    [
        *cases(CHANGING, MANY),
        *cases(HARMLESS[1:], FEW),
        *cases([*CHANGING, *HARMLESS, *SLOW], KINDS, pytest.mark.slow),
    ],
)
def test_strategies_agree_under(name, value, kinds, plain):
    metrics, grads = agree_under(name, value, kinds=kinds)
    assert {leaf.dtype for leaf in jax.tree.leaves(grads)} == {np.dtype(np.float32)}
    assert {mean.dtype for mean in metrics.means.values()} == {np.dtype(np.float32)}
    if name not in ("jax_threefry_partitionable", "jax_enable_x64"):
        assert largest_error((metrics, grads), plain) < 1e-5  # the same masks


TRAINED = {
    "jax_default_prng_impl": ("rbg", "adam_cosine_cnn", "float32"),
    "jax_disable_jit": (True, "sgd_dropout_cnn", "float32"),
    "jax_numpy_dtype_promotion": ("strict", "adam_cosine_cnn", "bfloat16"),
    "jax_default_device": (1, "sgd_dropout_cnn", "float32"),
}


def trained_under() -> list:
    """List the settings; slow is what runs operation by operation."""
    slow = ("jax_disable_jit",)
    return [
        pytest.param(name, marks=[pytest.mark.slow] * (name in slow))
        for name in TRAINED
    ]


@pytest.mark.parametrize("name", trained_under())
def test_training_evaluation_and_prediction_do_not_change_under(name):
    value, recipe, precision = TRAINED[name]
    recipe = recipe_of(recipe, precision=precision, strategy="jit")
    plain = runs.fit(recipe, DATASET)
    with setting(name, value):
        fitted = runs.fit(recipe, DATASET)
        experiment = experiments.prepare(recipe, DATASET)
        seen = predictions.predict(experiment, fitted.params, DATASET.test.inputs[0])
        all_seen = predictions.predict_test(experiment, fitted.params)
    assert largest_error(fitted.params, plain.params) < 1e-5
    assert fitted.test == pytest.approx(plain.test)
    assert seen == all_seen[0]


def test_strict_promotion_in_float64():
    with setting("jax_enable_x64", True):
        recipe = recipe_of("adam_cosine_cnn", precision="float64", strategy="factored")
        plain = runs.fit(recipe, DATASET)
        with setting("jax_numpy_dtype_promotion", "strict"):
            strict = runs.fit(recipe, DATASET)
    assert largest_error(strict.params, plain.params) < 1e-12


REFUSED = {
    "jax_random_seed_offset": (3, "jax_random_seed_offset"),
    "jax_transfer_guard": ("disallow", "jax_transfer_guard_host_to_device"),
    "jax_transfer_guard_host_to_device": ("disallow", "host_to_device"),
    "jax_transfer_guard_device_to_host": ("disallow_explicit", "device_to_host"),
}
ENTRIES = {
    "fit": lambda e: runs.fit(e.recipe, DATASET),
    "prepare": lambda e: experiments.prepare(e.recipe, DATASET),
    "run": runs.run,
    "make_evaluate": lambda e: make_evaluate(e.loss_fn, e.test, e.params),
    "make_predict": lambda e: make_predict(e.apply_fn, e.test),
    "predict": lambda e: predictions.predict(e, e.params, e.test.inputs[0]),
}


@pytest.mark.parametrize("entry", ENTRIES)
@pytest.mark.parametrize("name", REFUSED)
def test_refused_by_its_name(name, entry):
    value, told = REFUSED[name]
    experiment = prepared("jit")
    if name == "jax_random_seed_offset":
        changed = setting(name, value)
    else:
        changed = getattr(jax, name.removeprefix("jax_"))(value)
    with changed, pytest.raises(InputError, match=told) as refusal:
        ENTRIES[entry](experiment)
    assert "\n" not in str(refusal.value)


def test_a_guarded_step_of_ones_own_is_not_refused():
    experiment = prepared("shard_map")
    strategy = experiment.strategy
    placed = (
        strategy.put_state(experiment.params),
        strategy.put_batch(batch_of(experiment)),
    )
    step = jax.jit(strategy.value_and_grad).lower(*placed).compile()
    with jax.transfer_guard("disallow"):
        jax.block_until_ready(step(*placed))


def test_comparing_strategies_needs_compiled_programs():
    experiment = prepared("jit")
    reference = references.make_reference(experiment, batch_size=5, num_steps=2)
    with (
        setting("jax_disable_jit", True),
        pytest.raises(InputError, match="jax_disable_jit=False"),
    ):
        equivalence.assess(experiment, reference)


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit])
@pytest.mark.parametrize("strategy", ["factored", *DIVIDED])
def test_a_mesh_of_the_caller(kind, strategy):
    experiment = prepared(strategy)
    batch = batch_of(experiment)
    expected = value_and_grad_of(experiment, batch)
    theirs = jax.make_mesh((4,), ("rows",), axis_types=(kind,))
    with jax.set_mesh(theirs):
        if strategy not in DIVIDED:
            assert largest_error(value_and_grad_of(experiment, batch), expected) < 1e-5
            return
        for ask in (
            lambda: experiment.strategy.put_batch(batch),
            lambda: experiment.strategy.put_state(experiment.params),
            lambda: experiment.strategy.value_and_grad(experiment.params, batch),
            lambda: runs.run(experiment),
        ):
            with pytest.raises(InputError, match=r"jax\.set_mesh with axes \('rows'"):
                ask()


@pytest.mark.parametrize("strategy", ["sharded", "shard_map", "pmap"])
def test_the_strategys_own_mesh_may_be_set(strategy):
    experiment = prepared(strategy)
    batch = batch_of(experiment)
    expected = value_and_grad_of(experiment, batch)
    with jax.set_mesh(devices.make_mesh(2)):
        if strategy == "pmap":  # it makes another
            with pytest.raises(InputError, match=r"got jax\.set_mesh"):
                value_and_grad_of(experiment, batch)
        else:
            assert largest_error(value_and_grad_of(experiment, batch), expected) < 1e-5


FOREIGN = {
    "rbg": lambda: jax.random.split(jax.random.key(0, impl="rbg"), 5),
    "unsafe_rbg": lambda: jax.random.split(jax.random.key(0, impl="unsafe_rbg"), 5),
    "raw rbg": lambda: jnp.ones((5, 4), jnp.uint32),
    "seeds": lambda: jnp.arange(5, dtype=jnp.uint32),
    "floats": lambda: jnp.zeros((5, 2)),
    "int32": lambda: jnp.zeros((5, 2), jnp.int32),
}


@pytest.mark.parametrize("strategy", KINDS)
@pytest.mark.parametrize("foreign", FOREIGN)
def test_keys_of_another_implementation_are_refused(foreign, strategy):
    experiment = prepared(strategy)
    batch = experiment.strategy.put_batch(batch_of(experiment, keys=FOREIGN[foreign]()))
    with pytest.raises(InputError, match="expected PRNG keys of threefry2x32, got"):
        experiment.strategy.value_and_grad(experiment.params, batch)


@pytest.mark.parametrize("which", ["order", "dropout"])
def test_a_loop_refuses_them_too(which):
    experiment = prepared("jit")
    foreign = jax.random.key(0, impl="rbg")
    keys = experiment.keys._replace(**{which: foreign})
    with pytest.raises(InputError, match="got key<rbg> of shape"):
        runs.run(experiment._replace(keys=keys))


@pytest.mark.parametrize("strategy", ["eager", "serial", "shard_map", "pmap"])
def test_old_style_keys_draw_the_same_masks(strategy):
    experiment = prepared(strategy)
    typed = batch_of(experiment)
    raw = typed._replace(keys=jax.random.key_data(typed.keys))
    expected = value_and_grad_of(experiment, typed)
    assert largest_error(value_and_grad_of(experiment, raw), expected) == 0


def test_a_loop_takes_old_style_keys():
    experiment = prepared("jit")
    raw = LoopKeys(*(jax.random.key_data(key) for key in experiment.keys))
    old = runs.run(experiment._replace(keys=raw))
    assert largest_error(old.params, runs.run(experiment).params) == 0


@pytest.mark.parametrize("seed", [0, 1, 2**31 - 1, 2**31, 2**32 - 1])
@pytest.mark.parametrize("impl", ["threefry2x32", "rbg"])
@pytest.mark.parametrize("x64", [False, True])
def test_the_bits_of_a_seed_depend_on_no_setting(seed, impl, x64):
    expected = jax.random.key_data(jax.random.key(seed))
    with jax.default_prng_impl(impl), jax.enable_x64(x64):
        key = new_key(seed)
    np.testing.assert_array_equal(jax.random.key_data(key), expected)
    assert typed_keys(key) is key
