"""A service that answers as soon as it has a head and ends the connection as a test says.

It uses blocking sockets in threads, as simple servers do, so that its way of
closing is the kernel's and not an event loop's.
"""

from __future__ import annotations

import contextlib
import enum
import fcntl
import functools
import socket
import ssl
import struct
import termios
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.support.certificates import authority

#: More than the gateway reads of a response before its client takes something.
READ_AT_ONCE = 170_000


class End(enum.Enum):
    """How a connection ends behind the answer.

    Attributes:
        CLOSE: plainly, once content has arrived that is not read: a reset.
        FIN: a FIN first, then a close as above.
        RESET: a reset.
        ALERT: over TLS, a closure alert first.
    """

    CLOSE = "close"
    FIN = "fin"
    RESET = "reset"
    ALERT = "alert"


@contextlib.contextmanager
def blunt_service(
    answer: bytes, end: End, tls: ssl.SSLContext | None = None, *, arrived: bool = False
) -> Iterator[int]:
    """Run the service on a loopback port, which is returned.

    Args:
        arrived: let the other side's kernel acknowledge all of the answer before the end, and the first
            ``READ_AT_ONCE`` bytes a moment before the rest.
    """
    with socket.create_server(("127.0.0.1", 0)) as listening:
        running = threading.Thread(
            target=_accept, args=(listening, functools.partial(_serve, answer, end, tls, arrived)), daemon=True
        )
        running.start()
        try:
            yield listening.getsockname()[1]
        finally:
            listening.shutdown(socket.SHUT_RDWR)  # wakes the thread that accepts
            running.join()


@contextlib.contextmanager
def blunt_upstream(
    folder: Path, answer: bytes, end: End, *, secure: bool, arrived: bool = False
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Run the service, over TLS or not; return its URL, and the options by which an upstream trusts it."""
    ca = authority(folder) if secure else None
    tls, options = (ca.server_tls("127.0.0.1"), {"tls_ca_file": str(ca.bundle)}) if ca else (None, {})
    with blunt_service(answer, end, tls, arrived=arrived) as port:
        yield f"{'https' if secure else 'http'}://127.0.0.1:{port}", options


def _accept(listening: socket.socket, serve: Callable[[socket.socket], None]) -> None:
    serving = []
    with contextlib.suppress(OSError):
        while True:
            connection, _ = listening.accept()
            one = threading.Thread(target=serve, args=(connection,), daemon=True)
            one.start()
            serving.append(one)
    for one in serving:
        one.join()


def _serve(answer: bytes, end: End, tls: ssl.SSLContext | None, arrived: bool, connection: socket.socket) -> None:
    connection.settimeout(5)
    # Or the answer would wait behind the session tickets of TLS for their acknowledgement, and be lost with the reset.
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with contextlib.suppress(OSError):
        if tls is not None:
            connection = tls.wrap_socket(connection, server_side=True)
        head = b""
        while b"\r\n\r\n" not in head:
            piece = connection.recv(1024)
            if not piece:
                break
            head += piece
        else:
            for piece in (answer[:READ_AT_ONCE], answer[READ_AT_ONCE:]) if arrived else (answer,):
                connection.sendall(piece)
                while arrived and unacknowledged(connection):
                    time.sleep(0.001)
                time.sleep(0.03 if arrived else 0)  # the other side reads what it wants of it
            if end is End.ALERT:
                assert isinstance(connection, ssl.SSLSocket)
                connection.settimeout(0.2)  # the other side's alert comes when it reads, which may be never
                with contextlib.suppress(TimeoutError):
                    connection.unwrap()
            elif end is End.FIN:
                connection.shutdown(socket.SHUT_WR)
            elif end is End.RESET:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            else:
                _wait_for_unread(connection)
    connection.close()


def _wait_for_unread(connection: socket.socket) -> None:
    """Wait, for a second at most, until the kernel holds something that was not read: else the close would be a FIN."""
    for _ in range(1000):
        if struct.unpack("i", fcntl.ioctl(connection.fileno(), termios.FIONREAD, b"\0\0\0\0"))[0]:
            return
        time.sleep(0.001)


def unacknowledged(connection: socket.socket) -> int:
    """Return how many sent bytes the other side's kernel has not acknowledged."""
    return int(struct.unpack("i", fcntl.ioctl(connection.fileno(), termios.TIOCOUTQ, b"\0\0\0\0"))[0])
