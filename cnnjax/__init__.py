"""cnnjax: train small CNNs in JAX in every parallel form.

The model does not know that there is a batch; the loss does not know that there are
devices; the training step does not know which strategy it runs.

What most people need is in public.py. It is imported, and JAX with it, when its first
name is asked for: so a program can look at the environment before.
"""

from __future__ import annotations

import importlib
import pkgutil
from typing import TYPE_CHECKING, Any

from cnnjax.base.moved import forward

if TYPE_CHECKING:
    from cnnjax.public import *  # noqa: F403

__version__ = "0.1.0"
forward()  # old module names, from before the modules moved into rooms


def __getattr__(name: str) -> Any:
    if name in {room.name for room in pkgutil.iter_modules(__path__)}:  # noqa: F405
        return importlib.import_module(f"{__name__}.{name}")
    if name != "__all__" and name.startswith("__"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    public = importlib.import_module("cnnjax.public")
    try:
        value = vars(public)[name]
    except KeyError:
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message, name=name) from None
    globals()[name] = value  # it is not asked for here again
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *importlib.import_module("cnnjax.public").__all__})
