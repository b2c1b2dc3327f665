"""What a row of each benchmark must have: rows of other machines are input.

A shape is a test of one value, a list with the shape of its items, or a dictionary with
the shape of each field; "name?" need not be there, "*" is every other name.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from tables import TASKS

from cnnjax.base.errors import InputError, shown
from cnnjax.results.environment import read_environment
from cnnjax.results.fields import LARGEST

Row = dict[str, Any]


class Kind(NamedTuple):
    """A test of one value."""

    words: str
    holds: Callable[[Any], bool]


def _is_number(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return abs(value) <= LARGEST if isinstance(value, int) else math.isfinite(value)


def _is_whole(value: Any) -> bool:
    return _is_number(value) and isinstance(value, int)


def _is_target(value: Any) -> bool:
    """Whether a name is an accuracy: "0.97"."""
    try:
        return 0 <= float(value) <= 1
    except ValueError:
        return False


TEXT = Kind("text", lambda value: isinstance(value, str))
BOOL = Kind("true or false", lambda value: isinstance(value, bool))
NUMBER = Kind("a number", _is_number)
POSITIVE = Kind("a number above 0", lambda v: _is_number(v) and 1e-300 < v < 1e300)
COUNT = Kind("a whole number from 0", lambda v: _is_whole(v) and v >= 0)
WHOLE = Kind("a whole number from 1", lambda v: _is_whole(v) and v >= 1)
SIZE = Kind("a whole number from 0, or null", lambda v: v is None or COUNT.holds(v))
VERSION = Kind("a version, or null", lambda value: value is None or TEXT.holds(value))
TASK = Kind(f"one of {', '.join(TASKS)}", lambda v: TEXT.holds(v) and v in TASKS)
SHARE = Kind("a number from 0 to 1", lambda v: _is_number(v) and 0 <= v <= 1)

SPREAD = dict.fromkeys(("median", "low", "high"), POSITIVE)
SHARES = {**dict.fromkeys(("median", "low", "high"), SHARE), "n": WHOLE}
STAGES = {"*": {"*": NUMBER}}
FACTS = {"stages?": STAGES, "temporary_bytes?": SIZE}
SPENT = {"train_seconds": SPREAD, "wall_seconds": SPREAD}
POINT = {"accuracy": SHARE, "train_seconds": NUMBER}
EVERY = {
    **{"benchmark": TEXT, "run": TEXT, "command": [TEXT]},
    "environment": {"peers?": {"*": VERSION}},
}
MEASURED = {**EVERY, "recipe": TEXT, "batch_size": WHOLE, "busy?": [NUMBER]}
TRIED = {**MEASURED, "contender": TEXT, "ours": BOOL, "tuned": BOOL}
RATIOS = (
    *("ratio_to_best", "ratio_to_best_tuned", "utilisation"),
    "times_the_batch_gradient",
)
SHAPES: dict[str, Row] = {
    "throughput": {
        **{**TRIED, "task": TASK, "facts": FACTS, "examples_per_second": SPREAD},
        **{"gradient_error": NUMBER, "peak_bytes?": SIZE},
        **{f"{name}?": NUMBER for name in RATIOS},
    },
    "accuracy": {
        **{
            **TRIED,
            "dataset": TEXT,
            "epochs": COUNT,
            "targets": {"*": {"seeds": COUNT}},
        },
        **{"accuracy": SHARES, "train_seconds": SPREAD, "wall_seconds": SPREAD},
        "curves": [[POINT]],
    },
    "scaling": {
        **{**MEASURED, "question": TEXT, "title": TEXT, "virtual": BOOL},
        **{"x": POSITIVE, "step_seconds": SPREAD, "round_seconds": SPREAD},
        "temporary_bytes?": SIZE,
    },
    "law": {
        **{**EVERY, "network": TEXT, "dtype": TEXT, "parameters": TEXT},
        **{"right": {"*": NUMBER}, "faults": {"*": NUMBER}},
    },
}
# What a row has not where something failed.
OF_A_SUCCESS = ("facts", "examples_per_second", "gradient_error", "step_seconds")
OF_A_SUCCESS += ("round_seconds",)


def check(path: Path, row: Row) -> Row:
    """Return a row, whose benchmark is known, with everything there that is shown.

    Raises:
        InputError: a field is missing or of another kind; the message names it.
    """
    shape = dict(SHAPES[row["benchmark"]])
    if "failure" in row:
        shape["failure"] = TEXT
        for name in OF_A_SUCCESS:
            if name not in row and name in shape:
                del shape[name]
    if row["benchmark"] == "scaling" and row.get("question") == "overhead":
        shape["x"] = Kind("0 or 1", lambda value: value in (0, 1))
    _check(f"of a row in {path}", row, shape, "")
    if row["benchmark"] == "accuracy":
        _check_curves(path, row)
    if row["benchmark"] == "law" and not row["right"]:
        raise InputError(f"expected a strategy in right of a row in {path}, got none")
    told = read_environment(path, row)
    return {**row, "environment": {"peers": {}, **told}}


def _check(where: str, value: Any, shape: Any, name: str) -> None:
    if isinstance(shape, Kind):
        if not shape.holds(value):
            told = f"to be {shape.words}, got {shown(value)}"
            raise InputError(f"expected {name} {where} {told}")
    elif isinstance(shape, list):
        _expect(isinstance(value, list), "a list", f"{name} {where}", value)
        for at, item in enumerate(value):
            _check(where, item, shape[0], f"{name}[{at}]")
    else:
        _expect(isinstance(value, dict), "an object", f"{name} {where}", value)
        for field, own in shape.items():
            needed = not field.endswith("?")
            field, of = field.removesuffix("?"), f"{name}." if name else ""
            if field == "*":
                for other, item in value.items():
                    _check(where, item, own, f"{of}{other[:60]}")
            elif field in value or needed:
                if field not in value:
                    raise InputError(f"expected {of}{field} {where}, got nothing")
                _check(where, value[field], own, f"{of}{field}")


def _check_curves(path: Path, row: Row) -> None:
    """Refuse curves that cannot stand side by side, and targets that are none."""
    curves, where = row["curves"], f"of a row in {path}"
    alike = bool(curves) and len({len(curve) for curve in curves}) == 1
    _expect(alike, "curves of one length", f"curves {where}", curves)
    for target, reached in row["targets"].items():
        _expect(_is_target(target), "an accuracy", f"a target {where}", target)
        if reached["seeds"]:
            _check(where, reached, SPENT, f"targets.{target}")


def _expect(holds: bool, words: str, what: str, got: Any) -> None:
    if not holds:
        raise InputError(f"expected {what} to be {words}, got {shown(got)}")
