"""How large an effect is against the spread, and how many seeds would show it."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable

import numpy as np
from scipy import special, stats

LEVEL = 0.05  # of the two-sided test
POWER = 0.8  # wanted of the test, when the number of seeds is planned
MOST_SEEDS = 1_000_000  # where planning gives up


def hedges_g(difference: float, std: float, freedom: int) -> float | None:
    """Return difference / std without its bias for small n; None where std is 0.

    g = difference / std * gamma(f/2) / (sqrt(f/2) gamma((f - 1)/2)), where std was
    estimated with f >= 2 degrees of freedom. In standard deviations.
    Source: Hedges, Distribution Theory for Glass's Estimator of Effect Size, Journal of
    Educational Statistics 1981, https://doi.org/10.3102/10769986006002107.
    """
    if std == 0:
        return None
    log_ratio = special.gammaln(freedom / 2) - special.gammaln((freedom - 1) / 2)
    return float(difference / std * np.exp(log_ratio) / np.sqrt(freedom / 2))


def power_of_means(effect_size: float, n: int) -> float:
    """Return how often a t-test of n values a side finds an effect of this size.

    Two-sided at 5 %, equal spreads, found on the right side: a noncentral t
    distribution beyond t(0.975, 2n - 2), with noncentrality |g| sqrt(n/2).
    Source: Cohen, Statistical Power Analysis for the Behavioral Sciences, 2nd edition,
    1988, chapter 2.
    """
    return _power(abs(effect_size) * np.sqrt(n / 2), 2 * n - 2)


def power_of_pairs(effect_size: float, n: int) -> float:
    """Return the same of a paired t-test of n pairs: noncentrality |g| sqrt(n)."""
    return _power(abs(effect_size) * np.sqrt(n), n - 1)


def num_needed(
    effect_size: float, power_fn: Callable[[float, int], float] = power_of_means
) -> int | None:
    """Return the least n that gives a power of 80 %; None if it is over MOST_SEEDS.

    An effect size that was itself measured with few seeds gives a rough n.

    >>> num_needed(0.5)
    64
    """
    most = 2  # doubled, as far out the noncentral t is slow
    while power_fn(effect_size, most) < POWER:
        if most == MOST_SEEDS:
            return None
        most = min(2 * most, MOST_SEEDS)
    sizes = range(2, most + 1)
    return sizes[bisect_left(sizes, POWER, key=lambda n: power_fn(effect_size, n))]


def _power(noncentrality: float, freedom: int) -> float:
    critical = stats.t.isf(LEVEL / 2, freedom)
    return float(stats.nct.sf(critical, freedom, noncentrality))
