"""The gradient rules: how ONE device computes the mean gradient of its examples.

A rule takes an objective and a reduction, and returns a share (see `shares`). All rules
compute the same result as `serial`.
"""

from __future__ import annotations

from collections.abc import Callable

from cnnjax.base.errors import InputError
from cnnjax.gradients import factored as factored_shares
from cnnjax.gradients import reductions
from cnnjax.gradients.objective import Objective, factors_of
from cnnjax.gradients.per_example import example_share, per_example_share
from cnnjax.gradients.reductions import Reduction
from cnnjax.gradients.shares import ShareFn, batch_share, serial_share

# rule(objective, reduction) -> share
Rule = Callable[[Objective, Reduction], ShareFn]


def serial(objective: Objective, reduction: Reduction = reductions.mean) -> ShareFn:
    """Go through the batch one example at a time: the reference.

    Who takes the mean? A running sum over the examples, divided by the sum of their
    weights. When is it not valid? It is always valid: the other rules are compared with
    it.
    """
    return serial_share(objective.loss_fn, reduction)


def batch(objective: Objective, reduction: Reduction = reductions.mean) -> ShareFn:
    """Differentiate the loss of the batch at once: parallel per operation.

    Who takes the mean? The loss, over the batch axis. When is it not valid? For norms,
    clipping and per-example gradients, which it never forms.

    Raises:
        InputError: a reduction that needs per-example gradients.
    """
    if reduction.needs != "nothing":
        raise InputError(
            "expected the reduction mean for the rule batch, which forms no "
            f"per-example gradients, got one that needs {reduction.needs!r}; use "
            "'vmap' or 'factored'"
        )
    return batch_share(objective.loss_fn)


def per_example(
    objective: Objective, reduction: Reduction = reductions.mean
) -> ShareFn:
    """Form the per-example gradients, then their mean: parallel per sample.

    Who takes the mean? A weighted sum over the per-example gradients. When is it not
    valid? It is always valid. If only the mean is needed, XLA usually does not
    materialise the per-example gradients; if their norms are, they take the memory of
    the parameters times the batch (or the microbatch).
    """
    if reduction.needs == "nothing":
        return example_share(objective.loss_fn)
    return per_example_share(objective.loss_fn, reduction)


def factored(objective: Objective, reduction: Reduction = reductions.mean) -> ShareFn:
    """Compute the gradient layer by layer, as one product of two flat matrices.

    Who takes the mean? One matrix product per layer, with the weights in the loss of
    each example. When is it not valid? For a loss that is not built on a stack of
    layers: it needs `Objective.factors_fn`. It is fast on CPUs, where `layers.conv2d`
    extracts patches anyway; on other platforms it would extract them for this purpose
    only.

    Raises:
        InputError: a reduction that changes more than the length of a per-example
            gradient; or, while it is traced, an objective without `factors_fn`.
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
        "expected a reduction that keeps or shortens gradients, got one that changes "
        "them in another way, which the rule factored cannot do; use 'vmap'"
    )


# The rules that compute norms, clipping and per-example gradients; the keys are the
# last word of their names in tables.
ROUTES: dict[str, Rule] = {"rows": per_example, "factors": factored}
