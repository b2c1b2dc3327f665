"""The result of a comparison of two means, in numbers and in words."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import scipy

from cnnjax.statistics.effects import LEVEL, num_needed, variance_limit
from cnnjax.statistics.intervals import Interval, around, restored, rounding_of

NO_PLAN = "no difference was seen, so no number of seeds can be planned"


class Comparison(NamedTuple):
    """A t-test of two means; differences are a - b, in the units of the values."""

    n_a: int
    n_b: int
    difference: float
    different: bool
    verdict: str
    # This and the next four: None if the values do not vary.
    interval: Interval | None = None  # 95 % confidence interval of the difference
    t: float | None = None
    degrees_of_freedom: float | None = None
    p_value: float | None = None  # two-sided
    effect_size: float | None = None  # Hedges' g, in standard deviations
    exact_p_value: float | None = None  # of the permutation test, if it was made
    # Seeds per side for a power of 80 % if the true difference and spreads are those
    # measured; if no difference was shown, more than the smaller side has. None: over a
    # million, or the difference is 0.
    num_needed: int | None = None
    # The same, planned with an upper limit of the spread: enough in 80 cases of 100.
    num_needed_cautious: int | None = None


def with_spread(
    a: np.ndarray,
    b: np.ndarray,
    *,
    unit: float,
    error: float,
    degrees_of_freedom: float,
    effect_size: float | None,
    exact_fn: Callable[[], float] | None,
    power_fn: Callable[[float, int], float],
    freedom_of_spread: float,
) -> Comparison:
    """Do a t-test of a difference with this standard error, and word the verdict.

        t = (mean_a - mean_b) / error

    Values, spreads and error are divided by `unit`. If `exact_fn` is given, its p-value
    must be significant, too. `power_fn(difference, n)` is the power with the measured
    spreads, which have `freedom_of_spread` degrees of freedom.

    Raises:
        InputError: float64 cannot represent the interval.
    """
    difference = float(a.mean() - b.mean())
    if abs(difference) <= rounding_of(a, b):
        difference = 0.0
    t = difference / error
    p_value = float(2 * scipy.stats.t.sf(abs(t), degrees_of_freedom))
    exact = exact_fn() if exact_fn is not None and p_value < LEVEL else None
    different = p_value < LEVEL and (exact is None or exact < LEVEL)
    # A smaller difference has the same power as a larger spread.
    smaller = difference / np.sqrt(variance_limit(freedom_of_spread))
    needed, cautious = (
        num_needed(functools.partial(power_fn, size)) for size in (difference, smaller)
    )
    verdict = "different"
    if not different:
        # These numbers did not show a difference, so the plan must ask for more.
        fewest = min(len(a), len(b)) + 1
        needed, cautious = (n and max(n, fewest) for n in (needed, cautious))
        verdict = f"not shown to differ; {_plan(needed, cautious)}"
    if difference == 0:
        verdict = f"not shown to differ; {NO_PLAN}"
    if exact is not None and not different:
        verdict = (
            f"not shown to differ: Welch's test is not reliable for {len(a)} against "
            f"{len(b)} seeds, and an exact permutation test has p {exact:.2g}; "
            f"{_plan(needed, cautious)}"
        )
    return Comparison(
        n_a=len(a),
        n_b=len(b),
        difference=restored(difference, unit),
        interval=around(difference, error, degrees_of_freedom, unit=unit),
        t=t,
        degrees_of_freedom=degrees_of_freedom,
        p_value=p_value,
        effect_size=effect_size,
        exact_p_value=exact,
        num_needed=needed,
        num_needed_cautious=cautious,
        different=different,
        verdict=verdict,
    )


def without_spread(
    a: np.ndarray,
    b: np.ndarray,
    *,
    unit: float,
    exact_fn: Callable[[], float],
    needed: int,
) -> Comparison:
    """Compare samples that do not vary: without a t-test, by an exact test alone."""
    difference = float(a.mean() - b.mean())
    same = abs(difference) <= rounding_of(a, b)
    exact = None if same else exact_fn()
    different = exact is not None and exact < LEVEL
    verdict = "not shown to differ; the same in every seed: nothing varies"
    if exact is not None:
        test = f"nothing varies, and an exact permutation test has p {exact:.2g}"
        verdict = f"different; {test}"
    if exact is not None and not different:
        verdict = f"not shown to differ; {test}: you would need {needed} seeds each"
    return Comparison(
        n_a=len(a),
        n_b=len(b),
        difference=0.0 if same else restored(difference, unit),
        different=different,
        verdict=verdict,
        exact_p_value=exact,
        num_needed=None if same else needed,
        num_needed_cautious=None if same else needed,
    )


def _plan(needed: int | None, cautious: int | None) -> str:
    if needed is None:
        return "you would need over a million seeds each"
    plan = f"you would need about {needed:,} seeds each"
    if cautious == needed:
        return plan
    most = "over a million" if cautious is None else f"{cautious:,}"
    return f"{plan} ({most} if these few hide a larger spread)"
