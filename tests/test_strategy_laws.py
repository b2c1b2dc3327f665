"""The laws that every row of the table obeys, each with a mutant that it catches.

A law is a function `law(subject)` that raises where the strategy breaks it. The tests
run each law over the table, and then over a strategy with a fault of the catalogue in
it, where it must raise.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from batches import TINY, TWO_CHANNELS, distinct_weights, experiment_of, make_batch
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
from strategy_table import DIVIDED

from cnnjax import devices
from cnnjax.devices.maps import copy_to_device
from cnnjax.experiments.experiment import Experiment
from cnnjax.experiments.overrides import override
from cnnjax.experiments.recipes import RECIPES
from cnnjax.faults import FAULTS, OF_GRADIENT, setting_of, switch_in
from cnnjax.gradients import reductions
from cnnjax.gradients.objective import Objective
from cnnjax.laws.comparison import TOLERANCES, largest_error
from cnnjax.laws.law import ExactFn, excess, make_exact
from cnnjax.laws.programs import calls_python, copies_from_host, flops, placed_alike
from cnnjax.laws.references import comparable, reference_value_and_grad
from cnnjax.models import layers
from cnnjax.strategies import NO_OPTIONS, STRATEGIES, Options
from cnnjax.training.epochs import train
from cnnjax.training.step import init_state, make_train_step
from cnnjax.training.updates import LoopConfig
from cnnjax.types import (
    Batch,
    Examples,
    LossFn,
    Metrics,
    Params,
    Strategy,
    ValueAndGradFn,
)


@functools.cache
def jitted_reference(loss_fn: LossFn) -> ValueAndGradFn:
    return jax.jit(reference_value_and_grad(loss_fn))


@functools.cache
def exact_of(loss_fn: LossFn, dtype: str) -> ExactFn:
    return make_exact(loss_fn, dtype=dtype, reduction=reductions.norms)


@functools.cache
def jitted_value_and_grad_of_one(loss_fn: LossFn) -> Callable:
    return jax.jit(jax.value_and_grad(loss_fn, has_aux=True))


class Subject:
    """A strategy of an experiment, compiled once, and the reference beside it."""

    def __init__(
        self, builder: Builder, experiment: Experiment, options: Options = NO_OPTIONS
    ) -> None:
        self.experiment = experiment
        self.options = options
        self.strategy = builder(experiment.objective, self.options)
        self.tolerance = TOLERANCES[experiment.recipe.model.dtype]
        self._programs: dict[int, jax.stages.Compiled] = {}

    @property
    def num_devices(self) -> int:
        return 1 if self.options.mesh is None else self.options.mesh.size

    def place(self, batch: Batch) -> tuple[Params, Batch]:
        params = self.strategy.put_state(self.experiment.params)
        return params, self.strategy.put_batch(batch)

    def compile(self, batch: Batch) -> jax.stages.Compiled:
        arguments = self.place(batch)
        size = arguments[1].weights.size
        if size not in self._programs:
            lowered = jax.jit(self.strategy.value_and_grad).lower(*arguments)
            self._programs[size] = lowered.compile()
        return self._programs[size]

    def value_and_grad(self, batch: Batch) -> tuple[Metrics, Params]:
        if self.strategy.run == "eager":
            return self.strategy.value_and_grad(*self.place(batch))
        return self.compile(batch)(*self.place(batch))

    def reference(self, batch: Batch) -> tuple[Metrics, Params]:
        return jitted_reference(self.experiment.loss_fn)(self.experiment.params, batch)

    def check_one_gradient(self, batch: Batch) -> None:
        dtype = self.experiment.recipe.model.dtype
        exact_fn = exact_of(self.experiment.loss_fn, dtype)
        exact = exact_fn(self.experiment.params, batch)
        assert max(excess(*self.value_and_grad(batch), exact)) <= 1

    def batch(self, size: int = 16, *, padding: int = 0) -> Batch:
        return make_batch(self.experiment, size, padding=padding)

    def check_equal(self, actual, expected) -> None:
        assert largest_error(actual, expected) <= self.tolerance

    def train(self, *, epochs: int = 1) -> list[float]:
        _, records = train(
            self.experiment.params,
            Examples(*(a[:48] for a in self.experiment.train)),
            strategy=self.strategy,
            optimizer=self.experiment.optimizer,
            schedule=self.experiment.schedule,
            config=LoopConfig(batch_size=20, epochs=epochs),
            keys=self.experiment.keys,
        )
        return [record.train["loss"] for record in records]


def law_gradients_equal_the_reference(subject: Subject):
    for size, padding in ((16, 0), (16, 13), (14, 5)):  # whole devices of padding, too
        subject.check_one_gradient(subject.batch(size, padding=padding))


def law_mean_not_sum(subject: Subject):
    batch = subject.batch(8)
    twice = jax.tree.map(lambda a: jnp.concatenate([a, a]), batch)
    _, once = subject.value_and_grad(batch)
    _, grads = subject.value_and_grad(twice)
    subject.check_equal(grads, once)


def law_weights_weigh(subject: Subject):
    batch = subject.batch()._replace(weights=distinct_weights(16))
    metrics, grads = subject.value_and_grad(batch)
    one = jitted_value_and_grad_of_one(subject.experiment.loss_fn)
    rows = [
        one(subject.experiment.params, batch.inputs[i], batch.labels[i], batch.keys[i])
        for i in range(16)
    ]
    weights = np.asarray(batch.weights, np.float64)
    mean = jax.tree.map(
        lambda *g: np.average(np.stack(g), axis=0, weights=weights).astype(g[0].dtype),
        *[row[1] for row in rows],
    )
    subject.check_equal(grads, mean)
    loss = np.average([row[0][0] for row in rows], weights=weights)
    assert abs(metrics.means["loss"] - loss) <= subject.tolerance * abs(loss)


def law_weight_zero_removes_an_example(subject: Subject):
    batch = subject.batch(padding=8)
    kept = jax.tree.map(lambda a: a[:8], batch)
    subject.check_equal(subject.value_and_grad(batch), subject.value_and_grad(kept))


def law_permutation_changes_nothing(subject: Subject):
    batch = subject.batch()._replace(weights=distinct_weights(16))
    order = np.random.default_rng(0).permutation(16)
    permuted = jax.tree.map(lambda a: a[order], batch)
    subject.check_equal(subject.value_and_grad(permuted), subject.value_and_grad(batch))


def law_structure_and_dtype_are_kept(subject: Subject):
    _, grads = subject.value_and_grad(subject.batch())
    params = subject.experiment.params
    kinds = [
        jax.tree.map(lambda a: (a.shape, a.dtype), tree) for tree in (grads, params)
    ]
    assert kinds[0] == kinds[1]


def law_placement_is_kept(subject: Subject):
    """Else the second step of training compiles again."""
    params, _ = subject.place(subject.batch())
    _, grads = subject.value_and_grad(subject.batch())
    assert placed_alike(grads, params)


def law_no_host_to_device_transfer(subject: Subject):
    program, placed = subject.compile(subject.batch()), subject.place(subject.batch())
    assert not copies_from_host(program, *placed)


def law_no_callback(subject: Subject):
    assert not calls_python(subject.compile(subject.batch()))


def law_the_callers_parameters_survive(subject: Subject):
    before = jax.tree.map(np.array, subject.experiment.params)
    subject.train()
    assert largest_error(subject.experiment.params, before) == 0.0


def law_loss_falls(subject: Subject):
    losses = subject.train(epochs=8)
    assert losses[-1] < 0.9 * losses[0]


def law_the_work_is_divided(subject: Subject):
    """Each device computes its part: a replicated batch has the right gradient, too."""
    batch = subject.batch(64)  # of few examples, what is done once a batch would weigh
    precision = subject.experiment.recipe.model.param_dtype
    alone = tiny_subject("jit", None, precision).compile(batch)
    divided = subject.compile(batch)
    assert flops(divided) <= 1.1 / subject.num_devices * flops(alone)
    if subject.num_devices > 1:
        assert "all-reduce" in divided.as_text()


def law_a_step_traces_once(subject: Subject):
    strategy, optimizer = subject.strategy, subject.experiment.optimizer
    step, traces = make_train_step(strategy.value_and_grad, optimizer), []

    @jax.jit
    def counted(*arguments):
        traces.append(1)
        return step(*arguments)

    state = strategy.put_state(init_state(subject.experiment.params, optimizer))
    for padding in (0, 1, 7):
        state, _ = counted(state, strategy.put_batch(subject.batch(padding=padding)))
    assert len(traces) == 1


LAWS = {
    name.removeprefix("law_"): law
    for name, law in list(globals().items())
    if name.startswith("law_")
}


# A fault of the catalogue for each law, which it must catch. Every other fault must be
# caught by the first law.
MUTANTS = {
    "gradients_equal_the_reference": "one_dropout_mask_for_all",
    "mean_not_sum": "sum_instead_of_mean",
    "weights_weigh": "weights_ignored",
    "weight_zero_removes_an_example": "mean_over_padding_too",
    "permutation_changes_nothing": "keys_by_position",
    "structure_and_dtype_are_kept": "gradients_in_half_precision",
    "placement_is_kept": "state_on_one_device",
    "the_callers_parameters_survive": "state_is_not_copied",
    "loss_falls": "reversed_gradient",
    "the_work_is_divided": "batch_on_every_device",
    "a_step_traces_once": "shape_follows_the_padding",
    "no_host_to_device_transfer": "batch_on_the_host",
    "no_callback": "callback_in_the_step",
}
FIRST = "gradients_equal_the_reference"
# Of rows that others differ from in the rule, or in the map, alone.
SLOW = ("shard_map_vmap", "shard_map_factored", "pmap_vmap")
COMPILED_ONLY = (
    "a_step_traces_once",
    "the_work_is_divided",
    "no_host_to_device_transfer",
    "no_callback",
)


def options_of(num_devices: int | None) -> Options:
    return Options(None if num_devices is None else devices.make_mesh(num_devices))


def applies(law: str, name: str) -> bool:
    """Return whether a law says something of a strategy."""
    if law in COMPILED_ONLY and name == "eager":
        return False  # it has no program to look at
    # The loop of serial is counted once; a norm is more work; jit is what is compared.
    return law != "the_work_is_divided" or name in ("vmap", "factored", *DIVIDED)


def cases() -> list:
    """List (law, (strategy, devices, precision)); most of the grid is slow.

    All laws of a subject go to one worker, which compiles it once.
    """
    listed = []
    for law, name in itertools.product(LAWS, STRATEGIES):
        every = (1, 2, 4, 8) if name in DIVIDED else (None,)
        for num_devices, precision in itertools.product(every, ("float32", "float64")):
            quick = num_devices in (None, 4) and precision == "float32"
            quick &= name not in SLOW
            quick &= name not in ("eager", "pmap") or law == FIRST
            case = (name, num_devices, precision)
            if applies(law, name):
                group = pytest.mark.xdist_group("-".join(map(str, case)))
                marks = [group] if quick else [group, pytest.mark.slow]
                title = "-".join(map(str, (law, *case)))
                listed.append(pytest.param(law, case, marks=marks, id=title))
    return listed


@functools.cache
def tiny_experiment(precision: str) -> Experiment:
    with jax.enable_x64(precision == "float64"):
        return experiment_of(TINY, precision=precision)


@functools.cache
def tiny_subject(name: str, num_devices: int | None, precision: str) -> Subject:
    with jax.enable_x64(precision == "float64"):
        builder, options = STRATEGIES[name], options_of(num_devices)
        return Subject(builder, tiny_experiment(precision), options)


@pytest.mark.parametrize(("law", "case"), cases())
def test_every_strategy_obeys(law, case):
    subject = tiny_subject(*case)
    with jax.enable_x64(case[2] == "float64"):
        LAWS[law](subject)


@pytest.fixture(scope="module")
def tiny():
    return tiny_experiment("float32")


GRADIENT_FAULTS = [f.name for f in FAULTS.values() if f.place in OF_GRADIENT]


def row_of(fault: str) -> str:
    """Name a strategy in which a fault matters."""
    needs = FAULTS[fault].needs
    return needs.strategies[0] if needs.num_devices > 1 else "jit"


def faulty_subject(name: str, experiment: Experiment, row: str = "") -> Subject:
    """Build a strategy with a fault, of four devices where it needs several."""
    row = row or row_of(name)

    def build(_: Objective, options: Options) -> Strategy:
        recipe = override(experiment.recipe, strategy=row)
        right = experiment._replace(recipe=recipe, options=options)
        return switch_in(right, [name]).strategy

    options = options_of(4 if row in DIVIDED else None)
    return Subject(build, experiment, options)


@pytest.mark.parametrize("name", GRADIENT_FAULTS)
def test_every_fault_is_caught(name, tiny):
    needed, setting = FAULTS[name].needs.recipe, setting_of(tiny)
    fits = all(requirement.holds(setting) for requirement in needed)
    right = tiny if fits else experiment_of(TWO_CHANNELS)
    params, keys = copy_to_device((right.params, right.keys))  # a fault deletes them
    copy = right._replace(params=params, keys=keys)
    subject = faulty_subject(name, copy)
    laws = [law for law, mutant in MUTANTS.items() if mutant == name]
    for law in laws or [FIRST]:
        deletes = law == "the_callers_parameters_survive"
        with pytest.raises(
            RuntimeError if deletes else AssertionError,
            match="deleted" if deletes else None,
        ):
            LAWS[law](subject)


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
    with pytest.raises(AssertionError):
        LAWS[FIRST](faulty_subject(name, tiny, row))


def test_every_law_has_a_mutant():
    assert MUTANTS.keys() == LAWS.keys()
    assert set(MUTANTS.values()) <= FAULTS.keys()


def test_n_times_too_large_is_exactly_that(tiny):
    """The commonest form of the fault in public code: the loss is right."""
    subject = faulty_subject("n_times_too_large", tiny)
    batch = subject.batch()
    metrics, grads = subject.value_and_grad(batch)
    expected_metrics, expected = subject.reference(batch)
    subject.check_equal(metrics, comparable(expected_metrics, metrics))
    subject.check_equal(grads, jax.tree.map(lambda g: 4 * g, expected))


@pytest.mark.parametrize("size", [2, 13])  # fewer than devices, and no multiple
@pytest.mark.parametrize("name", DIVIDED)
def test_a_batch_of_any_size_needs_no_placing(name, size, tiny):
    subject = Subject(STRATEGIES[name], tiny, Options(devices.make_mesh(3)))
    batch = make_batch(tiny, size)
    actual = jax.jit(subject.strategy.value_and_grad)(tiny.params, batch)
    expected_metrics, expected = subject.reference(batch)
    subject.check_equal(actual[1], expected)
    subject.check_equal(actual[0], comparable(expected_metrics, actual[0]))


@pytest.mark.parametrize("name", STRATEGIES)
def test_microbatches_change_nothing(name, tiny):
    mesh = devices.make_mesh(4) if name in DIVIDED else None
    subject = Subject(STRATEGIES[name], tiny, Options(mesh, microbatch_size=3))
    subject.check_one_gradient(subject.batch(14, padding=5))


def test_sharded_microbatches_are_divided(tiny):
    """Each device has a part of every microbatch, not all of one after another."""
    mesh = devices.make_mesh(4)
    alone, divided = (
        Subject(STRATEGIES[name], tiny, Options(mesh, microbatch_size=16))
        for name in ("jit", "sharded")
    )
    batch = alone.batch(64)
    work = flops(alone.compile(batch))  # of one microbatch: a loop is counted once
    assert flops(divided.compile(batch)) <= 1.1 / 4 * work


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
        names = ("serial", "jit")
        subjects = [Subject(STRATEGIES[name], experiment) for name in names]
        for padding in (0, size // 3):
            batch = make_batch(experiment, size, padding=padding)
            for subject in subjects:
                subject.check_one_gradient(batch)
