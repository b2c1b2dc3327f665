"""What every script imports first: the libraries that read variables of their own.

What they refuse is told as bad input is: in one line that names the variable.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path


def import_jax() -> None:
    """Import JAX, or end with status 2 where it refuses a variable of the environment.

    It reads its variables as it is imported, and raises there.
    """
    try:
        import jax  # noqa: F401
    except Exception as error:
        said = " ".join(str(error).split())
        if (name := _named_in(said)) is None:
            raise
        _say(f"error: {name}={os.environ[name]}: {said}; unset it, or change it")
        sys.exit(2)


def import_matplotlib() -> None:
    """Import Matplotlib where MPLBACKEND is set; without that, if it is no backend.

    Pictures are written into files, without a backend, and none is worth a training.
    """
    if not (backend := os.environ.get("MPLBACKEND")):
        return
    try:
        import matplotlib  # noqa: F401
    except ValueError:
        _say(f"warning: MPLBACKEND={backend}: Matplotlib has no such backend; left out")
        del os.environ["MPLBACKEND"]
        for name in list(sys.modules):  # what is half imported
            if name.partition(".")[0] == "matplotlib":
                del sys.modules[name]


def _named_in(said: str) -> str | None:
    """Return the variable of JAX that a message is about, by its name or its value."""
    ours = {name: at for name, at in os.environ.items() if name.startswith("JAX_")}
    named = [name for name in ours if name.lower() in said.lower()]
    valued = [name for name, value in ours.items() if repr(value) in said]
    return max(named or valued, key=len, default=None)


def _say(what: str) -> None:
    print(f"{Path(sys.argv[0]).name}: {what}", file=sys.stderr)


import_jax()
import_matplotlib()
