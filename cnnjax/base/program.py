"""What this program is called: `train.py`, or `cnnjax train`."""

from __future__ import annotations

import contextlib
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from cnnjax.base.printable import one_line, printable

_called: list[str] = []  # by the console command, and the scripts that it can call
_commands: dict[str, str] = {}


def call(command: str, scripts: dict[str, str]) -> None:
    """Let this program be called `cnnjax COMMAND`; `scripts` has each one's."""
    _called[:] = ["cnnjax", command]
    _commands.update({script: command for command, script in scripts.items()})


def name() -> str:
    """Return what messages call this program: its file, or the console command."""
    return " ".join(_called) or Path(sys.argv[0]).name


def say(line: str, *, script: str | None = None) -> None:
    """Print one line to stderr, under this name; a stream that is gone is let be.

    `script` is what says it, where that may be called from another program.
    """
    of = name() if _called or script is None else script
    # In one piece: other programs may write to the same terminal.
    with contextlib.suppress(OSError, ValueError):
        sys.stderr.write(f"{one_line(f'{of}: {line}')}\n")
        sys.stderr.flush()


def words() -> list[str]:
    """Return the words that it was called by: a script, or a command, and arguments.

    They are printable: a name of a file may have bytes that are no text.
    """
    return list(map(printable, [*_called, *sys.argv[1:]] if _called else sys.argv))


def shell(words: Sequence[str]) -> list[str]:
    """Return what one types into a shell to call a program by these words again."""
    return list(words) if words[:1] == ["cnnjax"] else ["python", *words]


def as_called(text: str) -> str:
    """Return a help text with the commands as the user calls them."""
    if not _called:
        return text
    return re.sub(r"python scripts/(\w+)\.py", _command, text)


def _command(found: re.Match[str]) -> str:
    return f"cnnjax {_commands.get(found[1], found[1])}"
