"""Hold one strategy against the reference: gradients first, then what it costs."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from cnnjax import devices
from cnnjax.base.settings import check_compiles
from cnnjax.experiments.experiment import Experiment
from cnnjax.faults import setting_of, switch_in
from cnnjax.gradients import reductions, rules
from cnnjax.gradients.reductions import Reduction
from cnnjax.gradients.rules import Rule
from cnnjax.gradients.shares import with_each
from cnnjax.laws import law
from cnnjax.laws.comparison import TOLERANCES, largest_error
from cnnjax.laws.programs import (
    calls_python,
    copies_from_host,
    flops,
    placed_alike,
    temporary_bytes,
)
from cnnjax.laws.references import WORK_BATCH, Reference, comparable, repeat
from cnnjax.training.step import init_state, make_train_step
from cnnjax.types import Batch, Metrics, Params, TrainState


class Agreement(NamedTuple):
    """How far a strategy is from the serial reference, on the same batches."""

    absolute_error: float  # largest of the gradients, in their units
    relative_error: float  # largest of `comparison.leaf_errors` of the gradients
    excess: float  # largest error of the gradients, in bounds of `law`: at most 1
    params_error: float  # the same of the parameters, after some updates
    traces: int  # of the training step in those updates: 1; 0 where it is not jitted
    temporary_bytes: int | None  # of one device, by XLA's analysis; None: not known
    objections: tuple[str, ...]  # why it does not agree; empty: it does

    @property
    def agrees(self) -> bool:
        """Whether there is nothing to object to."""
        return not self.objections


def assess(experiment: Experiment, reference: Reference) -> Agreement:
    """Judge the experiment's strategy by the serial reference, and by what it costs.

    Gradients are compared before any optimizer; then parameters after some updates,
    where Adam hides a wrong scale. Besides, a compiled update is traced once, calls no
    Python and copies nothing from the host; gradients are placed as the parameters are;
    each of several devices does its part of the work, and no more; the caller's
    parameters survive. (Work is not counted in microbatches: XLA counts a loop once.)

    Raises:
        InputError: JAX compiles nothing, by its setting.
    """
    check_compiles("a comparison of strategies")
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
    found = [
        law.excess(metrics, grads, exact)
        for (metrics, grads), exact in zip(values, reference.exact, strict=True)
    ]
    of_means = max(one.means for one in found)
    of_grads = max(one.grads for one in found)
    for what, times, error in (
        ("metrics", of_means, errors[0]),
        ("gradient", of_grads, errors[1]),
    ):
        if math.inf in (times, error):
            objections.append(f"{what} of another kind, or not finite")
        elif times > 1:
            objections.append(f"{what} off by {error:.1e}, {times:.1e} times the bound")
    if not placed_alike(values[0][1], params):
        objections.append("gradient placed unlike parameters")
    countable = compiled and experiment.options.microbatch_size is None
    if countable and not objections:
        objections += _share_of_work(experiment, reference.batches[0])
    updates = _update(experiment, placed, num_steps=reference.num_steps)
    objections += updates.objections
    return Agreement(
        absolute_error=errors[2],
        relative_error=errors[1],
        excess=of_grads,
        params_error=_error(updates.params, reference.params),
        traces=updates.traces,
        temporary_bytes=temporary,
        objections=tuple(objections),
    )


class RuleAgreement(NamedTuple):
    """How far a per-example rule is from the serial reference of its reduction."""

    absolute_error: float  # largest, of mean gradients and of what is kept of each
    relative_error: float  # largest of `comparison.leaf_errors`; of metrics, too
    temporary_bytes: int | None  # by XLA's analysis; None: not known
    agrees: bool


def assess_rule(
    experiment: Experiment,
    reference: Reference,
    *,
    rule: Rule,
    reduction: Callable[[float], Reduction],
) -> RuleAgreement:
    """Judge a rule's reduction by the serial reference's, on the same batches.

    Gradients are clipped to the median of their norms, so that half of them are.
    """
    batch, params = reference.batches[1], experiment.params  # the short one
    objective = experiment.objective
    serial = jax.jit(with_each(rules.serial(objective, reductions.norms)))
    median = float(np.median(serial(params, batch)[2]["grad_norm"]))
    max_norm = max(median, reductions.LEAST_MAX_NORM)
    reduced = reduction(max_norm)
    share = rule(objective, reduced)
    program = jax.jit(with_each(share)).lower(params, batch).compile()
    expected = jax.jit(with_each(rules.serial(objective, reduced)))(params, batch)
    actual = program(params, batch)
    relative = _error(actual, expected)
    return RuleAgreement(
        absolute_error=_difference(actual[1:], expected[1:]),
        relative_error=relative,
        temporary_bytes=temporary_bytes(program),
        agrees=relative <= TOLERANCES[experiment.recipe.model.dtype],
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


def _share_of_work(experiment: Experiment, batch: Batch) -> list[str]:
    """Object where each of N devices does more than one would with its part alone.

    The same strategy on one device is the measure: rows of gradients cost more than
    `jit`, up to a fifth in a network of 57 parameters.
    """
    num_devices = setting_of(experiment).num_devices
    if num_devices == 1:
        return []
    options = experiment.options._replace(mesh=devices.make_mesh(1))
    alone = switch_in(experiment._replace(options=options), ())
    work, own = _work(experiment, batch), _work(alone, batch)
    if work is None or own is None or work <= 1.1 * own:
        return []
    part = work / own / num_devices
    return [f"{part:.2f} of the work on each of {num_devices} devices"]


def _work(experiment: Experiment, batch: Batch) -> float | None:
    strategy, devices = experiment.strategy, setting_of(experiment).num_devices
    placed = strategy.put_batch(repeat(batch, WORK_BATCH * devices))
    params = strategy.put_state(experiment.params)
    return flops(jax.jit(strategy.value_and_grad).lower(params, placed).compile())


def _errors(actual: list, expected: tuple) -> tuple[float, float, float]:
    """Return the errors of metrics and gradients, and the largest difference."""
    pairs = list(zip(actual, expected, strict=True))
    metrics = max(_error(a[0], comparable(e[0], a[0])) for a, e in pairs)
    grads = max(_error(a[1], e[1]) for a, e in pairs)
    return metrics, grads, max(_difference(a[1], e[1]) for a, e in pairs)


def _difference(actual: PyTree, expected: PyTree) -> float:
    if _error(actual, expected) == math.inf:
        return math.inf
    differences = jax.tree.map(
        lambda a, e: float(np.max(np.abs(np.asarray(a) - np.asarray(e)))),
        actual,
        expected,
    )
    return max(jax.tree.leaves(differences))


def _error(actual: PyTree, expected: PyTree) -> float:
    try:
        return largest_error(actual, expected)
    except ValueError:  # another structure, shape or dtype
        return math.inf
