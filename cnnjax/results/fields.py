"""Read a run's JSON files field by field: somebody may have edited them since."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

from cnnjax.base.errors import InputError
from cnnjax.results.schema import CONFIG, EPOCH, NAMES, NUMBERS, RESULT, Schema

MOST_LEVELS = 50  # of nested brackets; the files that runs write have fewer than 10
WORDS = {
    str: "a name",
    int: "a whole number from 0",
    float: "a number",
    bool: "true or false",
    NAMES: "a list of names",
    NUMBERS: "a list of whole numbers from 0",
    dict: "an object",
}


def read_text(path: Path) -> str:
    """Return the text of a file in UTF-8.

    Raises:
        InputError: it cannot be read, or is not valid UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read {path}: {error}") from error


def parse(path: Path, text: str) -> dict[str, Any]:
    """Parse a file's text, or one line of it, as a JSON object.

    Raises:
        InputError: it is not an object, has a field twice, or is nested too deeply.
    """
    try:
        value = json.loads(text, object_pairs_hook=_once)
        deep = _is_deep(value)
    except RecursionError:
        value, deep = None, True
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
        InputError: it is missing or damaged, or a field has the wrong type.
    """
    path = folder / RESULT.file
    return _checked(path, read_text(path), RESULT)


def read_epochs(folder: Path) -> list[dict[str, Any]]:
    """Return the lines of a run's metrics.jsonl, one per epoch, as `read_result`.

    Raises:
        InputError: it is missing, a line is damaged, or a field has the wrong type.
    """
    path = folder / EPOCH.file
    return [_checked(path, line, EPOCH) for line in read_text(path).splitlines()]


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
        return isinstance(value, int) and value >= 0
    if kind in (NAMES, NUMBERS):
        (of,) = get_args(kind)
        return isinstance(value, list) and all(_is_a(of, item) for item in value)
    return isinstance(value, kind) and (kind is not str or value.isprintable())


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = [name for name, _ in pairs]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"{name!r} occurs twice")
    return dict(pairs)


def _is_deep(value: Any) -> bool:
    level = [value]
    for _ in range(MOST_LEVELS):
        dicts = [item.values() for item in level if isinstance(item, dict)]
        lists = [item for item in level if isinstance(item, list)]
        level = [item for items in (*dicts, *lists) for item in items]
    return bool(level)
