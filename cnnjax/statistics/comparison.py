"""What a comparison of two means comes to, in numbers and in words."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy import stats

from cnnjax.statistics.effects import LEVEL, num_needed, variance_limit
from cnnjax.statistics.intervals import Interval, around, restored, rounding_of


class Comparison(NamedTuple):
    """A t-test of two means; differences are a - b, in the units of the values."""

    n_a: int
    n_b: int
    difference: float
    different: bool
    verdict: str
    # This and the next four: None where nothing varies.
    interval: Interval | None = None  # of the difference, 95 %
    t: float | None = None
    degrees_of_freedom: float | None = None
    p_value: float | None = None  # two-sided
    effect_size: float | None = None  # Hedges' g, in standard deviations
    exact_p_value: float | None = None  # of the permutation test, where it was made
    # Seeds each for a power of 80 % if difference and spreads are as they look; where
    # none was shown, more than the fewer of the two sides. None: over a million.
    num_needed: int | None = None
    # The same with a spread as large as these few may hide: enough in 80 cases of 100.
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
    """Do the t-test of a difference with this standard error, and word its verdict.

    The values are in units. `exact_fn` must agree with it; `power_fn(difference, n)`
    plans with the spreads that were seen, which were measured with `freedom_of_spread`
    degrees of freedom.

    Raises:
        InputError: float64 cannot hold the interval.
    """
    difference = float(a.mean() - b.mean())
    t = difference / error
    p_value = float(2 * stats.t.sf(abs(t), degrees_of_freedom))
    exact = exact_fn() if exact_fn is not None and p_value < LEVEL else None
    different = p_value < LEVEL and (exact is None or exact < LEVEL)
    # The same as to plan with the larger spread.
    smaller = difference / np.sqrt(variance_limit(freedom_of_spread))
    needed, cautious = (
        num_needed(functools.partial(power_fn, size)) for size in (difference, smaller)
    )
    verdict = "different"
    if not different:
        # So many did not show it: whatever the plan says, no fewer can be promised.
        fewest = min(len(a), len(b)) + 1
        needed, cautious = (n and max(n, fewest) for n in (needed, cautious))
        verdict = f"not shown to differ; {_plan(needed, cautious)}"
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
    """Compare where nothing varies: there is no t-test, and an exact one may decide."""
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
