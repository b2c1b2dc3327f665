"""How a run is judged: on which examples, when, and by which program."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import jax

from cnnjax.experiments.experiment import Experiment
from cnnjax.strategies import make_strategy
from cnnjax.training.evaluation import make_evaluate
from cnnjax.types import Params


def looked_at(experiment: Experiment) -> Experiment:
    """Return the experiment whose test examples are those to look at meanwhile."""
    if experiment.validation is None:
        return experiment
    return experiment._replace(test=experiment.validation, test_of_epoch=None)


def is_due(epoch: int, epochs: int, evaluate_every: int) -> bool:
    """Return whether an epoch is evaluated; the last one always is."""
    return epoch == epochs or (evaluate_every > 0 and epoch % evaluate_every == 0)


def make_test(experiment: Experiment) -> Callable[[int, Params], Mapping[str, float]]:
    """Compile `test(epochs_done, params)`: the metrics over all test examples.

    The work is divided over devices as in training.
    """
    # Not the experiment's strategy: a fault in its placement must not affect the test.
    right = make_strategy(
        experiment.form.strategy, experiment.objective, experiment.form.options
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
        # Without such a fault they are there already.
        placed = jax.device_put(params, home)
        if experiment.test_of_epoch is None:
            return program(placed)
        return program(placed, experiment.test_of_epoch(epoch))

    return test
