"""The roll call: who trains together, before JAX connects them, and for how long.

Process 0 listens at the coordinator's address until each of the others has come and
said who it is; then it calls "go", and leaves the address to JAX. What JAX would wait
for in silence, or end in a stack of C++, is found here, and told in one line. The
connections stay: by them the processes watch each other (`peers`).
"""

from __future__ import annotations

import json
import selectors
import socket
import time
from collections.abc import Mapping
from typing import NamedTuple

from cnnjax.base.errors import InputError
from cnnjax.devices.arrival import RefusedError, arrive, late
from cnnjax.devices.ending import AGAIN, end
from cnnjax.devices.wire import Wire, host_and_port, listen

AGREE = "start all with the same flags"
SAY_SECONDS = 0.5  # from one word to those that wait to the next
NAME_SECONDS = 10  # until a host's name is known


class Place(NamedTuple):
    """Where a process stands among those that train together."""

    address: str  # HOST:PORT of process 0
    count: int
    index: int


def call_roll(
    place: Place, *, bind: str, alike: Mapping[str, str], patience: int, heartbeat: int
) -> dict[int, Wire]:
    """Wait for the others; return the connections: process 0's to all, or to it.

    `alike` is what they must have been given alike, by name: what differs is named.
    At `bind` process 0 listens.

    Raises:
        InputError: they do not fit together, or not all have come in time.
    """
    _await_name(place.address, patience)
    hello = json.dumps([place.index, place.count, dict(alike)])
    if place.index:
        return {0: arrive(place.address, hello, patience=patience, heartbeat=heartbeat)}
    try:
        listener = listen(bind)
    except InputError as taken:
        try:  # by another process 0? Then it refuses this one, and knows why.
            arrive(place.address, hello, patience=1, heartbeat=heartbeat)
        except RefusedError as refused:
            raise refused from None
        except InputError:
            raise taken from None
        raise
    return _gather(listener, place, alike, patience)


def _await_name(address: str, patience: int) -> None:
    """Wait, but not long, until the host's name is known: of a new pod, say."""
    limit = time.monotonic() + min(NAME_SECONDS, patience)
    while True:
        try:
            socket.getaddrinfo(*host_and_port(address))
            return
        except (OSError, UnicodeError) as error:
            if time.monotonic() > limit:
                why = getattr(error, "strerror", None) or error
                raise InputError(
                    f"--coordinator_address={address}: the host is not known ({why}); "
                    "give all the address of process 0"
                ) from error
        time.sleep(0.2)


def _gather(
    listener: socket.socket, place: Place, alike: Mapping[str, str], patience: int
) -> dict[int, Wire]:
    present: dict[int, Wire] = {}
    deadline = time.monotonic() + patience
    told = 0.0
    with listener, selectors.DefaultSelector() as selector:
        selector.register(listener, selectors.EVENT_READ)
        try:
            while missing := [i for i in range(1, place.count) if i not in present]:
                if time.monotonic() > deadline:
                    _refuse_all(present, late(missing, place.address, patience))
                if time.monotonic() > told + SAY_SECONDS:
                    told = time.monotonic()
                    for wire in present.values():
                        wire.tell(f"missing {json.dumps(missing)}")
                for key, _ in selector.select(timeout=0.1):
                    if isinstance(key.fileobj, socket.socket):
                        wire = Wire(key.fileobj.accept()[0])
                        selector.register(wire, selectors.EVENT_READ)
                    elif isinstance(wire := key.fileobj, Wire):
                        _hear(wire, selector, present, place, alike)
            kept = list(present.values())
        except BaseException:
            kept = []
            raise
        finally:
            for key in list(selector.get_map().values()):
                if isinstance(key.fileobj, Wire) and key.fileobj not in kept:
                    key.fileobj.close()
    for wire in present.values():
        wire.tell("go")
    return present


def _hear(
    wire: Wire,
    selector: selectors.BaseSelector,
    present: dict[int, Wire],
    place: Place,
    alike: Mapping[str, str],
) -> None:
    """Hear one that has come: who it is, or that it is gone."""
    lines, alive = wire.hear()
    for line in lines:
        try:
            index, count, given = json.loads(line)
            why = _misfit(int(index), count, dict(given), present, place, alike)
        except (ValueError, TypeError):
            alive = False  # a stranger
            break
        if why:
            _refuse_all({**present, -1: wire}, why)
        present[index] = wire
    if not alive:
        selector.unregister(wire)
        wire.close()
        for index in [index for index, known in present.items() if known is wire]:
            del present[index]
            said = f"process {index} was lost while joining; {AGAIN}"
            for other in present.values():
                other.tell(f"lost {said}")
            end(said)


def _misfit(
    index: int,
    count: int,
    given: Mapping[str, str],
    present: Mapping[int, Wire],
    place: Place,
    alike: Mapping[str, str],
) -> str | None:
    """Return why one that has come does not belong here; None: it does."""
    if count != place.count:
        return (
            f"process {index} has --num_processes={count}, process 0 has "
            f"{place.count}; {AGREE}"
        )
    if index in present or index == 0:
        last = place.count - 1
        return (
            f"two processes have --process_index={index}; give each its own, "
            f"from 0 to {last}"
        )
    return difference(index, given, alike)


def difference(
    index: int, given: Mapping[str, str], alike: Mapping[str, str]
) -> str | None:
    """Return in words what process `index` was given otherwise than process 0.

    >>> difference(1, {"--seed": "1"}, {"--seed": "0"})
    'process 1 has --seed=1, process 0 has --seed=0; start all with the same flags'
    """
    names = [n for n in {**alike, **given} if given.get(n) != alike.get(n)]
    if not names:
        return None
    own, other = (
        " and ".join(f"{n}={had[n]}" if n in had else f"no {n}" for n in names)
        for had in (alike, given)
    )
    return f"process {index} has {other}, process 0 has {own}; {AGREE}"


def _refuse_all(present: Mapping[int, Wire], why: str) -> None:
    for wire in present.values():
        wire.tell(f"refused {why}")
    raise InputError(why)
