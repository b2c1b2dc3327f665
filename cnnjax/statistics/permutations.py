"""Exact tests, for samples that are too small or too coarse to estimate a spread."""

from __future__ import annotations

import math

import numpy as np
import scipy
from jaxtyping import Float

NUM_RESAMPLES = 9_999  # divisions drawn at random, if there are more


def least_p_of_sides(n_a: int, n_b: int) -> float:
    """Return the smallest two-sided p-value of a permutation test of two samples.

    It is 1 / C(n_a + n_b, n_a), or twice that for samples of equal size.

    >>> [round(least_p_of_sides(n, n), 3) for n in (2, 3, 4)]
    [0.333, 0.1, 0.029]
    """
    return (2 if n_a == n_b else 1) / math.comb(n_a + n_b, n_a)


def least_p_of_pairs(n: int) -> float:
    """Return 2^(1 - n), the smallest two-sided p-value of a sign test of n differences.

    >>> least_p_of_pairs(6)
    0.03125
    """
    return 2.0 ** (1 - n)


def p_of_sides(a: Float[np.ndarray, " n_a"], b: Float[np.ndarray, " n_b"]) -> float:
    """Return the p-value of a permutation test of two samples with Welch's statistic.

    If both samples have the same distribution, all divisions of their values into n_a
    and n_b are equally likely, however few, rounded or skewed the values are. p is the
    fraction of divisions whose |t| is at least that of the samples. If there are more
    than 9,999 divisions, 9,999 are drawn with a fixed seed.

    Sources: Fisher, The Design of Experiments, 1935, section 21; Janssen, Studentized
    Permutation Tests for Non-i.i.d. Hypotheses, Statistics & Probability Letters 1997,
    https://doi.org/10.1016/S0167-7152(97)00043-6.
    """
    found = scipy.stats.permutation_test(
        (a, b),
        _share_of_difference,
        vectorized=True,
        n_resamples=NUM_RESAMPLES,
        alternative="greater",
        rng=np.random.default_rng(0),
    )
    return float(found.pvalue)


def _share_of_difference(
    a: np.ndarray, b: np.ndarray, axis: int = -1
) -> np.ndarray | float:
    """Return t^2 / (t^2 + 1) for Welch's t: it grows with |t|, to 1 at infinity."""
    error = sum(np.var(side, axis, ddof=1) / side.shape[axis] for side in (a, b))
    squared = (a.mean(axis) - b.mean(axis)) ** 2
    return squared / (squared + error)
