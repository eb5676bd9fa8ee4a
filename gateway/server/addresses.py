"""Listening on an address as the configuration writes it.

Only the three forms of an address live here, ``host:port``, ``[v6]:port`` and
``unix:/path``, and how one process holds an address that others listen on.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import ssl
import stat
from collections.abc import Callable
from dataclasses import dataclass

#: How many connections the system keeps while nobody accepts them.
BACKLOG = 1024


@dataclass(frozen=True, slots=True)
class SharedAddress:
    """An address that several processes listen on.

    Attributes:
        address: where, with the port that was reserved.
        fileno: the socket that all of them accept from, for a Unix socket; of
            TCP ports each process has a socket of its own (``SO_REUSEPORT``).
    """

    address: str
    fileno: int = -1


async def listen(
    protocol: Callable[[], asyncio.BaseProtocol],
    address: str | SharedAddress,
    *,
    tls: ssl.SSLContext | None = None,
    handshake_timeout: float | None = None,
    backlog: int = 128,
) -> asyncio.Server:
    """Return a server that listens on ``address``.

    Args:
        handshake_timeout: seconds for a TLS handshake; without ``tls`` it means nothing.

    Raises:
        OSError: the address is taken, not ours, or not permitted.
    """
    loop = asyncio.get_running_loop()
    patience = handshake_timeout if tls is not None else None
    shared = isinstance(address, SharedAddress)
    if isinstance(address, SharedAddress):
        if address.fileno >= 0:
            listening = socket.socket(fileno=address.fileno)
            return await loop.create_unix_server(
                protocol, sock=listening, ssl=tls, backlog=backlog, ssl_handshake_timeout=patience
            )
        address = address.address
    if address.startswith("unix:"):
        path = address.removeprefix("unix:")
        _remove_stale_socket(path)
        return await loop.create_unix_server(protocol, path, ssl=tls, backlog=backlog, ssl_handshake_timeout=patience)
    host, _, port = address.rpartition(":")
    return await loop.create_server(
        protocol,
        host.strip("[]") or None,
        int(port),
        ssl=tls,
        ssl_handshake_timeout=patience,
        backlog=backlog,
        reuse_address=True,
        reuse_port=shared or None,
    )


def bound_port(server: asyncio.Server) -> int:
    """Return the TCP port of a server; 0 for a Unix socket."""
    name = server.sockets[0].getsockname()
    return int(name[1]) if isinstance(name, tuple) else 0


class Reservation:
    """Keeps an address for the processes that listen on it, while they come and go.

    Attributes:
        shared: what they are to listen on.
        port: the TCP port; 0 for a Unix socket.
    """

    def __init__(self, shared: SharedAddress, port: int, sockets: list[socket.socket]) -> None:
        self.shared = shared
        self.port = port
        self._sockets = sockets

    @classmethod
    async def make(cls, address: str) -> Reservation:
        """Reserve an address.

        A Unix socket is listened on from now on. A port is only taken: nobody
        is connected before one of the processes listens.

        Raises:
            OSError: the address is taken, not ours, or not permitted.
        """
        if address.startswith("unix:"):
            listening = _unix_listener(address.removeprefix("unix:"))
            return cls(SharedAddress(address, listening.fileno()), 0, [listening])
        host, _, text = address.rpartition(":")
        port = int(text)
        found = await asyncio.get_running_loop().getaddrinfo(
            host.strip("[]"), port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        sockets: list[socket.socket] = []
        try:
            for family, _, _, _, where in found:
                sockets.append(_bound(family, (where[0], port, *where[2:])))
                port = sockets[0].getsockname()[1]
        except OSError:
            _close(sockets)
            raise
        return cls(SharedAddress(f"{host}:{port}"), port, sockets)

    def close(self) -> None:
        """Let go of it. Connections to a Unix socket are refused once every process has done so."""
        _close(self._sockets)


def _unix_listener(path: str) -> socket.socket:
    _remove_stale_socket(path)
    listening = socket.socket(socket.AF_UNIX)
    try:
        listening.bind(path)
        listening.listen(BACKLOG)
    except OSError:
        listening.close()
        raise
    return listening


def _bound(family: int, where: tuple[str | int, ...]) -> socket.socket:
    """Return a socket that has a port and does not listen, which others may share."""
    if where[1]:
        # A port may be shared with whoever asks for it, another gateway of ours included: first ask for it alone.
        _bind(family, where, share=False).close()
    return _bind(family, where, share=True)


def _bind(family: int, where: tuple[str | int, ...], *, share: bool) -> socket.socket:
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if share:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:  # as the event loop does: an IPv4 address has a socket of its own
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        bound.bind(where)
    except OSError as error:
        bound.close()
        raise OSError(error.errno, f"cannot bind {where[0]} port {where[1]}: {error.strerror}") from None
    return bound


def _close(sockets: list[socket.socket]) -> None:
    for one in sockets:
        one.close()


def _remove_stale_socket(path: str) -> None:
    """Remove the socket file that an earlier run left.

    A file that is no socket stays, and fails the start. So does a socket that
    somebody listens on: the event loop would replace it without asking, and
    cut a running gateway off.
    """
    try:
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            return
        with socket.socket(socket.AF_UNIX) as probe:
            probe.setblocking(False)
            with contextlib.suppress(BlockingIOError):  # somebody listens, and is busy
                probe.connect(path)
    except FileNotFoundError:
        return
    except ConnectionRefusedError:
        os.unlink(path)
        return
    raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE), path)
