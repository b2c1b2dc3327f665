"""What every script shares: one-line errors with exit status 2, and a compile cache."""

from __future__ import annotations

import contextlib
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import jax
from absl import app, flags, logging

from cnnjax.errors import InputError


def run(main: Callable[[list[str]], None]) -> None:
    """Parse the flags and call main(positional arguments); tell bad input in a line."""
    name = Path(sys.argv[0]).name

    def parse(argv: list[str]) -> list[str]:
        own = argv[: argv.index("--")] if "--" in argv else argv
        if {"--help", "-h", "--helpshort"} & set(own):
            app.usage(shorthelp=True, writeto_stdout=True)
            sys.exit(0)
        try:
            return flags.FLAGS(argv)
        except flags.Error as error:
            sys.exit(_tell(name, error))

    def guarded(argv: list[str]) -> None:
        logging.set_verbosity(logging.WARNING)  # JAX tells of every absent backend
        try:
            main(argv[1:])
            sys.stdout.flush()
        except InputError as error:
            _leave(_tell(name, error))
        except KeyboardInterrupt:
            print(f"{name}: stopped by the keyboard", file=sys.stderr)
            _leave(130)
        except BrokenPipeError:  # the reader of our output has gone
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            _leave(141)
        except Exception:
            if not jax.distributed.is_initialized():
                raise
            traceback.print_exc()
            _leave(1)

    app.run(guarded, flags_parser=parse)


def refuse_arguments(args: list[str]) -> None:
    """Raise InputError for positional arguments, of which the script takes none."""
    if args:
        raise InputError(f"expected flags only, got {args[0]!r}; write --name=value")


class CompileCache:
    """JAX's persistent compile cache in the user's cache folder, and its use so far."""

    def __init__(self) -> None:
        """Switch the cache on. Do it before anything is compiled."""
        from platformdirs import user_cache_path

        folder = user_cache_path("cnnjax") / "xla"
        self.folder = os.environ.get("JAX_COMPILATION_CACHE_DIR", str(folder))
        self.hits = self.misses = 0
        jax.config.update("jax_compilation_cache_dir", self.folder)
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


def _leave(status: int) -> NoReturn:
    """Exit; in one of several processes at once, or JAX would first wait for the rest.

    The rest may be waiting for this one; they end when its heartbeat is missing.
    """
    if jax.distributed.is_initialized():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status)


def _tell(name: str, error: Exception) -> int:
    """Print the error in one line; return the exit status for bad input."""
    print(f"{name}: error: {' '.join(str(error).split())}", file=sys.stderr)
    return 2
