"""What is true of every strategy, and by how much it may be missed."""

from cnnjax.laws.checking import Finding, check
from cnnjax.laws.making import make_case
from cnnjax.laws.table import LAWS, Law

__all__ = ["LAWS", "Finding", "Law", "check", "make_case"]
