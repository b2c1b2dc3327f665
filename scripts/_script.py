"""What every script shares: help, one-line errors with exit status 2, an early start.

Import it before anything that imports JAX, which reads variables of the environment as
it is imported: what it refuses is told as bad input is.
"""

from __future__ import annotations

import contextlib
import logging as plain_logging
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

if "ipykernel" not in sys.modules and sys.argv[0].endswith(".py"):
    # An exception could get lost in a callback of JAX while it is imported.
    with contextlib.suppress(ValueError):  # not in the main thread
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda number, _: os._exit(128 + number))
from cnnjax.base import program

try:
    import jax
except Exception as error:
    said = " ".join(str(error).split())
    ours = {name: at for name, at in os.environ.items() if name.startswith("JAX_")}
    refused = [name for name in ours if name.lower() in said.lower()]
    refused = refused or [name for name, at in ours.items() if repr(at) in said]
    if not refused:
        raise
    name = max(refused, key=len)
    told = f"{name}={ours[name]}: {said}; unset it, or change it"
    print(f"{program.name()}: error: {ascii(told)[1:-1]}", file=sys.stderr)
    sys.exit(2)
if backend := os.environ.get("MPLBACKEND"):
    try:
        import matplotlib  # noqa: F401
    except ValueError:
        # Pictures are written into files, without a backend: none is worth a training.
        del os.environ["MPLBACKEND"]
        told = f"MPLBACKEND={ascii(backend)[1:-1]}: Matplotlib has no such backend"
        told += "; left out"
        print(f"{program.name()}: warning: {told}", file=sys.stderr)
        for name in list(sys.modules):  # what is half imported
            if name.partition(".")[0] == "matplotlib":
                del sys.modules[name]

from absl import app, flags, logging

from cnnjax.base import streams
from cnnjax.base.errors import InputError, out_of_memory
from cnnjax.base.printable import one_line
from cnnjax.base.signals import StoppedError, end_at_once
from cnnjax.devices import peers
from cnnjax.telling.usage import Flag, usage

ASKING = () if "ipykernel" in sys.modules else (signal.SIGINT, signal.SIGTERM)
HERE = Path(__file__).parent
# What others call the flags of these scripts.
ALIASES = {
    "algorithm": ("optim", "optimizer"),
    "average_decay": ("ema", "ema_decay"),
    "batch_size": ("batch", "bs", "batchsize", "minibatch_size"),
    "data_dir": ("data", "data_path", "data_root", "datadir"),
    "epochs": ("epoch", "n_epochs", "num_epochs"),
    "l2": ("l2_reg", "wd"),
    "max_norm": ("clip", "clip_grad_norm", "grad_clip", "gradient_clipping"),
    "learning_rate": ("eta", "lr", "step_size"),
    "num_devices": ("devices", "gpus", "n_devices", "num_gpus"),
    "num_processes": ("nproc", "nprocs", "world_size"),
    "patience": ("early_stopping", "early_stop"),
    "validation": ("val", "val_split", "validation_split", "val_fraction"),
    "num_seeds": ("n_seeds", "seeds"),
    "output_dir": ("out", "outdir", "output", "workdir"),
    "precision": ("dtype",),
    "process_index": ("process_id", "rank"),
    "recipe": ("arch", "config", "model"),
    "workdir": ("logdir", "out", "outdir", "output", "output_dir"),
}
# Which flags --help shows together; all others are the script's own.
GROUPS = {
    "data": "dataset data_dir num_train",
    "training": "recipe epochs batch_size shuffle initializer seed num_seeds "
    "group_size evaluate_every on_nan precision matmul_precision label_smoothing "
    "class_weights validation patience fault",
    "optimizer": "algorithm learning_rate l2 weight_decay max_norm momentum nesterov "
    "b1 b2 eps schedule min_learning_rate warmup_epochs cosine_epochs cosine_unit "
    "pct_start div_factor final_div_factor average_decay schedule_free",
    "devices": "strategy num_devices model_devices microbatch_size stream",
    "cluster": "coordinator_address num_processes process_index distributed "
    "heartbeat_seconds join_seconds",
    "output": "workdir resume overwrite checkpoint_every keep_checkpoints log_steps "
    "tensorboard profile callback "
    "output_dir out json",
}


def run(main: Callable[[list[str]], None]) -> None:
    """Parse the flags and call main(positional arguments); tell bad input in a line.

    Nothing of the script is left behind: a notebook may run it again.
    """
    name = program.name()
    streams.mend()
    earlier = {}
    with contextlib.suppress(ValueError):  # not in the main thread
        earlier = {number: signal.signal(number, _ask_to_end) for number in ASKING}

    def parse(argv: list[str]) -> list[str]:
        own = argv[: argv.index("--")] if "--" in argv else argv
        if {"--help", "-h", "--helpshort"} & set(own):
            print(help_text(main.__globals__["__doc__"]))
            sys.exit(0)
        return flags.FLAGS(argv)

    def quiet(argv: list[str]) -> None:
        logging.set_verbosity(logging.WARNING)  # JAX tells of every absent backend
        # Where it cannot keep its list of fonts, Matplotlib makes another one.
        plain_logging.getLogger("matplotlib").setLevel(plain_logging.ERROR)
        main(argv[1:])

    try:
        with _telling(name):
            app.run(quiet, flags_parser=parse)
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)
        _forget_flags()


def _ask_to_end(number: int, _: object) -> None:
    """Unwind, so that what was begun is tidied up; a second signal does not wait."""
    for other in ASKING:
        signal.signal(other, lambda number, _: end_at_once(number))
    raise StoppedError(number, "")


def refuse_arguments(args: list[str]) -> None:
    """Raise InputError for positional arguments, of which the script takes none."""
    if args:
        raise InputError(f"expected flags only, got {args[0]!r}; write --name=value")


def help_text(about: str) -> str:
    """Return what --help prints: the script's own flags first, then the groups."""
    own = {
        flag.name: flag for flag in flags.FLAGS.get_key_flags_for_module(sys.argv[0])
    }
    groups = {name: names.split() for name, names in GROUPS.items()}
    grouped = {name for names in groups.values() for name in names}
    groups = {"this script": [name for name in own if name not in grouped], **groups}
    shown = {
        group: [_help_of(own[name]) for name in names if name in own]
        for group, names in groups.items()
    }
    groups_shown = {group: lines for group, lines in shown.items() if lines}
    return usage(program.as_called(about), groups_shown)


def _help_of(flag: flags.Flag) -> Flag:
    """Return a flag as --help shows it."""
    if flag.boolean:
        return Flag(f"--[no]{flag.name}", flag.help)
    meaning, _, _ = flag.help.partition(";\n")  # absl says of some: repeat this option
    if values := getattr(flag.parser, "enum_values", None):
        meaning = meaning.removeprefix(f"<{'|'.join(values)}>: ")
        meaning = f"{meaning} One of {', '.join(values)}."
    kind = {"int": "N", "float": "X"}.get(flag.flag_type(), "NAME")
    kind = "DIR" if flag.name.endswith("dir") else kind
    listed = isinstance(flag.default, list)
    default = ",".join(flag.default or ()) if listed else flag.default
    told = "" if default is None else str(default)
    return Flag(f"--{flag.name}={kind}", meaning, told)


@contextlib.contextmanager
def _telling(name: str) -> Iterator[None]:
    """End the process in one line where input or environment are in the way."""
    try:
        try:
            yield
        except SystemExit as error:
            sys.stdout.flush()  # what is refused here can still be told
            if isinstance(error.code, int) and error.code:
                _leave(error.code)
            raise
    except flags.UnrecognizedFlagError as error:
        _leave(_tell(name, _suggestion(error) or error))
    except (InputError, flags.Error) as error:
        _leave(_tell(name, error))
    except (KeyboardInterrupt, StoppedError) as error:
        stopped = isinstance(error, StoppedError)
        told = str(error) if stopped else "stopped by the keyboard"
        with contextlib.suppress(OSError):
            print(f"{name}: {told}", file=sys.stderr)
        if stopped:
            peers.part()
        _leave(error.status if stopped else 130)
    except BrokenPipeError:  # the reader of our output has gone
        _leave(141)
    except OSError as error:  # the system's refusal, whatever was asked of it
        refused = error.filename is None and error.errno in streams.REFUSALS
        _leave(_tell(name, f"{'cannot write to stdout: ' if refused else ''}{error}"))
    except Exception as error:
        if told := out_of_memory(error):
            _leave(_tell(name, told))
        if not jax.distributed.is_initialized():
            raise
        if isinstance(error, jax.errors.JaxRuntimeError):
            peers.await_verdict()
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
    streams.drop_what_is_refused()
    if jax.distributed.is_initialized():
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status)


def _tell(name: str, error: object) -> int:
    """Print the error in one line; return the exit status for bad input."""
    said = one_line(" ".join(f"{name}: error: {error}".split()))
    with contextlib.suppress(OSError):  # stderr is full, too
        print(said, file=sys.stderr)
    return 2
