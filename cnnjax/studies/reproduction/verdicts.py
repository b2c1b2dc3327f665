"""Judge each figure: does our number reproduce the published one?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

from cnnjax.statistics import (
    Interval,
    MeanInterval,
    mean_interval,
    prediction_interval,
)
from cnnjax.studies.published.run import Figure, Number

Verdict = Literal["in band", "out of band", "no band", "open"]
FEWEST = 3  # seeds needed to estimate their spread
VERDICTS: tuple[Verdict, ...] = ("in band", "out of band", "no band", "open")


class Judged(NamedTuple):
    """A published number with ours."""

    figure: Figure
    verdict: Verdict
    note: str  # the reason, if there is one
    ours: MeanInterval | None = None  # over the seeds whose value is a number
    num_seeds: int = 0  # with a value, number or not
    # The 95 % interval for one more seed of ours, for a figure without a band.
    one_more: Interval | None = None

    @property
    def like_ours(self) -> bool | None:
        """Whether the published value could be one more seed of ours; None: unknown."""
        published = self.figure.value
        if self.one_more is None or published is None or math.isnan(published):
            return None
        low, high = self.one_more
        return low <= published <= high

    @property
    def times_as_fast(self) -> float | None:
        """Return our speedup over the published time; None: not a time, or unknown."""
        published = self.figure.value
        if published is None or self.ours is None or not is_time(self.figure):
            return None
        fast, slow = self.ours.mean, published
        if not is_rate(self.figure.metric):
            fast, slow = slow, fast
        return fast / slow if min(fast, slow) > 0 else None


def is_time(figure: Figure) -> bool:
    """Whether a figure is a speed: in seconds, or in examples per second."""
    return figure.metric.endswith("seconds") or is_rate(figure.metric)


def is_rate(metric: str) -> bool:
    """Whether a larger value of a metric means faster."""
    return metric.endswith("per_second")


def is_count(metric: str) -> bool:
    """Whether a metric is a count: a whole number, the same for every seed."""
    return metric in ("parameters", "macs_per_example", "step")


def shown(metric: str, value: Number) -> Number:
    """Round to the precision of the reports, at which figures are judged.

    >>> shown("test_accuracy", 0.976958), shown("train_loss", 23.025851)
    (0.977, 23.026)
    """
    if not math.isfinite(value) or is_count(metric):
        return value
    if "accuracy" in metric:
        return round(value, 4)
    return float(f"{value:.5g}")


def judge(figure: Figure, values: Sequence[float | None]) -> Judged:
    """Judge whether ours, the mean over seeds, falls in the figure's band.

    A value that is not a number (None in JSON) is in no band; but if the published
    value is not a number either, it is as expected. Values out of band are marked
    unexplained, unless the figure says why.
    """
    numbers = [float(v) for v in values if v is not None and math.isfinite(v)]
    lost = len(values) - len(numbers)
    ours = mean_interval(numbers) if numbers else None
    of = f"{len(values)} seed{'s' * (len(values) != 1)}"
    told = f"not a number in {lost} of {of}" if lost else ""
    if figure.band is None:
        nan_published = figure.value is not None and math.isnan(figure.value)
        if nan_published and not numbers:
            note = "not a number, as published"
            return Judged(figure, "in band", note, None, len(values))
        note = _joined(told, figure.remark)
        judged = Judged(figure, "no band", note, ours, len(values))
        if len(numbers) < FEWEST or lost or is_time(figure):
            return judged
        return judged._replace(one_more=prediction_interval(numbers))
    low, high = (shown(figure.metric, bound) for bound in figure.band)
    inside = ours is not None and low <= shown(figure.metric, ours.mean) <= high
    if inside and not lost:
        return Judged(figure, "in band", "", ours, len(values))
    note = _joined(told, figure.why_out or "unexplained", figure.remark)
    return Judged(figure, "out of band", note, ours, len(values))


def _joined(*notes: str) -> str:
    return "; ".join(note for note in notes if note)
