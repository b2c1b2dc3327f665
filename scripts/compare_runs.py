"""Is one run of train.py really better than another?

    python scripts/compare_runs.py runs/a runs/b

With several seeds on both sides: t-tests of the methods. With one run each: McNemar's
exact test of these two networks. docs/comparing.md says what to believe.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))  # python -I leaves it out

import _start  # noqa: F401  # before what imports JAX

# isort: split
import _script
from absl import flags

from cnnjax import statistics
from cnnjax.base.errors import InputError
from cnnjax.results.outcomes import Outcome, differences, pair_predictions, read_outcome

FLAGS = flags.FLAGS
flags.DEFINE_bool("json", False, "Print one line of JSON, and no text.")
SHOWN = 6  # settings that are told; two recipes may differ in dozens
SINGLE = (
    "These are two single runs: another seed would move each of them. This is the "
    "difference of these two networks, not of the methods; train several seeds of each."
)


def main(args: list[str]) -> None:
    """Read both folders, do what their seeds allow, and end with the verdict."""
    if len(args) != 2:
        raise InputError(f"expected two workdirs, A and B, got {len(args)}")
    a, b = map(read_outcome, args)
    _check_comparable(a, b)
    if len(a.scores) > 1 and len(b.scores) > 1:
        found, lines = _many(a, b)
    elif len(a.scores) > 1 or len(b.scores) > 1:
        found, lines = _mixed(a, b)
    else:
        found, lines = _single(a, b)
    found["verdict"] += "".join(_divergence("A", a) + _divergence("B", b))
    if FLAGS.json:
        sides = {"a": _side(a), "b": _side(b), "differ_in": differences(a, b)}
        print(json.dumps({"metric": a.metric, **sides, **found}, allow_nan=False))
        return
    for name, outcome in (("A", a), ("B", b)):
        print("\n".join(_side_lines(name, outcome)))
    print(_settings_line(a, b))
    print("\n".join(["", *lines, f"verdict: {found['verdict']}"]))


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


def _many(a: Outcome, b: Outcome) -> tuple[dict[str, Any], list[str]]:
    """Compare the means over seeds; the verdict is that of Welch's test."""
    welch = statistics.compare_means(list(a.scores.values()), list(b.scores.values()))
    found: dict[str, Any] = {"welch": welch._asdict(), "paired": None}
    lines = [f"A - B: {_difference(a, welch.difference)}"]
    if welch.interval is not None:
        low, high = (_difference(a, bound) for bound in welch.interval)
        lines[0] += f", 95 % from {low} to {high}"
    lines += _test_lines(f"Welch, {welch.n_a} and {welch.n_b} seeds", welch)
    shared = sorted(a.scores.keys() & b.scores.keys())
    if len(shared) > 2:
        paired = statistics.compare_pairs(
            [a.scores[seed] for seed in shared], [b.scores[seed] for seed in shared]
        )
        found["paired"] = paired._asdict()
        lines += _test_lines(f"paired, {len(shared)} seeds in both", paired)
    else:
        lines.append(f"no paired test: seeds in both {len(shared)}, of at least 3")
    better = _better(a, welch.difference) if welch.different else ""
    return {**found, "verdict": welch.verdict + better}, lines


def _mixed(a: Outcome, b: Outcome) -> tuple[dict[str, Any], list[str]]:
    """Hold the single value against what one more seed of the other would give."""
    (one, name), (many, other) = sorted(
        [(a, "A"), (b, "B")], key=lambda side: len(side[0].scores)
    )
    (value,) = one.scores.values()
    interval = statistics.prediction_interval(list(many.scores.values()))
    if interval is None:
        verdict = (
            f"none: the {len(many.scores)} seeds of {other} are all alike, which does "
            f"not tell how far one more may fall; train several seeds of {name}"
        )
        alone = {"prediction_interval": None, "inside": None, "verdict": verdict}
        return alone, [f"the one seed of {name}: {_value(a, value)}"]
    inside = interval[0] <= value <= interval[1]
    low, high = (_value(a, bound) for bound in interval)
    lines = [
        f"one more seed of {other} would fall, with 95 %, from {low} to {high}",
        f"the one seed of {name} lies {'inside' if inside else 'outside'}: "
        f"{_value(a, value)}",
    ]
    verdict = f"not shown to differ: {name} could be one more seed of {other}"
    if not inside:
        verdict = (
            f"{name}'s run differs from the seeds of {other}; whether its method does, "
            f"several seeds of {name} would tell"
        )
    found = {"prediction_interval": interval, "inside": inside, "verdict": verdict}
    return found, lines


def _single(a: Outcome, b: Outcome) -> tuple[dict[str, Any], list[str]]:
    """Compare two networks, example by example."""
    difference = next(iter(a.scores.values())) - next(iter(b.scores.values()))
    lines = [f"A - B: {_difference(a, difference)}"]
    if a.regresses or b.regresses:
        verdict = "none: two single regressions have no test; train several seeds"
        return {"mcnemar": None, "verdict": verdict}, lines
    test = statistics.mcnemar(*pair_predictions(a, b))
    lines += [
        f"test examples: both right {test.both_right:,}, only A {test.only_a_right:,}, "
        f"only B {test.only_b_right:,}, neither {test.both_wrong:,}",
        f"McNemar's exact test: p {test.p_value:.2g}",
        SINGLE,
    ]
    better = _better(a, test.only_a_right - test.only_b_right)
    verdict = f"the two networks differ{better}"
    if not test.different:
        verdict = "the two networks are not shown to differ"
    return {"mcnemar": test._asdict(), "verdict": verdict}, lines


def _side(outcome: Outcome) -> dict[str, Any]:
    return {
        "workdir": str(outcome.path),
        "recipe": outcome.recipe,
        "dataset": outcome.dataset,
        "faults": outcome.faults,
        "seeds": list(outcome.scores),
        "diverged": dict(outcome.diverged),  # seeds: test examples without a prediction
        **statistics.mean_interval(list(outcome.scores.values()))._asdict(),
    }


def _side_lines(name: str, outcome: Outcome) -> list[str]:
    side = statistics.mean_interval(list(outcome.scores.values()))
    seeds = f"{side.n} seeds" if side.n > 1 else f"seed {next(iter(outcome.scores))}"
    faults = [f"fault {fault}" for fault in outcome.faults]
    what = ", ".join([f"dataset {outcome.dataset}", *faults, seeds])
    lines = [f"{name}  {outcome.path}: recipe {outcome.recipe}, {what}"]
    lines += [
        f"   diverged: seed {seed}, {_unpredicted(outcome, count)}"
        for seed, count in outcome.diverged.items()
    ]
    what = outcome.metric.replace("_", " ")
    if side.std is None:
        value = _value(outcome, side.mean)
        return [*lines, f"   {what} {value}; n = 1, which gives no interval"]
    if side.student is None or side.bootstrap is None:
        value = f"{_value(outcome, side.mean)} in each of {side.n} seeds"
        return [*lines, f"   {what} {value}, which gives no interval"]
    mean, std = _value(outcome, side.mean), _difference(outcome, side.std, sign="")
    student, bootstrap = (
        " to ".join(_value(outcome, bound) for bound in interval)
        for interval in (side.student, side.bootstrap)
    )
    return [
        *lines,
        f"   {what}: mean {mean}, std {std}; n = {side.n}",
        f"   95 % of the mean: {student} (Student), {bootstrap} (bootstrap)",
    ]


def _unpredicted(outcome: Outcome, count: int | None) -> str:
    if outcome.regresses:
        return "a loss in training was not finite"
    if count is None:
        return (
            "and did not count the test examples without a prediction; train it again"
        )
    return f"no prediction for {count:,} test examples, which count as wrong"


def _divergence(name: str, outcome: Outcome) -> list[str]:
    """Say at the end of a verdict that a side has diverged."""
    if not outcome.diverged:
        return []
    of = f" in {len(outcome.diverged)} of {len(outcome.scores)} seeds"
    return [f"; {name} diverged{of if len(outcome.scores) > 1 else ''}"]


def _settings_line(a: Outcome, b: Outcome) -> str:
    """Say in which settings of their recipes the runs differ, the first few by name."""
    found = [
        f"{path} {json.dumps(left)} against {json.dumps(right)}"
        for path, (left, right) in differences(a, b).items()
    ]
    if not found:
        return "differ in: no setting of the recipe"
    more = [f"{len(found) - SHOWN} more (see --json)"] if len(found) > SHOWN else []
    return f"differ in: {', '.join(found[:SHOWN] + more)}"


def _test_lines(name: str, test: statistics.Comparison) -> list[str]:
    if test.t is None:
        return [f"{name}: {test.verdict}"]
    return [
        f"{name}: t {test.t:.3g}, {test.degrees_of_freedom:.3g} degrees of freedom, "
        f"p {test.p_value:.2g}, Hedges' g {test.effect_size:.3g}: {test.verdict}"
    ]


def _better(outcome: Outcome, difference: float) -> str:
    higher = outcome.metric == "test_accuracy"
    return f"; {'A' if (difference > 0) == higher else 'B'} is better"


def _value(outcome: Outcome, value: float) -> str:
    return f"{value:.2%}".replace("%", " %") if _percent(outcome) else f"{value:.4g}"


def _difference(outcome: Outcome, value: float, *, sign: str = "+") -> str:
    if _percent(outcome):
        return f"{100 * value:{sign}.2f} points"
    return f"{value:{sign}.3g}"


def _percent(outcome: Outcome) -> bool:
    return outcome.metric == "test_accuracy"


if __name__ == "__main__":
    _script.run(main)
