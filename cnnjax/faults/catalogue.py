"""The catalogue of known faults, by name. The laws must catch every one of them."""

from __future__ import annotations

from collections.abc import Iterable

from cnnjax.errors import unknown_name
from cnnjax.faults import of_batches, of_devices, of_gradients, of_rules, of_steps
from cnnjax.faults.fault import Fault
from cnnjax.rules import RULES, Rule
from cnnjax.strategies import Builder

FAULTS: dict[str, Fault] = {
    fault.name: fault
    for faults in (of_batches, of_gradients, of_rules, of_devices, of_steps)
    for fault in faults.FAULTS
}


def get_fault(name: str) -> Fault:
    """Return the fault of this name.

    Raises:
        InputError: no such fault; the message names the nearest.
    """
    if name not in FAULTS:
        raise unknown_name("fault", name, FAULTS)
    return FAULTS[name]


def corrupted(builder: Builder, faults: Iterable[Fault]) -> Builder:
    """Switch faults of strategies into the builder of one, the first one innermost."""
    for fault in faults:
        if fault.place == "strategy":
            builder = fault.corrupt(builder)
    return builder


def corrupted_rules(faults: Iterable[Fault]) -> dict[str, Rule]:
    """Return the table of per-example rules, with faults of clipping switched in."""
    rules = dict(RULES)
    for fault in faults:
        if fault.place == "clipping":
            for name in ("clipped_by_rows", "clipped_by_factors"):
                rules[name] = fault.corrupt(rules[name])
    return rules
