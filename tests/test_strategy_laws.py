"""The laws that every row of the table obeys, each with a mutant that it catches.

A law is a function `law(subject)` that raises where the strategy breaks it. The tests
run each law over the table, and then over a strategy that was broken on purpose, where
it must raise.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from batches import distinct_weights, experiment_of, make_batch

from cnnjax import gradients
from cnnjax.comparison import TOLERANCES, largest_error
from cnnjax.epochs import LoopConfig, train
from cnnjax.experiments import Experiment
from cnnjax.gradients import serial_value_and_grad
from cnnjax.initializers import PYTORCH
from cnnjax.optimizers import OptimizerConfig, Sgd
from cnnjax.recipes import RECIPES, Recipe
from cnnjax.stack import (
    Activation,
    Conv,
    Dense,
    Dropout,
    Flatten,
    MaxPool,
    ModelConfig,
)
from cnnjax.strategies import STRATEGIES, copy_to_device
from cnnjax.training import init_state, make_train_step
from cnnjax.types import Batch, Examples, Metrics, Params, Strategy, ValueAndGradFn

Builder = Callable[..., Strategy]

# Small, but with every kind of layer: dropout, a pool, two kinds of kernel.
TINY = Recipe(
    name="tiny",
    summary="for the laws",
    model=ModelConfig(
        input_shape=(8, 8, 1),
        layers=(
            Conv(4, kernel_size=3, padding=1),
            Activation("relu"),
            MaxPool(2),
            Flatten(),
            Dense(12),
            Activation("tanh"),
            Dropout(0.5),
            Dense(3),
        ),
        initializer=PYTORCH,
    ),
    loss="softmax_cross_entropy",
    optimizer=OptimizerConfig(algorithm=Sgd(momentum=0.9), learning_rate=0.1),
    dataset="random",
    batch_size=16,
    epochs=1,
)


class Subject:
    """A strategy of an experiment, compiled once, and the reference beside it."""

    def __init__(self, builder: Builder, experiment: Experiment) -> None:
        self.experiment = experiment
        self.builder = builder
        self.strategy = builder(experiment.loss_fn)
        self.tolerance = TOLERANCES[experiment.recipe.model.param_dtype]
        compiled = self.strategy.run == "loop"
        value_and_grad = self.strategy.value_and_grad
        self._value_and_grad = jax.jit(value_and_grad) if compiled else value_and_grad
        self._reference = jax.jit(serial_value_and_grad(experiment.loss_fn))

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
    for padding in (0, 5):
        batch = subject.batch(padding=padding)
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


def law_a_step_traces_once(subject: Subject):
    traces = []

    def counted(*args):
        traces.append(1)
        return subject.experiment.loss_fn(*args)

    strategy = subject.builder(counted)
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
    def build(loss_fn) -> Strategy:
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

    def build(loss_fn) -> Strategy:
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


def gradients_in_half_precision(loss_fn) -> Strategy:
    right = gradients.batch_value_and_grad(loss_fn)

    def value_and_grad(params, batch):
        metrics, grads = right(params, batch)
        return metrics, jax.tree.map(lambda g: g.astype(jnp.bfloat16), grads)

    return jitted(value_and_grad)


def reversed_gradient(loss_fn) -> Strategy:
    return scaled(STRATEGIES["jit"], lambda batch: -batch.weights[0])(loss_fn)


def state_is_not_copied(loss_fn) -> Strategy:
    return STRATEGIES["jit"](loss_fn)._replace(put_state=jax.device_put)


def shape_follows_the_padding(loss_fn) -> Strategy:
    """Drop padded examples for real, which gives every short batch its own program."""
    right = gradients.batch_value_and_grad(loss_fn)

    def put_batch(batch: Batch) -> Batch:
        kept = np.flatnonzero(np.asarray(batch.weights))
        return jax.tree.map(lambda a: a[kept], batch)

    return jitted(right)._replace(put_batch=put_batch)


MUTANTS = {
    "gradients_equal_the_reference": one_dropout_mask_for_all,
    "mean_not_sum": sum_instead_of_mean,
    "weights_weigh": weights_ignored,
    "weight_zero_removes_an_example": mean_over_padding_too,
    "permutation_changes_nothing": keys_by_position,
    "structure_and_dtype_are_kept": gradients_in_half_precision,
    "the_callers_parameters_survive": state_is_not_copied,
    "loss_falls": reversed_gradient,
    "a_step_traces_once": shape_follows_the_padding,
}


@pytest.fixture(scope="module", params=["float32", "float64"])
def tiny(request):
    with jax.enable_x64(request.param == "float64"):
        yield experiment_of(TINY, precision=request.param)


@pytest.fixture(scope="module", params=STRATEGIES)
def subject(request, tiny):
    return Subject(STRATEGIES[request.param], tiny)


@pytest.mark.parametrize("law", LAWS)
def test_every_strategy_obeys(law, subject):
    if law == "a_step_traces_once" and subject.strategy.run == "eager":
        return  # it has no program to trace
    LAWS[law](subject)


@pytest.mark.parametrize("law", LAWS)
def test_every_law_catches_its_mutant(law, tiny):
    copy = tiny._replace(params=copy_to_device(tiny.params))  # a mutant deletes it
    deletes = law == "the_callers_parameters_survive"
    with pytest.raises(
        RuntimeError if deletes else AssertionError,
        match="deleted" if deletes else None,
    ):
        LAWS[law](Subject(MUTANTS[law], copy))


def test_every_law_has_a_mutant():
    assert MUTANTS.keys() == LAWS.keys()


@pytest.mark.parametrize(
    "mutant", [sum_instead_of_mean, weights_ignored, gradient_of_first_half]
)
def test_equality_with_the_reference_catches_more(mutant, tiny):
    with pytest.raises(AssertionError):
        law_gradients_equal_the_reference(Subject(mutant, tiny))


# Every recipe, dropout on, on a full and on a short batch.


def distinct_losses() -> list:
    """List the recipes whose loss of one example differs, the heavy ones as slow."""
    losses, cases = set(), []
    for recipe in RECIPES.values():
        loss = (recipe.model, recipe.preprocessing, recipe.loss)
        for precision in ("float32", "float64"):
            heavy = recipe.name == "sgd_wide_cnn" and precision == "float64"
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
        subjects = [Subject(builder, experiment) for builder in STRATEGIES.values()]
        for padding in (0, size // 3):
            batch = make_batch(experiment, size, padding=padding)
            expected = subjects[0].reference(batch)
            for subject in subjects:
                subject.check_equal(subject.value_and_grad(batch), expected)
