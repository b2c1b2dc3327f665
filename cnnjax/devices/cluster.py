"""Which processes train together, and where each of them stands."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import NamedTuple

from cnnjax.base.errors import InputError, expect
from cnnjax.devices import proxies, wire

HEARTBEAT_SECONDS = 20
JOIN_SECONDS = 60
LOCAL_JOIN_SECONDS = 20  # processes of one machine are started together


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
        host, _, _ = (self.coordinator_address or "").rpartition(":")
        local = proxies.is_local(host.strip("[]"))
        longest = LOCAL_JOIN_SECONDS if local else JOIN_SECONDS
        return self.join_seconds or min(longest, 10 * self.heartbeat)


JOINING = ("coordinator_address", "num_processes", "process_index")


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
        # Not 0: any port that is free then, which the others would not know.
        named = bool(host) and port.isdecimal() and 0 < int(port) < 2**16
        what = "--coordinator_address=HOST:PORT with a port from 1 to 65535"
        expect(what, address, named)
        expect(f"--process_index from 0 to {count - 1}", index, 0 <= index < count)
    elif not cluster.distributed:
        for name in ("heartbeat_seconds", "join_seconds"):
            value = getattr(cluster, name)
            expect(f"several processes for --{name}", value, value is None)


class Whereabouts(NamedTuple):
    """What JAX is told: fields are named as it names them."""

    coordinator_address: str
    num_processes: int
    process_id: int
    local_device_ids: Sequence[int] | None = None
    coordinator_bind_address: str | None = None


def find(cluster: Cluster) -> Whereabouts:
    """Return where this process stands: as given, or as JAX detects it.

    Raises:
        InputError: JAX detects no cluster.
    """
    devices = None
    if cluster.distributed:
        # Not public, so asked for only here: the roll is called before JAX connects.
        from jax._src.clusters import ClusterEnv

        address = os.environ.get("JAX_COORDINATOR_ADDRESS")
        detect = ClusterEnv.auto_detect_unset_distributed_params
        address, count, index, devices = detect(
            address, None, None, None, None, cluster.patience
        )
        if address is None or count is None or index is None:
            raise InputError(
                "--distributed: JAX detects no cluster here; give "
                + ", ".join(f"--{name}" for name in JOINING)
            )
        if "JAX_LOCAL_DEVICE_IDS" in os.environ:
            devices = None  # JAX reads them
    else:
        address, count, index = (getattr(cluster, name) for name in JOINING)
    host, port = wire.host_and_port(address)
    bind = os.environ.get("JAX_COORDINATOR_BIND_ADDRESS")
    if bind is None:  # who is called by this machine alone listens to it alone
        bind = address if proxies.is_local(host) else f"[::]:{port}"
    return Whereabouts(address, count, index, devices, bind)
