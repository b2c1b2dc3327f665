"""What a caller may give: checked once on the host, and made plain.

A whole number may come as Python's, NumPy's or JAX's, or as an array without axes. It
is kept as Python's own, so that a config hashes, compares, pickles and becomes JSON
however its numbers were computed.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Collection
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cnnjax.base.errors import InputError, expect, shown, unknown_name

# rule(name, value) -> the value as it is kept; it raises InputError for any other.
Rule = Callable[[str, Any], Any]


def whole_number(
    what: str, got: object, *, least: int | None = None, most: int | None = None
) -> int:
    """Return a whole number from `least` to `most` as an int. A bool is none.

    >>> whole_number("epochs of at least 0", np.int64(3), least=0)
    3

    Raises:
        InputError: "expected WHAT, got ..." of any other value.
    """
    try:
        if isinstance(got, bool):
            raise TypeError
        number = operator.index(got)  # pyright: ignore[reportArgumentType]
    except TypeError:
        raise InputError(f"expected {what}, a whole number, got {shown(got)}") from None
    expect(what, number, least is None or least <= number)
    expect(what, number, most is None or number <= most)
    return number


def real_number(what: str, got: object, holds: Callable[[float], bool]) -> float:
    """Return a number for which `holds` is true as a float. A bool is none.

    >>> real_number("rate in [0, 1)", np.float64(0.5), lambda rate: 0 <= rate < 1)
    0.5

    Raises:
        InputError: "expected WHAT, got ..." of any other value.
    """
    try:
        if np.ma.is_masked(got):
            raise TypeError
        array = np.asarray(got)
        real = jnp.issubdtype(array.dtype, np.floating)
        if array.ndim or not (real or jnp.issubdtype(array.dtype, np.integer)):
            raise TypeError
    except (TypeError, ValueError):
        raise InputError(f"expected {what}, a number, got {shown(got)}") from None
    number = float(array)
    expect(what, number, holds(number))
    return number


def known_name(kind: str, name: object, known: Collection[str]) -> str:
    """Return a name that is among those known.

    Raises:
        InputError: it is not, or is no name; the message has the nearest.
    """
    if not isinstance(name, str) or name not in known:
        raise unknown_name(kind, name, known)
    return str(name)


def function(name: str, value: Any) -> Any:
    """Keep what can be called.

    Raises:
        InputError: it cannot.
    """
    expect(f"{name} to be a function", value, callable(value))
    return value


def random_key(name: str, value: Any) -> Any:
    """Keep one key, as of `jax.random.key` or, untyped, of `jax.random.PRNGKey`.

    Raises:
        InputError: it is none, or several.
    """
    dtype, rank = getattr(value, "dtype", None), len(getattr(value, "shape", ()))
    typed = dtype is not None and jnp.issubdtype(dtype, jax.dtypes.prng_key)
    one = rank == 0 if typed else dtype == np.uint32 and rank == 1
    expect(f"{name} to be one key, as of jax.random.key(0)", value, one)
    return value


def settle(config: object, **rules: Rule) -> None:
    """Put what its rule makes of it in the place of each field of a frozen config.

    Raises:
        InputError: a rule refuses the value of its field.
    """
    for name, rule in rules.items():
        object.__setattr__(config, name, rule(name, getattr(config, name)))


def whole(name: str, value: Any) -> int:
    """Keep whole numbers, whatever their size: the rule of what data will limit."""
    return whole_number(name, value)


def at_least(least: int) -> Rule:
    """Build the rule that keeps whole numbers of at least so many."""
    return lambda name, value: whole_number(
        f"{name} of at least {least}", value, least=least
    )


def number(words: str, holds: Callable[[float], bool]) -> Rule:
    """Build the rule that keeps the numbers for which something holds, in words."""
    return lambda name, value: real_number(f"{name} {words}", value, holds)


def single(words: str, holds: Callable[[float], bool]) -> Rule:
    """Build the rule of numbers for which it holds in float32, too.

    Training computes in that: there 1 - 1e-9 is 1, and 1e-46 is 0.

    Raises:
        InputError: the rule does, for any other.
    """

    def keep(name: str, value: Any) -> float:
        kept = real_number(f"{name} {words}", value, holds)
        held = _in_float32(kept)
        same = bool(held) == bool(kept) and math.isfinite(held)
        if not (same and holds(held)):
            raise InputError(
                f"expected {name} {words}, got {kept}, which is {held} in float32"
            )
        return kept

    return keep


def _in_float32(number: float) -> float:
    """Return what a number is in float32, whose subnormal ones many devices lack."""
    if abs(number) < np.finfo(np.float32).tiny:
        return 0.0
    with np.errstate(over="ignore"):
        return float(np.float32(number))


def named(known: Collection[str]) -> Rule:
    """Build the rule that keeps these names."""
    return lambda name, value: known_name(name, value, known)


def instance_of(*kinds: type) -> Rule:
    """Build the rule that keeps values of these kinds.

    Raises:
        InputError: the rule does, for any other.
    """
    names = " or ".join(kind.__name__ for kind in kinds)

    def keep(name: str, value: Any) -> Any:
        expect(f"{name} of kind {names}", value, isinstance(value, kinds))
        return value

    return keep


def optional(rule: Rule) -> Rule:
    """Build the rule that keeps None, too."""
    return lambda name, value: None if value is None else rule(name, value)


def several(rule: Rule) -> Rule:
    """Build the rule that keeps a tuple, list or array of what another keeps.

    Raises:
        InputError: the rule does, for what is none of these.
    """

    def each(name: str, values: Any) -> tuple:
        many = isinstance(values, tuple | list) or np.ndim(values) > 0
        expect(f"{name} to be a tuple", values, many)
        return tuple(rule(name, value) for value in values)

    return each
