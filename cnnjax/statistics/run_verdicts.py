"""Is one run really better than another? What their seeds allow to be said."""

from __future__ import annotations

from typing import Any

from cnnjax.base.errors import InputError
from cnnjax.results.outcomes import Outcome
from cnnjax.results.pairing import pair_predictions
from cnnjax.statistics.differences import compare_means, compare_pairs
from cnnjax.statistics.intervals import mean_interval, prediction_interval
from cnnjax.statistics.mcnemar import mcnemar

LEAST_PAIRS = 3  # seeds in both runs, for a paired test


def compare_outcomes(a: Outcome, b: Outcome) -> dict[str, Any]:
    """Compare two runs by what their seeds allow; "verdict" says it in words.

    With several seeds on both sides, the means ("welch", "paired"); with one on one
    side, that one with the spread of the others ("prediction_interval", "inside"); with
    one on both sides, the two networks ("mcnemar").

    Raises:
        InputError: they are the same folder, or of different datasets or metrics; or
            their predictions cannot be paired.
    """
    _check_comparable(a, b)
    if len(a.scores) > 1 and len(b.scores) > 1:
        found = compare_many(a, b)
    elif len(a.scores) > 1 or len(b.scores) > 1:
        found = compare_one_with_many(a, b)
    else:
        found = compare_single(a, b)
    found["verdict"] += _divergence("A", a) + _divergence("B", b)
    return found


def compare_many(a: Outcome, b: Outcome) -> dict[str, Any]:
    """Compare the means over seeds; the verdict is that of Welch's test."""
    welch = compare_means(list(a.scores.values()), list(b.scores.values()))
    paired = None
    if len(shared := shared_seeds(a, b)) >= LEAST_PAIRS:
        paired = compare_pairs(
            [a.scores[seed] for seed in shared], [b.scores[seed] for seed in shared]
        )._asdict()
    better = _better(a, a_is_higher=welch.difference > 0) if welch.different else ""
    verdict = welch.verdict + better
    return {"welch": welch._asdict(), "paired": paired, "verdict": verdict}


def compare_one_with_many(a: Outcome, b: Outcome) -> dict[str, Any]:
    """Hold the single value against what one more seed of the other would give."""
    (one, name), (many, other) = one_and_many(a, b)
    (value,) = one.scores.values()
    interval = prediction_interval(list(many.scores.values()))
    if interval is None:
        verdict = (
            f"none: all {len(many.scores)} seeds of {other} have the same value, which "
            "does not show how far from it one more may be; train several seeds of "
            f"{name}"
        )
        return {"prediction_interval": None, "inside": None, "verdict": verdict}
    inside = interval[0] <= value <= interval[1]
    verdict = f"not shown to differ: {name} could be one more seed of {other}"
    if not inside:
        verdict = (
            f"{name}'s run differs from the seeds of {other}; whether its method does, "
            f"several seeds of {name} would tell"
        )
    return {"prediction_interval": interval, "inside": inside, "verdict": verdict}


def compare_single(a: Outcome, b: Outcome) -> dict[str, Any]:
    """Compare two networks, example by example, by McNemar's exact test.

    Raises:
        InputError: a file of predictions is missing or damaged, or of other examples.
    """
    if a.regresses or b.regresses:
        verdict = "none: two single regressions have no test; train several seeds"
        return {"mcnemar": None, "verdict": verdict}
    test = mcnemar(*pair_predictions(a, b))
    better = _better(a, a_is_higher=test.only_a_right > test.only_b_right)
    verdict = f"the two networks differ{better}"
    if not test.different:
        verdict = "the two networks are not shown to differ"
    return {"mcnemar": test._asdict(), "verdict": verdict}


def shared_seeds(a: Outcome, b: Outcome) -> list[int]:
    """Return the seeds that both runs have."""
    return sorted(a.scores.keys() & b.scores.keys())


def one_and_many(
    a: Outcome, b: Outcome
) -> tuple[tuple[Outcome, str], tuple[Outcome, str]]:
    """Return the run of one seed and that of several, each with its name."""
    one, many = sorted([(a, "A"), (b, "B")], key=lambda side: len(side[0].scores))
    return one, many


def side_of(outcome: Outcome) -> dict[str, Any]:
    """Return what one run scored, as JSON knows it."""
    return {
        "workdir": str(outcome.path),
        "recipe": outcome.recipe,
        "dataset": outcome.dataset,
        "faults": outcome.faults,
        "seeds": list(outcome.scores),
        "diverged": dict(outcome.diverged),  # seeds: test examples without a prediction
        **mean_interval(list(outcome.scores.values()))._asdict(),
    }


def _check_comparable(a: Outcome, b: Outcome) -> None:
    if a.path.resolve() == b.path.resolve():
        raise InputError(f"expected two runs, got the same folder twice: {a.path}")
    for what in ("dataset", "metric"):
        left, right = getattr(a, what), getattr(b, what)
        if left != right:
            raise InputError(
                f"expected runs with the same {what}, got {left} in {a.path} and "
                f"{right} in {b.path}"
            )


def _divergence(name: str, outcome: Outcome) -> str:
    """Say at the end of a verdict that a side has diverged."""
    if not outcome.diverged:
        return ""
    of = f" in {len(outcome.diverged)} of {len(outcome.scores)} seeds"
    return f"; {name} diverged{of if len(outcome.scores) > 1 else ''}"


def _better(outcome: Outcome, *, a_is_higher: bool) -> str:
    """Say which is better: with the higher accuracy, or with the lower loss."""
    better = outcome.metric == "test_accuracy"
    return f"; {'A' if a_is_higher == better else 'B'} is better"
