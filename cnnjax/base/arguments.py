"""Checks of a caller's arguments, done once on the host, with plain Python values out.

An integer can be a Python, NumPy or JAX integer, or an array of shape (). It is stored
as a Python int, so that a config hashes, compares, pickles and converts to JSON however
its numbers were computed.
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

# rule(name, value) -> the value to store; raises InputError if it is not allowed.
Rule = Callable[[str, Any], Any]


def whole_number(
    what: str, got: object, *, least: int | None = None, most: int | None = None
) -> int:
    """Return a whole number from `least` to `most` as an int. A bool is refused.

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
    """Return a number for which `holds` is true as a float. A bool is refused.

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
    """Return a name that is one of those known.

    Raises:
        InputError: the name is unknown, or not a string; the message suggests the
            nearest names.
    """
    if not isinstance(name, str) or name not in known:
        raise unknown_name(kind, name, known)
    return str(name)


def function(name: str, value: Any) -> Any:
    """Return the value if it can be called.

    Raises:
        InputError: it cannot be called.
    """
    expect(f"{name} to be a function", value, callable(value))
    return value


def random_key(name: str, value: Any) -> Any:
    """Return one key, from `jax.random.key` or (old-style) `jax.random.PRNGKey`.

    Raises:
        InputError: not a key, or several keys.
    """
    dtype, rank = getattr(value, "dtype", None), len(getattr(value, "shape", ()))
    typed = dtype is not None and jnp.issubdtype(dtype, jax.dtypes.prng_key)
    one = rank == 0 if typed else dtype == np.uint32 and rank == 1
    expect(f"{name} to be one key, as of jax.random.key(0)", value, one)
    return value


def settle(config: object, **rules: Rule) -> None:
    """Replace each field of a frozen config by the value that its rule returns.

    Raises:
        InputError: a rule refuses the value of its field.
    """
    for name, rule in rules.items():
        object.__setattr__(config, name, rule(name, getattr(config, name)))


def whole(name: str, value: Any) -> int:
    """Return any whole number as an int, where the limits depend on the data."""
    return whole_number(name, value)


def at_least(least: int) -> Rule:
    """Build the rule that accepts whole numbers of at least `least`."""
    return lambda name, value: whole_number(
        f"{name} of at least {least}", value, least=least
    )


def number(words: str, holds: Callable[[float], bool]) -> Rule:
    """Build the rule that accepts numbers for which `holds` is true.

    `words` describes the condition in messages.
    """
    return lambda name, value: real_number(f"{name} {words}", value, holds)


def single(words: str, holds: Callable[[float], bool]) -> Rule:
    """Build the rule that accepts numbers for which `holds` is true in float32, too.

    Training computes in float32, in which 1 - 1e-9 is 1, and 1e-46 is 0.

    Raises:
        InputError: the rule raises it for any other number.
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
    """Round a number to float32; a subnormal becomes 0, as it does on many devices."""
    if abs(number) < np.finfo(np.float32).tiny:
        return 0.0
    with np.errstate(over="ignore"):
        return float(np.float32(number))


def named(known: Collection[str]) -> Rule:
    """Build the rule that accepts these names."""
    return lambda name, value: known_name(name, value, known)


def instance_of(*kinds: type) -> Rule:
    """Build the rule that accepts instances of these types.

    Raises:
        InputError: the rule raises it for any other value.
    """
    names = " or ".join(kind.__name__ for kind in kinds)

    def keep(name: str, value: Any) -> Any:
        expect(f"{name} of kind {names}", value, isinstance(value, kinds))
        return value

    return keep


def optional(rule: Rule) -> Rule:
    """Build the rule that also accepts None."""
    return lambda name, value: None if value is None else rule(name, value)


def several(rule: Rule) -> Rule:
    """Build the rule that accepts a tuple, list or array of values of another rule.

    Raises:
        InputError: the rule raises it for anything else.
    """

    def each(name: str, values: Any) -> tuple:
        many = isinstance(values, tuple | list) or np.ndim(values) > 0
        expect(f"{name} to be a tuple", values, many)
        return tuple(rule(name, value) for value in values)

    return each
