"""Listening on addresses as the configuration writes them.

This file has the three forms of an address, ``host:port``, ``[v6]:port`` and
``unix:/path``, how one process holds addresses that others listen on, and the
file of a Unix socket. Sockets are made here rather than by the event loop: so
``[::]`` means the same everywhere, and the file of a Unix socket has one owner.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import stat
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

#: How many connections the system keeps until they are accepted.
BACKLOG = 1024

#: How many connections are accepted in one turn of the event loop.
ACCEPTS = 8

# From 3.13 on event loops remove the file of a Unix socket as soon as one of their servers closes, while other
# processes may still listen on it: it is its owner's to remove.
_KEEP_FILE: dict[str, Any] = {"cleanup_socket": False} if sys.version_info >= (3, 13) else {}


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


class SocketFile:
    """The file of a Unix socket, removed only by the process that made it.

    Args:
        path: where it is; a socket is bound there already.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._made = _identity(path)

    def remove(self) -> None:
        """Remove it, unless another one has taken its place."""
        if self._made is not None and _identity(self._path) == self._made:
            with contextlib.suppress(OSError):
                os.unlink(self._path)
        self._made = None


class Port:
    """One address that is listened on.

    Attributes:
        number: the TCP port; 0 for a Unix socket.
    """

    def __init__(self, servers: Iterable[asyncio.Server], number: int, file: SocketFile | None = None) -> None:
        self._servers = list(servers)
        self._file = file
        self.number = number

    def close(self) -> None:
        """Accept nothing more, and remove the file of a Unix socket if it is this process's."""
        for server in self._servers:
            server.close()
        if self._file is not None:
            self._file.remove()

    async def wait_closed(self) -> None:
        """Wait until nothing is accepted any more."""
        for server in self._servers:
            await server.wait_closed()


async def listen(
    protocol: Callable[[], asyncio.BaseProtocol],
    address: str | SharedAddress,
    *,
    backlog: int = 128,
    accepts: int = 1,
) -> Port:
    """Listen on ``address`` for plain connections.

    Args:
        protocol: makes what handles a connection.
        backlog: how many connections the system keeps until they are accepted.
        accepts: how many of them are accepted in one turn of the event loop.

    Raises:
        OSError: the address is taken, not ours, or not permitted.
    """
    loop = asyncio.get_running_loop()
    shared = isinstance(address, SharedAddress)
    text = address.address if isinstance(address, SharedAddress) else address
    if text.startswith("unix:"):
        file = None
        if isinstance(address, SharedAddress):
            listening = socket.socket(fileno=address.fileno)
        else:
            listening, file = unix_listener(text.removeprefix("unix:"))
        unix = [
            await loop.create_unix_server(protocol, sock=one, backlog=backlog, **_KEEP_FILE)
            for one in _copies([listening], accepts)
        ]
        return Port(unix, 0, file)
    sockets = await tcp_sockets(text, share=shared)
    number = sockets[0].getsockname()[1]
    copies = _copies(sockets, accepts)
    try:
        servers = [await loop.create_server(protocol, sock=one, backlog=backlog) for one in copies]
    except OSError:
        close_all(copies)
        raise
    return Port(servers, number)


def _copies(listening: Sequence[socket.socket], count: int) -> list[socket.socket]:
    """Return so many of each of these sockets.

    uvloop accepts one connection from a socket in one turn of the event loop. When fifty clients connect at once while
    each turn has work, a client behind them would wait for fifty turns.
    """
    return [copy for one in listening for copy in (one, *(one.dup() for _ in range(count - 1)))]


async def tcp_sockets(address: str, *, share: bool) -> list[socket.socket]:
    """Return sockets that have ``host:port`` and do not listen yet: one for each address of the host, on one port.

    Args:
        share: other processes have the same address, each with a socket of its own.

    Raises:
        OSError: an address is taken, not ours, or not permitted.
    """
    host, _, text = address.rpartition(":")
    port = int(text)
    found = await asyncio.get_running_loop().getaddrinfo(
        host.strip("[]"), port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    sockets: list[socket.socket] = []
    try:
        for family, where in dict.fromkeys((family, where) for family, _, _, _, where in found):
            sockets.append(_bind(family, (where[0], port, *where[2:]), share=share))
            port = sockets[0].getsockname()[1]
    except OSError:
        close_all(sockets)
        raise
    return sockets


class Reservation:
    """Keeps addresses for the processes that listen on them, while they come and go.

    Attributes:
        shared: what they are to listen on.
        ports: the TCP port of each; 0 for a Unix socket.
        sockets: those that it holds.
    """

    def __init__(self) -> None:
        self.shared: tuple[SharedAddress, ...] = ()
        self.ports: tuple[int, ...] = ()
        self.sockets: list[socket.socket] = []
        self._files: list[SocketFile] = []

    @classmethod
    async def make(cls, addresses: Sequence[str]) -> Reservation:
        """Reserve addresses.

        A Unix socket is listened on from now on. A port is only taken: no
        client is connected before one of the processes listens.

        Raises:
            OSError: an address is taken, not ours, or not permitted.
        """
        made = cls()
        try:
            for address in addresses:
                await made._add(address)
        except BaseException:
            made.close()
            made.remove_files()
            raise
        return made

    async def _add(self, address: str) -> None:
        if address.startswith("unix:"):
            listening, file = unix_listener(address.removeprefix("unix:"))
            self.sockets.append(listening)
            self._files.append(file)
            shared, port = SharedAddress(address, listening.fileno()), 0
        else:
            if not address.endswith(":0"):
                # A port may be shared with any process that asks for it, another gateway included: ask for it alone.
                close_all(await tcp_sockets(address, share=False))
            sockets = await tcp_sockets(address, share=True)
            self.sockets += sockets
            port = sockets[0].getsockname()[1]
            shared = SharedAddress(f"{address.rpartition(':')[0]}:{port}")
        self.shared += (shared,)
        self.ports += (port,)

    def close(self) -> None:
        """Let go of them. Connections to a Unix socket are refused once every process has done so."""
        close_all(self.sockets)

    def remove_files(self) -> None:
        """Remove the files of Unix sockets."""
        for file in self._files:
            file.remove()


def unix_listener(path: str) -> tuple[socket.socket, SocketFile]:
    """Return a socket that listens at a path, and the file there.

    Raises:
        OSError: the path is taken, or not permitted.
    """
    _remove_stale_socket(path)
    listening = socket.socket(socket.AF_UNIX)
    try:
        listening.setblocking(False)
        listening.bind(path)
        file = SocketFile(path)
        listening.listen(BACKLOG)
    except OSError:
        listening.close()
        raise
    return listening, file


def close_all(sockets: Iterable[socket.socket]) -> None:
    """Close sockets."""
    for one in sockets:
        one.close()


def shown_addresses(addresses: Sequence[str], ports: Sequence[int]) -> str:
    """Write where it is listened, for people: each address with its port, which the system may have picked."""
    return ", ".join(f"{address} (port {port})" for address, port in zip(addresses, ports, strict=True))


def _bind(family: int, where: tuple[str | int, ...], *, share: bool) -> socket.socket:
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        bound.setblocking(False)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if share:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:  # an IPv4 address has a socket of its own, whatever the system's default is
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        bound.bind(where)
    except OSError as error:
        bound.close()
        raise OSError(error.errno, f"cannot bind {where[0]} port {where[1]}: {error.strerror}") from None
    return bound


def _identity(path: str) -> tuple[int, int, int] | None:
    """Return what tells a file from another one in its place, which may have its inode. A new mode changes nothing."""
    try:
        found = os.stat(path, follow_symlinks=False)
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_mtime_ns


def _remove_stale_socket(path: str) -> None:
    """Remove the socket file that an earlier run left.

    A file that is no socket stays, and fails the start. So does a socket that
    a process listens on: to replace it would cut a running gateway off.
    """
    try:
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            return
        with socket.socket(socket.AF_UNIX) as probe:
            probe.setblocking(False)
            with contextlib.suppress(BlockingIOError):  # another process listens, and is busy
                probe.connect(path)
    except FileNotFoundError:
        return
    except ConnectionRefusedError:
        os.unlink(path)
        return
    raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE), path)
