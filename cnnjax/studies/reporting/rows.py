"""Every number of the report as flat dictionaries, ready for JSON."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from cnnjax.studies.published.run import Number
from cnnjax.studies.reproduction.ends import ends_of
from cnnjax.studies.reproduction.findings import RunFindings


def rows_of(findings: Iterable[RunFindings]) -> list[dict[str, Any]]:
    """Return every published figure with ours.

    `seeds` are the trained ones; `n` is the number of seeds in the mean, those whose
    value is a number. A published NaN is "nan", because null means not published.
    """
    rows = []
    for one in findings:
        seeds = [trained.job.seed for trained in one.trained]
        for judged in one.figures:
            figure, ours = judged.figure, judged.ours
            rows.append(
                {
                    "system": one.system.letter,
                    "run": one.run.name,
                    "what": figure.what,
                    "metric": figure.metric,
                    "epoch": figure.epoch,
                    "source": figure.source,
                    "published": _published(figure.value),
                    "band": figure.band,
                    "ours": None if ours is None else ours.mean,
                    "interval": None if ours is None else ours.student,
                    "n": 0 if ours is None else ours.n,
                    "seeds": seeds,
                    "one_more_seed": judged.one_more,
                    "like_ours": judged.like_ours,
                    "verdict": judged.verdict,
                    "note": judged.note,
                    "times_as_fast": judged.times_as_fast,
                }
            )
    return rows


def end_rows_of(findings: Iterable[RunFindings]) -> list[dict[str, Any]]:
    """Return the metrics of every run at the epochs that the report shows.

    `n` of the `num_seeds` values are numbers; mean, lowest and highest are over these.
    """
    return [
        {
            "system": one.system.letter,
            "run": one.run.name,
            "metric": end.metric,
            "epoch": end.epoch,
            "mean": end.mean,
            "lowest": min(end.numbers, default=None),
            "highest": max(end.numbers, default=None),
            "n": len(end.numbers),
            "num_seeds": end.num_seeds,
        }
        for one in findings
        for end in ends_of(one)
    ]


def _published(value: Number | None) -> Number | str | None:
    return "nan" if value is not None and math.isnan(value) else value
