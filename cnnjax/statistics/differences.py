"""Is one mean really higher than another? Tests, by seed or by example."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy import stats

from cnnjax.base.errors import expect
from cnnjax.statistics import permutations
from cnnjax.statistics.effects import (
    LEVEL,
    hedges_g,
    num_needed,
    power_of_means,
    power_of_pairs,
    variance_limit,
)
from cnnjax.statistics.intervals import (
    Interval,
    Values,
    around,
    in_units,
    restored,
    rounding_of,
    std_of,
)


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


def compare_means(a: Values, b: Values) -> Comparison:
    """Compare two independent samples with Welch's t-test, spreads not taken as equal.

    t = (mean_a - mean_b) / sqrt(var_a / n_a + var_b / n_b). The effect size divides the
    difference by the pooled standard deviation: `effects.hedges_g`.

    Of equal methods, also where accuracies come in steps, about 1 pair in 20 at most is
    called different. Welch's test alone keeps that for equal numbers: with 2 against 40
    values it is wrong 1 time in 8, and 2 times in 3 where rounding makes the 2 equal.
    So for unequal numbers an exact test, `permutations.p_of_sides`, must agree where it
    can show anything (not for 2 against 3 or 4). Where neither side varies it decides
    alone, and shows nothing with fewer than 4 values a side. Methods that spread
    differently around one mean: 1 pair in 10, from 4 values a side 1 in 16.

    Source: Welch, The Generalization of "Student's" Problem when Several Different
    Population Variances are Involved, Biometrika 1947, https://doi.org/10.2307/2332510.

    Raises:
        InputError: a side has fewer than two values, one is no finite number, or
            float64 cannot hold the interval.
    """
    unit, (a, b) = in_units(a, b, least=2)
    rounding = rounding_of(a, b)
    n = np.array([len(a), len(b)])
    var = np.array([std_of(side, rounding) ** 2 for side in (a, b)])
    exact_fn = functools.partial(permutations.p_of_sides, a, b)
    if not np.any(var):
        each = _first(lambda n: permutations.least_p_of_sides(n, n) < LEVEL)
        return _without_spread(a, b, unit=unit, exact_fn=exact_fn, needed=each)
    part, freedom = var / n, n - 1
    pooled = np.sqrt(freedom @ var / freedom.sum())
    shows = permutations.least_p_of_sides(len(a), len(b)) < LEVEL
    return _with_spread(
        a,
        b,
        unit=unit,
        error=float(np.sqrt(part.sum())),
        degrees_of_freedom=float(part.sum() ** 2 / np.sum(part**2 / freedom)),
        effect_size=hedges_g(a.mean() - b.mean(), pooled, int(freedom.sum())),
        exact_fn=exact_fn if len(a) != len(b) and shows else None,
        power_fn=lambda difference, n: power_of_means(difference, tuple(var), n),
        freedom_of_spread=float(var.sum() ** 2 / np.sum(var**2 / freedom)),
    )


def compare_pairs(a: Values, b: Values) -> Comparison:
    """Compare paired samples (entry i of both has the same seed) with a paired t-test.

    It finds smaller differences than `compare_means` where what the pairs share moves
    both alike. The effect size is in standard deviations of the differences; its
    correction for small n is 0 for two pairs. Where all differences are the same, their
    signs decide, which show nothing with fewer than 6 pairs. Of equal methods, at most
    about 1 pair of samples in 20 is called different (in steps, up to 1 in 16).

    Raises:
        InputError: the lengths differ, there are fewer than three pairs, a value is no
            finite number, or float64 cannot hold the interval.
    """
    unit, (a, b) = in_units(a, b, least=3)
    expect("as many values in a as in b", (len(a), len(b)), len(a) == len(b))
    n, spread = len(a), std_of(a - b, rounding_of(a, b))
    if spread == 0:
        pairs = _first(lambda n: permutations.least_p_of_pairs(n) < LEVEL)
        exact_fn = functools.partial(permutations.least_p_of_pairs, n)
        return _without_spread(a, b, unit=unit, exact_fn=exact_fn, needed=pairs)
    return _with_spread(
        a,
        b,
        unit=unit,
        error=float(spread / np.sqrt(n)),
        degrees_of_freedom=float(n - 1),
        effect_size=hedges_g((a - b).mean(), spread, n - 1),
        exact_fn=None,
        power_fn=lambda difference, n: power_of_pairs(difference, spread**2, n),
        freedom_of_spread=float(n - 1),
    )


def _with_spread(
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


def _without_spread(
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


def _first(holds: Callable[[int], bool]) -> int:
    return next(n for n in itertools.count(2) if holds(n))
