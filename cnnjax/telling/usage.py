"""The page that --help prints: a script's flags in groups, one sentence per flag."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from cnnjax.telling.layout import WIDTH

INDENT = 24  # columns before the sentence


class Flag(NamedTuple):
    """A flag as it is written on the command line, and its meaning."""

    written: str  # "--epochs=N"
    meaning: str
    default: str = ""  # as it is written; "": do not show one


def usage(about: str, groups: Mapping[str, Sequence[Flag]]) -> str:
    """Return a help page: what the script does, then its flags by group.

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
    """Rewrap a paragraph; indented ones, such as commands, are left alone."""
    return text if text.startswith(" ") else textwrap.fill(text, WIDTH)


def _entry(flag: Flag) -> str:
    """Return a flag and its meaning, on one line if they fit."""
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
