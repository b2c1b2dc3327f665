"""The predictions of two runs, paired by example."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from cnnjax.base.errors import InputError, expect
from cnnjax.results.outcomes import Outcome, predictions_of


class PairedPredictions(NamedTuple):
    """The predictions of two single-seed runs for the same test examples.

    A prediction is `types.NO_PREDICTION`, -1, where the network predicts no class.
    """

    labels: Int[np.ndarray, " examples"]
    predictions_a: Int[np.ndarray, " examples"]
    predictions_b: Int[np.ndarray, " examples"]


def pair_predictions(a: Outcome, b: Outcome) -> PairedPredictions:
    """Read predictions.csv of two single-seed runs and pair them by example.

    Raises:
        InputError: a file is missing or damaged, a run is a regression or has several
            seeds, or the test examples are not the same.
    """
    for each in (a, b):
        expect(
            f"a run of one seed in {each.path}", len(each.scores), len(each.scores) == 1
        )
    (rows_a,), (rows_b,) = (predictions_of(each).values() for each in (a, b))
    same = rows_a.keys() == rows_b.keys() and all(
        rows_a[example][0] == rows_b[example][0] for example in rows_a
    )
    if not same:
        raise InputError(
            f"{a.path} and {b.path} were tested on different examples; where a recipe "
            "holds examples out, the seed chooses them: train both with the same --seed"
        )
    return PairedPredictions(
        np.array([label for label, _ in rows_a.values()]),
        np.array([prediction for _, prediction in rows_a.values()]),
        np.array([rows_b[example][1] for example in rows_a]),
    )
