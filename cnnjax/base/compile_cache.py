"""JAX's persistent compile cache, in the folder of what is only a convenience."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import jax


class CompileCache:
    """JAX's persistent compile cache in the user's cache folder, and its use so far."""

    def __init__(self) -> None:
        """Switch the cache on. Do it before anything is compiled."""
        self.hits = self.misses = 0
        folder = os.environ.get("JAX_COMPILATION_CACHE_DIR")
        if folder is None and (own := cache_folder()) is not None:
            folder = str(own / "xla")
        jax.config.update("jax_compilation_cache_dir", folder)
        # The defaults leave out what compiles in under a second: everything, here.
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
        jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
        jax.monitoring.register_event_listener(self._count)

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
        if not self.hits:
            return "cold"
        return "partly warm" if self.misses else "warm"

    def _count(self, event: str, **_: object) -> None:
        self.hits += event == "/jax/compilation_cache/cache_hits"
        self.misses += event == "/jax/compilation_cache/cache_misses"


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
