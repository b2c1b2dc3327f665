"""The error for wrong input, whose message says what to do about it."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

from cnnjax.base.printable import one_line, printable

MOST_TOLD = 2000  # characters of a message


class InputError(ValueError):
    """Wrong input, in one line: what was expected, what was given, what to do.

    The library raises it before anything runs, or while it is traced; scripts print it
    and exit with status 2. Whatever a name in the message has in it, a terminal shows.
    """

    def __init__(self, message: str) -> None:
        """Keep the message on one line, printable, and not endless."""
        line = one_line(message)
        if len(line) > MOST_TOLD:
            line = f"{line[: MOST_TOLD - 500]} ... {line[-495:]}"
        super().__init__(line)


def expect(what: str, got: object, holds: bool) -> None:
    """Raise InputError "expected WHAT, got GOT" unless `holds` is true.

    >>> expect("epochs of at least 0", -1, False)
    Traceback (most recent call last):
    cnnjax.base.errors.InputError: expected epochs of at least 0, got -1
    """
    if not holds:
        raise InputError(f"expected {what}, got {shown(got)}")


def out_of_memory(error: Exception) -> str | None:
    """Say in a line that memory has run out, if that is what Python or XLA says.

    >>> out_of_memory(RuntimeError("RESOURCE_EXHAUSTED: Out of memory; tried 9 GiB"))
    'not enough memory (Out of memory; tried 9 GiB); ...'
    >>> out_of_memory(RuntimeError("INTERNAL: no")) is None
    True
    """
    first, _, _ = str(error).strip().partition("\n")
    told, exhausted, why = first.partition("RESOURCE_EXHAUSTED:")
    if not exhausted and not isinstance(error, MemoryError):
        return None
    why = (why if exhausted else told).strip(" :.") or type(error).__name__
    return (
        f"not enough memory ({why}); smaller batches or microbatches need less, and on "
        "a GPU that other programs use, XLA_PYTHON_CLIENT_PREALLOCATE=false takes only "
        "what is needed"
    )


def unknown_name(kind: str, name: object, known: Iterable[str]) -> InputError:
    """Build the error for an unknown name; its message suggests the nearest names.

    >>> print(unknown_name("recipe", "adam_cosin_cnn", ["adam_cosine_cnn", "mlp"]))
    unknown recipe 'adam_cosin_cnn'; did you mean adam_cosine_cnn? known: ...
    """
    known = sorted(known)
    near = nearest(name, known) if isinstance(name, str) else []
    hint = f"; did you mean {' or '.join(near)}?" if near else ";"
    return InputError(f"unknown {kind} {shown(name)}{hint} known: {', '.join(known)}")


def nearest(name: str, known: Iterable[str]) -> list[str]:
    """Return the known names that were probably meant.

    These are the names that differ only in case and punctuation; if there are none,
    those with a similar spelling; if there are none, those with these initials.

    >>> nearest("Batch-Size", ["batch_size", "epochs"])
    ['batch_size']
    >>> nearest("lr", ["l2", "learning_rate"])
    ['learning_rate']
    """
    by_key = {re.sub(r"\W", "_", one.casefold()): one for one in known}
    key = re.sub(r"\W", "_", name.casefold())
    if key in by_key:
        return [by_key[key]]
    alike = difflib.get_close_matches(key, by_key, n=3, cutoff=0.6)
    initials = ["".join(re.findall(r"(?:^|_)([^_])", one)) for one in by_key]
    short_for = [one for one, of in zip(by_key, initials, strict=True) if of == key]
    return [by_key[one] for one in alike or short_for]


def shown(value: object) -> str:
    """Format a value for a message: on one line, of at most 200 characters."""
    text = printable(re.sub(r"\s*\n\s*", " ", repr(value)))
    return text if len(text) <= 200 else f"{text[:197]}..."
