r"""Text that a terminal shows, and does not obey.

A name of a file, a column or a device is input. ESC begins commands of a terminal, a
carriage return or a sign that changes the direction of writing hides what stands before
it, and a lone surrogate (a byte of a name that is not UTF-8) cannot be written at all.
"""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path
from typing import Any

# Control and format characters, surrogates, and what separates lines and paragraphs.
OBEYED = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})


def printable(text: str) -> str:
    r"""Return a text with an escape for each character that a terminal would obey.

    >>> print(printable("a\x1b[2Jb\r\n"))
    a\x1b[2Jb\r\n
    """
    if text.isprintable():  # most texts
        return text
    return "".join(map(_shown, text))


def one_line(text: str) -> str:
    r"""Return a text on one line, printable: what stood on several is joined.

    >>> print(one_line("it said:\n  no\a"))
    it said: no\x07
    """
    return printable(re.sub(r"\s*\n\s*", " ", text.strip()))


def printable_values(value: Any) -> Any:
    """Return what was read of JSON with every text and every name printable."""
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, dict):
        return {printable(name): printable_values(own) for name, own in value.items()}
    if isinstance(value, list):
        return [printable_values(own) for own in value]
    return value


def without_home(text: str) -> str:
    """Return a text with ~ for the user's home folder, which tells who they are."""
    try:
        home = str(Path.home())
    except RuntimeError:  # none is known
        return text
    if len(Path(home).parts) < 2 or not Path(home).is_absolute():
        return text  # of / nothing is told
    return re.sub(rf"(?<![\w./-]){re.escape(home)}(?![\w.-])", "~", text)


def _shown(character: str) -> str:
    if unicodedata.category(character) not in OBEYED:
        return character
    return character.encode("unicode_escape").decode("ascii")
