"""How large an effect is against the spread, and how many seeds would show it."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable

import numpy as np
from scipy import special

LEVEL = 0.05  # of the two-sided test
POWER = 0.8  # wanted of the test, when the number of seeds is planned
MOST_SEEDS = 1_000_000  # where planning gives up
NUM_SHARES = 32  # at which Welch's power is averaged
FEW_SEEDS = 200  # up to here the two measured spreads vary enough to matter


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


def power_of_means(difference: float, variances: tuple[float, float], n: int) -> float:
    """Return how often Welch's test of n values a side finds a difference.

    Two-sided at 5 %, found on the right side, of normal values with these two variances
    (at least one above 0). With the noncentrality |difference| / sqrt((var_a + var_b) /
    n) it would be the tail of a noncentral t, did Welch's degrees of freedom not depend
    on the two measured variances, whose ratio may be anything for n = 2. Their parts u
    and 1 - u of the sum of both, each in units of the true one, follow a beta
    distribution and do not depend on that sum. So given u, t is a noncentral t of
    2n - 2 degrees of freedom, stretched; the power is the mean over u.

    Source: Welch 1947 (see `statistics.compare_means`), for the test; the mean over u
    is checked by simulation.
    """
    halves = (n - 1) / 2
    shares = np.array([0.5])
    if n <= FEW_SEEDS:
        middles = (np.arange(NUM_SHARES) + 0.5) / NUM_SHARES
        shares = special.betaincinv(halves, halves, middles)
    a, b = 2 * variances[0] * shares, 2 * variances[1] * (1 - shares)
    critical = _critical_t((n - 1) * (a + b) ** 2 / (a**2 + b**2))
    stretched = critical * np.sqrt((a + b) / sum(variances))
    noncentrality = abs(difference) / np.sqrt(sum(variances) / n)
    return float(np.mean(1 - special.nctdtr(2 * n - 2, noncentrality, stretched)))


def power_of_pairs(difference: float, variance: float, n: int) -> float:
    """Return the same of a paired t-test of n pairs; the variance is of differences.

    A noncentral t distribution beyond t(0.975, n - 1), with noncentrality
    |difference| / sqrt(variance / n).
    Source: Cohen, Statistical Power Analysis for the Behavioral Sciences, 2nd edition,
    1988, chapter 2.
    """
    noncentrality = abs(difference) / np.sqrt(variance / n)
    return float(1 - special.nctdtr(n - 1, noncentrality, _critical_t(n - 1)))


def num_needed(power_fn: Callable[[int], float]) -> int | None:
    """Return the least n of at least 2 whose power is 80 %; None if over MOST_SEEDS.

    >>> num_needed(lambda n: power_of_means(0.5, (1.0, 1.0), n))
    64
    """
    most = 2  # doubled, as far out the noncentral t is slow
    while power_fn(most) < POWER:
        if most == MOST_SEEDS:
            return None
        most = min(2 * most, MOST_SEEDS)
    sizes = range(2, most + 1)
    return sizes[bisect_left(sizes, POWER, key=power_fn)]


def variance_limit(freedom: float) -> float:
    """Return how many times a variance may be larger than measured, so few the values.

    For normal values and so many degrees of freedom, it is larger than that only 20
    times in 100: who plans with it has the power 80 times in 100. 15.6 times for 2
    values, 2.4 times for 5, 1.7 times for 10.
    Source: Browne, On the Use of a Pilot Sample for Sample Size Determination,
    Statistics in Medicine 1995, https://doi.org/10.1002/sim.4780141709.
    """
    return float(freedom / special.chdtri(freedom, POWER))


def _critical_t(freedom: int | np.ndarray) -> float | np.ndarray:
    return special.stdtrit(freedom, 1 - LEVEL / 2)
