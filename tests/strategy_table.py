"""What the tests go through: names of strategies by their fields, and routes."""

from __future__ import annotations

from cnnjax.gradients.objective import Objective
from cnnjax.gradients.reductions import REDUCTIONS
from cnnjax.gradients.rules import ROUTES, serial
from cnnjax.gradients.shares import ShareFn
from cnnjax.strategies import names_of

DIVIDED = names_of(divides=True)
ACROSS_PROCESSES = names_of(across_processes=True)
# (reduction, route) of each per-example rule, by its name.
PER_EXAMPLE = {
    f"{reduction}_by_{route}": (reduction, route)
    for reduction in REDUCTIONS
    for route in ROUTES
}


def share_by(name: str, objective: Objective, max_norm: float) -> ShareFn:
    """Return the share of a per-example rule."""
    reduction, route = PER_EXAMPLE[name]
    return ROUTES[route](objective, REDUCTIONS[reduction](max_norm))


def reference_by(name: str, objective: Objective, max_norm: float) -> ShareFn:
    """Return the serial reference of a per-example rule."""
    return serial(objective, REDUCTIONS[PER_EXAMPLE[name][0]](max_norm))
