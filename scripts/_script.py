"""What every script shares: one-line errors with exit status 2, and a compile cache."""

from __future__ import annotations

import contextlib
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import _streams
import jax
from absl import app, flags, logging

from cnnjax.base.errors import InputError

HERE = Path(__file__).parent
# What others call the flags of these scripts.
ALIASES = {
    "algorithm": ("optim", "optimizer"),
    "batch_size": ("batch", "bs", "batchsize", "minibatch_size"),
    "data_dir": ("data", "data_path", "data_root", "datadir"),
    "epochs": ("epoch", "n_epochs", "num_epochs"),
    "l2": ("wd", "weight_decay"),
    "learning_rate": ("eta", "lr", "step_size"),
    "num_devices": ("devices", "gpus", "n_devices", "num_gpus"),
    "num_processes": ("nproc", "nprocs", "world_size"),
    "num_seeds": ("n_seeds", "seeds"),
    "output_dir": ("out", "outdir", "output", "workdir"),
    "precision": ("dtype",),
    "process_index": ("process_id", "rank"),
    "recipe": ("arch", "config", "model"),
    "workdir": ("logdir", "out", "outdir", "output", "output_dir"),
}


def run(main: Callable[[list[str]], None]) -> None:
    """Parse the flags and call main(positional arguments); tell bad input in a line.

    Nothing of the script is left behind: a notebook may run it again.
    """
    name = Path(sys.argv[0]).name
    _streams.mend()

    def parse(argv: list[str]) -> list[str]:
        own = argv[: argv.index("--")] if "--" in argv else argv
        if {"--help", "-h", "--helpshort"} & set(own):
            app.usage(shorthelp=True, writeto_stdout=True)
            sys.exit(0)
        return flags.FLAGS(argv)

    def quiet(argv: list[str]) -> None:
        logging.set_verbosity(logging.WARNING)  # JAX tells of every absent backend
        main(argv[1:])

    try:
        with _telling(name):
            app.run(quiet, flags_parser=parse)
    finally:
        _forget_flags()


def refuse_arguments(args: list[str]) -> None:
    """Raise InputError for positional arguments, of which the script takes none."""
    if args:
        raise InputError(f"expected flags only, got {args[0]!r}; write --name=value")


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


@contextlib.contextmanager
def _telling(name: str) -> Iterator[None]:
    """End the process in one line where input or environment are in the way."""
    try:
        try:
            yield
        except SystemExit:
            sys.stdout.flush()  # what is refused here can still be told
            raise
    except flags.UnrecognizedFlagError as error:
        _leave(_tell(name, _suggestion(error) or error))
    except (InputError, flags.Error) as error:
        _leave(_tell(name, error))
    except KeyboardInterrupt:
        print(f"{name}: stopped by the keyboard", file=sys.stderr)
        _leave(130)
    except BrokenPipeError:  # the reader of our output has gone
        _leave(141)
    except OSError as error:  # the system's refusal, whatever was asked of it
        refused = error.filename is None and error.errno in _streams.REFUSALS
        _leave(_tell(name, f"{'cannot write to stdout: ' if refused else ''}{error}"))
    except Exception:
        if not jax.distributed.is_initialized():
            raise
        traceback.print_exc()
        _leave(1)


def _suggestion(error: flags.UnrecognizedFlagError) -> str | None:
    """Say what a flag that is not known is called here; None: nobody can tell."""
    plain = error.flagname.lower().replace("-", "_")
    for name in (plain, *(name for name, others in ALIASES.items() if plain in others)):
        if name in flags.FLAGS:
            return f"unknown flag --{error.flagname}; did you mean --{name}?"
    return None


def _forget_flags() -> None:
    """Delete the flags of the script and of what it imports here, and these modules."""
    helpers = [
        name
        for name, module in sys.modules.items()
        if name != "__main__"
        and str(getattr(module, "__file__", None)).startswith(f"{HERE}{os.sep}")
    ]
    defined = flags.FLAGS.flags_by_module_dict()
    for module in (sys.argv[0], *helpers):
        for flag in list(defined.get(module, ())):
            delattr(flags.FLAGS, flag.name)
    for name in helpers:
        del sys.modules[name]


def _leave(status: int) -> NoReturn:
    """Exit; in one of several processes at once, or JAX would first wait for the rest.

    The rest may be waiting for this one; they end when its heartbeat is missing.
    """
    _streams.drop_what_is_refused()
    if jax.distributed.is_initialized():
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status)


def _tell(name: str, error: object) -> int:
    """Print the error in one line; return the exit status for bad input."""
    with contextlib.suppress(OSError):  # stderr is full, too
        print(f"{name}: error: {' '.join(str(error).split())}", file=sys.stderr)
    return 2
