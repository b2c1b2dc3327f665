"""Is one method better? Confidence intervals, tests, power, and numbers of seeds."""

from cnnjax.statistics.differences import Comparison, compare_means, compare_pairs
from cnnjax.statistics.intervals import (
    Interval,
    MeanInterval,
    mean_interval,
    prediction_interval,
)
from cnnjax.statistics.mcnemar import McNemar, mcnemar

__all__ = [
    "Comparison",
    "Interval",
    "McNemar",
    "MeanInterval",
    "compare_means",
    "compare_pairs",
    "mcnemar",
    "mean_interval",
    "prediction_interval",
]
