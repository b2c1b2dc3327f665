"""What a mutant is: one small fault, as a text that is put in another's place."""

from __future__ import annotations

from typing import NamedTuple


class Mutant(NamedTuple):
    """One small fault."""

    name: str
    what: str  # the fault in one sentence
    file: str
    old: str  # in the file exactly once
    new: str
    likely: tuple[str, ...]  # the test files that should catch it


# In more than one mutant.
SGD_RULE = """return optax.sgd(
            schedule, momentum=self.momentum or None, nesterov=self.nesterov
        )"""
