"""Several processes that train together, and how they stay together.

They find each other, and notice each other's loss, through `jax.distributed`.
"""

from __future__ import annotations

import os
import sys
import threading
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils

from cnnjax.base.errors import InputError, expect
from cnnjax.devices import proxies

HEARTBEAT_SECONDS = 20
T = TypeVar("T")


class Cluster(NamedTuple):
    """Which processes train together; nothing given: this one alone.

    Either a cluster that JAX detects (`distributed`), or the first three fields.
    """

    coordinator_address: str | None = None  # HOST:PORT, where process 0 waits
    num_processes: int | None = None
    process_index: int | None = None  # of this process, from 0
    distributed: bool = False
    heartbeat_seconds: int | None = None  # until a silent process counts as lost
    join_seconds: int | None = None  # to wait for the others at the start

    @property
    def heartbeat(self) -> int:
        """Return the seconds until a silent process counts as lost."""
        return self.heartbeat_seconds or HEARTBEAT_SECONDS

    @property
    def patience(self) -> int:
        """Return the seconds to wait for the others at the start."""
        return self.join_seconds or 10 * self.heartbeat


JOINING = ("coordinator_address", "num_processes", "process_index")


def join(cluster: Cluster) -> None:
    """Join the other processes, if there are any, before any device is used.

    Raises:
        InputError: fields that contradict each other, or no cluster to be found.
    """
    check_cluster(cluster)
    if not (cluster.distributed or cluster.num_processes):
        return
    # Else JAX keeps SIGTERM to itself, as a notice that nobody reads.
    jax.config.update("jax_enable_preemption_service", False)
    proxies.pass_by(cluster.coordinator_address)
    # JAX's own limit ends in an abort, and does not hold where process 0 waits.
    given_up = threading.Timer(cluster.patience, _give_up, [cluster])
    given_up.daemon = True
    given_up.start()
    try:
        jax.distributed.initialize(
            coordinator_address=cluster.coordinator_address,
            num_processes=cluster.num_processes,
            process_id=cluster.process_index,
            cluster_detection_method=None if cluster.distributed else "deactivate",
            heartbeat_timeout_seconds=cluster.heartbeat,
            initialization_timeout=cluster.patience + 60,  # never the first to end it
        )
    except (ValueError, RuntimeError) as error:
        told = "JAX detects no cluster here: " if cluster.distributed else ""
        where = "--distributed" if cluster.distributed else "--coordinator_address"
        raise InputError(f"{where}: {told}{error}") from error
    finally:
        given_up.cancel()
    _print_only_in_process_0()


def check_cluster(cluster: Cluster) -> None:
    """Raise InputError for fields that are missing, or contradict each other."""
    given = [f"--{name}" for name in JOINING if getattr(cluster, name) is not None]
    if cluster.distributed and given:
        raise InputError(f"expected --distributed or {given[0]}, got both")
    if given and len(given) < len(JOINING):
        wanted = ", ".join(f"--{name}" for name in JOINING)
        raise InputError(f"expected {wanted} together, got {' and '.join(given)} only")
    address, count, index = (getattr(cluster, name) for name in JOINING)
    if given:
        host, _, port = address.rpartition(":")
        named = bool(host) and port.isdecimal()
        expect("--coordinator_address=HOST:PORT", address, named)
        expect(f"--process_index from 0 to {count - 1}", index, index < count)
    elif not cluster.distributed:
        for name in ("heartbeat_seconds", "join_seconds"):
            value = getattr(cluster, name)
            expect(f"several processes for --{name}", value, value is None)


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
            "start all with the same flags, on the same files"
        )
    # All know, and end at once: a shutdown, which waits for all, has been seen to hang.
    if refusal is not None and jax.process_index() == refused.index(True):
        raise refusal
    sys.stdout.flush()
    os._exit(2)


def expect_one(what: str, hint: str) -> None:
    """Raise InputError where several processes run what only one process can."""
    if (count := jax.process_count()) > 1:
        raise InputError(f"{what} expected one process, got {count}; {hint}")


def _give_up(cluster: Cluster) -> None:
    """End this process, which waits in C++ for others that do not come."""
    if cluster.process_index == 0:
        what = f"of {cluster.num_processes} processes, not all have come"
    else:
        what = f"no word from {cluster.coordinator_address or 'all the others'}"
    print(
        f"{Path(sys.argv[0]).name}: error: {what} within {cluster.patience} s "
        "(see --join_seconds); start all, each with the address of process "
        f"0{proxies.hint()}",
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
