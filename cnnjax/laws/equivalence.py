"""Compare a strategy with the reference: gradients first, then its cost."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import PyTree

from cnnjax.base.settings import check_compiles
from cnnjax.experiments.experiment import Experiment
from cnnjax.gradients import reductions, rules
from cnnjax.gradients.reductions import Reduction
from cnnjax.gradients.rules import Rule
from cnnjax.gradients.shares import with_per_example
from cnnjax.laws.cases import Case
from cnnjax.laws.comparison import TOLERANCES, largest_error
from cnnjax.laws.excess import Excess, excess, objections
from cnnjax.laws.making import make_case
from cnnjax.laws.programs import temporary_bytes
from cnnjax.laws.references import Reference, comparable
from cnnjax.laws.table import LAWS

# The laws about updates, other than their results.
OF_UPDATES = (
    "a_step_traces_once",
    "no_host_to_device_transfer",
    "the_callers_parameters_survive",
)


class Agreement(NamedTuple):
    """The comparison of a strategy with the serial reference, on the same batches."""

    absolute_error: float  # largest error of the gradients, in their units
    relative_error: float  # largest of `comparison.leaf_errors` of the gradients
    excess: float  # largest error of the gradients / bound of `law`; at most 1 if right
    params_error: float  # largest relative error of the parameters after some updates
    traces: int  # traces of the training step in those updates; 0: it is not jitted
    temporary_bytes: int | None  # on one device, by XLA's analysis; None: unknown
    objections: tuple[str, ...]  # why the strategy disagrees; empty: it agrees

    @property
    def agrees(self) -> bool:
        """Whether there are no objections."""
        return not self.objections


def assess(experiment: Experiment, reference: Reference) -> Agreement:
    """Compare the experiment's strategy with the serial reference, and check its cost.

    Gradients are compared before any optimizer, then parameters after some updates
    (where Adam hides a wrong scale). A compiled update must also trace once, call no
    Python and copy nothing from the host; gradients must be placed as the parameters
    are; each of several devices must do only its part of the work; the caller's
    parameters must survive. (With microbatches the work is not counted, because XLA
    counts the body of a loop once.)

    Raises:
        InputError: jax_disable_jit is set.
    """
    check_compiles("a comparison of strategies")
    case = _case(experiment, reference)
    temporary = None
    if case.compiled:
        temporary = temporary_bytes(case.program(reference.batches[0]))
    values = [case.value_and_grad(batch) for batch in reference.batches]
    errors = _errors(values, reference.values)
    found = [
        excess(metrics, grads, exact)
        for (metrics, grads), exact in zip(values, reference.exact, strict=True)
    ]
    worst = Excess(max(one.means for one in found), max(one.grads for one in found))
    told = _broken(case, "no_callback")
    told += objections(worst, errors[:2])
    told += _broken(case, "placement_is_kept")
    if not told:  # work is comparable only if the results are the same
        told += _broken(case, "the_work_is_divided")
    told += _broken(case, *OF_UPDATES)
    return Agreement(
        absolute_error=errors[2],
        relative_error=errors[1],
        excess=worst.grads,
        params_error=_error(case.updated.params, reference.params),
        traces=case.updated.traces,
        temporary_bytes=temporary,
        objections=tuple(told),
    )


def _case(experiment: Experiment, reference: Reference) -> Case:
    """Build the case of the experiment's strategy, which can have faults.

    What the laws compare it with is built from its row of the table, without faults.
    """
    case = make_case(
        experiment.recipe.strategy,
        experiment.objective,
        experiment.params,
        reference.batches[0],
        options=experiment.form.options,
        dtype=experiment.recipe.model.dtype,
        optimizer=experiment.optimizer,
    )
    updates = (reference.batches[index % 2] for index in range(reference.num_steps))
    return replace(case, strategy=experiment.strategy, update_batches=tuple(updates))


def _broken(case: Case, *names: str) -> list[str]:
    found = (LAWS[name](case) for name in names)
    return [objection for objection in found if objection is not None]


class RuleAgreement(NamedTuple):
    """The comparison of a gradient rule with the serial rule, for a reduction."""

    absolute_error: float  # largest, of mean gradients and of per-example values
    relative_error: float  # largest of `comparison.leaf_errors`, including metrics
    temporary_bytes: int | None  # by XLA's analysis; None: unknown
    agrees: bool


def assess_rule(
    experiment: Experiment,
    reference: Reference,
    *,
    rule: Rule,
    reduction: Callable[[float], Reduction],
) -> RuleAgreement:
    """Compare a gradient rule with the serial rule, for a reduction, on the same batch.

    The norm to clip to is the median of the norms, so that half of them are clipped.
    """
    batch, params = reference.batches[1], experiment.params  # the short one
    objective = experiment.objective
    serial = jax.jit(with_per_example(rules.serial(objective, reductions.norms)))
    median = float(np.median(serial(params, batch)[2]["grad_norm"]))
    max_norm = max(median, reductions.LEAST_MAX_NORM)
    reduced = reduction(max_norm)
    share = rule(objective, reduced)
    program = jax.jit(with_per_example(share)).lower(params, batch).compile()
    expected = jax.jit(with_per_example(rules.serial(objective, reduced)))(
        params, batch
    )
    actual = program(params, batch)
    relative = _error(actual, expected)
    return RuleAgreement(
        absolute_error=_difference(actual[1:], expected[1:]),
        relative_error=relative,
        temporary_bytes=temporary_bytes(program),
        agrees=relative <= TOLERANCES[experiment.recipe.model.dtype],
    )


def _errors(actual: list, expected: tuple) -> tuple[float, float, float]:
    """Return the relative errors of metrics and gradients, and the absolute error."""
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
