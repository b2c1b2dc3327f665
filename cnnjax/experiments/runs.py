"""Run an experiment: train it, test it, ask what it predicts."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, ArrayLike, Float, Int, Num

from cnnjax import devices
from cnnjax.base.arguments import at_least, function, instance_of, optional
from cnnjax.base.clock import Clock, given_or_new
from cnnjax.base.errors import InputError, expect, shown
from cnnjax.base.settings import check_settings
from cnnjax.data.checks import as_array, as_held
from cnnjax.data.dataset import Dataset
from cnnjax.experiments.experiment import Experiment, prepare
from cnnjax.experiments.matching import check_pixels
from cnnjax.experiments.recipes import Recipe
from cnnjax.strategies import make_strategy
from cnnjax.training.epochs import Callbacks, ignore, train
from cnnjax.training.evaluation import BATCH_SIZE, make_evaluate, make_predict
from cnnjax.training.records import EpochRecord
from cnnjax.training.updates import Updates
from cnnjax.types import NO_PREDICTION, Params


class Run(NamedTuple):
    """What a training run left."""

    params: Params
    records: list[EpochRecord]
    test: Mapping[str, float]  # of the last parameters, over every test example
    # Test examples for which no class is predicted, which are wrong; None: a regression
    no_prediction: int | None = None

    @property
    def diverged(self) -> bool:
        """Whether a loss was ever not finite, in training or on the test set."""
        ended_well = math.isfinite(self.test.get("loss", 0.0))
        return not ended_well or any(record.diverged for record in self.records)


def run(
    experiment: Experiment,
    *,
    evaluate_every: int = 1,
    on_epoch: Callable[[EpochRecord], None] = ignore,
    on_progress: Callable[[int, int], None] = ignore,
    clock: Clock | None = None,
    updates: Updates | None = None,
) -> Run:
    """Train an experiment and evaluate it: after every so many epochs, and at the end.

    `evaluate_every=0` evaluates at the end only. The parameters do not depend on it.
    `updates` are what an experiment of the same shapes was compiled to.

    Raises:
        InputError: no experiment, `evaluate_every` is no number of epochs, or what is
            called meanwhile is no function.
    """
    instance_of(Experiment)("experiment (see prepare)", experiment)
    evaluate_every = at_least(0)("evaluate_every", evaluate_every)
    function("on_epoch", on_epoch)
    function("on_progress", on_progress)
    optional(instance_of(Updates))("updates", updates)
    clock = given_or_new(clock)
    with clock.part("compile"):
        evaluate = make_test(experiment)

    def evaluate_when_due(epoch: int, params: Params) -> Mapping[str, float] | None:
        due = is_due(epoch, experiment.loop.epochs, evaluate_every)
        return evaluate(epoch, params) if due else None

    params, records = train(
        experiment.params,
        experiment.train,
        strategy=experiment.strategy,
        optimizer=experiment.optimizer,
        schedule=experiment.schedule,
        config=experiment.loop,
        keys=experiment.keys,
        callbacks=Callbacks(evaluate_when_due, on_epoch, on_progress),
        means_fn=experiment.means_fn,
        clock=clock,
        updates=updates,
    )
    test = records[-1].test if records else None
    with clock.part("evaluate"):
        test = test or evaluate(experiment.loop.epochs, params)
        unpredicted = count_unpredicted(experiment, params, test)
    return Run(params, records, test, unpredicted)


def is_due(epoch: int, epochs: int, evaluate_every: int) -> bool:
    """Return whether an epoch is evaluated: every so many, and always the last."""
    return epoch == epochs or (evaluate_every > 0 and epoch % evaluate_every == 0)


def make_test(experiment: Experiment) -> Callable[[int, Params], Mapping[str, float]]:
    """Compile `test(epochs done, params)`: the metrics over every test example.

    The work is divided as the strategy divides its own.
    """
    # A fault in how training places its arrays must not reach the evaluation.
    right = make_strategy(
        experiment.recipe.strategy, experiment.objective, experiment.options
    )
    params = right.put_state(experiment.params)
    program = make_evaluate(
        experiment.test_loss_fn,
        experiment.test,
        params,
        put_state=right.put_state,
        put_batch=right.put_batch,
    )
    home = jax.tree.map(lambda a: a.sharding, params)

    def test(epoch: int, params: Params) -> Mapping[str, float]:
        # There already, but for such a fault.
        placed = jax.device_put(params, home)
        if experiment.test_of_epoch is None:
            return program(placed)
        return program(placed, experiment.test_of_epoch(epoch))

    return test


def fit(
    recipe: Recipe,
    dataset: Dataset,
    *,
    seed: int = 0,
    evaluate_every: int = 1,
    on_epoch: Callable[[EpochRecord], None] = ignore,
) -> Run:
    """Prepare and run a recipe in one call.

    Raises:
        InputError: the dataset, the seed or the strategy does not fit the recipe, or
            `evaluate_every` is no number of epochs, or `on_epoch` no function.
    """
    evaluate_every = at_least(0)("evaluate_every", evaluate_every)
    function("on_epoch", on_epoch)
    experiment = prepare(recipe, dataset, seed=seed)
    return run(experiment, evaluate_every=evaluate_every, on_epoch=on_epoch)


def predict(
    experiment: Experiment, params: Params, example: Num[ArrayLike, "*example"]
) -> np.ndarray:
    """Return the class of one raw example (int), or the regressed targets (float).

    The class is NO_PREDICTION, -1, where the logits name none. A stack of them,
    [examples, *example], gives one for each. Raw is what the dataset has: pixels from 0
    to 255, which the recipe scales itself.

    Raises:
        InputError: inputs of another shape or scale, or that no dataset may have: no
            numbers, not finite, too large for 32 bits; parameters of another network;
            or a JAX setting is in the way.
    """
    check_settings()
    instance_of(Experiment)("experiment (see prepare)", experiment)
    _check_params(params, like=experiment.params)
    inputs, shape = as_array(example, "inputs"), experiment.recipe.model.input_shape
    what = f"one example of shape {shape}, or several stacked along a new first axis"
    expect(what, inputs.shape, inputs.shape[-len(shape) :] == shape)
    expect(what, inputs.shape, inputs.ndim - len(shape) in (0, 1))
    single = inputs.ndim == len(shape)
    inputs = as_held(inputs[None] if single else inputs, "inputs")
    check_pixels(experiment.recipe, inputs, part="given", may_be_dark=True)
    apply_fn, predict = experiment.apply_fn, experiment.objective.predict
    placed = jax.device_put(inputs[0] if single else inputs)
    if single:
        outputs = jax.jit(apply_fn)(params, placed)
        class_of = predict
    else:
        outputs = _of_each(apply_fn, params, placed)
        class_of = predict and jax.vmap(predict)
    return np.asarray(class_of(outputs) if class_of else outputs)


@functools.partial(jax.jit, static_argnums=0)
def _of_each(
    apply_fn: Callable[..., Array],
    params: Params,
    inputs: Num[Array, "examples *example"],
) -> Float[Array, "examples classes"]:
    """Apply a network to a stack of raw examples, a few at a time."""
    return lax.map(functools.partial(apply_fn, params), inputs, batch_size=BATCH_SIZE)


def _check_params(params: Params, *, like: Params) -> None:
    """Raise InputError unless the parameters have the names and shapes of others."""

    def shapes(tree: Params) -> dict[str, tuple[int, ...] | str]:
        leaves = jax.tree_util.tree_leaves_with_path(tree)
        return {jax.tree_util.keystr(path): _shape_of(leaf) for path, leaf in leaves}

    got, expected = shapes(params), shapes(like)
    wrong = [
        name for name in {**expected, **got} if got.get(name) != expected.get(name)
    ]
    if wrong:
        each = [shown(of.get(wrong[0], "nothing")) for of in (expected, got)]
        raise InputError(
            "expected the parameters of this network, as prepare or run return them: "
            f"{wrong[0]} of shape {each[0]}, got {each[1]}"
        )


def _shape_of(leaf: Any) -> tuple[int, ...] | str:
    kind = getattr(leaf, "dtype", np.dtype(object))
    real = jnp.issubdtype(kind, np.number)
    if not real or jnp.issubdtype(kind, np.complexfloating) or np.ma.is_masked(leaf):
        return f"a {type(leaf).__name__} that is no array of real numbers"
    return leaf.shape


def predict_test(
    experiment: Experiment, params: Params
) -> Int[np.ndarray, " examples"] | None:
    """Return the class of every test example, in their order; None for a regression.

    It is NO_PREDICTION, -1, where the logits of an example name no class.
    """
    if experiment.objective.predict is None:
        return None
    return make_predict(experiment.apply_fn, experiment.test)(params)


def count_unpredicted(
    experiment: Experiment, params: Params, test: Mapping[str, float]
) -> int | None:
    """Count the test examples without a predicted class; None for a regression.

    They are looked for only where the test loss is not finite: an example without a
    softmax makes it so.
    """
    if experiment.objective.predict is None:
        return None
    if math.isfinite(test["loss"]):
        return 0
    whole = jax.device_put(devices.to_host(params))
    predictions = predict_test(experiment, whole)
    return int(np.sum(predictions == NO_PREDICTION))
