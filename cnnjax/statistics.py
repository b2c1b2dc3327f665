"""Is one mean really higher than another? Intervals and tests, by seed or example."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy import stats

from cnnjax.effects import LEVEL, hedges_g, num_needed, power_of_means, power_of_pairs
from cnnjax.errors import expect

Values = Sequence[float] | Float[np.ndarray, " _n"]
Interval = tuple[float, float]


class MeanInterval(NamedTuple):
    """A mean, and 95 % intervals for it, in the units of the values."""

    n: int
    mean: float
    std: float | None  # of the values, not of the mean; ddof 1; None: n is 1
    student: Interval | None  # None: n is 1, which says nothing of the spread
    bootstrap: Interval | None  # the same


class Comparison(NamedTuple):
    """A t-test of two means; differences are a - b, in the units of the values."""

    n_a: int
    n_b: int
    difference: float
    interval: Interval  # of the difference, 95 %
    t: float | None  # this and the next three: None where nothing varies
    degrees_of_freedom: float | None
    p_value: float | None  # two-sided
    effect_size: float | None  # Hedges' g, in standard deviations
    num_needed: int | None  # seeds each for a power of 80 %; None: over a million
    different: bool
    verdict: str


class McNemar(NamedTuple):
    """Two classifiers on the same examples: counts of examples, and the exact test."""

    both_right: int
    only_a_right: int
    only_b_right: int
    both_wrong: int
    p_value: float  # two-sided
    different: bool


def mean_interval(values: Values) -> MeanInterval:
    """Return mean, standard deviation and two 95 % intervals of the mean.

    Student's, mean +- t(0.975, n - 1) std / sqrt(n), takes the values as normal. The
    bootstrap (BCa, 9,999 resamples, always the same ones) does not, but is too narrow
    for few: of 5 normal values it holds the mean in about 82 %, of 20 in about 90 %.
    One value has no interval; equal values have one of width 0.

    Sources: Student, The Probable Error of a Mean, Biometrika 1908,
    https://doi.org/10.2307/2331554; Efron, Better Bootstrap Confidence Intervals,
    JASA 1987, https://doi.org/10.1080/01621459.1987.10478410.

    >>> mean_interval([0.98]).student is None
    True
    >>> [round(bound, 3) for bound in mean_interval([1.0, 2.0, 3.0]).student]
    [-0.484, 4.484]

    Raises:
        InputError: there is no value, or one is not finite.
    """
    array = _checked(values, least=1)
    n, mean = len(array), float(array.mean())
    if n == 1:
        return MeanInterval(1, mean, None, None, None)
    std = _std(array, _rounding(array))
    if std == 0:
        return MeanInterval(n, mean, 0.0, (mean, mean), (mean, mean))
    resampled = stats.bootstrap(
        (array,),
        np.mean,
        confidence_level=1 - LEVEL,
        method="BCa",
        rng=np.random.default_rng(0),
    ).confidence_interval
    student = _around(mean, std / np.sqrt(n), n - 1)
    bootstrap = (float(resampled.low), float(resampled.high))
    return MeanInterval(n, mean, std, student, bootstrap)


def prediction_interval(values: Values) -> Interval:
    """Return where one further value falls with 95 %: one more seed of the same run.

    mean +- t(0.975, n - 1) std sqrt(1 + 1/n), for normal values.
    Source: Hahn and Meeker, Statistical Intervals, 1991, chapter 4,
    https://doi.org/10.1002/9780470316771.

    Raises:
        InputError: there are fewer than two values, or one is not finite.
    """
    array = _checked(values, least=2)
    error = _std(array, _rounding(array)) * np.sqrt(1 + 1 / len(array))
    return _around(float(array.mean()), error, len(array) - 1)


def compare_means(a: Values, b: Values) -> Comparison:
    """Compare two independent samples with Welch's t-test, spreads not taken as equal.

    t = (mean_a - mean_b) / sqrt(var_a / n_a + var_b / n_b). The effect size divides the
    difference by the pooled standard deviation: `effects.hedges_g`.

    Source: Welch, The Generalization of "Student's" Problem when Several Different
    Population Variances are Involved, Biometrika 1947, https://doi.org/10.2307/2332510.

    Raises:
        InputError: a side has fewer than two values, or one is not finite.
    """
    a, b = _checked(a, least=2), _checked(b, least=2)
    rounding = _rounding(a, b)
    n = np.array([len(a), len(b)])
    var = np.array([_std(side, rounding) ** 2 for side in (a, b)])
    part, freedom = var / n, n - 1
    pooled = np.sqrt(freedom @ var / freedom.sum())
    freedom_of_test = freedom.sum()
    if pooled > 0:  # Welch's, lower where the spreads differ
        freedom_of_test = part.sum() ** 2 / np.sum(part**2 / freedom)
    return _comparison(
        a,
        b,
        error=float(np.sqrt(part.sum())),
        degrees_of_freedom=float(freedom_of_test),
        effect_size=hedges_g(a.mean() - b.mean(), pooled, int(freedom.sum())),
        power_fn=power_of_means,
    )


def compare_pairs(a: Values, b: Values) -> Comparison:
    """Compare paired samples (entry i of both has the same seed) with a paired t-test.

    It finds smaller differences than `compare_means` where what the pairs share moves
    both alike. The effect size is in standard deviations of the differences; its
    correction for small n is 0 for two pairs.

    Raises:
        InputError: the lengths differ, there are fewer than three pairs, or a value is
            not finite.
    """
    a, b = _checked(a, least=3), _checked(b, least=3)
    expect("as many values in a as in b", (len(a), len(b)), len(a) == len(b))
    spread = _std(a - b, _rounding(a, b))
    return _comparison(
        a,
        b,
        error=float(spread / np.sqrt(len(a))),
        degrees_of_freedom=float(len(a) - 1),
        effect_size=hedges_g((a - b).mean(), spread, len(a) - 1),
        power_fn=power_of_pairs,
    )


def mcnemar(
    labels: Int[np.ndarray, " _n"],
    predictions_a: Int[np.ndarray, " _n"],
    predictions_b: Int[np.ndarray, " _n"],
) -> McNemar:
    """Compare two classifiers on the same test examples, with McNemar's exact test.

    Only examples that one of them got right and the other wrong can tell the two apart:
    if they are equally good, each such example is the toss of a fair coin. It judges
    these two trained networks, not the methods that trained them.

    Sources: McNemar, Note on the Sampling Error of the Difference between Correlated
    Proportions or Percentages, Psychometrika 1947, https://doi.org/10.1007/BF02295996;
    Dietterich, Approximate Statistical Tests for Comparing Supervised Classification
    Learning Algorithms, Neural Computation 1998, doi.org/10.1162/089976698300017197.

    Raises:
        InputError: there is no example, or the lengths differ.
    """
    lengths = (len(labels), len(predictions_a), len(predictions_b))
    what = "as many predictions as labels, and at least one"
    expect(what, lengths, len(set(lengths)) == 1 and lengths[0] > 0)
    right_a, right_b = predictions_a == labels, predictions_b == labels
    only_a, only_b = int(np.sum(right_a & ~right_b)), int(np.sum(right_b & ~right_a))
    apart = only_a + only_b
    p_value = float(stats.binomtest(only_a, apart).pvalue) if apart else 1.0
    return McNemar(
        both_right=int(np.sum(right_a & right_b)),
        only_a_right=only_a,
        only_b_right=only_b,
        both_wrong=int(np.sum(~right_a & ~right_b)),
        p_value=p_value,
        different=p_value < LEVEL,
    )


def _comparison(
    a: np.ndarray,
    b: np.ndarray,
    *,
    error: float,
    degrees_of_freedom: float,
    effect_size: float | None,
    power_fn: Callable[[float, int], float],
) -> Comparison:
    """Do the t-test of a difference with this standard error, and word its verdict."""
    difference = float(a.mean() - b.mean())
    t = p_value = needed = None
    if effect_size is None:
        same = abs(difference) <= _rounding(a, b)
        different, difference = not same, 0.0 if same else difference
        verdict = "not shown to differ" if same else "different"
        verdict += "; the same in every seed: nothing varies, so there is no test"
    else:
        t = difference / error
        p_value = float(2 * stats.t.sf(abs(t), degrees_of_freedom))
        needed = num_needed(effect_size, power_fn)
        many = "over a million" if needed is None else f"about {needed:,}"
        verdict = f"not shown to differ; you would need {many} seeds each"
        if different := p_value < LEVEL:
            verdict = "different"
    return Comparison(
        n_a=len(a),
        n_b=len(b),
        difference=difference,
        interval=_around(difference, error, degrees_of_freedom),
        t=t,
        degrees_of_freedom=None if t is None else degrees_of_freedom,
        p_value=p_value,
        effect_size=effect_size,
        num_needed=needed,
        different=different,
        verdict=verdict,
    )


def _around(centre: float, error: float, freedom: int | float) -> Interval:
    half = error * stats.t.isf(LEVEL / 2, freedom)
    return float(centre - half), float(centre + half)


def _std(values: np.ndarray, rounding: float) -> float:
    """Return the standard deviation; 0 where values differ by rounding alone."""
    return float(np.std(values, ddof=1)) if np.ptp(values) > rounding else 0.0


def _rounding(*samples: np.ndarray) -> float:
    largest = max(float(np.max(np.abs(sample))) for sample in samples)
    return 8 * float(np.finfo(np.float64).eps) * largest


def _checked(values: Values, *, least: int) -> np.ndarray:
    array = np.asarray(values, np.float64)
    expect(f"at least {least} values", len(array), len(array) >= least)
    expect("finite values", array.tolist(), bool(np.all(np.isfinite(array))))
    return array
