"""Strategies: one way each to compute the mean gradient of a batch."""

from cnnjax.strategies.options import (
    NO_OPTIONS,
    Builder,
    DeviceMap,
    Options,
    checked,
    copy_to_device,
    mesh_of,
)
from cnnjax.strategies.table import (
    ACROSS_PROCESSES,
    DIVIDED,
    STRATEGIES,
    check_division,
    make_strategy,
)

__all__ = [
    "ACROSS_PROCESSES",
    "DIVIDED",
    "NO_OPTIONS",
    "STRATEGIES",
    "Builder",
    "DeviceMap",
    "Options",
    "check_division",
    "checked",
    "copy_to_device",
    "make_strategy",
    "mesh_of",
]
