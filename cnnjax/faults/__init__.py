"""Known faults of training code, to be switched in on purpose, and caught."""

from cnnjax.faults.catalogue import FAULTS, corrupted, get_fault
from cnnjax.faults.fault import Fault, Needs, Setting, unmet

__all__ = ["FAULTS", "Fault", "Needs", "Setting", "corrupted", "get_fault", "unmet"]
