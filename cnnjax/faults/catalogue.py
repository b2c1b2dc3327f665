"""The catalogue of known faults, by name."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from cnnjax.base.errors import unknown_name
from cnnjax.faults import (
    of_batches,
    of_devices,
    of_gradients,
    of_layers,
    of_losses,
    of_rules,
    of_samples,
    of_steps,
    of_training,
)
from cnnjax.faults.fault import Fault, Place
from cnnjax.gradients.rules import ROUTES, Rule

OF = (
    *(of_layers, of_losses, of_batches, of_samples, of_gradients, of_rules),
    *(of_devices, of_steps, of_training),
)

FAULTS: dict[str, Fault] = {
    fault.name: fault for faults in OF for fault in faults.FAULTS
}


def get_fault(name: str) -> Fault:
    """Return the fault of this name.

    Raises:
        InputError: an unknown name; the message suggests the nearest.
    """
    if name not in FAULTS:
        raise unknown_name("fault", name, FAULTS)
    return FAULTS[name]


def corrupted(place: Place, right: Any, faults: Iterable[Fault]) -> Any:
    """Apply the faults of a place to the right value there.

    They are applied in order, the first innermost. Faults of other places are ignored.
    """
    for fault in faults:
        if fault.place == place:
            right = fault.corrupt(right)
    return right


def corrupted_routes(faults: Iterable[Fault]) -> dict[str, Rule]:
    """Return the rules of `ROUTES`, with the faults of clipping applied to them."""
    faults = list(faults)
    return {name: corrupted("clipping", rule, faults) for name, rule in ROUTES.items()}
