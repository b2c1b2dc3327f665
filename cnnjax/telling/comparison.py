"""The comparison of two runs as text for a terminal."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from cnnjax.base.printable import printable
from cnnjax.results.outcomes import Outcome, differences
from cnnjax.statistics import mean_interval
from cnnjax.statistics.run_verdicts import LEAST_PAIRS, one_and_many, shared_seeds
from cnnjax.telling.layout import flow, wrap

SHOWN = 6  # settings that are listed; two recipes may differ in dozens
INDENT = "   "
SINGLE = (
    "These are two single runs, and each would change with another seed. The test "
    "compares these two networks, not the methods; train several seeds of each."
)


def comparison_lines(a: Outcome, b: Outcome, found: Mapping[str, Any]) -> list[str]:
    """Return the result of `compare_outcomes`: both runs, the tests and the verdict."""
    if "welch" in found:
        lines = _many_lines(a, b, found)
    elif "mcnemar" in found:
        lines = _single_lines(a, b, found)
    else:
        lines = _one_lines(a, b, found)
    return [
        *side_lines("A", a),
        *side_lines("B", b),
        settings_text(a, b),
        "",
        *map(wrap, lines),
        wrap(f"verdict: {found['verdict']}"),
    ]


def side_lines(name: str, outcome: Outcome) -> list[str]:
    """Describe one side: its run, and the scores of its seeds."""
    side = mean_interval(list(outcome.scores.values()))
    seeds = f"{side.n} seeds" if side.n > 1 else f"seed {next(iter(outcome.scores))}"
    faults = [f"fault {fault}" for fault in outcome.faults]
    parts = [f"recipe {outcome.recipe}", f"dataset {outcome.dataset}", *faults, seeds]
    told = [flow([f"{INDENT}{parts[0]}", *parts[1:]], indent=2 * INDENT)]
    told += [
        wrap(f"{INDENT}diverged: seed {seed}, {_unpredicted(outcome, count)}")
        for seed, count in outcome.diverged.items()
    ]
    return [printable(f"{name}  {outcome.path}"), *told, *_score_lines(outcome)]


def settings_text(a: Outcome, b: Outcome) -> str:
    """List the settings in which the runs' recipes differ, the first few by name."""
    found = [
        f"{path} {json.dumps(left)} against {json.dumps(right)}"
        for path, (left, right) in differences(a, b).items()
    ]
    if not found:
        return "same settings in both recipes"
    more = [f"{len(found) - SHOWN} more (see --json)"] if len(found) > SHOWN else []
    first, *others = [*found[:SHOWN], *more]
    return flow([f"different settings: {first}", *others])


def _score_lines(outcome: Outcome) -> list[str]:
    side = mean_interval(list(outcome.scores.values()))
    what = outcome.metric.replace("_", " ")
    mean = _value(outcome, side.mean)
    if side.std is None:
        return [f"{INDENT}{what} {mean}; n = 1, so no interval"]
    if side.student is None or side.bootstrap is None:
        told = f"{mean} in each of {side.n} seeds, so no interval"
        return [f"{INDENT}{what} {told}"]
    std = _difference(outcome, side.std, sign="")
    student, bootstrap = (
        " to ".join(_value(outcome, bound) for bound in interval)
        for interval in (side.student, side.bootstrap)
    )
    lead = f"{INDENT}95 % interval of the mean: {student} (Student)"
    return [
        f"{INDENT}{what}: mean {mean}, std {std}; n = {side.n}",
        flow([lead, f"{bootstrap} (bootstrap)"], indent=2 * INDENT),
    ]


def _many_lines(a: Outcome, b: Outcome, found: Mapping[str, Any]) -> list[str]:
    welch, paired, shared = found["welch"], found["paired"], shared_seeds(a, b)
    lines = [f"A - B: {_difference(a, welch['difference'])}"]
    if welch["interval"] is not None:
        low, high = (_difference(a, bound) for bound in welch["interval"])
        lines[0] += f", 95 % interval {low} to {high}"
    seeds = f"{welch['n_a']} and {welch['n_b']} seeds"
    lines.append(_test_line(f"Welch, {seeds}", welch))
    if paired is None:
        few = f"needs at least {LEAST_PAIRS} seeds in both, found {len(shared)}"
        return [*lines, f"no paired test: {few}"]
    return [*lines, _test_line(f"paired, {len(shared)} seeds in both", paired)]


def _one_lines(a: Outcome, b: Outcome, found: Mapping[str, Any]) -> list[str]:
    (one, name), (_, other) = one_and_many(a, b)
    (value,) = (_value(a, score) for score in one.scores.values())
    if found["prediction_interval"] is None:
        return [f"the only seed of {name}: {value}"]
    low, high = (_value(a, bound) for bound in found["prediction_interval"])
    place = "inside" if found["inside"] else "outside"
    return [
        f"95 % interval for one more seed of {other}: {low} to {high}",
        f"the only seed of {name} is {place}: {value}",
    ]


def _single_lines(a: Outcome, b: Outcome, found: Mapping[str, Any]) -> list[str]:
    left, right = (next(iter(one.scores.values())) for one in (a, b))
    lines = [f"A - B: {_difference(a, left - right)}"]
    if (test := found["mcnemar"]) is None:
        return lines
    counts = (
        f"{words} {test[name]:,}"
        for words, name in (
            *(("both right", "both_right"), ("only A", "only_a_right")),
            *(("only B", "only_b_right"), ("neither", "both_wrong")),
        )
    )
    return [
        *lines,
        f"test examples: {', '.join(counts)}",
        f"McNemar's exact test: p {test['p_value']:.2g}",
        SINGLE,
    ]


def _test_line(name: str, test: Mapping[str, Any]) -> str:
    if test["t"] is None:
        return f"{name}: {test['verdict']}"
    # The verdict of the comparison says that no number of seeds can be planned.
    verdict = test["verdict"] if test["difference"] else "not shown to differ"
    effect = round(test["effect_size"], 6) + 0.0  # no rounding of 0, and no -0
    return (
        f"{name}: t {test['t']:.3g}, {test['degrees_of_freedom']:.3g} degrees of "
        f"freedom, p {test['p_value']:.2g}, Hedges' g {effect:.3g}: "
        f"{verdict}"
    )


def _unpredicted(outcome: Outcome, count: int | None) -> str:
    if outcome.regresses:
        return "a training loss was not finite"
    if count is None:
        return "test examples without a prediction were not counted; train it again"
    return f"no prediction for {count:,} test examples, which count as wrong"


def _value(outcome: Outcome, value: float) -> str:
    return f"{value:.2%}".replace("%", " %") if _percent(outcome) else f"{value:.4g}"


def _difference(outcome: Outcome, value: float, *, sign: str = "+") -> str:
    if _percent(outcome):
        return f"{100 * value:{sign}.2f} points"
    return f"{value:{sign}.3g}"


def _percent(outcome: Outcome) -> bool:
    return outcome.metric == "test_accuracy"
