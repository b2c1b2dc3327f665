"""McNemar's test: compare two trained networks on the same test examples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import scipy
from jaxtyping import Int

from cnnjax.base.arguments import several, whole
from cnnjax.base.errors import expect
from cnnjax.statistics.effects import LEVEL


class McNemar(NamedTuple):
    """The result of McNemar's exact test: counts of examples, and the p-value."""

    both_right: int
    only_a_right: int
    only_b_right: int
    both_wrong: int
    p_value: float  # two-sided
    different: bool


Classes = Sequence[int] | Int[np.ndarray, " _n"]
CLASSES = several(whole)


def mcnemar(labels: Classes, predictions_a: Classes, predictions_b: Classes) -> McNemar:
    """Compare two classifiers on the same test examples by McNemar's exact test.

    Only examples that exactly one of the two classifies correctly matter: if both are
    equally good, the number that only a got right is Binomial(n, 1/2) for n such
    examples. The p-value is that of the two-sided binomial test. An example without a
    prediction (`types.NO_PREDICTION`) is wrong, as -1 is not a label. The test compares
    these two trained networks, not the methods that trained them.

    Sources: McNemar, Note on the Sampling Error of the Difference between Correlated
    Proportions or Percentages, Psychometrika 1947, https://doi.org/10.1007/BF02295996;
    Dietterich, Approximate Statistical Tests for Comparing Supervised Classification
    Learning Algorithms, Neural Computation 1998, doi.org/10.1162/089976698300017197.

    Raises:
        InputError: there are no examples, the lengths differ, or an argument is not a
            tuple, list or array of whole numbers.
    """
    named = {
        "labels": labels,
        "predictions_a": predictions_a,
        "predictions_b": predictions_b,
    }
    right, a, b = (np.array(CLASSES(name, each)) for name, each in named.items())
    lengths = (len(right), len(a), len(b))
    what = "as many predictions as labels, and at least one"
    expect(what, lengths, len(set(lengths)) == 1 and lengths[0] > 0)
    right_a, right_b = a == right, b == right
    only_a, only_b = int(np.sum(right_a & ~right_b)), int(np.sum(right_b & ~right_a))
    apart = only_a + only_b
    p_value = float(scipy.stats.binomtest(only_a, apart).pvalue) if apart else 1.0
    return McNemar(
        both_right=int(np.sum(right_a & right_b)),
        only_a_right=only_a,
        only_b_right=only_b,
        both_wrong=int(np.sum(~right_a & ~right_b)),
        p_value=p_value,
        different=p_value < LEVEL,
    )
