"""Intervals and tests against published examples, and SciPy's own."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from cnnjax.base.errors import InputError
from cnnjax.statistics import (
    compare_means,
    compare_pairs,
    mcnemar,
    mean_interval,
    prediction_interval,
)
from cnnjax.statistics.effects import hedges_g, num_needed, power_of_means
from cnnjax.statistics.permutations import p_of_sides
from cnnjax.types import NO_PREDICTION

# Extra hours of sleep of ten people with each of two drugs (Student, 1908). R's
# documentation of t.test works on them; the numbers below are those that it prints.
DRUG_1 = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0]
DRUG_2 = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4]


def test_welch_of_students_sleep_data():
    test = compare_means(DRUG_1, DRUG_2)
    assert (test.n_a, test.n_b) == (10, 10)
    assert test.t == pytest.approx(-1.8608, abs=5e-5)
    assert test.degrees_of_freedom == pytest.approx(17.776, abs=5e-4)
    assert test.p_value == pytest.approx(0.07939, abs=5e-6)
    assert test.interval == pytest.approx((-3.3654832, 0.2054832), abs=5e-8)
    assert not test.different
    assert (test.num_needed, test.num_needed_cautious) == (24, 33)
    assert test.verdict == (
        "not shown to differ; you would need about 24 seeds each "
        "(33 if these few hide a larger spread)"
    )


def test_pairs_of_students_sleep_data():
    test = compare_pairs(DRUG_1, DRUG_2)
    assert test.t == pytest.approx(-4.0621, abs=5e-5)
    assert test.degrees_of_freedom == 9
    assert test.p_value == pytest.approx(0.002833, abs=5e-7)
    assert test.interval == pytest.approx((-2.4598858, -0.7001142), abs=5e-8)
    assert (test.num_needed, test.num_needed_cautious) == (7, 11)
    assert test.different
    assert test.verdict == "different"


@pytest.mark.parametrize("sizes", [(2, 2), (3, 12), (30, 7)])
def test_welch_is_scipys_at_unequal_spreads(sizes):
    rng = np.random.default_rng(1)
    a, b = rng.normal(0.97, 0.01, sizes[0]), rng.normal(0.98, 0.002, sizes[1])
    test, expected = compare_means(a, b), stats.ttest_ind(a, b, equal_var=False)
    assert test.t == pytest.approx(expected.statistic, rel=1e-12)
    assert test.degrees_of_freedom == pytest.approx(expected.df, rel=1e-12)
    assert test.p_value == pytest.approx(expected.pvalue, rel=1e-9)
    bounds = expected.confidence_interval()
    assert test.interval == pytest.approx((bounds.low, bounds.high), rel=1e-9)


def test_sides_exchanged_change_the_sign_only():
    one, other = compare_means(DRUG_1, DRUG_2), compare_means(DRUG_2, DRUG_1)
    assert one.difference == -other.difference
    assert one.effect_size == pytest.approx(-other.effect_size)
    assert one.p_value == other.p_value
    assert one.num_needed == other.num_needed


def test_hedges_g_is_unbiased():
    """At n = 4 a side, the plain quotient is 15 % too large; g is not."""
    rng = np.random.default_rng(2)
    a, b = rng.normal(1.0, 1.0, (20_000, 4)), rng.normal(0.0, 1.0, (20_000, 4))
    std = np.sqrt((a.var(axis=1, ddof=1) + b.var(axis=1, ddof=1)) / 2)
    plain = (a.mean(axis=1) - b.mean(axis=1)) / std
    assert plain.mean() == pytest.approx(1.15, abs=0.03)
    corrected = [hedges_g(d, 1.0, 6) for d in plain]
    assert np.mean(corrected) == pytest.approx(1.0, abs=0.03)
    expected = plain[0] * (1 - 3 / (4 * 6 - 1))  # the usual approximation
    assert compare_means(a[0], b[0]).effect_size == pytest.approx(expected, rel=0.01)


def test_hedges_g_of_pairs_takes_the_spread_of_the_differences():
    differences = np.array(DRUG_1) - np.array(DRUG_2)
    expected = differences.mean() / differences.std(ddof=1) * (1 - 3 / (4 * 9 - 1))
    assert compare_pairs(DRUG_1, DRUG_2).effect_size == pytest.approx(
        expected, rel=0.01
    )


def test_student_interval_by_hand():
    interval = mean_interval([1.0, 2.0, 3.0])  # std 1; t(0.975, 2) = 4.302653
    half = 4.302653 / np.sqrt(3)
    assert (interval.n, interval.mean, interval.std) == (3, 2.0, 1.0)
    assert interval.student == pytest.approx((2 - half, 2 + half), abs=1e-6)


def test_the_bootstrap_interval_follows_a_skew():
    values = np.random.default_rng(4).exponential(size=200)
    interval = mean_interval(values)
    low, high = interval.bootstrap
    assert (low, high) == pytest.approx(interval.student, abs=0.05)
    assert high - interval.mean > interval.mean - low  # the long tail is above
    assert mean_interval(values) == interval  # the same resamples every time


@pytest.mark.parametrize(
    "values", [[0.5], [0.25, 0.25], [0.1, 0.1, 0.1], [0.0] * 5, [0.3] * 30]
)
def test_one_value_and_equal_values_have_no_interval(values):
    interval = mean_interval(values)
    assert interval.mean == pytest.approx(values[0])
    assert interval.std == (0.0 if len(values) > 1 else None)  # 0.1: but for rounding
    assert interval.student is interval.bootstrap is None
    if len(values) > 1:
        assert prediction_interval(values) is None


# Cohen (1988), table 2.4.1: n a side, two-sided 5 %, power 80 %.
@pytest.mark.parametrize(("effect_size", "n"), [(0.2, 393), (0.5, 64), (0.8, 26)])
def test_seeds_needed_are_cohens(effect_size, n):
    def planned(difference):
        return num_needed(lambda n: power_of_means(difference, (1.0, 1.0), n))

    assert abs(planned(effect_size) - n) <= 1  # 394 for 393: his was rounded
    assert planned(-effect_size) == planned(effect_size)


def test_planning_gives_up_at_a_million_and_starts_at_two():
    def planned(difference):
        return num_needed(lambda n: power_of_means(difference, (1.0, 1.0), n))

    assert planned(0.0) is None
    assert planned(3e-3) is None
    assert 900_000 < planned(4.1e-3) < 1_000_000
    assert planned(1e6) == 2
    same_mean = compare_means([1.0, 3.0], [0.0, 4.0])
    told = "no difference was seen, so no number of seeds can be planned"
    assert same_mean.verdict == f"not shown to differ; {told}"
    assert compare_pairs([1.0, 2.0, 3.0], [3.0, 2.0, 1.0]).verdict == same_mean.verdict
    close = compare_means([1.0, 3.0], [0.001, 4.0])
    assert close.verdict.endswith("you would need over a million seeds each")


# What neither side varies in: (seeds of a, seeds of b, exact p-value of 0.5 and 0.25).
@pytest.mark.parametrize(
    ("n_a", "n_b", "p_value"),
    [
        (2, 2, 2 / 6),
        (3, 3, 2 / 20),
        (2, 4, 1 / 15),
        (4, 4, 2 / 70),
        (2, 5, 1 / 21),
        (3, 30, 1 / 5456),
    ],
)
def test_where_nothing_varies_an_exact_test_decides(n_a, n_b, p_value):
    test = compare_means([0.5] * n_a, [0.25] * n_b)
    assert test.exact_p_value == pytest.approx(p_value)
    assert test.different == (p_value < 0.05)
    assert test.difference == 0.25
    assert test.interval is test.t is test.p_value is test.effect_size is None
    assert test.num_needed == 4
    words = f"nothing varies, and an exact permutation test has p {p_value:.2g}"
    needed = "not shown to differ; {}: you would need 4 seeds each"
    verdict = "different; {}" if test.different else needed
    assert test.verdict == verdict.format(words)


def test_equal_sides_that_do_not_vary_are_not_shown_to_differ():
    same = compare_means([0.1] * 3, [0.1] * 5)  # means differ by rounding
    assert (same.difference, same.interval, same.different) == (0, None, False)
    assert same.p_value is same.exact_p_value is same.num_needed is None
    assert same.verdict.startswith("not shown to differ; the same in every seed")


@pytest.mark.parametrize(("pairs", "p_value"), [(3, 1 / 4), (5, 1 / 16), (6, 1 / 32)])
def test_of_equal_differences_the_signs_decide(pairs, p_value):
    high = [0.9 - 0.1 * index for index in range(pairs)]
    test = compare_pairs(high, [value - 0.1 for value in high])
    assert test.p_value is None  # the differences vary by rounding alone
    assert test.exact_p_value == p_value
    assert test.different == (p_value < 0.05)
    assert test.difference == pytest.approx(0.1)
    assert test.num_needed == 6


def test_one_side_that_does_not_vary_leaves_welch_the_other():
    one = compare_means([0.5, 0.5, 0.5], [0.1, 0.2, 0.3])
    assert one.degrees_of_freedom == pytest.approx(2)
    expected = stats.ttest_1samp([0.1, 0.2, 0.3], 0.5)
    assert one.p_value == pytest.approx(expected.pvalue)


def test_for_unequal_numbers_an_exact_test_must_agree():
    """Welch takes the spread of two equal accuracies as known, and as 0."""
    steps = np.array([0, 1] * 20) / 360
    test = compare_means([1 / 360] * 2, steps)
    assert test.p_value < 1e-6
    # Of the 861 pairs out of 42 values, 22 of which are 1, those of two ones or zeros.
    assert test.exact_p_value == pytest.approx((22 * 21 + 20 * 19) / 2 / 861)
    assert not test.different
    assert "not reliable for 2 against 40 seeds, and an exact" in test.verdict
    far = compare_means([0.5] * 2, steps)
    assert (far.different, far.verdict) == (True, "different")
    assert far.exact_p_value == pytest.approx(1 / 861)
    few = compare_means([0.5, 0.5], [0.1, 0.11, 0.12])  # the least p is 1 / 10
    assert (few.different, few.exact_p_value) == (True, None)


@pytest.mark.parametrize(("n_a", "n_b"), [(3, 4), (4, 7), (8, 40)])
def test_the_exact_test_counts_divisions(n_a, n_b):
    rng = np.random.default_rng(11)
    a, b = rng.normal(1, 1, n_a), rng.normal(0, 1, n_b)
    values, seen = np.concatenate([a, b]), abs(welch_t(a, b))
    ways = itertools.combinations(range(n_a + n_b), n_a)
    if n_b > 20:  # too many to count: drawn
        ways = [rng.permutation(n_a + n_b)[:n_a] for _ in range(1500)]
    larger = [
        abs(welch_t(values[list(way)], np.delete(values, list(way)))) >= seen - 1e-12
        for way in ways
    ]
    expected = np.mean(larger)
    tolerance = 0.04 if n_b > 20 else 1e-12
    assert p_of_sides(a, b) == pytest.approx(expected, abs=tolerance)
    assert p_of_sides(a, b) == p_of_sides(a, b)


@pytest.mark.parametrize("draw", range(12))
def test_the_exact_test_is_by_welchs_t(draw):
    """Of unequal numbers and spreads, where other statistics order other divisions."""
    rng = np.random.default_rng(draw)
    a, b = rng.normal(2, 4, 3), rng.normal(0, 0.5, 7)
    values, seen = np.concatenate([a, b]), abs(welch_t(a, b))
    larger = [
        abs(welch_t(values[list(way)], np.delete(values, list(way)))) >= seen - 1e-12
        for way in itertools.combinations(range(10), 3)
    ]
    assert p_of_sides(a, b) == pytest.approx(np.mean(larger), abs=1e-12)


def welch_t(a, b):
    error = np.sqrt(a.var(ddof=1) / len(a) + b.var(ddof=1) / len(b))
    return (a.mean() - b.mean()) / error


def answers(only_a: int, only_b: int, *, both: int = 0, neither: int = 0):
    """Return labels and predictions with these counts, in an order of no meaning."""
    counts = (both, only_a, only_b, neither)
    right_a = np.repeat([True, True, False, False], counts)
    right_b = np.repeat([True, False, True, False], counts)
    order = np.random.default_rng(9).permutation(sum(counts))
    labels = np.random.default_rng(10).integers(10, size=sum(counts))
    wrong = (labels + 1) % 10
    a, b = (np.where(right[order], labels, wrong) for right in (right_a, right_b))
    return labels, a, b


def test_mcnemar_counts_and_tosses_a_coin():
    test = mcnemar(*answers(8, 1, both=20, neither=3))
    assert test[:4] == (20, 8, 1, 3)
    assert test.p_value == pytest.approx(2 * (1 + 9) / 2**9)  # 0 or 1 heads of 9, twice
    assert test.different
    assert mcnemar(*answers(1, 8)).p_value == test.p_value
    assert mcnemar(*(part.tolist() for part in answers(1, 8))) == mcnemar(
        *answers(1, 8)
    )
    assert not mcnemar(*answers(7, 2)).different  # 2 (1 + 9 + 36) / 512 = 0.18


def test_to_mcnemar_no_prediction_is_a_wrong_one():
    labels, a, b = answers(8, 1, both=20, neither=3)
    nothing = np.where(a == labels, a, NO_PREDICTION)
    assert mcnemar(labels, nothing, b) == mcnemar(labels, a, b)
    assert mcnemar(labels, np.full_like(a, NO_PREDICTION), b).only_a_right == 0


@pytest.mark.parametrize("only_a", range(13))
@pytest.mark.parametrize("only_b", range(13))
def test_mcnemars_p_is_the_chance_of_what_is_at_most_as_likely(only_a, only_b):
    tosses = only_a + only_b
    ways = [math.comb(tosses, heads) for heads in range(tosses + 1)]
    expected = sum(w for w in ways if w <= ways[only_a]) / 2**tosses
    p_value = mcnemar(*answers(only_a, only_b, both=1)).p_value
    assert 0 < p_value <= 1
    assert p_value == pytest.approx(expected, rel=1e-12)
    assert p_value == mcnemar(*answers(only_b, only_a, both=1)).p_value
    assert (p_value == 1) == (abs(only_a - only_b) <= 1)


def test_mcnemar_of_agrestis_ratings():
    """Agresti, Categorical Data Analysis, 1990, p. 350, also in R's mcnemar.test.

    Without correction chi-square is 17.3559, p 3.099e-05 (Penn State, STAT 504); exact,
    it is twice the chance of at most 86 heads in 236 tosses, in whole numbers.
    """
    test = mcnemar(*answers(86, 150, both=794, neither=570))
    assert test[:4] == (794, 86, 150, 570)
    heads = sum(math.comb(236, count) for count in range(87))
    assert test.p_value == pytest.approx(2 * heads / 2**236, rel=1e-9)
    assert 3.099e-05 < test.p_value < 1.5 * 3.099e-05


def test_mcnemar_of_networks_that_never_disagree():
    test = mcnemar(*answers(0, 0, both=9, neither=1))
    assert test.p_value == 1
    assert not test.different


FOUR, OTHERS, FEWER = [1.0, 2.0, 3.0, 5.0], [7.0, 8.0, 8.0, 9.0], [9.0, 9.0, 8.0]


@pytest.mark.parametrize(
    "compare", [compare_means, compare_pairs], ids=["means", "pairs"]
)
@pytest.mark.parametrize(
    ("a", "b"), [(FOUR, OTHERS), (OTHERS, OTHERS), ([1.0] * 4, [3.0] * 4)]
)
@pytest.mark.parametrize("power", [-1074, -1060, -600, -300, -200, 200, 300, 600, 1018])
def test_another_unit_changes_nothing_but_the_unit(compare, a, b, power):
    """2.0**-1074 is the least number above 0; squares overflow from 2.0**512."""
    unit, expected = 2.0**power, compare(a, b)
    found = compare([value * unit for value in a], [value * unit for value in b])
    interval = expected.interval and tuple(bound * unit for bound in expected.interval)
    assert found == expected._replace(
        difference=expected.difference * unit, interval=interval
    )


@pytest.mark.parametrize("power", [-1074, -1060, -600, -300, -200, 200, 300, 600, 1018])
@pytest.mark.parametrize("values", [FOUR, OTHERS, FEWER, [3.0] * 3, [4.0]])
def test_intervals_in_another_unit(values, power):
    def times(number):
        return number and float(number) * unit

    unit, (n, mean, std, *intervals) = 2.0**power, mean_interval(values)
    scaled = [value * unit for value in values]
    pairs = [pair and tuple(map(times, pair)) for pair in intervals]
    assert mean_interval(scaled) == (n, times(mean), times(std), *pairs)
    if n > 1:
        expected = prediction_interval(values)
        assert prediction_interval(scaled) == (expected and tuple(map(times, expected)))


def test_a_side_of_another_size_leaves_welch_the_other():
    test = compare_means([1e200, 2e200], [1.0, 2.0])
    assert test.p_value == pytest.approx(stats.ttest_1samp([1.0, 2.0], 0.0).pvalue)
    assert test.degrees_of_freedom == pytest.approx(1)
    assert mean_interval([1e308, 1e308])[:3] == (2, 1e308, 0.0)


@pytest.mark.parametrize(
    "call",
    [
        lambda: mean_interval([1.7e308, -1.7e308]),
        lambda: mean_interval([1.7e308, 1e308, -1e308]),
        lambda: prediction_interval([1.7e308, 1.0e308]),
        lambda: compare_means([1.7e308, 1.6e308], [-1.7e308, -1.6e308]),
        lambda: compare_means([1.7e308] * 5, [-1.7e308] * 5),
        lambda: compare_pairs([1.7e308] * 3, [-1.7e308, -1.6e308, 0.0]),
    ],
)
def test_what_float64_cannot_hold_is_refused(call):
    with pytest.raises(InputError, match="and intervals float64 holds, got -?inf"):
        call()


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(InputError, match="at least 1 values, got 0"):
        mean_interval([])
    with pytest.raises(InputError, match="at least 2 values, got 1"):
        compare_means([0.5], [0.5, 0.6])
    with pytest.raises(InputError, match="at least 2 values, got 1"):
        prediction_interval([0.5])
    with pytest.raises(InputError, match="at least 3 values, got 2"):
        compare_pairs([0.5, 0.4], [0.5, 0.6])
    with pytest.raises(InputError, match=r"as many values in a as in b, got \(3, 4\)"):
        compare_pairs([0.5, 0.4, 0.1], [0.5, 0.6, 0.1, 0.2])
    with pytest.raises(InputError, match="values to be finite, got nan"):
        mean_interval([0.5, float("nan")])
    with pytest.raises(InputError, match="at least one, got"):
        mcnemar(*answers(0, 0))
    labels, a, b = answers(1, 1)
    with pytest.raises(InputError, match=r"got \(2, 1, 2\)"):
        mcnemar(labels, a[:1], b)
