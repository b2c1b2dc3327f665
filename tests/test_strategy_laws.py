"""The laws, over every row of the table; and every law, over the fault that it catches.

The laws are the library's, `laws.LAWS`. Here they are held against the strategies, and
then against a strategy with a fault of the catalogue in it, which they must name.
"""

from __future__ import annotations

import functools
import itertools
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from batches import TINY, TWO_CHANNELS, experiment_of, make_batch
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
from strategy_table import DIVIDED

from cnnjax import devices
from cnnjax.devices.maps import copy_to_device
from cnnjax.experiments.experiment import Experiment, with_strategy
from cnnjax.experiments.recipes import RECIPES
from cnnjax.faults import FAULTS, OF_GRADIENT, setting_of, switch_in
from cnnjax.laws import LAWS, make_case, table
from cnnjax.laws.cases import Case
from cnnjax.laws.comparison import TOLERANCES, largest_error
from cnnjax.laws.excess import unequal
from cnnjax.laws.programs import flops
from cnnjax.laws.references import comparable, reference_value_and_grad
from cnnjax.models import layers
from cnnjax.strategies import NO_OPTIONS, STRATEGIES, Options
from cnnjax.training.epochs import train
from cnnjax.training.updates import LoopConfig
from cnnjax.types import Batch, Examples, LossFn, ValueAndGradFn

FIRST = "gradients_equal_the_reference"
# Of rows that others differ from in the rule, or in the map, alone.
SLOW = ("shard_map_vmap", "shard_map_factored", "pmap_vmap")


@functools.cache
def jitted_reference(loss_fn: LossFn) -> ValueAndGradFn:
    return jax.jit(reference_value_and_grad(loss_fn))


def case_of(
    name: str, experiment: Experiment, options: Options = NO_OPTIONS, *, size: int = 16
) -> Case:
    """Hold a row of the table to an experiment's loss, parameters and examples."""
    return make_case(
        name,
        experiment.objective,
        experiment.params,
        make_batch(experiment, size),
        options=options,
        dtype=experiment.recipe.model.dtype,
        optimizer=experiment.optimizer,
    )


def check_one_gradient(case: Case, batch: Batch) -> None:
    assert unequal(*case.value_and_grad(batch), case.exact(batch)) is None


def options_of(num_devices: int | None) -> Options:
    return Options(None if num_devices is None else devices.make_mesh(num_devices))


def applies(law: str, name: str, num_devices: int | None) -> bool:
    """Return whether a law says something of a strategy."""
    compiled = STRATEGIES[name].device_map.run != "eager"
    divided = compiled and num_devices is not None and num_devices > 1
    facts = {table.always: True, table.compiled: compiled, table.divided: divided}
    return facts[LAWS[law].applies]


def marks_of(
    name: str, num_devices: int | None, precision: str, *, first: bool
) -> list:
    """Mark most of the grid as slow; one worker compiles a case once, for all laws."""
    quick = num_devices in (None, 4) and precision == "float32"
    quick &= name not in SLOW
    quick &= name not in ("eager", "pmap") or first
    group = pytest.mark.xdist_group(f"{name}-{num_devices}-{precision}")
    return [group] if quick else [group, pytest.mark.slow]


def grid() -> list[tuple[str, int | None, str]]:
    """List (strategy, devices, precision)."""
    return [
        (name, num_devices, precision)
        for name in STRATEGIES
        for num_devices in ((1, 2, 4, 8) if name in DIVIDED else (None,))
        for precision in ("float32", "float64")
    ]


def cases() -> list:
    """List (law, (strategy, devices, precision))."""
    return [
        pytest.param(
            law,
            place,
            marks=marks_of(*place, first=law == FIRST),
            id="-".join(map(str, (law, *place))),
        )
        for law, place in itertools.product(LAWS, grid())
        if applies(law, *place[:2])
    ]


def places(*names: str) -> list:
    """List (strategy, devices, precision) of these strategies."""
    return [
        pytest.param(*place, marks=marks_of(*place, first=False))
        for place in grid()
        if place[0] in names
    ]


@functools.cache
def tiny_experiment(precision: str) -> Experiment:
    with jax.enable_x64(precision == "float64"):
        return experiment_of(TINY, precision=precision)


@functools.cache
def tiny_case(name: str, num_devices: int | None, precision: str) -> Case:
    with jax.enable_x64(precision == "float64"):
        return case_of(name, tiny_experiment(precision), options_of(num_devices))


@pytest.mark.parametrize(("law", "place"), cases())
def test_every_strategy_obeys(law, place):
    case = tiny_case(*place)
    assert LAWS[law].applies(case)
    with jax.enable_x64(place[2] == "float64"):
        assert LAWS[law](case) is None
        if law == FIRST:  # of a size that four devices do not divide, too
            batch = make_batch(tiny_experiment(place[2]), 14, padding=5)
            check_one_gradient(case, batch)


@pytest.mark.parametrize(
    ("name", "num_devices", "precision"), places("vmap", "factored", *DIVIDED)
)
def test_the_work_is_that_of_jit_divided(name, num_devices, precision):
    """Of one device as well: no rule does much more than the batch at once."""
    with jax.enable_x64(precision == "float64"):
        # Of few examples, what is done once a batch would weigh.
        batch = make_batch(tiny_experiment(precision), 64)
        alone = flops(tiny_case("jit", None, precision).program(batch))
        program = tiny_case(name, num_devices, precision).program(batch)
    assert flops(program) <= 1.1 / (num_devices or 1) * alone
    if (num_devices or 1) > 1:
        assert "all-reduce" in program.as_text()


def losses_of_training(experiment: Experiment, case: Case) -> list[float]:
    _, records = train(
        experiment.params,
        Examples(*(a[:48] for a in experiment.train)),
        strategy=case.strategy,
        optimizer=experiment.optimizer,
        schedule=experiment.schedule,
        config=LoopConfig(batch_size=20, epochs=8),
        keys=experiment.keys,
    )
    return [record.train["loss"] for record in records]


@pytest.mark.parametrize(("name", "num_devices", "precision"), places(*STRATEGIES))
def test_training_lowers_the_loss_and_leaves_the_parameters(
    name, num_devices, precision
):
    with jax.enable_x64(precision == "float64"):
        experiment = tiny_experiment(precision)
        before = jax.tree.map(np.array, experiment.params)
        case = tiny_case(name, num_devices, precision)
        losses = losses_of_training(experiment, case)
    assert losses[-1] < 0.9 * losses[0]
    assert largest_error(experiment.params, before) == 0.0


@pytest.fixture(scope="module")
def tiny():
    return tiny_experiment("float32")


GRADIENT_FAULTS = [f.name for f in FAULTS.values() if f.place in OF_GRADIENT]


def row_of(fault: str) -> str:
    """Name a strategy in which a fault matters."""
    needs = FAULTS[fault].needs
    return needs.strategies[0] if needs.num_devices > 1 else "jit"


def faulty_case(name: str, experiment: Experiment, row: str = "") -> Case:
    """Switch a fault into a strategy, of four devices where it needs several."""
    row = row or row_of(name)
    options = options_of(4 if row in DIVIDED else None)
    right = with_strategy(experiment, row, options)
    wrong = switch_in(right, [name]).strategy
    return replace(case_of(row, right, options), strategy=wrong)


def experiment_for(fault: str, experiment: Experiment) -> Experiment:
    """Return an experiment in which a fault matters."""
    needed, setting = FAULTS[fault].needs.recipe, setting_of(experiment)
    fits = all(requirement.holds(setting) for requirement in needed)
    return experiment if fits else experiment_of(TWO_CHANNELS)


@pytest.mark.parametrize("name", GRADIENT_FAULTS)
def test_every_fault_is_caught(name, tiny):
    case = faulty_case(name, experiment_for(name, tiny))
    laws = [title for title, law in LAWS.items() if law.mutant == name]
    for law in laws or [FIRST]:
        assert LAWS[law].applies(case)
        assert LAWS[law](case) is not None


@pytest.mark.parametrize(
    ("name", "row"),
    [
        (fault.name, row)
        for fault in FAULTS.values()
        if fault.place == "device map"
        for row in fault.needs.strategies[1:]
    ],
)
def test_a_wrong_device_map_is_caught_under_every_rule(name, row, tiny):
    assert LAWS[FIRST](faulty_case(name, tiny, row)) is not None


def test_every_law_has_a_mutant():
    mutants = [law.mutant for law in LAWS.values()]
    assert set(mutants) <= FAULTS.keys()
    assert len(set(mutants)) == len(LAWS)


def test_training_shows_a_reversed_gradient(tiny):
    losses = losses_of_training(tiny, faulty_case("reversed_gradient", tiny))
    assert losses[-1] > losses[0]


def train_on_and_look(experiment: Experiment, case: Case) -> None:
    losses_of_training(experiment, case)
    jax.tree.map(np.asarray, experiment.params)


def test_training_shows_a_state_that_is_not_copied(tiny):
    params, keys = copy_to_device((tiny.params, tiny.keys))  # the fault deletes them
    copy = tiny._replace(params=params, keys=keys)
    with pytest.raises(RuntimeError, match="deleted"):
        train_on_and_look(copy, faulty_case("state_is_not_copied", copy))


def test_n_times_too_large_is_exactly_that(tiny):
    """The commonest form of the fault in public code: the loss is right."""
    case = faulty_case("n_times_too_large", tiny)
    batch = make_batch(tiny, 16)
    metrics, grads = case.value_and_grad(batch)
    expected_metrics, expected = jitted_reference(tiny.loss_fn)(tiny.params, batch)
    check_equal(metrics, comparable(expected_metrics, metrics))
    check_equal(grads, jax.tree.map(lambda g: 4 * g, expected))


def check_equal(actual, expected) -> None:
    assert largest_error(actual, expected) <= TOLERANCES["float32"]


@pytest.mark.parametrize("size", [2, 13])  # fewer than devices, and no multiple
@pytest.mark.parametrize("name", DIVIDED)
def test_a_batch_of_any_size_needs_no_placing(name, size, tiny):
    case = case_of(name, tiny, Options(devices.make_mesh(3)))
    batch = make_batch(tiny, size)
    actual = jax.jit(case.strategy.value_and_grad)(tiny.params, batch)
    metrics, expected = jitted_reference(tiny.loss_fn)(tiny.params, batch)
    check_equal(actual[1], expected)
    check_equal(actual[0], comparable(metrics, actual[0]))


@pytest.mark.parametrize("name", STRATEGIES)
def test_microbatches_change_nothing(name, tiny):
    mesh = devices.make_mesh(4) if name in DIVIDED else None
    case = case_of(name, tiny, Options(mesh, microbatch_size=3))
    check_one_gradient(case, make_batch(tiny, 14, padding=5))


def test_sharded_microbatches_are_divided(tiny):
    """Each device has a part of every microbatch, not all of one after another."""
    mesh = devices.make_mesh(4)
    alone, divided = (
        case_of(name, tiny, Options(mesh, microbatch_size=16))
        for name in ("jit", "sharded")
    )
    batch = make_batch(tiny, 64)
    work = flops(alone.program(batch))  # of one microbatch: a loop is counted once
    assert flops(divided.program(batch)) <= 1.1 / 4 * work


def test_sharded_per_example_convolutions_are_wrong_in_xla():
    """Why `sharded` has no per-example row (jax-ml/jax issue 32157).

    Only XLA's own convolution is divided wrongly, silently, on every device but the
    first. If this fails, XLA was mended: add the row.
    """
    rng = np.random.default_rng(0)
    images = rng.standard_normal((8, 6, 6, 2)).astype(np.float32)
    kernel = jnp.asarray(rng.standard_normal((3, 3, 2, 4)).astype(np.float32))
    in_parts = NamedSharding(devices.make_mesh(4), P(devices.AXIS))

    def rows(conv2d, images):
        def loss(kernel, image):
            return jnp.sum(conv2d(image, kernel, padding=((0, 0), (0, 0))) ** 2)

        return jax.jit(jax.vmap(jax.grad(loss), (None, 0)))(kernel, images)

    expected = rows(layers.conv2d_xla, jnp.asarray(images))
    divided = rows(layers.conv2d_xla, jax.device_put(images, in_parts))
    assert largest_error(divided[:2], expected[:2]) <= 1e-5
    assert largest_error(divided[2:], expected[2:]) > 0.1
    as_products = rows(layers.conv2d_im2col, jax.device_put(images, in_parts))
    assert largest_error(as_products, expected) <= 1e-5


# Every recipe, dropout on, on a full and on a short batch.


def distinct_losses() -> list:
    """List the recipes whose loss of one example differs.

    Slow are all but one network of each loss and, but for one, float64.
    """
    losses, cases = set(), []
    for recipe in RECIPES.values():
        loss = (recipe.model, recipe.preprocessing, recipe.loss)
        if loss in losses:
            continue
        losses.add(loss)
        for precision in ("float32", "float64"):
            # The composed losses of the others are held against NumPy's, in float64.
            quick = (recipe.name, precision) in (
                ("adam_cosine_cnn", "float32"),
                ("tanh_mlp_housing_narrow", "float32"),
                ("tanh_mlp_housing_narrow", "float64"),
            )
            marks = [] if quick else [pytest.mark.slow]
            cases.append(pytest.param(recipe, precision, marks=marks))
    return cases


@pytest.mark.parametrize(
    ("recipe", "precision"),
    distinct_losses(),
    ids=lambda value: getattr(value, "name", value),
)
def test_every_recipe_has_one_gradient(recipe, precision):
    size = 8 if recipe.name == "sgd_wide_cnn" else 16
    with jax.enable_x64(precision == "float64"):
        experiment = experiment_of(recipe, precision=precision, batch_size=size)
        subjects = [case_of(name, experiment, size=size) for name in ("serial", "jit")]
        for padding in (0, size // 3):
            batch = make_batch(experiment, size, padding=padding)
            for case in subjects:
                check_one_gradient(case, batch)
