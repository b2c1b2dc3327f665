"""Lines of text between two processes, over TCP, and where they find each other."""

from __future__ import annotations

import contextlib
import socket

from cnnjax.base.errors import InputError

LONGEST = 2**20  # of a line: what is longer is not ours


class Wire:
    """One end of a connection; neither telling nor hearing ever waits."""

    def __init__(self, connection: socket.socket) -> None:
        """Take over a connection."""
        connection.setblocking(False)
        self.connection = connection
        self._rest = b""  # of a line whose end is not heard yet

    def fileno(self) -> int:
        """Return the descriptor, for a selector."""
        return self.connection.fileno()

    def tell(self, line: str) -> None:
        """Send a line; to an end that is gone, or does not listen, it is lost."""
        with contextlib.suppress(OSError):
            self.connection.sendall(line.encode() + b"\n")

    def hear(self) -> tuple[list[str], bool]:
        """Return the lines that have come, and whether more can come."""
        alive = True
        try:
            heard = self.connection.recv(2**16)
            alive = bool(heard)
        except (BlockingIOError, InterruptedError):
            heard = b""
        except OSError:
            heard, alive = b"", False
        *lines, self._rest = (self._rest + heard).split(b"\n")
        alive = alive and len(self._rest) < LONGEST
        return [line.decode(errors="replace") for line in lines], alive

    def close(self) -> None:
        """End the connection."""
        self.connection.close()


def host_and_port(address: str) -> tuple[str, int]:
    """Return the two parts of HOST:PORT; [ ] around an IPv6 address are dropped.

    >>> host_and_port("[::1]:1234")
    ('::1', 1234)
    """
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


def listen(address: str) -> socket.socket:
    """Listen at HOST:PORT of this machine.

    Raises:
        InputError: another program listens there, or the address is not to be had.
    """
    host, port = host_and_port(address)
    try:
        (family, kind, _, _, where), *_ = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        listener = socket.socket(family, kind)
        try:
            # JAX listens here next, while the connections of now are still open.
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if host == "::":  # of either kind: IPv4, too
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            listener.bind(where)
            listener.listen(128)
        except BaseException:
            listener.close()
            raise
    except OSError as error:
        if host == "::" and not socket.has_dualstack_ipv6():
            return listen(f"0.0.0.0:{port}")
        raise InputError(
            f"process 0 cannot listen at {address}: {error.strerror or error}; give "
            "--coordinator_address a free port of this machine"
        ) from error
    listener.setblocking(False)
    return listener


def connect(address: str, *, seconds: float) -> socket.socket:
    """Connect to HOST:PORT, in a few seconds at most; OSError if that fails."""
    connection = socket.create_connection(host_and_port(address), timeout=seconds)
    if connection.getsockname() == connection.getpeername():
        connection.close()  # by chance, where nobody listens, TCP connects to itself
        raise ConnectionRefusedError("Connection refused")
    return connection
