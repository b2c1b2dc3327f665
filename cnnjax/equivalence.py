"""Hold one strategy against the reference: gradients first, then what it costs."""

from __future__ import annotations

from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import PyTree

from cnnjax.comparison import TOLERANCES, largest_error
from cnnjax.data.order import example_keys, take_batch
from cnnjax.experiments import Experiment
from cnnjax.gradients import serial_value_and_grad
from cnnjax.training import init_state, make_train_step
from cnnjax.types import Batch, Params


class Agreement(NamedTuple):
    """How far a strategy is from the serial reference, on the same batch."""

    absolute_error: float  # largest of the gradients, in their units
    relative_error: float  # largest of `comparison.leaf_errors`
    params_error: float  # the same of the parameters, after some updates
    traces: int  # of the training step in those updates: 1; 0 where it is not jitted
    temporary_bytes: int | None  # of one device, by XLA's analysis; None: not known
    agrees: bool  # relative_error is within the tolerance of the precision


def first_batch(experiment: Experiment, *, batch_size: int) -> Batch:
    """Return the first examples of the training set, with keys if there is dropout."""
    order = np.arange(len(experiment.train.labels), dtype=np.int32)
    batch = take_batch(
        experiment.train, jax.numpy.asarray(order), 0, batch_size=batch_size
    )
    if experiment.keys.dropout is None:
        return batch
    keys = example_keys(experiment.keys.dropout, 0, batch_size=batch_size)
    return batch._replace(keys=keys)


def assess(experiment: Experiment, batch: Batch, *, num_steps: int) -> Agreement:
    """Compare the experiment's strategy with the serial reference.

    Gradients are compared before any optimizer; then parameters after `num_steps`
    updates on the same batch, where Adam hides a wrong scale.
    """
    strategy = experiment.strategy
    reference = serial_value_and_grad(experiment.loss_fn)
    _, expected = jax.jit(reference)(experiment.params, batch)
    params = strategy.put_state(experiment.params)
    placed = strategy.put_batch(batch)
    temporary = None
    value_and_grad = strategy.value_and_grad
    if strategy.run == "loop":
        compiled = jax.jit(value_and_grad).lower(params, placed).compile()
        analysis = compiled.memory_analysis()
        temporary = None if analysis is None else analysis.temp_size_in_bytes
        value_and_grad = compiled
    _, grads = value_and_grad(params, placed)
    relative = largest_error(grads, expected)
    updated, traces = _update(experiment, batch, num_steps=num_steps)
    serial = experiment._replace(
        strategy=strategy._replace(
            value_and_grad=reference,
            put_state=jax.device_put,
            put_batch=jax.device_put,
            run="loop",
        )
    )
    expected_params, _ = _update(serial, batch, num_steps=num_steps)
    precision = experiment.recipe.model.dtype
    return Agreement(
        absolute_error=_largest_difference(grads, expected),
        relative_error=relative,
        params_error=largest_error(updated, expected_params),
        traces=traces,
        temporary_bytes=temporary,
        agrees=relative <= TOLERANCES[precision],
    )


def _update(
    experiment: Experiment, batch: Batch, *, num_steps: int
) -> tuple[Params, int]:
    """Return the parameters after some updates, and how often the step was traced."""
    strategy, traces = experiment.strategy, 0
    step = make_train_step(strategy.value_and_grad, experiment.optimizer)

    def counted(state, batch):
        nonlocal traces
        traces += 1
        return step(state, batch)

    run = jax.jit(counted) if strategy.run == "loop" else step
    state = strategy.put_state(init_state(experiment.params, experiment.optimizer))
    placed = strategy.put_batch(batch)
    for _ in range(num_steps):
        state, _ = run(state, placed)
    return state.params, traces


def _largest_difference(actual: PyTree, expected: PyTree) -> float:
    differences = jax.tree.map(
        lambda a, e: float(np.max(np.abs(np.asarray(a) - np.asarray(e)))),
        actual,
        expected,
    )
    return max(jax.tree.leaves(differences))
