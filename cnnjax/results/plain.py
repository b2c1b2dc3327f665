"""Values as JSON has them, and back."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from cnnjax.base.errors import InputError, shown


def plain(value: Any) -> Any:
    """Convert a value to types that JSON has."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
        return {"type": type(value).__name__, **plain(fields)}
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [plain(item) for item in value]
    if isinstance(value, float | np.floating):
        return float(value) if np.isfinite(value) else None
    return value


def from_plain(value: Any, kinds: Mapping[str, type], *, where: str = "value") -> Any:
    """Return the value that `plain` was given; lists become tuples.

    Only the dataclasses of `kinds`, by name, are made: the value may come from a file.
    A field that is not there has its default.

    Raises:
        InputError: another kind, a field that it does not have, or one that is missing;
            or the dataclass refuses a value.
    """
    if isinstance(value, list):
        parts = enumerate(value)
        return tuple(from_plain(v, kinds, where=f"{where}[{i}]") for i, v in parts)
    if not isinstance(value, Mapping):
        return value
    name = value.get("type")
    kind = kinds.get(name) if isinstance(name, str) else None
    if kind is None:
        raise InputError(
            f"{where}: expected one of {', '.join(kinds)}, got {shown(name)}"
        )
    fields = {f.name: f for f in dataclasses.fields(kind) if f.init}
    given = {own: item for own, item in value.items() if own != "type"}
    if unknown := [own for own in given if own not in fields]:
        raise InputError(f"{where}: {name} has no field {shown(unknown[0])}")
    parts = {
        own: from_plain(item, kinds, where=f"{where}.{own}")
        for own, item in given.items()
    }
    none = dataclasses.MISSING
    missing = [
        own
        for own, f in fields.items()
        if own not in parts and f.default is none and f.default_factory is none
    ]
    if missing:
        raise InputError(f"{where}: {name} lacks {missing[0]}")
    try:
        return kind(**parts)
    except InputError as error:
        raise InputError(f"{where}: {error}") from error
