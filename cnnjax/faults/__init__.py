"""Known faults of training code, which can be switched on, and must be caught."""

from cnnjax.faults.catalogue import (
    FAULTS,
    corrupted,
    corrupted_routes,
    get_fault,
)
from cnnjax.faults.fault import OF_GRADIENT, Fault, clash, unmet
from cnnjax.faults.needs import Needs, Setting, setting_of
from cnnjax.faults.of_training import Feed
from cnnjax.faults.switch import switch_in

__all__ = [
    "FAULTS",
    "OF_GRADIENT",
    "Fault",
    "Feed",
    "Needs",
    "Setting",
    "clash",
    "corrupted",
    "corrupted_routes",
    "get_fault",
    "setting_of",
    "switch_in",
    "unmet",
]
