"""Count the published figures that are reproduced."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from cnnjax.studies.reproduction.findings import RunFindings
from cnnjax.studies.reproduction.verdicts import VERDICTS

TOLD = {  # the verdicts, in words
    "in band": "in band",
    "out of band": "out of band",
    "no band": "without a band",
    "open": "not trained yet",
}


def counts(findings: Iterable[RunFindings]) -> Counter[str]:
    """Return how many figures have each verdict.

    Among those without a band, "like" counts the published values that could be one
    more seed of ours, "unlike" those that could not.
    """
    figures = [judged for one in findings for judged in one.figures]
    counted: Counter[str] = Counter(judged.verdict for judged in figures)
    counted["like"] = sum(judged.like_ours is True for judged in figures)
    counted["unlike"] = sum(judged.like_ours is False for judged in figures)
    return counted


def counts_line(findings: Iterable[RunFindings]) -> str:
    """Return the counts in one or two sentences."""
    counted = counts(findings)
    words = ", ".join(f"{counted[verdict]} {told}" for verdict, told in TOLD.items())
    line = f"Of {sum(counted[v] for v in VERDICTS)} published figures: {words}."
    if likened := counted["like"] + counted["unlike"]:
        line += f" Of those without a band, {counted['like']} of {likened} that could "
        line += "be compared are like ours."
    return line
