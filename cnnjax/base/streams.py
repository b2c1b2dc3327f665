"""The standard streams, as they may come: closed, full, of a poor encoding."""

from __future__ import annotations

import contextlib
import errno
import os
import sys

# What a stream without a name says where it cannot be written.
REFUSALS = {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EFBIG, errno.EBADF}


def mend() -> None:
    """Put the null device where a stream is closed, and escapes for what has no code.

    A file that is opened where stdout was closed would get stdout's number, and with it
    what C++ prints.
    """
    with contextlib.suppress(OSError):
        while (free := os.open(os.devnull, os.O_RDWR)) <= 2:
            pass
        os.close(free)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115
        elif hasattr(stream, "reconfigure"):  # that of a notebook has not
            stream.reconfigure(errors="backslashreplace")


def drop_what_is_refused() -> None:
    """Write out what was printed; let go of what stdout refuses.

    Else Python would try again when it ends, and complain.
    """
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
