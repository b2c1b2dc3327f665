"""The laws that every row of the table obeys, each with a mutant that it catches.

A law is a function `law(subject)` that raises where the strategy breaks it. The tests
run each law over the table, and then over a strategy that was broken on purpose, where
it must raise.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from batches import TINY, distinct_weights, experiment_of, make_batch
from jax import lax
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from cnnjax import gradients, layers, parallel
from cnnjax.comparison import TOLERANCES, largest_error
from cnnjax.epochs import LoopConfig, train
from cnnjax.experiments import Experiment
from cnnjax.gradients import serial_value_and_grad
from cnnjax.recipes import RECIPES
from cnnjax.strategies import (
    DIVIDED,
    NO_OPTIONS,
    STRATEGIES,
    Options,
    copy_to_device,
)
from cnnjax.training import init_state, make_train_step
from cnnjax.types import Batch, Examples, Metrics, Params, Strategy, ValueAndGradFn

Builder = Callable[..., Strategy]


class Subject:
    """A strategy of an experiment, compiled once, and the reference beside it."""

    def __init__(
        self, builder: Builder, experiment: Experiment, options: Options = NO_OPTIONS
    ) -> None:
        self.experiment = experiment
        self.options = options._replace(factors_fn=experiment.options.factors_fn)
        self.builder = builder
        self.strategy = builder(experiment.loss_fn, self.options)
        self.tolerance = TOLERANCES[experiment.recipe.model.dtype]
        compiled = self.strategy.run == "loop"
        value_and_grad = self.strategy.value_and_grad
        self._value_and_grad = jax.jit(value_and_grad) if compiled else value_and_grad
        self._reference = jax.jit(serial_value_and_grad(experiment.loss_fn))

    @property
    def num_devices(self) -> int:
        return 1 if self.options.mesh is None else self.options.mesh.size

    def compile(self, batch: Batch) -> jax.stages.Compiled:
        params = self.strategy.put_state(self.experiment.params)
        placed = self.strategy.put_batch(batch)
        return jax.jit(self.strategy.value_and_grad).lower(params, placed).compile()

    def value_and_grad(self, batch: Batch) -> tuple[Metrics, Params]:
        params = self.strategy.put_state(self.experiment.params)
        return self._value_and_grad(params, self.strategy.put_batch(batch))

    def reference(self, batch: Batch) -> tuple[Metrics, Params]:
        return self._reference(self.experiment.params, batch)

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
        batch = subject.batch(size, padding=padding)
        subject.check_equal(subject.value_and_grad(batch), subject.reference(batch))


def law_mean_not_sum(subject: Subject):
    batch = subject.batch(8)
    twice = jax.tree.map(lambda a: jnp.concatenate([a, a]), batch)
    _, once = subject.value_and_grad(batch)
    _, grads = subject.value_and_grad(twice)
    subject.check_equal(grads, once)


def law_weights_weigh(subject: Subject):
    batch = subject.batch()._replace(weights=distinct_weights(16))
    metrics, grads = subject.value_and_grad(batch)
    one = jax.jit(jax.value_and_grad(subject.experiment.loss_fn, has_aux=True))
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
    batch = subject.batch(padding=6)
    kept = jax.tree.map(lambda a: a[:10], batch)
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


def law_the_callers_parameters_survive(subject: Subject):
    before = jax.tree.map(np.array, subject.experiment.params)
    subject.train()
    assert largest_error(subject.experiment.params, before) == 0.0


def law_loss_falls(subject: Subject):
    losses = subject.train(epochs=8)
    assert losses[-1] < 0.9 * losses[0]


def law_the_work_is_divided(subject: Subject):
    """Each device computes its part: a replicated batch has the right gradient, too."""
    batch = subject.batch(32)
    alone = Subject(STRATEGIES["jit"], subject.experiment).compile(batch)
    divided = subject.compile(batch)
    flops = [program.cost_analysis()["flops"] for program in (divided, alone)]
    assert flops[0] <= 1.1 / subject.num_devices * flops[1]
    if subject.num_devices > 1:
        assert "all-reduce" in divided.as_text()


def law_a_step_traces_once(subject: Subject):
    traces = []

    def counted(*args):
        traces.append(1)
        return subject.experiment.loss_fn(*args)

    strategy = subject.builder(counted, subject.options)
    optimizer = subject.experiment.optimizer
    step = jax.jit(make_train_step(strategy.value_and_grad, optimizer))
    state = strategy.put_state(init_state(subject.experiment.params, optimizer))
    state, _ = step(state, strategy.put_batch(subject.batch()))
    traced = len(traces)
    for padding in (1, 7):
        state, _ = step(state, strategy.put_batch(subject.batch(padding=padding)))
    assert traced > 0
    assert len(traces) == traced


LAWS = {
    name.removeprefix("law_"): law
    for name, law in list(globals().items())
    if name.startswith("law_")
}


# Mutants: strategies broken on purpose.


def jitted(value_and_grad: ValueAndGradFn) -> Strategy:
    return Strategy(
        value_and_grad=value_and_grad,
        put_state=copy_to_device,
        put_batch=jax.device_put,
        run="loop",
    )


def scaled(builder: Builder, factor: Callable[[Batch], jax.Array]) -> Builder:
    def build(loss_fn, options=NO_OPTIONS) -> Strategy:
        right = builder(loss_fn).value_and_grad

        def value_and_grad(params, batch):
            metrics, grads = right(params, batch)
            return metrics, jax.tree.map(
                lambda g: g * factor(batch).astype(g.dtype), grads
            )

        return jitted(value_and_grad)

    return build


def rebatched(change: Callable[[Batch], Batch]) -> Builder:
    """Break the batch before the right gradient sees it."""

    def build(loss_fn, options=NO_OPTIONS) -> Strategy:
        right = gradients.batch_value_and_grad(loss_fn)
        return jitted(lambda params, batch: right(params, change(batch)))

    return build


sum_instead_of_mean = scaled(STRATEGIES["jit"], lambda batch: batch.weights.sum())
mean_over_padding_too = scaled(
    STRATEGIES["jit"], lambda batch: batch.weights.sum() / batch.weights.size
)
weights_ignored = rebatched(lambda b: b._replace(weights=jnp.ones_like(b.weights)))
one_dropout_mask_for_all = rebatched(
    lambda b: b._replace(keys=jnp.broadcast_to(b.keys[0], b.keys.shape))
)
keys_by_position = rebatched(
    lambda b: b._replace(keys=jax.random.split(jax.random.key(0), b.keys.size))
)
gradient_of_first_half = rebatched(
    lambda b: jax.tree.map(lambda a: a[: b.weights.size // 2], b)
)


def gradients_in_half_precision(loss_fn, options=NO_OPTIONS) -> Strategy:
    right = gradients.batch_value_and_grad(loss_fn)

    def value_and_grad(params, batch):
        metrics, grads = right(params, batch)
        return metrics, jax.tree.map(lambda g: g.astype(jnp.bfloat16), grads)

    return jitted(value_and_grad)


def reversed_gradient(loss_fn, options=NO_OPTIONS) -> Strategy:
    return scaled(STRATEGIES["jit"], lambda batch: -batch.weights[0])(loss_fn)


def state_is_not_copied(loss_fn, options=NO_OPTIONS) -> Strategy:
    return STRATEGIES["jit"](loss_fn)._replace(put_state=jax.device_put)


def shape_follows_the_padding(loss_fn, options=NO_OPTIONS) -> Strategy:
    """Drop padded examples for real, which gives every short batch its own program."""
    right = gradients.batch_value_and_grad(loss_fn)

    def put_batch(batch: Batch) -> Batch:
        kept = np.flatnonzero(np.asarray(batch.weights))
        return jax.tree.map(lambda a: a[kept], batch)

    return jitted(right)._replace(put_batch=put_batch)


# Mutants of the body that each device runs.


def on_devices(body: Callable[..., ValueAndGradFn]) -> Builder:
    """Put another body in the place of `parallel.device_body`."""

    def build(loss_fn, options=NO_OPTIONS) -> Strategy:
        mesh = options.mesh
        return Strategy(
            value_and_grad=jax.shard_map(
                body(gradients.batch_share(loss_fn)),
                mesh=mesh,
                in_specs=(P(), P(parallel.AXIS)),
                out_specs=P(),
                check_vma=False,
            ),
            put_state=parallel.replicate(mesh),
            put_batch=parallel.split(mesh),
            run="loop",
        )

    return build


def sum_over_devices(tree):
    return lax.psum(tree, parallel.AXIS)


def mean_over_devices(tree):
    return lax.pmean(tree, parallel.AXIS)


def mean_of_local_means(share):
    local = gradients.whole(share)
    return lambda params, part: mean_over_devices(local(params, part))


def sum_of_local_means(share):
    local = gradients.whole(share)
    return lambda params, part: sum_over_devices(local(params, part))


def missing_sum(share):
    return gradients.whole(share)


def everybody_takes_the_first_part(share):
    right = parallel.device_body(share)

    def body(params, part):
        gathered = lax.all_gather(part._replace(keys=None), parallel.AXIS)
        first = jax.tree.map(lambda a: a[0], gathered)
        return right(params, first._replace(keys=part.keys))

    return body


def stale_parameters_on_one_device(share):
    right = parallel.device_body(share)

    def body(params, part):
        stale = jnp.where(lax.axis_index(parallel.AXIS) == 0, 0.9, 1.0)
        return right(jax.tree.map(lambda p: p * stale.astype(p.dtype), params), part)

    return body


def n_times_too_large(loss_fn, options=NO_OPTIONS) -> Strategy:
    """Sum gradients of replicated parameters, which are summed already."""

    def body(params, part):
        total = lax.psum(gradients.total_weight(part), parallel.AXIS)
        means, grads = gradients.batch_share(loss_fn)(params, part, total)
        grads = lax.pcast(grads, parallel.AXIS, to="varying")
        return Metrics(sum_over_devices(means), total), sum_over_devices(grads)

    mesh = options.mesh
    value_and_grad = jax.shard_map(
        body, mesh=mesh, in_specs=(P(), P(parallel.AXIS)), out_specs=P()
    )
    strategy = STRATEGIES["shard_map"](loss_fn, options)
    return strategy._replace(value_and_grad=value_and_grad)


def batch_on_every_device(loss_fn, options=NO_OPTIONS) -> Strategy:
    """Divide nothing: each device computes all of it, and the gradient is right."""
    strategy = STRATEGIES["sharded"](loss_fn, options)
    return strategy._replace(put_batch=parallel.replicate(options.mesh))


MUTANTS = {
    "gradients_equal_the_reference": one_dropout_mask_for_all,
    "mean_not_sum": sum_instead_of_mean,
    "weights_weigh": weights_ignored,
    "weight_zero_removes_an_example": mean_over_padding_too,
    "permutation_changes_nothing": keys_by_position,
    "structure_and_dtype_are_kept": gradients_in_half_precision,
    "the_callers_parameters_survive": state_is_not_copied,
    "loss_falls": reversed_gradient,
    "the_work_is_divided": batch_on_every_device,
    "a_step_traces_once": shape_follows_the_padding,
}
DEVICE_MUTANTS = {
    "mean of local means": on_devices(mean_of_local_means),
    "sum of local means": on_devices(sum_of_local_means),
    "missing sum": on_devices(missing_sum),
    "the first device's part": on_devices(everybody_takes_the_first_part),
    "stale parameters": on_devices(stale_parameters_on_one_device),
    "N times too large": n_times_too_large,
}


def options_of(num_devices: int | None) -> Options:
    return Options(None if num_devices is None else parallel.make_mesh(num_devices))


def cases() -> list:
    """List (strategy, devices, precision); `make test` leaves most of the grid out."""
    listed = []
    for name in STRATEGIES:
        for num_devices in (1, 2, 4, 8) if name in DIVIDED else (None,):
            for precision in ("float32", "float64"):
                quick = num_devices in (None, 4) and precision == "float32"
                quick &= name not in ("shard_map_vmap", "pmap_vmap")
                marks = [] if quick else [pytest.mark.slow]
                case = (name, num_devices, precision)
                listed.append(
                    pytest.param(case, marks=marks, id="-".join(map(str, case)))
                )
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


@pytest.mark.parametrize("case", cases())
@pytest.mark.parametrize("law", LAWS)
def test_every_strategy_obeys(law, case):
    subject = tiny_subject(*case)
    uncompiled = ("a_step_traces_once", "the_work_is_divided")
    if law in uncompiled and subject.strategy.run == "eager":
        return  # it has no program to trace, or to count
    if law == "the_work_is_divided" and case[0] == "serial":
        return  # a scan's body is counted once, however often it runs
    with jax.enable_x64(case[2] == "float64"):
        LAWS[law](subject)


@pytest.fixture(scope="module")
def tiny():
    return tiny_experiment("float32")


@pytest.mark.parametrize("law", LAWS)
def test_every_law_catches_its_mutant(law, tiny):
    copy = tiny._replace(params=copy_to_device(tiny.params))  # a mutant deletes it
    deletes = law == "the_callers_parameters_survive"
    subject = Subject(MUTANTS[law], copy, options_of(4))
    with pytest.raises(
        RuntimeError if deletes else AssertionError,
        match="deleted" if deletes else None,
    ):
        LAWS[law](subject)


@pytest.mark.parametrize("name", DEVICE_MUTANTS)
def test_equality_with_the_reference_catches_the_devices_mutants(name, tiny):
    subject = Subject(DEVICE_MUTANTS[name], tiny, options_of(4))
    with pytest.raises(AssertionError):
        law_gradients_equal_the_reference(subject)


def test_n_times_too_large_is_exactly_that(tiny):
    """The commonest form of the fault in public code: the loss is right."""
    subject = Subject(n_times_too_large, tiny, options_of(4))
    batch = subject.batch()
    metrics, grads = subject.value_and_grad(batch)
    expected_metrics, expected = subject.reference(batch)
    subject.check_equal(metrics, expected_metrics)
    subject.check_equal(grads, jax.tree.map(lambda g: 4 * g, expected))


@pytest.mark.parametrize("name", STRATEGIES)
def test_microbatches_change_nothing(name, tiny):
    mesh = parallel.make_mesh(4) if name in DIVIDED else None
    subject = Subject(STRATEGIES[name], tiny, Options(mesh, microbatch_size=3))
    batch = subject.batch(14, padding=5)
    subject.check_equal(subject.value_and_grad(batch), subject.reference(batch))


def test_sharded_per_example_convolutions_are_wrong_in_xla():
    """Why `sharded` has no per-example row (jax-ml/jax issue 32157).

    Only XLA's own convolution is divided wrongly, silently, on every device but the
    first. If this fails, XLA was mended: add the row.
    """
    rng = np.random.default_rng(0)
    images = rng.standard_normal((8, 6, 6, 2)).astype(np.float32)
    kernel = jnp.asarray(rng.standard_normal((3, 3, 2, 4)).astype(np.float32))
    in_parts = NamedSharding(parallel.make_mesh(4), P(parallel.AXIS))

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


def test_every_law_has_a_mutant():
    assert MUTANTS.keys() == LAWS.keys()


@pytest.mark.parametrize(
    "mutant", [sum_instead_of_mean, weights_ignored, gradient_of_first_half]
)
def test_equality_with_the_reference_catches_more(mutant, tiny):
    with pytest.raises(AssertionError):
        law_gradients_equal_the_reference(Subject(mutant, tiny, options_of(4)))


# Every recipe, dropout on, on a full and on a short batch.


def distinct_losses() -> list:
    """List the recipes whose loss of one example differs, the heavy ones as slow."""
    losses, cases = set(), []
    for recipe in RECIPES.values():
        loss = (recipe.model, recipe.preprocessing, recipe.loss)
        for precision in ("float32", "float64"):
            heavy = recipe.name == "sgd_wide_cnn"
            marks = [pytest.mark.slow] if heavy else []
            if loss not in losses:
                cases.append(pytest.param(recipe, precision, marks=marks))
        losses.add(loss)
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
        names = ("eager", "serial", "jit")
        subjects = [Subject(STRATEGIES[name], experiment) for name in names]
        for padding in (0, size // 3):
            batch = make_batch(experiment, size, padding=padding)
            expected = subjects[0].reference(batch)
            for subject in subjects:
                subject.check_equal(subject.value_and_grad(batch), expected)
