"""How a process comes to process 0, for the roll call."""

from __future__ import annotations

import json
import selectors
import time

from cnnjax.base.errors import InputError
from cnnjax.devices.ending import AGAIN, end
from cnnjax.devices.wire import Wire, connect

STRANGER_SECONDS = 5  # until who does not answer is taken for another program
OPENING_SECONDS = 10  # until JAX listens where the roll was called


class RefusedError(InputError):
    """Process 0 has said why the processes do not fit together."""


class _StrangerError(Exception):
    """Whoever listens does not answer as process 0 would."""


def arrive(address: str, hello: str, *, patience: int, heartbeat: int) -> Wire:
    """Say hello to process 0, and wait until it has called all; return the connection.

    Raises:
        InputError: nobody is there, or it does not want this process, or not all come.
    """
    start = time.monotonic()
    while True:
        wire = _reach(address, start + patience, patience)
        wire.tell(hello)
        try:
            _await_go(wire, address, start + patience, patience, heartbeat)
            _await_opening(address)
            return wire
        except _StrangerError:
            wire.close()
            # It may be what is left of an earlier run.
            if time.monotonic() > start + min(STRANGER_SECONDS, patience):
                raise InputError(
                    f"--coordinator_address={address}: who listens there is not "
                    "process 0 waiting for this one; is it another program, or have "
                    "the processes met already, with another of this --process_index?"
                ) from None
        except BaseException:
            wire.close()
            raise
        time.sleep(0.2)


def _reach(address: str, deadline: float, patience: int) -> Wire:
    """Connect to process 0, which may start later."""
    while True:
        try:
            return Wire(connect(address, seconds=min(5, patience)))
        except OSError as error:
            if time.monotonic() > deadline:
                raise InputError(
                    f"nobody listens at {address} ({error.strerror or error}, for "
                    f"{patience} s; see --join_seconds); start process 0, and give all "
                    "its address"
                ) from error
        time.sleep(0.1)


def _await_go(
    wire: Wire, address: str, deadline: float, patience: int, heartbeat: int
) -> None:
    """Wait until process 0 has all together; it says again and again who is missing."""
    missing, heard = [], time.monotonic()
    with selectors.DefaultSelector() as selector:
        selector.register(wire, selectors.EVENT_READ)
        while True:
            selector.select(timeout=0.2)
            lines, alive = wire.hear()
            now = time.monotonic()
            for line in lines:
                word, _, rest = line.partition(" ")
                if word == "go":
                    return
                if word == "refused":
                    raise RefusedError(rest)
                if word == "lost":
                    end(rest)
                if word != "missing":
                    raise _StrangerError
                missing, heard = json.loads(rest), now
            mute = now > heard + min(STRANGER_SECONDS, patience)
            if not missing and (mute or not alive):
                raise _StrangerError
            if not alive:
                end(f"process 0 was lost while joining; {AGAIN}")
            if now > heard + heartbeat:
                why = f"no sign of it for {heartbeat} s"
                end(f"process 0 was lost while joining: {why}; {AGAIN}")
            if now > deadline:
                raise InputError(late(missing, address, patience))


def _await_opening(address: str) -> None:
    """Wait until JAX listens: it would itself try again only after a second."""
    limit = time.monotonic() + OPENING_SECONDS
    while time.monotonic() < limit:
        try:
            connect(address, seconds=1).close()
            return
        except OSError:
            time.sleep(0.02)


def late(missing: list[int], address: str, patience: int) -> str:
    """Return in words who has not come in time."""
    names = " and ".join(str(index) for index in missing)
    who, have = ("process", "has") if len(missing) == 1 else ("processes", "have")
    return (
        f"{who} {names} {have} not come to {address} within {patience} s (see "
        "--join_seconds); see what each says, and whether it has this address"
    )
