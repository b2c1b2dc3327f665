"""Tests of whether one mean is higher than another, of independent or paired values."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable

import numpy as np

from cnnjax.base.errors import expect
from cnnjax.statistics import permutations
from cnnjax.statistics.comparison import Comparison, with_spread, without_spread
from cnnjax.statistics.effects import (
    LEVEL,
    hedges_g,
    power_of_means,
    power_of_pairs,
)
from cnnjax.statistics.intervals import (
    Values,
    in_units,
    rounding_of,
    std_of,
)


def compare_means(a: Values, b: Values) -> Comparison:
    """Compare two independent samples by Welch's t-test, for unequal variances.

        t = (mean_a - mean_b) / sqrt(var_a / n_a + var_b / n_b)

    The effect size is the difference divided by the pooled standard deviation:
    `effects.hedges_g`.

    Error rate: if the two methods are equal, at most about 1 pair of samples in 20 is
    called different, even if accuracies are rounded to steps. For samples of equal size
    Welch's test alone achieves this. With 2 against 40 values it is wrong 1 time in 8,
    and 2 times in 3 if rounding makes the 2 values equal. So for samples of unequal
    size an exact test, `permutations.p_of_sides`, must be significant, too, if it can
    be (it cannot for 2 against 3 or 4 values). If neither sample varies, the exact test
    decides alone; it needs at least 4 values per side. If the methods have equal means
    but different spreads, 1 pair in 10 is called different, and 1 in 16 from 4 values
    per side.

    Source: Welch, The Generalization of "Student's" Problem when Several Different
    Population Variances are Involved, Biometrika 1947, https://doi.org/10.2307/2332510.

    Raises:
        InputError: a side has fewer than two values, a value is not a finite number, or
            float64 cannot represent the interval.
    """
    unit, (a, b) = in_units(a, b, least=2)
    rounding = rounding_of(a, b)
    n = np.array([len(a), len(b)])
    var = np.array([std_of(side, rounding) ** 2 for side in (a, b)])
    exact_fn = functools.partial(permutations.p_of_sides, a, b)
    if not np.any(var):
        each = _first(lambda n: permutations.least_p_of_sides(n, n) < LEVEL)
        return without_spread(a, b, unit=unit, exact_fn=exact_fn, needed=each)
    part, freedom = var / n, n - 1
    pooled = np.sqrt(freedom @ var / freedom.sum())
    shows = permutations.least_p_of_sides(len(a), len(b)) < LEVEL
    return with_spread(
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
    """Compare paired samples (entry i of both has the same seed) by a paired t-test.

        t = mean(a - b) / (std(a - b) / sqrt(n))

    It detects smaller differences than `compare_means` if the seed affects both methods
    in the same way. The effect size is in standard deviations of the differences. If
    all differences are equal, an exact sign test decides; it needs at least 6 pairs. If
    the two methods are equal, at most about 1 pair of samples in 20 is called different
    (up to 1 in 16 if values are rounded to steps).

    Source: Student, The Probable Error of a Mean, Biometrika 1908,
    https://doi.org/10.2307/2331554.

    Raises:
        InputError: the lengths differ, there are fewer than three pairs, a value is not
            a finite number, or float64 cannot represent the interval.
    """
    unit, (a, b) = in_units(a, b, least=3)
    expect("as many values in a as in b", (len(a), len(b)), len(a) == len(b))
    n, spread = len(a), std_of(a - b, rounding_of(a, b))
    if spread == 0:
        pairs = _first(lambda n: permutations.least_p_of_pairs(n) < LEVEL)
        exact_fn = functools.partial(permutations.least_p_of_pairs, n)
        return without_spread(a, b, unit=unit, exact_fn=exact_fn, needed=pairs)
    return with_spread(
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


def _first(holds: Callable[[int], bool]) -> int:
    return next(n for n in itertools.count(2) if holds(n))
