"""The watch that processes keep on each other, from the roll call to their end.

Each keeps a connection to process 0, which keeps one to each. Who is killed closes it,
and who is stopped gives no sign on it; process 0 tells the others who was lost. JAX
would take longer, and end in a stack of C++ that may name another.
"""

from __future__ import annotations

import atexit
import os
import selectors
import sys
import threading
import time

from cnnjax.devices.ending import AGAIN, delay_aborts, end
from cnnjax.devices.wire import Wire

LEAVING_SECONDS = 300  # to wait at the end for the others: as long as JAX does


class Peers:
    """The connections of one process, and the thread that listens to them."""

    def __init__(self, wires: dict[int, Wire], *, heartbeat: int) -> None:
        """Watch from now on."""
        self.wires = wires
        self.heartbeat = heartbeat
        self.silent = dict.fromkeys(wires, 0.0)  # for how many seconds
        self.done: set[int] = set()  # who has ended well, and waits for the rest
        self.done_here = False
        self.all_done = threading.Event()  # nobody is missed any more
        self.gone = False  # this process ends, with all the others
        self.lock = threading.Lock()
        self.leads = 0 not in wires
        threading.Thread(target=self._watch, daemon=True).start()

    def leave(self) -> None:
        """Say that this process has ended well, and wait until all have."""
        with self.lock:
            self.done_here = True
            for wire in self.wires.values():
                wire.tell("done")
            self._settle()
        self.all_done.wait(LEAVING_SECONDS)

    def release(self) -> None:
        """Let all go: they end together, and nobody is lost."""
        with self.lock:
            self.gone = True
            for wire in self.wires.values():
                wire.tell("leaving")

    def _watch(self) -> None:
        interval = min(1, self.heartbeat / 4)
        last = time.monotonic()
        with selectors.DefaultSelector() as selector:
            for index, wire in self.wires.items():
                selector.register(wire, selectors.EVENT_READ, data=index)
            while not self.gone:
                heard = selector.select(timeout=interval)
                with self.lock:
                    for key, _ in heard:
                        if not self._hear(key.data):
                            selector.unregister(key.fileobj)
                    now = time.monotonic()
                    if now >= last + interval:
                        # More is not theirs: it was this process that stood still.
                        self._tick(min(now - last, 2 * interval))
                        last = now

    def _hear(self, index: int) -> bool:
        """Hear one of the others; return whether it is still there."""
        lines, alive = self.wires[index].hear()
        self.silent[index] = 0
        for line in lines:
            word, _, rest = line.partition(" ")
            if word == "lost" and not self.gone:
                end(rest)
            if word == "all_done":
                self.all_done.set()
            if word == "leaving":
                self.gone = True
            if word == "done":
                self.done.add(index)
                self._settle()
        if not alive:
            self._miss(index, "")
        return alive

    def _tick(self, seconds: float) -> None:
        for index, wire in self.wires.items():
            wire.tell("here")
            self.silent[index] += seconds
            if self.silent[index] > self.heartbeat:
                self._miss(index, f": no sign of it for {self.heartbeat} s")

    def _miss(self, index: int, why: str) -> None:
        """End all, unless they end anyway."""
        if self.gone or self.all_done.is_set():
            return
        said = f"process {index} was lost{why}; {AGAIN}"
        for wire in self.wires.values() if self.leads else ():
            wire.tell(f"lost {said}")
        if self.leads:
            time.sleep(0.1)  # they end before JAX misses its coordinator
        end(said)

    def _settle(self) -> None:
        """In process 0: let all go once all have ended well."""
        if self.leads and self.done_here and self.done == set(self.wires):
            for wire in self.wires.values():
                wire.tell("all_done")
            self.all_done.set()


_peers: Peers | None = None


def watch(wires: dict[int, Wire], *, heartbeat: int) -> None:
    """Watch the others until this process ends, and end when one is lost."""
    global _peers
    delay_aborts()
    _peers = Peers(wires, heartbeat=heartbeat)
    atexit.register(_leave)


def release() -> None:
    """Say that all end now, as they have agreed."""
    if _peers is not None:
        _peers.release()


def part() -> None:
    """Wait until all have come to the same end, and then go: nobody is lost."""
    if _peers is not None and not _peers.gone:
        _peers.leave()


def await_verdict(seconds: float = 3) -> None:
    """Wait a moment after an error of JAX, whose cause may be that another was lost.

    Then this process ends here, in one line.
    """
    if _peers is not None and not _peers.gone:
        time.sleep(seconds)


def _leave() -> None:
    """End well, or at once: JAX would wait for the others, and they for this one."""
    if _peers is None or _peers.gone:
        return
    if getattr(sys, "last_value", None) is not None:  # an exception that nobody caught
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(1)
    _peers.leave()
