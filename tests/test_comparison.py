"""The judge: what counts as equal, and that nothing unequal does."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax.laws.comparison import largest_error, leaf_errors

INF, NAN = np.inf, np.nan


def test_leaf_errors_judge_by_the_largest_entry():
    reference = {"a": np.array([1000.0, 1e-9]), "b": np.zeros(2)}
    close = {"a": np.array([1000.0, 2e-9]), "b": np.zeros(2)}
    assert largest_error(close, reference) < 1e-11
    assert leaf_errors({"a": reference["a"] * 1.1, "b": reference["b"]}, reference)[
        "['a']"
    ] == pytest.approx(0.1)
    nearly = {"a": reference["a"], "b": np.array([0.0, 1e-30])}
    assert largest_error(nearly, reference) == float("inf")
    nan = {"a": np.array([np.nan, 1e-9]), "b": np.zeros(2)}
    assert largest_error(nan, reference) == float("inf")
    with pytest.raises(ValueError, match="got float32"):
        largest_error(
            {"a": reference["a"].astype(np.float32), "b": reference["b"]}, reference
        )
    with pytest.raises(ValueError, match="structure"):
        largest_error({"a": reference["a"]}, reference)


# Pairs that are unequal, and by how much at least.
UNEQUAL = {
    "finite against inf": ([1, 2], [1, INF], INF),
    "finite against -inf": ([1, 2], [1, -INF], INF),
    "finite against NaN": ([1, 2], [1, NAN], INF),
    "inf against finite": ([1, INF], [1, 2], INF),
    "NaN against finite": ([NAN, 2], [1, 2], INF),
    "NaN against inf": ([1, NAN], [1, INF], INF),
    "-inf against inf": ([1, -INF], [1, INF], INF),
    "inf elsewhere": ([INF, 1], [1, INF], INF),
    "all NaN against zeros": ([NAN, NAN], [0, 0], INF),
    "inf alike, the rest wrong": ([5, INF], [1, INF], 4.0),
    "NaN alike, the rest wrong": ([5, NAN], [1, NAN], 4.0),
    "nothing against zeros": ([0, 1e-40], [0, 0], INF),
    "denormals": ([1e-39, 0], [3e-39, 0], 0.6),
    "the largest floats": ([3e38, 0], [-3e38, 0], 2.0),
    "a scalar": (2.0, 1.0, 1.0),
    "a scalar NaN": (NAN, 1.0, INF),
}


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
@pytest.mark.parametrize("what", UNEQUAL)
def test_what_is_unequal_is_so_alone_and_beside_others(what, dtype):
    actual, reference, least = UNEQUAL[what]
    a, r = (np.asarray(v, jnp.dtype(dtype)) for v in (actual, reference))
    equal = np.ones(3, np.float32)
    assert largest_error(a, r) >= least
    assert largest_error({"a": equal, "b": a}, {"a": equal, "b": r}) >= least
    assert largest_error({"a": a, "b": equal}, {"a": r, "b": equal}) >= least
    assert largest_error(r, r) == largest_error(a, a) == 0.0


@pytest.mark.parametrize(
    ("actual", "reference", "error"),
    [
        (np.uint8([0]), np.uint8([255]), 1.0),  # which wraps around, as bytes
        (np.int64([2**62]), np.int64([2**62 + 1]), 2.0**-62),
        (np.array([True, False]), np.array([True, True]), 1.0),
        (np.complex64([1 + 1j]), np.complex64([1 - 1j]), 2**0.5),
        (np.zeros((0, 3), np.float32), np.zeros((0, 3), np.float32), 0.0),
        ({}, {}, 0.0),
    ],
)
def test_leaves_of_any_type_and_size(actual, reference, error):
    assert largest_error(actual, reference) == pytest.approx(error)
