"""The table of laws that every strategy obeys, each with a fault that it catches.

An entry is a law: what it states, the function that checks it, a fault of the catalogue
that breaks it, and the strategies to which it applies. The tests check every strategy
of `STRATEGIES` against every law, and every law against its fault.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from cnnjax.laws import costs, equalities
from cnnjax.laws.cases import Case


def always(case: Case) -> bool:
    """Return True: the law applies to all strategies."""
    del case
    return True


def compiled(case: Case) -> bool:
    """Return whether the strategy is compiled into a program."""
    return case.compiled


def divided(case: Case) -> bool:
    """Return whether several devices share the work, and the work can be counted.

    With microbatches it cannot, because XLA counts the body of a loop once.
    """
    return case.compiled and case.num_devices > 1 and case.microbatch_size is None


class Law(NamedTuple):
    """One law as a value; call it with a case to check it."""

    says: str  # what is true of every right strategy
    check: Callable[[Case], str | None]  # one line about what is wrong; None: it holds
    mutant: str  # a fault of `faults.FAULTS` that it catches
    applies: Callable[[Case], bool] = always

    def __call__(self, case: Case) -> str | None:
        """Return one line about what is wrong; None: it holds, or does not apply."""
        return self.check(case) if self.applies(case) else None


LAWS: dict[str, Law] = {
    "gradients_equal_the_reference": Law(
        "Metrics and gradient are those of one example after another, within rounding.",
        equalities.gradients_equal_the_reference,
        mutant="one_dropout_mask_for_all",
    ),
    "mean_not_sum": Law(
        "A batch with every example twice has the same gradient.",
        equalities.mean_not_sum,
        mutant="sum_instead_of_mean",
    ),
    "weights_weigh": Law(
        "The gradient is the weighted mean of the examples' gradients.",
        equalities.weights_weigh,
        mutant="weights_ignored",
    ),
    "weight_zero_removes_an_example": Law(
        "Examples at weight 0 change nothing.",
        equalities.weight_zero_removes_an_example,
        mutant="mean_over_padding_too",
    ),
    "permutation_changes_nothing": Law(
        "The order of the examples changes nothing: each has its own weight and key.",
        equalities.permutation_changes_nothing,
        mutant="keys_by_position",
    ),
    "structure_and_dtype_are_kept": Law(
        "The gradient has the structure, shapes and dtypes of the parameters.",
        equalities.structure_and_dtype_are_kept,
        mutant="gradients_in_half_precision",
    ),
    "loss_falls": Law(
        "The loss falls along a small step against the gradient.",
        equalities.loss_falls,
        mutant="reversed_gradient",
    ),
    "placement_is_kept": Law(
        "The gradient is placed as the parameters are.",
        costs.placement_is_kept,
        mutant="state_on_one_device",
    ),
    "the_callers_parameters_survive": Law(
        "Updates neither delete nor change the caller's parameters.",
        costs.the_callers_parameters_survive,
        mutant="state_is_not_copied",
    ),
    "the_work_is_divided": Law(
        "Each of N devices does 1/N of the work.",
        costs.the_work_is_divided,
        mutant="batch_on_every_device",
        applies=divided,
    ),
    "a_step_traces_once": Law(
        "One program runs full and short batches.",
        costs.a_step_traces_once,
        mutant="shape_follows_the_padding",
        applies=compiled,
    ),
    "no_host_to_device_transfer": Law(
        "A step copies nothing from the host.",
        costs.no_host_to_device_transfer,
        mutant="batch_on_the_host",
        applies=compiled,
    ),
    "no_callback": Law(
        "A step does not call Python.",
        costs.no_callback,
        mutant="callback_in_the_step",
        applies=compiled,
    ),
}
