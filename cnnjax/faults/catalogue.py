"""The catalogue of known faults, by name, and how they are switched in."""

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
        InputError: no such fault; the message names the nearest.
    """
    if name not in FAULTS:
        raise unknown_name("fault", name, FAULTS)
    return FAULTS[name]


def corrupted(place: Place, right: Any, faults: Iterable[Fault]) -> Any:
    """Return what stands at a place with the faults of that place switched in.

    The first is innermost. Faults of other places are passed over.
    """
    for fault in faults:
        if fault.place == place:
            right = fault.corrupt(right)
    return right


def corrupted_routes(faults: Iterable[Fault]) -> dict[str, Rule]:
    """Return the routes to gradients of examples, with faults of clipping in them."""
    faults = list(faults)
    return {name: corrupted("clipping", rule, faults) for name, rule in ROUTES.items()}
