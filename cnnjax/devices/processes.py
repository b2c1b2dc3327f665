"""Several processes that train together, and how they stay together.

They find each other (`rollcall`) and notice each other's loss (`peers`); then
`jax.distributed` connects them.
"""

from __future__ import annotations

import os
import sys
import threading
import zlib
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils

from cnnjax.base.errors import InputError
from cnnjax.devices import ending, lifeline, peers, proxies, rollcall
from cnnjax.devices.cluster import Cluster, Whereabouts, check_cluster, find

# JAX has a watch of its own, without words: it is there where ours fails.
JAX_MARGIN_SECONDS = 10
T = TypeVar("T")


def join(cluster: Cluster, *, alike: Mapping[str, str] = MappingProxyType({})) -> None:
    """Join the other processes, if there are any, before any device is used.

    `alike` is what all must have been given alike, by name; what differs is named.
    From here on a process that is lost ends the others, each in one line.

    Raises:
        InputError: fields that contradict each other, no cluster to be found, or
            processes that do not fit together, or do not all come in time.
    """
    check_cluster(cluster)
    lifeline.hold()
    if not (cluster.distributed or cluster.num_processes):
        return
    # Else JAX keeps SIGTERM to itself, as a notice that nobody reads.
    jax.config.update("jax_enable_preemption_service", False)
    # Where the time goes into JAX, whose own limits end in an abort, or do not hold.
    limit = cluster.patience + JAX_MARGIN_SECONDS
    given_up = threading.Timer(limit, _give_up, [cluster, limit])
    given_up.daemon = True
    given_up.start()
    try:
        where = find(cluster)
        _meet(cluster, where, alike)
        jax.distributed.initialize(
            **where._asdict(),
            cluster_detection_method="deactivate",
            heartbeat_timeout_seconds=cluster.heartbeat + JAX_MARGIN_SECONDS,
            initialization_timeout=limit + 60,  # never the first to end it
        )
    except (RuntimeError, OSError) as error:
        flag = "--distributed" if cluster.distributed else "--coordinator_address"
        raise InputError(f"{flag}: {error}") from error
    finally:
        given_up.cancel()
    _print_only_in_process_0()


def _meet(cluster: Cluster, where: Whereabouts, alike: Mapping[str, str]) -> None:
    """Call the roll, and watch the others from then on."""
    place = rollcall.Place(
        where.coordinator_address, where.num_processes, where.process_id
    )
    heartbeat = cluster.heartbeat
    wires = rollcall.call_roll(
        place,
        bind=where.coordinator_bind_address or where.coordinator_address,
        alike={**alike, "--heartbeat_seconds": str(heartbeat), "jax": jax.__version__},
        patience=cluster.patience,
        heartbeat=heartbeat,
    )
    peers.watch(wires, heartbeat=heartbeat)
    # All have come to it without one.
    proxies.pass_by(where.coordinator_address)


def together(prepare: Callable[[], T], same: Callable[[T], Any] = lambda _: {}) -> T:
    """Return `prepare()`, in every process or in none; every process must call it.

    Where one raises InputError, it tells so, and the others end with status 2 in
    silence. `same` gives what must be equal in all of them, by name: trees of arrays
    and of what `repr` shows. What differs is named.

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
    sums = {} if refusal else checksums(same(prepared))  # pyright: ignore[reportArgumentType]
    report = np.array([refusal is not None, zlib.crc32(repr(sums).encode())], np.uint32)
    refused, of_all = multihost_utils.process_allgather(report).T.tolist()
    if not any(refused):
        if len(set(of_all)) == 1:
            return prepared  # pyright: ignore[reportReturnType]
        refused[0] = True
        refusal = InputError(_unlike(sums))
    # All know, and end at once: a shutdown, which waits for all, has been seen to hang.
    peers.release()
    if refusal is not None and jax.process_index() == refused.index(True):
        raise refusal
    sys.stdout.flush()
    os._exit(2)


def checksums(parts: Mapping[str, Any]) -> dict[str, int]:
    """Return a checksum of each of the trees.

    >>> checksums({"a": [1, 2.5], "b": np.zeros(3)})
    {'a': 327728169, 'b': 2747386400}
    """
    found = {}
    for name, tree in parts.items():
        found[name] = 0
        for leaf in jax.tree.leaves(tree):
            array = isinstance(leaf, np.ndarray | jax.Array)
            content = np.asarray(leaf).tobytes() if array else repr(leaf).encode()
            found[name] = zlib.crc32(content, found[name])
    return found


def _unlike(sums: dict[str, int]) -> str:
    """Say which process has what otherwise than process 0; every process must call."""
    own = np.array(list(sums.values()), np.uint32)
    rows = multihost_utils.process_allgather(own).tolist()
    other = next(index for index, row in enumerate(rows) if row != rows[0])
    pairs = zip(sums, rows[0], rows[other], strict=True)
    names = [name for name, first, second in pairs if first != second]
    return (
        f"process {other} has other {' and '.join(names)} than process 0; start all "
        "with the same flags, on the same files"
    )


def expect_one(what: str, hint: str) -> None:
    """Raise InputError where several processes run what only one process can."""
    if (count := jax.process_count()) > 1:
        raise InputError(f"{what} expected one process, got {count}; {hint}")


def _give_up(cluster: Cluster, limit: int) -> None:
    """End this process, which waits in C++ for others that do not come."""
    address = cluster.coordinator_address or "process 0"
    ending.end(
        f"error: JAX has not connected the processes at {address} within {limit} s "
        f"(see --join_seconds); start all again{proxies.hint()}",
        status=2,
    )


def _print_only_in_process_0() -> None:
    """Keep stdout to process 0, and to Python: Gloo greets from C++."""
    out = os.dup(1) if jax.process_index() == 0 else os.open(os.devnull, os.O_WRONLY)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    sys.stdout = os.fdopen(
        out, "w", encoding=sys.stdout.encoding, errors="backslashreplace"
    )
