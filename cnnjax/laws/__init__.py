"""The laws that every strategy obeys, and the bounds of rounding errors."""

from cnnjax.laws.checking import Finding, check
from cnnjax.laws.making import make_case
from cnnjax.laws.table import LAWS, Law

__all__ = ["LAWS", "Finding", "Law", "check", "make_case"]
