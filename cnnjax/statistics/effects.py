"""Effect sizes, power, and the number of seeds that a difference needs."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable

import numpy as np
import scipy

LEVEL = 0.05  # of the two-sided test
POWER = 0.8  # the power for which the number of seeds is planned
MOST_SEEDS = 1_000_000  # planning stops here
NUM_SHARES = 32  # values of u over which Welch's power is averaged
FEW_SEEDS = 200  # up to this n, the sampling error of the two variances matters


def hedges_g(difference: float, std: float, freedom: int) -> float | None:
    """Return Hedges' g, the effect size without its bias for small n; None if std is 0.

        g = difference / std * gamma(f/2) / (sqrt(f/2) gamma((f - 1)/2))

    std was estimated with f >= 2 degrees of freedom. g is in standard deviations.
    Source: Hedges, Distribution Theory for Glass's Estimator of Effect Size, Journal of
    Educational Statistics 1981, https://doi.org/10.3102/10769986006002107.
    """
    if std == 0:
        return None
    log_ratio = scipy.special.gammaln(freedom / 2) - scipy.special.gammaln(
        (freedom - 1) / 2
    )
    return float(difference / std * np.exp(log_ratio) / np.sqrt(freedom / 2))


def power_of_means(difference: float, variances: tuple[float, float], n: int) -> float:
    """Return the power of Welch's test with n values per side.

    The test is two-sided at 5 %, for normal values with these two variances (at least
    one above 0); only differences with the right sign count. The power would be the
    tail of a noncentral t with noncentrality |difference| / sqrt((var_a + var_b) / n),
    except that Welch's degrees of freedom depend on the two measured variances, whose
    ratio varies widely for small n. Let u be s_a / (s_a + s_b), where s is a measured
    variance divided by the true one. u has a beta distribution, and is independent of
    s_a + s_b. So, given u, t is a scaled noncentral t with 2n - 2 degrees of freedom;
    the power is the mean over u.

    Source of the test: Welch 1947 (see `statistics.compare_means`). The mean over u is
    checked by simulation.
    """
    halves = (n - 1) / 2
    shares = np.array([0.5])
    if n <= FEW_SEEDS:
        middles = (np.arange(NUM_SHARES) + 0.5) / NUM_SHARES
        shares = scipy.special.betaincinv(halves, halves, middles)
    a, b = 2 * variances[0] * shares, 2 * variances[1] * (1 - shares)
    critical = _critical_t((n - 1) * (a + b) ** 2 / (a**2 + b**2))
    stretched = critical * np.sqrt((a + b) / sum(variances))
    noncentrality = abs(difference) / np.sqrt(sum(variances) / n)
    return float(np.mean(1 - scipy.special.nctdtr(2 * n - 2, noncentrality, stretched)))


def power_of_pairs(difference: float, variance: float, n: int) -> float:
    """Return the power of a paired t-test; the variance is that of the differences.

    For n pairs, it is the probability that a noncentral t with n - 1 degrees of freedom
    and noncentrality |difference| / sqrt(variance / n) exceeds t(0.975, n - 1).
    Source: Cohen, Statistical Power Analysis for the Behavioral Sciences, 2nd edition,
    1988, chapter 2.
    """
    noncentrality = abs(difference) / np.sqrt(variance / n)
    return float(1 - scipy.special.nctdtr(n - 1, noncentrality, _critical_t(n - 1)))


def num_needed(power_fn: Callable[[int], float]) -> int | None:
    """Return the smallest n >= 2 with a power of 80 %; None: more than MOST_SEEDS.

    >>> num_needed(lambda n: power_of_means(0.5, (1.0, 1.0), n))
    64
    """
    most = 2  # doubled, because the noncentral t is slow for large n
    while power_fn(most) < POWER:
        if most == MOST_SEEDS:
            return None
        most = min(2 * most, MOST_SEEDS)
    sizes = range(2, most + 1)
    return sizes[bisect_left(sizes, POWER, key=power_fn)]


def variance_limit(freedom: float) -> float:
    """Return the 80 % upper limit of the ratio of the true to the measured variance.

        freedom / chi2(0.2, freedom), with the lower 20 % quantile of chi-squared

    For normal values, the ratio is larger in only 20 cases of 100, so a plan with this
    limit has its power in 80 cases of 100. It is 15.6 for 2 values, 2.4 for 5, and 1.7
    for 10.
    Source: Browne, On the Use of a Pilot Sample for Sample Size Determination,
    Statistics in Medicine 1995, https://doi.org/10.1002/sim.4780141709.
    """
    return float(freedom / scipy.special.chdtri(freedom, POWER))


def _critical_t(freedom: int | np.ndarray) -> float | np.ndarray:
    return scipy.special.stdtrit(freedom, 1 - LEVEL / 2)
