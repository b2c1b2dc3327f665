"""What --help prints: the flags of a script in groups, each with a plain sentence."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from cnnjax.telling.layout import WIDTH

INDENT = 24  # columns before the sentence


class Flag(NamedTuple):
    """A flag as it is written on a command line, and what it means."""

    written: str  # "--epochs=N"
    meaning: str
    default: str = ""  # as it is written; "": none to tell of


def usage(about: str, groups: Mapping[str, Sequence[Flag]]) -> str:
    """Return a page of help: what the script is about, then its flags by groups.

    >>> print(usage("Train.", {"data": [Flag("--seed=N", "Seed.", "0")]}))
    Train.
    <BLANKLINE>
    data:
      --seed=N              Seed. Default: 0.
    """
    parts = [_paragraph(part) for part in about.strip().split("\n\n")]
    for name, flags in groups.items():
        parts.append("\n".join([f"{name}:", *map(_entry, flags)]))
    return "\n\n".join(parts)


def _paragraph(text: str) -> str:
    """Fill a paragraph anew; what is indented, as a command is, stays as it is."""
    return text if text.startswith(" ") else textwrap.fill(text, WIDTH)


def _entry(flag: Flag) -> str:
    """Return a flag and its meaning, side by side where there is room."""
    default = f" Default: {flag.default}." if flag.default else ""
    told = textwrap.wrap(
        f"{flag.meaning}{default}",
        WIDTH,
        initial_indent=" " * INDENT,
        subsequent_indent=" " * INDENT,
        break_on_hyphens=False,
    )
    head = f"  {flag.written}"
    if len(head) + 2 > INDENT:
        return "\n".join([head, *told])
    return "\n".join([f"{head:<{INDENT}}{told[0].strip()}", *told[1:]])
