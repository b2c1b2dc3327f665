"""Lay out lines for a terminal of 80 columns, which obeys nothing in them."""

from __future__ import annotations

import shlex
import textwrap
from collections.abc import Iterable, Sequence

from cnnjax.base.printable import printable

WIDTH = 80


def wrap(line: str, *, indent: str = "  ", width: int = WIDTH) -> str:
    """Break a long line at spaces; continuation lines are indented.

    Words are never broken, so that paths can be copied.

    >>> print(wrap("one two three", width=9))
    one two
      three
    """
    line = printable(" ".join(line.splitlines()))
    start = line[: len(line) - len(line.lstrip())]
    broken = textwrap.wrap(
        line.strip(),
        width,
        initial_indent=start,
        subsequent_indent=start + indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return "\n".join(broken) or line


def flow(
    parts: Iterable[str], *, sep: str = ", ", indent: str = "  ", width: int = WIDTH
) -> str:
    """Join parts, starting a new line before a part that would not fit.

    >>> print(flow(["batch size 64", "strategy jit", "seed 0"], width=24))
    batch size 64,
      strategy jit, seed 0
    """
    lines = [""]
    for index, part in enumerate(parts):
        joined = f"{lines[-1]}{sep}{part}" if index else part
        if index and len(joined) > width - len(sep.rstrip()):
            lines[-1] += sep.rstrip()
            lines.append(f"{indent}{part}")
        else:
            lines[-1] = joined
    return "\n".join(wrap(line, indent=indent, width=width) for line in lines)


def command(words: Sequence[str], *, indent: str = "", width: int = WIDTH) -> str:
    r"""Quote a command for pasting into a shell, over as many lines as it needs.

    >>> print(command(["python", "a.py", "--b=c d"], width=14))
    python a.py \
        '--b=c d'
    """
    lines = [indent]
    for word in map(shlex.quote, map(printable, words)):
        begun = lines[-1].strip()
        if begun and len(lines[-1]) + 1 + len(word) > width - 2:
            lines[-1] += " \\"
            lines.append(f"{indent}    {word}")
        else:
            lines[-1] += f" {word}" if begun else word
    return "\n".join(lines)


def row(cells: Sequence[str], widths: Sequence[int]) -> str:
    """Return a row of a table: the first cell flush left, the others flush right.

    >>> row(["jit", "1.5", "agrees"], [5, 4, 8])
    'jit     1.5    agrees'
    """
    first, *others = zip(map(printable, cells), widths, strict=True)
    padded = [
        f"{first[0]:<{first[1]}}",
        *(f"{cell:>{width}}" for cell, width in others),
    ]
    return "  ".join(padded).rstrip()
