"""The choices of a sweep: every combination of some values of some settings."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from cnnjax.base.errors import InputError, expect, shown, unknown_name

MOST = 1000  # combinations
FORM = "as in 'learning_rate=1e-3,1e-2;batch_size=16,64'"


class Choice(NamedTuple):
    """One combination of values."""

    items: tuple[tuple[str, Any], ...]  # settings and values

    @property
    def values(self) -> dict[str, Any]:
        """Return the values by setting."""
        return dict(self.items)

    @property
    def name(self) -> str:
        """Return what it is called, and its folder: "batch_size=16,l2=0.1"."""
        return ",".join(f"{name}={value}" for name, value in self.values.items())


def parse_sweep(
    text: str, parsers: Mapping[str, Callable[[str], Any]]
) -> dict[str, list[Any]]:
    """Return the values of each setting, in the order in which they were given.

    `parsers` has a function for each setting that may be swept; it raises ValueError
    for a value that is none.

    >>> parse_sweep("l2=0,1e-4; batch_size=16,64", {"l2": float, "batch_size": int})
    {'l2': [0.0, 0.0001], 'batch_size': [16, 64]}

    Raises:
        InputError: another form, an unknown setting, a setting or a value given twice,
            a value that is none, or too many combinations.
    """
    axes: dict[str, list[Any]] = {}
    for part in filter(None, map(str.strip, text.split(";"))):
        name, is_there, listed = (word.strip() for word in part.partition("="))
        words = [word.strip() for word in listed.split(",")]
        expect(f"NAME=VALUE,VALUE {FORM}", part, bool(is_there) and all(words))
        if name not in parsers:
            raise unknown_name("setting to sweep", name, parsers)
        expect("each setting once in a sweep", name, name not in axes)
        axes[name] = [_parsed(name, word, parsers[name]) for word in words]
        for value in axes[name]:
            once = axes[name].count(value) == 1
            expect(f"each value of {name} once", value, once)
    expect(f"settings to sweep, {FORM}", text, bool(axes))
    count = math.prod(map(len, axes.values()))
    expect(f"at most {MOST:,} combinations", f"{count:,}", count <= MOST)
    return axes


def choices_of(axes: Mapping[str, list[Any]]) -> list[Choice]:
    """Return every combination; the last setting varies fastest.

    >>> [one.name for one in choices_of({"l2": [0.0, 0.1], "epochs": [1, 2]})]
    ['l2=0.0,epochs=1', 'l2=0.0,epochs=2', 'l2=0.1,epochs=1', 'l2=0.1,epochs=2']
    """
    combined = itertools.product(*axes.values())
    return [Choice(tuple(zip(axes, values, strict=True))) for values in combined]


def _parsed(name: str, word: str, parse: Callable[[str], Any]) -> Any:
    try:
        value = parse(word)
    except (ValueError, TypeError) as error:
        said = " ".join(str(error).split())
        raise InputError(f"expected values of {name}, got {shown(word)}: {said}") from (
            error
        )
    finite = not isinstance(value, float) or math.isfinite(value)
    expect(f"a finite {name}", word, finite)
    return value
