"""The table of per-example gradient rules: what is reduced, and by which route.

A rule builds a share from the loss (or, for those `_by_factors`, from the factors of
its gradients) and the norm to clip to, of which only *clipped* takes notice. Each
equals the serial reference of its reduction.
"""

from __future__ import annotations

from collections.abc import Callable

from cnnjax.gradients import factors, reductions
from cnnjax.gradients.per_example import rows_share
from cnnjax.gradients.shares import ShareFn, serial_share
from cnnjax.types import LossFn

# rule(loss_fn, factors_fn, max_norm) -> share
Rule = Callable[[LossFn, factors.FactorsFn, float], ShareFn]

RULES: dict[str, Rule] = {
    "norms_by_rows": lambda loss_fn, _, __: rows_share(loss_fn, reductions.norms),
    "norms_by_factors": lambda _, factors_fn, __: factors.norms_share(factors_fn),
    "clipped_by_rows": lambda loss_fn, _, max_norm: rows_share(
        loss_fn, reductions.clipped(max_norm)
    ),
    "clipped_by_factors": lambda _, factors_fn, max_norm: factors.clipped_share(
        factors_fn, max_norm=max_norm
    ),
    "full_by_rows": lambda loss_fn, _, __: rows_share(loss_fn, reductions.full),
    "full_by_factors": lambda _, factors_fn, __: factors.full_share(factors_fn),
}


def reference_share(name: str, loss_fn: LossFn, max_norm: float) -> ShareFn:
    """Return the serial reference of a rule: the same reduction, one at a time."""
    reduced = {
        "norms": reductions.norms,
        "clipped": reductions.clipped(max_norm),
        "full": reductions.full,
    }
    return serial_share(loss_fn, reduced[name.partition("_")[0]])
