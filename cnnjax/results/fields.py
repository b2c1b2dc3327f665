"""Read a run's JSON files field by field: somebody may have edited them since."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

from cnnjax.base.errors import InputError
from cnnjax.base.intake import read_text
from cnnjax.results import seal
from cnnjax.results.schema import CONFIG, EPOCH, NAMES, NUMBERS, RESULT, Schema

MOST_LEVELS = 50  # of nested brackets; the files that runs write have fewer than 10
MOST_OF_AN_OBJECT = 2**22  # characters, that become forty times as many bytes
LARGEST = 2**63 - 1  # whole number: what an array can hold
WORDS = {
    str: "a name",
    int: "a whole number from 0",
    float: "a number",
    bool: "true or false",
    NAMES: "a list of names",
    NUMBERS: "a list of whole numbers from 0",
    dict: "an object",
}


def parse(path: Path, text: str) -> dict[str, Any]:
    """Parse a file's text, or one line of it, as a JSON object.

    Raises:
        InputError: it is not an object, has a field twice, is too long, or is nested
            too deeply.
    """
    if len(text) > MOST_OF_AN_OBJECT:
        most = f"{MOST_OF_AN_OBJECT:,} characters of an object"
        raise InputError(
            f"{path} is damaged: expected at most {most}, got {len(text):,}"
        )
    try:
        value = json.loads(text, object_pairs_hook=_once)
        deep = _is_deep(value)
    except RecursionError:
        value, deep = None, True
    except MemoryError as error:
        raise InputError(f"{path} is damaged: it takes too much memory") from error
    except ValueError as error:
        raise InputError(f"{path} is damaged: {error}") from error
    if deep:
        raise InputError(f"{path} is damaged: more than {MOST_LEVELS} nested brackets")
    if not isinstance(value, dict):
        raise InputError(f"{path} is damaged: expected an object, got {text[:40]!r}")
    return value


def field(
    path: Path, row: Mapping[str, Any], name: str, *, schema: Schema, of: str = ""
) -> Any:
    """Return a field of a run's file, checked against the schema's type.

    Raises:
        InputError: it is missing, or has another type (see `WORDS`).
    """
    kind = schema.kind(name)
    value: Any = row.get(name)
    if not _is_a(kind, value):
        unknown = name in row and value is None and kind is float
        hint = "; null: it was not finite, so it cannot be compared" if unknown else ""
        if kind is int and isinstance(value, int) and value > LARGEST:
            hint = f"; the largest is {LARGEST:,}"
        got = json.dumps(value)[:200] if name in row else "nothing"
        raise InputError(
            f"expected {name}{of} in {path} to be {WORDS[kind]}, got {got}{hint}"
        )
    return float(value) if kind is float else value


def read_config(folder: Path) -> dict[str, Any]:
    """Return a run's config.json, with the type of every field checked.

    Raises:
        InputError: it is missing or damaged, or a field has the wrong type.
    """
    path = folder / CONFIG.file
    return _checked(path, read_text(path), CONFIG)


def read_result(folder: Path) -> dict[str, Any]:
    """Return a run's result.json, with the type of every field checked, unless None.

    Raises:
        InputError: it or a file of the run is missing, damaged or edited (see `seal`),
            or a field has the wrong type.
    """
    path = folder / RESULT.file
    result = _checked(path, read_text(path), RESULT)
    seal.check_result(path, result)
    seal.check_files(folder, result)
    return result


def read_epochs(folder: Path) -> list[dict[str, Any]]:
    """Return the lines of a run's metrics.jsonl, one per epoch, as `read_result`.

    Raises:
        InputError: it is missing, a line is damaged or has no epoch, or a field has the
            wrong type.
    """
    path = folder / EPOCH.file
    rows = [_checked(path, line, EPOCH) for line in lines_of(path)]
    for row in rows:
        field(path, row, "epoch", schema=EPOCH)
    return rows


def lines_of(path: Path) -> list[str]:
    """Return the lines of a file; only a line feed ends one.

    Raises:
        InputError: it cannot be read (see `base.intake`).
    """
    lines = read_text(path).split("\n")
    return lines if lines[-1] else lines[:-1]


def _checked(path: Path, text: str, schema: Schema) -> dict[str, Any]:
    """Read an object; undeclared and missing fields are allowed."""
    row = parse(path, text)
    for name, value in row.items():
        if name in schema.fields and value is not None:
            field(path, row, name, schema=schema)
    return row


def _is_a(kind: Any, value: Any) -> bool:
    if isinstance(value, bool):
        return kind is bool
    if kind is float and isinstance(value, int):
        return abs(value) < 2**1023  # fits a float64
    if kind is int:
        return isinstance(value, int) and 0 <= value <= LARGEST
    if kind in (NAMES, NUMBERS):
        (of,) = get_args(kind)
        return isinstance(value, list) and all(_is_a(of, item) for item in value)
    return isinstance(value, kind) and (kind is not str or value.isprintable())


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"{name[:100]!r} occurs twice")
        found[name] = value
    return found


def _is_deep(value: Any) -> bool:
    level = [value]
    for _ in range(MOST_LEVELS):
        dicts = [item.values() for item in level if isinstance(item, dict)]
        lists = [item for item in level if isinstance(item, list)]
        level = [item for items in (*dicts, *lists) for item in items]
    return bool(level)
