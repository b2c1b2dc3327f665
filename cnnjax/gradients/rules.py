"""The gradient rules: how ONE device forms the mean gradient of the examples it has.

A rule takes an objective and a reduction, and returns a share (see `shares`). All of
them equal `serial`.
"""

from __future__ import annotations

from collections.abc import Callable

from cnnjax.base.errors import InputError
from cnnjax.gradients import factored as factored_shares
from cnnjax.gradients import reductions
from cnnjax.gradients.objective import Objective, factors_of
from cnnjax.gradients.per_example import example_share, rows_share
from cnnjax.gradients.reductions import Reduction
from cnnjax.gradients.shares import ShareFn, batch_share, serial_share

# rule(objective, reduction) -> share
Rule = Callable[[Objective, Reduction], ShareFn]


def serial(objective: Objective, reduction: Reduction = reductions.mean) -> ShareFn:
    """Go through the batch one example at a time: the reference.

    Who takes the mean? A running sum over the examples, divided by the sum of their
    weights. When is it not valid? Always valid: the other rules are compared with it.
    """
    return serial_share(objective.loss_fn, reduction)


def batch(objective: Objective, reduction: Reduction = reductions.mean) -> ShareFn:
    """Differentiate the loss of the batch at once: parallel per operation.

    Who takes the mean? The loss, over the batch axis. When is it not valid? For norms,
    clipping and the gradients of single examples, which it never forms.

    Raises:
        InputError: a reduction that needs to know an example's gradient.
    """
    if reduction.needs != "nothing":
        raise InputError(
            "expected the reduction mean for the batch at once, which forms no "
            f"gradient of an example, got one that needs its {reduction.needs}; use "
            "'vmap' or 'factored'"
        )
    return batch_share(objective.loss_fn)


def per_example(
    objective: Objective, reduction: Reduction = reductions.mean
) -> ShareFn:
    """Form the gradient of each example, then their mean: parallel per sample.

    Who takes the mean? A weighted sum over the gradients of the examples. When is it
    not valid? Always valid. Whether single gradients are formed is XLA's choice where
    only their mean is asked for; where their norms are, they take the memory of the
    parameters times the batch (or the microbatch).
    """
    if reduction.needs == "nothing":
        return example_share(objective.loss_fn)
    return rows_share(objective.loss_fn, reduction)


def factored(objective: Objective, reduction: Reduction = reductions.mean) -> ShareFn:
    """Form the gradient layer by layer, as one product of two flat matrices.

    Who takes the mean? The weights, which are in the loss of each example; one matrix
    product per layer adds up. When is it not valid? For a loss that is not built on a
    stack of layers: it needs `Objective.factors_fn`. It pays on CPUs, where
    `layers.conv2d` lays patches out anyway; elsewhere they would be laid out for this
    alone.

    Raises:
        InputError: a reduction that changes more than the length of an example's
            gradient; or, when it is traced, no `factors_fn`.
    """
    factors_fn = factors_of(objective)
    match reduction.needs:
        case "nothing":
            return factored_shares.mean_share(factors_fn)
        case "norm":
            return factored_shares.scaled_share(factors_fn, reduction.factor_of)
        case "gradient":
            return factored_shares.full_share(factors_fn)
    raise InputError(
        "expected a reduction that keeps a gradient or shortens it, got one that "
        "changes it otherwise, which factors cannot; use 'vmap'"
    )


# By which route norms, clipping and single gradients are had: their names' last word.
ROUTES: dict[str, Rule] = {"rows": per_example, "factors": factored}
