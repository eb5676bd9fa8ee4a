"""One connection of an attacker: it can do what no client library lets a client do, and waits without a thread.

Nothing of the gateway is imported here: that would take longer than a short attack.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Self, TypeVar

Result = TypeVar("Result")


@dataclass
class Target:
    """What is attacked, and what came of it.

    Attributes:
        port: on loopback.
        tls: whether it speaks TLS.
        opened: connections.
        sent, received: bytes of content, before encryption.
        ends: how connections ended that the attacker did not end, by exception.
    """

    port: int
    tls: bool = False
    opened: int = 0
    sent: int = 0
    received: int = 0
    ends: Counter[str] = field(default_factory=Counter)


def careless() -> ssl.SSLContext:
    """Return a context that checks nothing, which is cheap."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


_CONTEXT = careless()


class Connection:
    """A connection to a target; its methods raise OSError when it is over."""

    def __init__(self, target: Target, sock: socket.socket) -> None:
        self._target, self._sock = target, sock

    @classmethod
    async def open(cls, target: Target, *, handshake: bool = True) -> Self:
        """Connect; with a TLS handshake where the target speaks TLS, unless ``handshake`` is False."""
        sock = socket.socket()
        sock.setblocking(False)
        connection = cls(target, sock)
        try:
            await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", target.port))
            target.opened += 1
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if target.tls and handshake:
                wrapped = _CONTEXT.wrap_socket(sock, server_hostname="localhost", do_handshake_on_connect=False)
                connection._sock = wrapped
                await connection._attempt(wrapped.do_handshake, writes=False)
        except BaseException:
            connection.close()
            raise
        return connection

    async def send(self, data: bytes) -> None:
        """Send all of it, as fast as it is taken."""
        left = memoryview(data)
        while left:
            piece = left[: 1 << 16]
            count = await self._attempt(partial(self._sock.send, piece), writes=True)
            self._target.sent += count
            left = left[count:]
            await asyncio.sleep(0)

    async def receive(self, size: int = 1 << 16) -> bytes:
        """Return what is there, as soon as anything is; nothing at the end."""
        data = await self._attempt(partial(self._sock.recv, size), writes=False)
        self._target.received += len(data)
        return data

    async def until_closed(self) -> None:
        """Read until the gateway ends the connection."""
        while await self.receive():
            pass

    def fin(self) -> None:
        """End the sending of TCP, below TLS: without a closure alert."""
        socket.socket.shutdown(self._sock, socket.SHUT_WR)

    def closure_alert(self) -> None:
        """End the sending of TLS, and not that of TCP."""
        assert isinstance(self._sock, ssl.SSLSocket)
        with contextlib.suppress(ssl.SSLWantReadError):  # for the gateway's own alert
            self._sock.unwrap()

    def close(self) -> None:
        """Close at once; what was not read makes it a reset."""
        self._sock.close()

    async def _attempt(self, step: Callable[[], Result], *, writes: bool) -> Result:
        while True:
            try:
                return step()
            except ssl.SSLWantReadError:
                await self._ready(writes=False)
            except ssl.SSLWantWriteError:
                await self._ready(writes=True)
            except BlockingIOError:
                await self._ready(writes=writes)

    async def _ready(self, *, writes: bool) -> None:
        loop = asyncio.get_running_loop()
        ready = asyncio.Event()
        descriptor = self._sock.fileno()
        add, remove = (loop.add_writer, loop.remove_writer) if writes else (loop.add_reader, loop.remove_reader)
        add(descriptor, ready.set)
        try:
            await ready.wait()
        finally:
            remove(descriptor)
