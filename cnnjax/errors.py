"""The one error that means: the caller's input is wrong, and here is what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """Bad input, told in one line: what was expected, what came, what to do.

    The library raises it before any tracing; scripts print it and exit with status 2.
    """


def unknown_name(kind: str, name: str, known: Iterable[str]) -> InputError:
    """Build the error for a name that is in no table, with the nearest that are.

    >>> print(unknown_name("recipe", "adam_cosin_cnn", ["adam_cosine_cnn", "mlp"]))
    unknown recipe 'adam_cosin_cnn'; did you mean adam_cosine_cnn? known: ...
    """
    known = sorted(known)
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.6)
    hint = f"; did you mean {' or '.join(near)}?" if near else ";"
    return InputError(f"unknown {kind} {name!r}{hint} known: {', '.join(known)}")


def expect(what: str, got: object, holds: bool) -> None:
    """Raise InputError "expected WHAT, got GOT" unless it holds.

    >>> expect("epochs of at least 0", -1, False)
    Traceback (most recent call last):
    cnnjax.errors.InputError: expected epochs of at least 0, got -1
    """
    if not holds:
        raise InputError(f"expected {what}, got {got!r}")
