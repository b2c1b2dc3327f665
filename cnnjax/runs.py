"""Run an experiment: train it, test it, ask what it predicts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Int, Num

from cnnjax.clock import Clock
from cnnjax.data.dataset import Dataset
from cnnjax.epochs import Callbacks, ignore, train
from cnnjax.evaluation import make_evaluate, make_predict
from cnnjax.experiments import Experiment, prepare
from cnnjax.recipes import Recipe
from cnnjax.records import EpochRecord
from cnnjax.settings import check_settings
from cnnjax.strategies import make_strategy
from cnnjax.types import Params
from cnnjax.updates import Updates


class Run(NamedTuple):
    """What a training run left."""

    params: Params
    records: list[EpochRecord]
    test: Mapping[str, float]  # of the last parameters, over every test example


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
    """
    clock = clock or Clock()
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
    if records and records[-1].test is not None:
        return Run(params, records, records[-1].test)
    with clock.part("evaluate"):
        return Run(params, records, evaluate(experiment.loop.epochs, params))


def is_due(epoch: int, epochs: int, evaluate_every: int) -> bool:
    """Return whether an epoch is evaluated: every so many, and always the last."""
    return epoch == epochs or (evaluate_every > 0 and epoch % evaluate_every == 0)


def make_test(experiment: Experiment) -> Callable[[int, Params], Mapping[str, float]]:
    """Compile `test(epochs done, params)`: the metrics over every test example.

    The work is divided as the strategy divides its own.
    """
    # A fault in how training places its arrays must not reach the evaluation.
    right = make_strategy(
        experiment.recipe.strategy, experiment.loss_fn, experiment.options
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
        InputError: the dataset, the seed or the strategy does not fit the recipe.
    """
    experiment = prepare(recipe, dataset, seed=seed)
    return run(experiment, evaluate_every=evaluate_every, on_epoch=on_epoch)


def predict(
    experiment: Experiment, params: Params, example: Num[np.ndarray, "*example"]
) -> np.ndarray:
    """Return the class of one raw example (int), or the regressed targets (float).

    Raises:
        InputError: a JAX setting is in the way.
    """
    check_settings()
    outputs = np.asarray(jax.jit(experiment.apply_fn)(params, jax.device_put(example)))
    classifies = experiment.recipe.loss == "softmax_cross_entropy"
    return np.asarray(outputs.argmax()) if classifies else outputs


def predict_test(
    experiment: Experiment, params: Params
) -> Int[np.ndarray, " examples"] | None:
    """Return the class of every test example, in their order; None for a regression."""
    if experiment.recipe.loss != "softmax_cross_entropy":
        return None
    return make_predict(experiment.apply_fn, experiment.test)(params)
