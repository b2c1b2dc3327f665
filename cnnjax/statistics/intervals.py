"""95 % intervals, of a mean and of one further value."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import scipy
from jaxtyping import Float

from cnnjax.base.arguments import number, several
from cnnjax.base.errors import expect
from cnnjax.statistics.effects import LEVEL

Values = Sequence[float] | Float[np.ndarray, " _n"]
Interval = tuple[float, float]
FINITE = several(number("to be finite", math.isfinite))


class MeanInterval(NamedTuple):
    """A mean, and 95 % intervals for it, in the units of the values."""

    n: int
    mean: float
    std: float | None  # of the values, not of the mean, with n - 1; None: n is 1
    # None: n is 1, or all values are equal, so that the spread is unknown
    student: Interval | None
    bootstrap: Interval | None  # None in the same cases


def mean_interval(values: Values) -> MeanInterval:
    """Return mean, standard deviation and two 95 % confidence intervals of the mean.

        Student's interval: mean +- t(0.975, n - 1) std / sqrt(n)

    Student's interval assumes normal values. The bootstrap (BCa, 9,999 resamples, with
    a fixed seed) does not, but is too narrow for small n: its coverage is about 50 %
    for 2 normal values, 82 % for 5, and 92 % for 20. For values that are rounded to
    steps, like accuracies, Student's interval is accurate if they spread by a step or
    more; if they spread by less, its coverage can be as low as 85 %. A single value has
    no interval, nor have equal values.

    Sources: Student, The Probable Error of a Mean, Biometrika 1908,
    https://doi.org/10.2307/2331554; Efron, Better Bootstrap Confidence Intervals,
    JASA 1987, https://doi.org/10.1080/01621459.1987.10478410.

    >>> mean_interval([0.98]).student is None
    True
    >>> [round(bound, 3) for bound in mean_interval([1.0, 2.0, 3.0]).student]
    [-0.484, 4.484]

    Raises:
        InputError: there are no values, a value is not a finite number, or float64
            cannot represent the intervals.
    """
    unit, (array,) = in_units(values, least=1)
    n, mean = len(array), float(array.mean())
    if n == 1:
        return MeanInterval(1, mean * unit, None, None, None)
    std = std_of(array, rounding_of(array))
    if std == 0:
        return MeanInterval(n, mean * unit, 0.0, None, None)
    resampled = scipy.stats.bootstrap(
        (array,),
        np.mean,
        confidence_level=1 - LEVEL,
        method="BCa",
        rng=np.random.default_rng(0),
    ).confidence_interval
    student = around(mean, std / np.sqrt(n), n - 1, unit=unit)
    bootstrap = (resampled.low * unit, resampled.high * unit)
    return MeanInterval(n, mean * unit, restored(std, unit), student, bootstrap)


def prediction_interval(values: Values) -> Interval | None:
    """Return the 95 % prediction interval of one further value, such as one more seed.

        mean +- t(0.975, n - 1) std sqrt(1 + 1/n)

    It assumes normal values; for rounded values see `mean_interval`. None if all values
    are equal, so that the spread is unknown.
    Source: Hahn and Meeker, Statistical Intervals, 1991, chapter 4,
    https://doi.org/10.1002/9780470316771.

    Raises:
        InputError: there are fewer than two values, a value is not a finite number, or
            float64 cannot represent the interval.
    """
    unit, (array,) = in_units(values, least=2)
    std = std_of(array, rounding_of(array))
    if std == 0:
        return None
    error = std * np.sqrt(1 + 1 / len(array))
    return around(float(array.mean()), error, len(array) - 1, unit=unit)


def around(
    centre: float, error: float, freedom: int | float, *, unit: float
) -> Interval:
    """Return centre +- t(0.975, freedom) error, Student's 95 % interval, times `unit`.

    Raises:
        InputError: float64 cannot represent it.
    """
    half = float(error * scipy.stats.t.isf(LEVEL / 2, freedom))
    return restored(centre - half, unit), restored(centre + half, unit)


def std_of(values: np.ndarray, rounding: float) -> float:
    """Return the standard deviation (n - 1); 0 if values differ only by rounding."""
    return float(np.std(values, ddof=1)) if np.ptp(values) > rounding else 0.0


def rounding_of(*samples: np.ndarray) -> float:
    """Return the largest difference that rounding explains: 8 eps times the largest."""
    largest = max(float(np.max(np.abs(sample))) for sample in samples)
    return 8 * float(np.finfo(np.float64).eps) * largest


def in_units(*samples: Values, least: int) -> tuple[float, list[np.ndarray]]:
    """Return a unit, and the samples divided by it, so that squares do not overflow.

    The unit is a power of two near the largest absolute value, so the division is exact
    except for values that are negligible beside that one.

    Raises:
        InputError: a sample has fewer than `least` values, or is not a tuple, list or
            array of finite numbers.
    """
    arrays = []
    for sample in samples:
        array = np.array(FINITE("values", sample))
        expect(f"at least {least} values", len(array), len(array) >= least)
        arrays.append(array)
    _, exponent = np.frexp(max(np.max(np.abs(array)) for array in arrays))
    unit = math.ldexp(1.0, int(exponent) - 1)
    return unit, [array / unit for array in arrays]


def restored(number: float, unit: float) -> float:
    """Return number * unit.

    Raises:
        InputError: float64 cannot represent it.
    """
    value = float(number) * unit
    what = "values whose differences and intervals float64 holds"
    expect(what, value, math.isfinite(value))
    return value
