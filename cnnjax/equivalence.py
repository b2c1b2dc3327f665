"""Hold one strategy against the reference: gradients first, then what it costs."""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from cnnjax import reductions
from cnnjax.comparison import TOLERANCES, largest_error
from cnnjax.data.order import example_keys, take_batch
from cnnjax.experiments import Experiment, setting_of
from cnnjax.gradients import batch_value_and_grad, serial_share, whole
from cnnjax.programs import (
    calls_python,
    copies_from_host,
    flops,
    placed_alike,
    temporary_bytes,
)
from cnnjax.training import init_state, make_train_step
from cnnjax.types import Batch, LossFn, Metrics, Params, TrainState, ValueAndGradFn

# Examples that each device has where its work is counted: with fewer, what is done once
# a batch, as adding up the devices' gradients, would weigh too much.
WORK_BATCH = 16


class Reference(NamedTuple):
    """What the serial reference makes of two batches, and of some updates on them."""

    batches: tuple[Batch, Batch]
    values: tuple[tuple[Metrics, Params], tuple[Metrics, Params]]  # of each batch
    params: Params  # after `num_steps` updates
    num_steps: int
    flops: float | None  # of `jit` on WORK_BATCH examples, by XLA; None: not known


class Agreement(NamedTuple):
    """How far a strategy is from the serial reference, on the same batches."""

    absolute_error: float  # largest of the gradients, in their units
    relative_error: float  # largest of `comparison.leaf_errors` of the gradients
    params_error: float  # the same of the parameters, after some updates
    traces: int  # of the training step in those updates: 1; 0 where it is not jitted
    temporary_bytes: int | None  # of one device, by XLA's analysis; None: not known
    objections: tuple[str, ...]  # why it does not agree; empty: it does

    @property
    def agrees(self) -> bool:
        """Whether there is nothing to object to."""
        return not self.objections


def first_batches(experiment: Experiment, *, batch_size: int) -> tuple[Batch, Batch]:
    """Return the first examples of the training set twice: in full, and short.

    They have keys if there is dropout. Weights are unequal, and their mean is not 1:
    of equal weights a mean of local means would be right, too. In the second batch the
    last third is padding.
    """
    order = np.arange(len(experiment.train.labels), dtype=np.int32)
    batch = take_batch(experiment.train, jnp.asarray(order), 0, batch_size=batch_size)
    weights = np.linspace(0.5, 1.25, batch_size, dtype=np.float32)
    full = batch._replace(weights=batch.weights * weights)
    if experiment.keys.dropout is not None:
        keys = example_keys(experiment.keys.dropout, 0, batch_size=batch_size)
        full = full._replace(keys=keys)
    kept = np.arange(batch_size) < batch_size - max(1, batch_size // 3)
    return full, full._replace(weights=full.weights * kept)


def reference_value_and_grad(loss_fn: LossFn) -> ValueAndGradFn:
    """Go through the batch one example at a time; the mean norm is a metric, too."""
    return whole(serial_share(loss_fn, reductions.norms))


def comparable(reference: Metrics, reported: Metrics) -> Metrics:
    """Leave the mean norm out of the reference where a strategy does not report it."""
    means = {
        name: value
        for name, value in reference.means.items()
        if name != "grad_norm" or name in reported.means
    }
    return reference._replace(means=means)


def make_reference(
    experiment: Experiment, *, batch_size: int, num_steps: int
) -> Reference:
    """Compute what every strategy of an experiment is compared with, once.

    `num_steps` updates take the two batches by turns.
    """
    batches = first_batches(experiment, batch_size=batch_size)
    value_and_grad = jax.jit(reference_value_and_grad(experiment.loss_fn))
    values = tuple(value_and_grad(experiment.params, batch) for batch in batches)
    step = jax.jit(make_train_step(value_and_grad, experiment.optimizer))
    state = init_state(experiment.params, experiment.optimizer)
    for index in range(num_steps):
        state, _ = step(state, batches[index % 2])
    few = _repeat(batches[0], WORK_BATCH)
    jitted = jax.jit(batch_value_and_grad(experiment.loss_fn))
    program = jitted.lower(experiment.params, few).compile()
    return Reference(
        batches, (values[0], values[1]), state.params, num_steps, flops(program)
    )


def assess(experiment: Experiment, reference: Reference) -> Agreement:
    """Judge the experiment's strategy by the serial reference, and by what it costs.

    Gradients are compared before any optimizer; then parameters after some updates,
    where Adam hides a wrong scale. Besides, a compiled update is traced once, calls no
    Python and copies nothing from the host; gradients are placed as the parameters are;
    each of several devices does its part of the work, and no more; the caller's
    parameters survive. (Work is not counted in microbatches: XLA counts a loop once.)
    """
    strategy = experiment.strategy
    compiled = strategy.run != "eager"
    experiment = experiment._replace(params=jax.tree.map(jnp.copy, experiment.params))
    params = strategy.put_state(experiment.params)
    placed = [strategy.put_batch(batch) for batch in reference.batches]
    value_and_grad = strategy.value_and_grad
    objections, temporary = [], None
    if compiled:
        value_and_grad = jax.jit(value_and_grad)
        program = value_and_grad.lower(params, placed[0]).compile()
        temporary = temporary_bytes(program)
        if calls_python(program):
            objections.append("calls Python in the step")
    values = [value_and_grad(params, batch) for batch in placed]
    errors = _errors(values, reference.values)
    tolerance = TOLERANCES[experiment.recipe.model.dtype]
    for what, error in zip(("metrics", "gradient"), errors[:2], strict=True):
        if error == math.inf:
            objections.append(f"{what} of another kind, or not finite")
        elif error > tolerance:
            objections.append(f"{what} off by {error:.1e}")
    if not placed_alike(values[0][1], params):
        objections.append("gradient placed unlike parameters")
    countable = compiled and experiment.options.microbatch_size is None
    if countable and not objections:
        objections += _share_of_work(experiment, reference)
    updates = _update(experiment, placed, num_steps=reference.num_steps)
    objections += updates.objections
    return Agreement(
        absolute_error=errors[2],
        relative_error=errors[1],
        params_error=_error(updates.params, reference.params),
        traces=updates.traces,
        temporary_bytes=temporary,
        objections=tuple(objections),
    )


class _Updates(NamedTuple):
    params: Params
    traces: int
    objections: list[str]


def _update(experiment: Experiment, placed: list[Batch], *, num_steps: int) -> _Updates:
    """Update as training does, with a donated state; then once more under guard."""
    strategy, traces = experiment.strategy, 0
    before = jax.tree.map(np.array, experiment.params)
    step = make_train_step(strategy.value_and_grad, experiment.optimizer)

    def counted(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        nonlocal traces
        traces += 1
        return step(state, batch)

    compiled = strategy.run != "eager"
    run = jax.jit(counted, donate_argnums=0) if compiled else step
    state = strategy.put_state(init_state(experiment.params, experiment.optimizer))
    for index in range(num_steps):
        state, _ = run(state, placed[index % 2])
    params = jax.tree.map(np.array, state.params)
    objections = []
    if traces > 1:
        objections.append(f"traced {traces} times")
    if compiled and copies_from_host(run, state, placed[0]):
        objections.append("copies from the host in the step")
    leaves = jax.tree.leaves(experiment.params)
    if any(leaf.is_deleted() for leaf in leaves):
        objections.append("deletes the caller's parameters")
    elif largest_error(experiment.params, before) > 0:
        objections.append("changes the caller's parameters")
    return _Updates(params, traces, objections)


def _share_of_work(experiment: Experiment, reference: Reference) -> list[str]:
    """Object where a device has more than its part of the work of `jit` to do."""
    num_devices = setting_of(experiment).num_devices
    if num_devices == 1:
        return []
    strategy = experiment.strategy
    params = strategy.put_state(experiment.params)
    batch = _repeat(reference.batches[0], WORK_BATCH * num_devices)
    program = jax.jit(strategy.value_and_grad).lower(params, strategy.put_batch(batch))
    work, own = flops(program.compile()), reference.flops
    if work is None or own is None or work <= 1.1 * own:
        return []
    part = work / own / num_devices
    return [f"{part:.2f} of the work on each of {num_devices} devices"]


def _repeat(batch: Batch, size: int) -> Batch:
    rows = np.arange(size) % len(batch.weights)
    return jax.tree.map(lambda a: a[rows], batch)


def _errors(actual: list, expected: tuple) -> tuple[float, float, float]:
    """Return the errors of metrics and gradients, and the largest difference."""
    pairs = list(zip(actual, expected, strict=True))
    metrics = max(_error(a[0], comparable(e[0], a[0])) for a, e in pairs)
    grads = max(_error(a[1], e[1]) for a, e in pairs)
    differences = jax.tree.map(
        lambda a, e: float(np.max(np.abs(np.asarray(a) - np.asarray(e)))),
        [grads for _, grads in actual],
        [grads for _, grads in expected],
    )
    return metrics, grads, max(jax.tree.leaves(differences))


def _error(actual: PyTree, expected: PyTree) -> float:
    try:
        return largest_error(actual, expected)
    except ValueError:  # another structure, shape or dtype
        return math.inf
