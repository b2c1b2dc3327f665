"""JAX's persistent compile cache, in the folder of what is only a convenience."""

from __future__ import annotations

import contextlib
import os
import re
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax

from cnnjax.base import program

# What JAX says of each program whose entry it cannot use: by hundreds, if the disk is
# full. Entries are files whose names begin with the program's.
COMPLAINT = re.compile(
    r"Error (reading|writing) persistent compilation cache entry for '([^']*)': (.*)",
    re.DOTALL,
)


def _warn(line: str) -> None:
    program.say(f"warning: {line}")


class CompileCache:
    """JAX's persistent compile cache in the user's cache folder, and its use so far.

    It is only a convenience: where it cannot be used, `say` is called with one line,
    once. An entry that is damaged is removed, and written again.
    """

    def __init__(self, say: Callable[[str], None] = _warn) -> None:
        """Switch the cache on. Do it before anything is compiled."""
        self.hits = self.misses = 0
        self._say, self._said = say, False
        folder = os.environ.get("JAX_COMPILATION_CACHE_DIR")
        if folder is None and (own := cache_folder()) is not None:
            folder = str(own / "xla")
        if folder and "://" not in folder and (why := _why_unusable(Path(folder))):
            self._tell(f"compile cache {folder}: {why}; nothing is cached")
            folder = None
        self.folder = folder
        jax.config.update("jax_compilation_cache_dir", folder)
        # The defaults leave out what compiles in under a second: everything, here.
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
        jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
        jax.monitoring.register_event_listener(self._count)
        self._show, warnings.showwarning = warnings.showwarning, self._hear

    @contextlib.contextmanager
    def off(self) -> Iterator[None]:
        """Compile without it."""
        from jax.experimental.compilation_cache.compilation_cache import reset_cache

        jax.config.update("jax_enable_compilation_cache", False)
        reset_cache()
        try:
            yield
        finally:
            jax.config.update("jax_enable_compilation_cache", True)
            reset_cache()

    @property
    def state(self) -> str:
        """Say whether what was compiled so far came out of the cache."""
        if not self.folder:
            return "off"
        if not self.hits:
            return "cold"
        return "partly warm" if self.misses else "warm"

    def _hear(self, message: Warning | str, *others: Any, **how: Any) -> None:
        """Hear JAX's complaints of the cache; show all other warnings as before."""
        found = COMPLAINT.match(str(message))
        if found is None:
            self._show(message, *others, **how)
            return
        at = f"compile cache {self.folder}: "
        if found[1] == "reading":
            _remove_entries(Path(self.folder or ""), found[2])
            self._tell(f"{at}a damaged entry is removed, and compiled again")
        else:
            self._tell(f"{at}{found[3]}; not all is cached")

    def _tell(self, line: str) -> None:
        if not self._said:
            self._said = True
            self._say(line)

    def _count(self, event: str, **_: object) -> None:
        self.hits += event == "/jax/compilation_cache/cache_hits"
        self.misses += event == "/jax/compilation_cache/cache_misses"


def _why_unusable(folder: Path) -> str:
    """Say why a folder cannot be made or written; "": it can."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        return error.strerror or str(error)
    return "" if os.access(folder, os.W_OK | os.X_OK) else "it cannot be written"


def _remove_entries(folder: Path, prefix: str) -> None:
    """Remove the entries of a program: JAX never writes over one that is there."""
    with contextlib.suppress(OSError):
        for path in folder.iterdir():
            if path.name.startswith(f"{prefix}-"):
                with contextlib.suppress(OSError):
                    path.rmdir() if path.is_dir() else path.unlink()


def cache_folder() -> Path | None:
    """Return the folder of what is only a convenience; None: there is none to write.

    It is made where it is not there yet.
    """
    from platformdirs import user_cache_path

    try:
        folder = user_cache_path("cnnjax").expanduser()
        folder.mkdir(parents=True, exist_ok=True)
    except (RuntimeError, OSError):  # no home is known; it cannot be made
        return None
    return folder if os.access(folder, os.W_OK) else None
