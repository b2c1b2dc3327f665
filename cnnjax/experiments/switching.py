"""Faults switched into several strategies, each where it could matter."""

from __future__ import annotations

from collections.abc import Sequence

from cnnjax.base.errors import InputError
from cnnjax.experiments.experiment import Experiment, setting_of, with_faults
from cnnjax.faults import OF_GRADIENT, get_fault, unmet


def with_gradient_faults(
    rows: Sequence[Experiment], names: Sequence[str], *, rules_too: bool
) -> list[Experiment]:
    """Build the strategy of each row, with the faults that could matter there.

    With `rules_too`, what clips is left out: it is switched into the per-example rules.

    Raises:
        InputError: a fault that is not known, corrupts no gradient, or could matter
            nowhere.
    """
    places: list[list[str]] = [[] for _ in rows]
    for fault in map(get_fault, names):
        if fault.place == "clipping" and rules_too:
            continue
        if fault.place not in (*OF_GRADIENT, "clipping"):
            raise InputError(
                f"fault {fault.name!r} leaves every gradient right: it corrupts the "
                f"{fault.place}; train.py shows what it does"
            )
        settings = [setting_of(row) for row in rows]
        missing = [unmet(fault, setting) for setting in settings]
        if all(missing):
            fits = [setting.strategy in fault.needs.strategies for setting in settings]
            raise InputError(missing[fits.index(True) if True in fits else 0])
        for place, needed in zip(places, missing, strict=True):
            place += [] if needed else [fault.name]
    return list(map(with_faults, rows, places))
