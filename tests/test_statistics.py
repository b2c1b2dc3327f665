"""Intervals and tests against published examples, SciPy's own, and simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from cnnjax.effects import hedges_g, num_needed, power_of_means, power_of_pairs
from cnnjax.errors import InputError
from cnnjax.statistics import (
    compare_means,
    compare_pairs,
    mcnemar,
    mean_interval,
    prediction_interval,
)

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
    assert test.num_needed == 26  # Cohen (1988) has 26 a side for d = 0.8; g is -0.797
    wording = "not shown to differ; you would need about 26 seeds each"
    assert test.verdict == wording


def test_pairs_of_students_sleep_data():
    test = compare_pairs(DRUG_1, DRUG_2)
    assert test.t == pytest.approx(-4.0621, abs=5e-5)
    assert test.degrees_of_freedom == 9
    assert test.p_value == pytest.approx(0.002833, abs=5e-7)
    assert test.interval == pytest.approx((-2.4598858, -0.7001142), abs=5e-8)
    assert test.num_needed == num_needed(test.effect_size, power_of_pairs) == 8
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


def test_the_student_interval_holds_the_mean_19_times_in_20():
    """Of 1,000, standard error 7; with z for t it would be 880. The bootstrap: 820."""
    samples = np.random.default_rng(3).normal(0.98, 0.01, (1000, 5))
    rows = [mean_interval(sample) for sample in samples]
    student, bootstrap = (
        sum(low <= 0.98 <= high for low, high in intervals)
        for intervals in zip(
            *((row.student, row.bootstrap) for row in rows), strict=True
        )
    )
    assert 928 <= student <= 972
    assert 780 <= bootstrap <= 860  # as the docstring warns


def test_the_bootstrap_interval_follows_a_skew():
    values = np.random.default_rng(4).exponential(size=200)
    interval = mean_interval(values)
    low, high = interval.bootstrap
    assert (low, high) == pytest.approx(interval.student, abs=0.05)
    assert high - interval.mean > interval.mean - low  # the long tail is above
    assert mean_interval(values) == interval  # the same resamples every time


def test_one_value_has_no_interval_and_equal_values_one_of_no_width():
    assert mean_interval([0.5]) == (1, 0.5, None, None, None)
    tenth = mean_interval([0.1, 0.1, 0.1])  # whose mean is not 0.1, by rounding
    assert tenth.std == 0
    assert tenth.student == tenth.bootstrap == (tenth.mean, tenth.mean)


def test_the_prediction_interval_holds_one_more_value_19_times_in_20():
    samples = np.random.default_rng(5).normal(size=(2000, 6))
    inside = 0
    for sample in samples:
        low, high = prediction_interval(sample[:5])
        inside += low <= sample[5] <= high
    assert 1870 <= inside <= 1930
    assert prediction_interval([0.25, 0.25]) == (0.25, 0.25)


def test_welch_finds_a_difference_where_there_is_none_once_in_20():
    rng = np.random.default_rng(6)
    a, b = rng.normal(0, 1, (1000, 4)), rng.normal(0, 3, (1000, 8))
    found = sum(compare_means(x, y).different for x, y in zip(a, b, strict=True))
    assert 30 <= found <= 75


# Cohen (1988), table 2.4.1: n a side, two-sided 5 %, power 80 %.
@pytest.mark.parametrize(("effect_size", "n"), [(0.2, 393), (0.5, 64), (0.8, 26)])
def test_seeds_needed_are_cohens(effect_size, n):
    assert abs(num_needed(effect_size) - n) <= 1  # 394 for 393: his was rounded
    assert num_needed(-effect_size) == num_needed(effect_size)


def test_seeds_needed_give_the_power_and_one_less_does_not():
    """Of 20,000 simulated pairs of samples; standard error 0.3 %."""
    rng = np.random.default_rng(7)
    for effect_size in (1.0, 1.5):
        n = num_needed(effect_size)
        for size, enough in ((n, True), (n - 1, False)):
            a, b = (
                rng.normal(effect_size, 1, (20_000, size)),
                rng.normal(0, 1, (20_000, size)),
            )
            found = stats.ttest_ind(a, b, axis=1)
            power = np.mean((found.pvalue < 0.05) & (found.statistic > 0))
            expected = power_of_means(effect_size, size)
            assert power == pytest.approx(expected, abs=0.012)
            assert (expected >= 0.8) == enough


def test_pairs_needed_give_the_power():
    rng = np.random.default_rng(8)
    n = num_needed(0.9, power_of_pairs)
    found = stats.ttest_1samp(rng.normal(0.9, 1, (20_000, n)), 0, axis=1)
    assert np.mean(found.pvalue < 0.05) == pytest.approx(
        power_of_pairs(0.9, n), abs=0.012
    )
    assert power_of_pairs(0.9, n) >= 0.8 > power_of_pairs(0.9, n - 1)


def test_planning_gives_up_at_a_million_and_starts_at_two():
    assert num_needed(0.0) is None
    assert num_needed(3e-3) is None
    assert 900_000 < num_needed(4.1e-3) < 1_000_000
    assert num_needed(1e6) == 2
    same_mean = compare_means([1.0, 3.0], [0.0, 4.0])
    assert same_mean.verdict.endswith("you would need over a million seeds each")


def test_sides_that_do_not_vary_have_no_test():
    same = compare_means([0.1] * 3, [0.1] * 5)  # means differ by rounding
    assert (same.difference, same.interval, same.different) == (0, (0, 0), False)
    assert same.p_value is same.t is same.effect_size is None
    apart = compare_means([0.5, 0.5], [0.25, 0.25])
    assert apart.interval == (0.25, 0.25)
    assert apart.verdict.startswith("different; the same in every seed")
    shifted = [0.9, 0.7, 0.8]
    pairs = compare_pairs(shifted, [value - 0.1 for value in shifted])
    assert pairs.p_value is None  # the differences vary by rounding alone
    assert pairs.different
    assert pairs.difference == pytest.approx(0.1)
    one = compare_means([0.5, 0.5, 0.5], [0.1, 0.2, 0.3])  # Welch needs one side only
    assert one.degrees_of_freedom == pytest.approx(2)
    expected = stats.ttest_1samp([0.1, 0.2, 0.3], 0.5)
    assert one.p_value == pytest.approx(expected.pvalue)


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
    assert not mcnemar(*answers(7, 2)).different  # 2 (1 + 9 + 36) / 512 = 0.18


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
    with pytest.raises(InputError, match="finite values, got .0.5, nan"):
        mean_interval([0.5, float("nan")])
    with pytest.raises(InputError, match="at least one, got"):
        mcnemar(*answers(0, 0))
    labels, a, b = answers(1, 1)
    with pytest.raises(InputError, match=r"got \(2, 1, 2\)"):
        mcnemar(labels, a[:1], b)
