"""The flags that make a script one of several processes, and how these keep together.

The processes find each other, and notice each other's loss, through `jax.distributed`.
"""

from __future__ import annotations

import os
import sys
import threading
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import _proxy
import jax
import numpy as np
from absl import flags
from jax.experimental import multihost_utils

from cnnjax.base.errors import InputError, expect

FLAGS = flags.FLAGS
flags.DEFINE_string(
    "coordinator_address", None, "HOST:PORT where process 0 waits for the others."
)
flags.DEFINE_integer(
    "num_processes", None, "Processes that train together.", lower_bound=1
)
flags.DEFINE_integer(
    "process_index", None, "Which of them this one is, from 0.", lower_bound=0
)
flags.DEFINE_bool(
    "distributed",
    False,
    "Join the processes of a cluster that JAX detects: Slurm, Open MPI, Kubernetes, "
    "Cloud TPU.",
)
flags.DEFINE_integer(
    "heartbeat_seconds",
    20,
    "Time after which a silent process counts as lost, and the others end.",
    lower_bound=1,
)
flags.DEFINE_integer(
    "join_seconds",
    None,
    "Time to wait for the other processes at the start. Default: 10 times "
    "--heartbeat_seconds.",
    lower_bound=1,
)
JOINING = ("coordinator_address", "num_processes", "process_index")
T = TypeVar("T")


def join() -> None:
    """Join the other processes, if the flags name any, before any device is used.

    Raises:
        InputError: flags that contradict each other, or no cluster to be found.
    """
    _check_flags()
    if not (FLAGS.distributed or FLAGS.num_processes):
        return
    # Else JAX keeps SIGTERM to itself, as a notice that nobody reads.
    jax.config.update("jax_enable_preemption_service", False)
    _proxy.pass_by(FLAGS.coordinator_address)
    # JAX's own limit ends in an abort, and does not hold where process 0 waits.
    seconds = FLAGS.join_seconds or 10 * FLAGS.heartbeat_seconds
    given_up = threading.Timer(seconds, _give_up, [seconds])
    given_up.daemon = True
    given_up.start()
    try:
        jax.distributed.initialize(
            coordinator_address=FLAGS.coordinator_address,
            num_processes=FLAGS.num_processes,
            process_id=FLAGS.process_index,
            cluster_detection_method=None if FLAGS.distributed else "deactivate",
            heartbeat_timeout_seconds=FLAGS.heartbeat_seconds,
            initialization_timeout=seconds + 60,  # never the first to end it
        )
    except (ValueError, RuntimeError) as error:
        told = "JAX detects no cluster here: " if FLAGS.distributed else ""
        where = "--distributed" if FLAGS.distributed else "--coordinator_address"
        raise InputError(f"{where}: {told}{error}") from error
    finally:
        given_up.cancel()
    _print_only_in_process_0()


def together(prepare: Callable[[], T], same: Callable[[T], Any] = lambda _: None) -> T:
    """Return `prepare()`, in every process or in none; every process must call it.

    Where one raises InputError, it tells so, and the others end with status 2 in
    silence. `same` gives what must be equal in all of them: a tree of arrays and of
    what `repr` shows.

    Raises:
        InputError: `prepare` raised it, or process 0 has not what another has.
    """
    if jax.process_count() == 1:
        return prepare()
    prepared, refusal = None, None
    try:
        prepared = prepare()
    except InputError as error:
        refusal = error
    checksum = 0 if refusal else _checksum(same(prepared))  # pyright: ignore[reportArgumentType]
    report = np.array([refusal is not None, checksum], np.uint32)
    refused, checksums = multihost_utils.process_allgather(report).T.tolist()
    if not any(refused):
        if len(set(checksums)) == 1:
            return prepared  # pyright: ignore[reportReturnType]
        other = next(i for i, c in enumerate(checksums) if c != checksums[0])
        refused[0] = True
        refusal = InputError(
            f"process {other} has other data, flags or parameters than process 0; "
            "start all alike, on the same files"
        )
    # All know, and end at once: a shutdown, which waits for all, has been seen to hang.
    if refusal is not None and jax.process_index() == refused.index(True):
        raise refusal
    sys.stdout.flush()
    os._exit(2)


def _check_flags() -> None:
    given = [f"--{name}" for name in JOINING if FLAGS[name].value is not None]
    if FLAGS.distributed and given:
        raise InputError(f"expected --distributed or {given[0]}, got both")
    if given and len(given) < len(JOINING):
        wanted = ", ".join(f"--{name}" for name in JOINING)
        raise InputError(f"expected {wanted} together, got {' and '.join(given)} only")
    if given:
        address = FLAGS.coordinator_address
        host, _, port = address.rpartition(":")
        named = bool(host) and port.isdecimal()
        expect("--coordinator_address=HOST:PORT", address, named)
        index, count = FLAGS.process_index, FLAGS.num_processes
        expect(f"--process_index from 0 to {count - 1}", index, index < count)
    elif not FLAGS.distributed:
        for name in ("heartbeat_seconds", "join_seconds"):
            alone = not FLAGS[name].present
            expect(f"several processes for --{name}", FLAGS[name].value, alone)


def _give_up(seconds: int) -> None:
    """End this process, which waits in C++ for others that do not come."""
    if FLAGS.process_index == 0:
        what = f"of {FLAGS.num_processes} processes, not all have come"
    else:
        what = f"no word from {FLAGS.coordinator_address or 'all the others'}"
    hint = _proxy.hint()
    print(
        f"{Path(sys.argv[0]).name}: error: {what} within {seconds} s "
        f"(see --join_seconds); start all alike, on the address of process 0{hint}",
        file=sys.stderr,
        flush=True,
    )
    os._exit(2)


def _print_only_in_process_0() -> None:
    """Keep stdout to process 0, and to Python: Gloo greets from C++."""
    out = os.dup(1) if jax.process_index() == 0 else os.open(os.devnull, os.O_WRONLY)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    sys.stdout = os.fdopen(
        out, "w", encoding=sys.stdout.encoding, errors="backslashreplace"
    )


def _checksum(tree: Any) -> int:
    checksum = 0
    for leaf in jax.tree.leaves(tree):
        array = isinstance(leaf, np.ndarray | jax.Array)
        content = np.asarray(leaf).tobytes() if array else repr(leaf).encode()
        checksum = zlib.crc32(content, checksum)
    return checksum
