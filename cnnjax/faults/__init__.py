"""Known faults of training code, to be switched in on purpose, and caught."""

from cnnjax.faults.catalogue import FAULTS, corrupted, corrupted_rules, get_fault
from cnnjax.faults.fault import Fault, Needs, Setting, unmet

__all__ = [
    "FAULTS",
    "Fault",
    "Needs",
    "Setting",
    "corrupted",
    "corrupted_rules",
    "get_fault",
    "unmet",
]
