"""What the statistics promise, kept by simulation: coverage, false positives, power.

Samples are fed to the functions themselves, with few and unequal numbers of seeds, and
with accuracies in steps of one test example of 360. The slow tests look closer.
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from cnnjax.statistics import (
    compare_means,
    compare_pairs,
    mcnemar,
    mean_interval,
    prediction_interval,
)
from cnnjax.statistics.effects import power_of_means, power_of_pairs

STEP = 1 / 360  # of an accuracy on 360 test examples


def drawn(rng: np.random.Generator, size: int, *, steps: float, at: float = 0.0):
    """Draw accuracies whose spread is so many steps, and round them to a step.

    `at` is where between two accuracies their mean lies: 0.5 is halfway.
    """
    return STEP * (340 + np.round(rng.normal(at, steps, size)))


def shaped(n: int, mean: float, std: float) -> np.ndarray:
    """Return n values of exactly this mean and standard deviation."""
    z = np.arange(n) - (n - 1) / 2
    return mean + std * z / z.std(ddof=1)


def bounds(rate: float, trials: int) -> tuple[float, float]:
    """Return where a count lies in all but 1 of 10,000 simulations at this rate."""
    return stats.binom.interval(0.9999, trials, rate)


def share_of_different(a, b, *, compare=compare_means) -> float:
    return np.mean([compare(x, y).different for x, y in zip(a, b, strict=True)])


# Seeds of a sample: how often the two intervals hold the mean of normal values.
@pytest.mark.parametrize(
    ("n", "bootstrap"), [(2, 0.50), (3, 0.71), (5, 0.83), (20, 0.925)]
)
def test_intervals_hold_the_mean_as_often_as_documented(n, bootstrap):
    trials = 250
    samples = np.random.default_rng(n).normal(0.98, 0.01, (trials, n))
    rows = [mean_interval(sample) for sample in samples]
    for name, rate in (("student", 0.95), ("bootstrap", bootstrap)):
        held = sum(
            low <= 0.98 <= high for low, high in (getattr(r, name) for r in rows)
        )
        low, high = bounds(rate, trials)
        assert low <= held <= high, name


@pytest.mark.parametrize(
    ("n", "steps", "least"), [(2, 1.0, 0.93), (5, 1.0, 0.93), (10, 0.2, 0.83)]
)
def test_student_holds_the_mean_of_values_in_steps(n, steps, least):
    """Where all are equal there is no interval, and no promise."""
    rng, trials = np.random.default_rng(30 + n), 150
    centre = drawn(rng, 1_000_000, steps=steps, at=0.3).mean()
    rows = [
        mean_interval(drawn(rng, n, steps=steps, at=0.3)).student for _ in range(trials)
    ]
    rows = [row for row in rows if row is not None]
    held = sum(low <= centre <= high for low, high in rows)
    assert held >= bounds(least, len(rows))[0]


@pytest.mark.parametrize("n", [2, 3, 5, 20])
def test_the_prediction_interval_holds_one_more_value_19_times_in_20(n):
    trials = 2000
    samples = np.random.default_rng(5).normal(size=(trials, n + 1))
    inside = 0
    for sample in samples:
        low, high = prediction_interval(sample[:n])
        inside += low <= sample[n] <= high
    least, most = bounds(0.95, trials)
    assert least <= inside <= most


@pytest.mark.parametrize(("n", "least"), [(2, 0.98), (3, 0.94), (5, 0.94)])
def test_the_prediction_interval_of_values_in_steps(n, least):
    """Two equal accuracies do not say that a third must be the same."""
    rng, trials = np.random.default_rng(n), 1000
    outside = 0
    for _ in range(trials):
        sample = drawn(rng, n + 1, steps=0.3, at=0.5)
        interval = prediction_interval(sample[:n])
        if interval is not None:
            outside += not interval[0] <= sample[n] <= interval[1]
    assert outside <= bounds(1 - least, trials)[1]


# Equal methods: seeds a side, the spread in steps and where the mean lies between two;
# None: not rounded. With how often Welch's test alone finds a difference.
EQUAL_METHODS = [
    (2, 2, 0.1, 0.5, 200),  # 0.13 when equal values counted as different
    (2, 5, 0.2, 0.5, 300),  # 0.10
    (2, 10, 0.3, 0.5, 60),  # 0.42
    (2, 40, 0.1, 0.4, 30),  # 0.66
    (3, 10, 0.3, 0.5, 100),  # 0.21
    (2, 40, None, 0.0, 300),  # 0.12
]


@pytest.mark.parametrize(("n_a", "n_b", "steps", "at", "trials"), EQUAL_METHODS)
def test_equal_methods_are_called_different_once_in_20_at_most(
    n_a, n_b, steps, at, trials
):
    rng = np.random.default_rng(n_a + 100 * n_b)
    sides = [rng.normal(size=(trials, n)) for n in (n_a, n_b)]
    if steps is not None:
        sides = [
            [drawn(rng, n, steps=steps, at=at) for _ in range(trials)]
            for n in (n_a, n_b)
        ]
    assert trials * share_of_different(*sides) <= bounds(0.055, trials)[1]


# Where Welch's test is exact or nearly so, it must also not be timid.
@pytest.mark.parametrize(("n_a", "n_b", "spread"), [(3, 3, 100.0), (10, 10, 1.0)])
def test_welch_finds_a_difference_where_there_is_none_once_in_20(n_a, n_b, spread):
    rng, trials = np.random.default_rng(6), 300
    a, b = rng.normal(0, 1, (trials, n_a)), rng.normal(0, spread, (trials, n_b))
    low, high = bounds(0.05, trials)
    assert low <= trials * share_of_different(a, b) <= high


@pytest.mark.parametrize(("n", "steps"), [(3, None), (4, 0.5), (7, 0.3)])
def test_equal_methods_in_pairs_are_called_different_once_in_16_at_most(n, steps):
    """What the pairs share moves both sides alike."""
    rng, trials = np.random.default_rng(n), 250
    shared = rng.normal(0, 3, (trials, n))
    a, b = (shared + rng.normal(0, steps or 1, (trials, n)) for _ in range(2))
    if steps is not None:
        a, b = np.round(a), np.round(b)
    found = trials * share_of_different(a, b, compare=compare_pairs)
    assert found <= bounds(1 / 16, trials)[1]
    if steps is None:
        assert found >= bounds(0.05, trials)[0]


def test_networks_equally_good_are_called_different_once_in_20_at_most():
    rng, found = np.random.default_rng(9), 0
    labels = np.zeros(100, int)
    for _ in range(500):
        a, b = rng.random((2, 100)) > 0.8  # each wrong on 20 of 100 examples or so
        found += mcnemar(labels, a.astype(int), b.astype(int)).different
    assert bounds(0.02, 500)[0] <= found <= bounds(0.05, 500)[1]


# Seeds and spread of a, of b, and the difference that was seen.
SEEN = [
    (4, 0.010, 40, 0.001, 0.006),
    (3, 0.020, 30, 0.001, 0.010),
    (40, 0.010, 4, 0.001, 0.002),
    (5, 0.010, 5, 0.001, 0.008),
    (5, 0.003, 5, 0.003, -0.002),
    (2, 0.001, 3, 0.004, 0.008),
    (30, 0.010, 2, 0.010, -0.006),
    (2, 0.004, 2, 0.0, 0.012),  # three seeds each: z, or the wrong freedom, has two
]


def simulated_power(n: int, difference: float, stds, *, trials: int) -> float:
    """Return how often SciPy's Welch test finds the difference, and on its side."""
    rng = np.random.default_rng(n)
    a = rng.normal(abs(difference), stds[0], (trials, n))
    b = rng.normal(0, stds[1], (trials, n))
    with np.errstate(all="ignore"):
        test = stats.ttest_ind(a, b, axis=1, equal_var=False)
    return float(np.mean((test.pvalue < 0.05) & (test.statistic > 0)))


@pytest.mark.parametrize(("n_a", "std_a", "n_b", "std_b", "difference"), SEEN)
def test_the_seeds_needed_show_the_difference_and_one_less_does_not(
    n_a, std_a, n_b, std_b, difference
):
    """Power 80 %, with the difference and the two spreads as they were seen."""
    a, b = shaped(n_a, 0.97 + difference, std_a), shaped(n_b, 0.97, std_b)
    test = compare_means(a, b)
    n = test.num_needed
    assert not test.different
    assert min(n_a, n_b) < n <= test.num_needed_cautious
    assert f"about {n} seeds each" in test.verdict
    assert compare_means(b, a).num_needed == n
    trials = 2_000_000 // max(n, 100)
    for size, enough in ((n, True), (n - 1, False)):
        expected = power_of_means(difference, (std_a**2, std_b**2), size)
        power = simulated_power(size, difference, (std_a, std_b), trials=trials)
        assert power == pytest.approx(expected, abs=0.014)
        assert (expected >= 0.8) == enough


@pytest.mark.parametrize("n", [2, 3, 4, 20])
@pytest.mark.parametrize("ratio", [0.0, 0.1, 1.0])
def test_the_power_is_that_of_welchs_test(n, ratio):
    difference = {2: 8.0, 3: 3.5, 4: 2.2, 20: 0.8}[n]
    expected = power_of_means(difference, (ratio, 1.0), n)
    assert power_of_means(difference, (1.0, ratio), n) == pytest.approx(expected)
    simulated = simulated_power(n, difference, (1.0, np.sqrt(ratio)), trials=20_000)
    assert simulated == pytest.approx(expected, abs=0.014)
    assert 0.4 < expected < 0.95


def test_the_pairs_needed_show_the_difference_and_one_less_does_not():
    rng = np.random.default_rng(8)
    differences = shaped(4, 0.009, 0.01)
    n = compare_pairs(differences + 0.9, np.full(4, 0.9)).num_needed
    for size, enough in ((n, True), (n - 1, False)):
        expected = power_of_pairs(0.009, 0.01**2, size)
        found = stats.ttest_1samp(rng.normal(0.9, 1, (20_000, size)), 0, axis=1)
        assert np.mean(found.pvalue < 0.05) == pytest.approx(expected, abs=0.014)
        assert (expected >= 0.8) == enough


@pytest.mark.parametrize(("n_a", "n_b"), [(4, 4), (3, 12)])
def test_the_cautious_number_is_enough_4_times_in_5(n_a, n_b):
    """The plain one is not: the spread of few seeds is as often too small."""
    rng, trials, difference = np.random.default_rng(n_b), 100, 0.8
    enough = {"plain": 0, "cautious": 0}
    for _ in range(trials):
        a, b = rng.normal(0, 1, n_a), rng.normal(0, 1, n_b)
        test = compare_means(a - a.mean() + difference, b - b.mean())
        for name, n in zip(
            enough, (test.num_needed, test.num_needed_cautious), strict=True
        ):
            enough[name] += (
                n is None or power_of_means(difference, (1.0, 1.0), n) >= 0.8
            )
    low, high = bounds(0.8, trials)
    assert low <= enough["cautious"] <= high
    assert enough["plain"] < low


def test_what_was_not_shown_takes_more_seeds_than_were_used():
    rng = np.random.default_rng(12)
    for index in range(120):
        sizes = rng.integers(2, 9, 2)
        a, b = (
            rng.normal(gap, spread, n)
            for gap, spread, n in zip(
                (rng.exponential(2), 0), rng.exponential(1, 2), sizes, strict=True
            )
        )
        if index % 2:
            a, b = np.round(a), np.round(b)
        tests = [compare_means(a, b)]
        if sizes[0] == sizes[1] > 2:
            tests.append(compare_pairs(a, b))
        for test in tests:
            if not test.different and test.num_needed is not None:
                assert (
                    sizes.min() < test.num_needed <= (test.num_needed_cautious or 10**6)
                )


def test_what_an_exact_test_does_not_show_takes_more_seeds_too(monkeypatch):
    """No samples are known for which the plan says less: let the test say no."""
    monkeypatch.setattr("cnnjax.statistics.permutations.p_of_sides", lambda a, b: 0.5)
    test = compare_means(shaped(4, 0.9, 0.001), shaped(9, 0.1, 0.001))
    assert (test.different, test.num_needed, test.num_needed_cautious) == (False, 5, 5)


@pytest.mark.slow
@pytest.mark.parametrize("n_a", [2, 3, 7])
@pytest.mark.parametrize("n_b", [2, 5, 20])
@pytest.mark.parametrize("steps", [0.1, 0.3, 1.0])
def test_equal_methods_are_called_different_once_in_20_at_most_everywhere(
    n_a, n_b, steps
):
    rng, trials = np.random.default_rng(n_a + 10 * n_b), 200
    for at in (0.0, 0.3, 0.5):
        a, b = (
            [drawn(rng, n, steps=steps, at=at) for _ in range(trials)]
            for n in (n_a, n_b)
        )
        assert trials * share_of_different(a, b) <= bounds(0.06, trials)[1]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("n_a", "n_b", "most"), [(2, 3, 0.1), (2, 10, 0.1), (4, 10, 0.0625)]
)
@pytest.mark.parametrize("spread", [0.1, 0.3, 3.0, 10.0])
def test_methods_of_one_mean_and_two_spreads(n_a, n_b, most, spread):
    rng, trials = np.random.default_rng(n_b), 500
    a, b = rng.normal(0, 1, (trials, n_a)), rng.normal(0, spread, (trials, n_b))
    assert trials * share_of_different(a, b) <= bounds(most, trials)[1]


@pytest.mark.slow
@pytest.mark.parametrize(("n_a", "std_a", "n_b", "std_b", "difference"), SEEN)
def test_the_seeds_needed_show_the_difference_to_compare_means(
    n_a, std_a, n_b, std_b, difference
):
    sides = shaped(n_a, difference, std_a), shaped(n_b, 0, std_b)
    n, trials = compare_means(*sides).num_needed, 250
    rng = np.random.default_rng(n)
    a, b = rng.normal(difference, std_a, (trials, n)), rng.normal(0, std_b, (trials, n))
    assert share_of_different(a, b) >= bounds(0.8, trials)[0] / trials


@pytest.mark.slow
@pytest.mark.parametrize("n", [2, 3, 4, 5, 7, 10, 20])
def test_intervals_of_values_in_steps_closely(n):
    """As documented: 95 % where they spread by a step, 85 % anywhere."""
    rng, trials = np.random.default_rng(n), 200
    for steps, least in ((0.2, 0.85), (0.3, 0.85), (1.0, 0.93), (3.0, 0.94)):
        for at in (0.0, 0.3, 0.5):
            centre = drawn(rng, 1_000_000, steps=steps, at=at).mean()
            rows = [
                mean_interval(drawn(rng, n, steps=steps, at=at)).student
                for _ in range(trials)
            ]
            rows = [row for row in rows if row is not None]
            held = sum(low <= centre <= high for low, high in rows)
            assert held >= bounds(least, len(rows))[0] if rows else True
