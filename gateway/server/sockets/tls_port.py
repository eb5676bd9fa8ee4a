"""The public port when it speaks TLS: from the accepted socket to the end of its handshake.

Accepts sockets and makes their handshakes. The event loop would accept, shake
hands and fail without a word; so sockets are accepted here, have a slot from
then on (``slots.py``), and what does not become a connection is counted,
logged, and answered where its protocol allows. The danger of this file is a
client that does nothing: a socket without a handshake costs a file, a timer and
a slot, and no more.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import struct
from collections.abc import Callable, Sequence
from typing import Protocol as Interface

from gateway.errors import GatewayError, Reasons
from gateway.http1.first_bytes import not_http
from gateway.paced_log import PacedLog
from gateway.server.sockets import tls_handshake as handshake
from gateway.server.sockets.listen import ACCEPTS, BACKLOG, close_all
from gateway.server.sockets.slots import Place, Places
from gateway.server.sockets.tls import ServerTls
from gateway.server.sockets.tls_handshake import Handshake
from gateway.tasks import cancelled, spawn

_log = logging.getLogger("gateway")

#: How long accepting pauses when the system has no file left, in seconds.
ACCEPT_PAUSE_SECONDS = 0.1

#: How long the end of a TLS connection may take, in seconds: the other side has to say that it has understood.
CLOSING = 5.0

#: Bytes that wait for a client before the writer has to wait.
WRITE_BUFFER_BYTES = 65536

#: Encrypted bytes that wait while the connection is not read before the socket is not read either; a record of the
#: longest kind has 16,645 (RFC 8446 section 5.2), and must fit in whole.
UNREAD = 32768

#: Enough for every ClientHello of today.
HELLO = 4096


class Connections(Interface):
    """Makes the protocols of connections."""

    places: Places

    def refusing(self, place: Place, error: GatewayError) -> asyncio.Protocol:
        """Return a protocol that refuses its connection whatever comes."""
        ...

    def connection_ended(self) -> None:
        """Note that a socket is gone which was no connection yet."""
        ...


class TlsPort:
    """Accepts connections on listening sockets and gives them to a protocol once they speak TLS.

    Args:
        sockets: bound; they are listened on from now on, and closed with the port.
        serve: makes a connection's protocol for a slot.
        connections: makes those that refuse.
        tls: the contexts.
        patience: seconds from the accepted socket to the end of its handshake.

    Attributes:
        number: the TCP port.
    """

    def __init__(
        self,
        sockets: Sequence[socket.socket],
        serve: Callable[[Place], asyncio.Protocol],
        connections: Connections,
        tls: ServerTls,
        patience: float,
    ) -> None:
        self._sockets = list(sockets)
        self._serve, self._connections = serve, connections
        self._places, self._telemetry = connections.places, connections.places.telemetry
        self._tls = tls
        self._patience = patience
        self._loop = asyncio.get_running_loop()
        self._failures = PacedLog(_log)
        self._running: set[asyncio.Task[None]] = set()
        self._paused: dict[socket.socket, asyncio.TimerHandle] = {}
        self.number = int(self._sockets[0].getsockname()[1])
        for one in self._sockets:
            one.listen(BACKLOG)
            self._resume(one)

    @property
    def paused(self) -> bool:
        """Whether it accepts nothing for a moment, because files have run out."""
        return bool(self._paused)

    def close(self) -> None:
        """Accept nothing more, and end handshakes that are under way."""
        for one in self._sockets:
            self._loop.remove_reader(one)
        for pause in self._paused.values():
            pause.cancel()
        close_all(self._sockets)
        self._sockets = []
        for task in self._running:
            task.cancel()

    async def stop(self) -> None:
        """Close, and return once nothing runs any more."""
        self.close()
        for task in list(self._running):
            await cancelled(task)

    def _resume(self, listening: socket.socket) -> None:
        self._paused.pop(listening, None)
        self._loop.add_reader(listening, self._accept, listening)

    def _accept(self, listening: socket.socket) -> None:
        for _ in range(ACCEPTS):
            try:
                accepted, address = listening.accept()
            except (BlockingIOError, InterruptedError):
                return
            except ConnectionError:  # gone already
                continue
            except OSError:  # out of files: the connection waits in the system's queue
                self._loop.remove_reader(listening)
                self._paused[listening] = self._loop.call_later(ACCEPT_PAUSE_SECONDS, self._resume, listening)
                return
            place = self._places.serve() or self._places.linger()
            if place is None:
                self._telemetry.connections_refused += 1
                _cut(accepted)
                continue
            accepted.setblocking(False)
            task = spawn(self._connect(accepted, address[0], place), "TLS handshake")
            self._running.add(task)
            task.add_done_callback(self._running.discard)

    async def _connect(self, accepted: socket.socket, address: str, place: Place) -> None:
        """Make a connection of a socket, or end it; its slot is given back unless there is a connection."""
        cause = ""
        try:
            async with asyncio.timeout(self._patience):
                cause = await self._shake_hands(accepted, place)
        except (OSError, TimeoutError) as error:
            cause = handshake.cause_of(error)
        except BaseException:
            self._end(accepted, place)
            raise
        if not cause:
            return
        self._telemetry.handshake_failures[cause] += 1
        level = logging.INFO if cause in (handshake.CLIENT_GONE, handshake.TIMEOUT) else logging.WARNING
        self._failures.write(level, cause, "a TLS handshake failed: %s, client %s", cause, address)
        if cause != handshake.PLAIN_HTTP:  # that one is a connection, on which the answer says what is wrong
            self._end(accepted, place)

    def _end(self, accepted: socket.socket, place: Place) -> None:
        accepted.close()
        place.give_back()
        self._connections.connection_ended()

    async def _shake_hands(self, accepted: socket.socket, place: Place) -> str:
        """Do the handshake; return the cause of its failure, or nothing.

        Raises:
            OSError: the client left, or the event loop could not go on.
        """
        first = await self._first_bytes(accepted)
        if not first:
            return handshake.CLIENT_GONE
        if first[0] != 22:  # the type of a handshake record (RFC 8446 section 5.1)
            if not_http(first):
                return handshake.NOT_TLS
            refusing = self._connections.refusing(place, GatewayError(Reasons.HTTPS_EXPECTED))
            await self._loop.connect_accepted_socket(lambda: refusing, accepted)
            return handshake.PLAIN_HTTP
        task = asyncio.current_task()
        assert task is not None
        running = Handshake(task, handshake.offered_protocols(first))
        handshake.current.set(running)
        protocol = self._protocol(place)
        try:
            transport, _ = await self._loop.connect_accepted_socket(
                lambda: protocol,
                accepted,
                ssl=self._tls.for_connection(),
                ssl_handshake_timeout=self._patience + 1,  # the time limit is the caller's
                ssl_shutdown_timeout=CLOSING,
            )
        except asyncio.CancelledError:
            if running.error is None:
                raise
            task.uncancel()
            return running.cause
        finally:
            running.ended()
        _bound_buffers(transport)
        return ""

    def _protocol(self, place: Place) -> asyncio.Protocol:
        if place.lingering:
            return self._connections.refusing(place, GatewayError(Reasons.TOO_MANY_CONNECTIONS))
        return self._serve(place)

    async def _first_bytes(self, accepted: socket.socket) -> bytes:
        """Wait for the first bytes, and leave them where they are."""
        with contextlib.suppress(BlockingIOError):  # under load they are there already
            return accepted.recv(HELLO, socket.MSG_PEEK)
        came: asyncio.Future[None] = self._loop.create_future()
        self._loop.add_reader(accepted, _came, came)
        try:
            await came
        finally:
            self._loop.remove_reader(accepted)
        return accepted.recv(HELLO, socket.MSG_PEEK)


def _bound_buffers(transport: asyncio.Transport) -> None:
    """Have a TLS connection hold no more before it pauses than one without TLS does."""
    transport.set_write_buffer_limits(high=WRITE_BUFFER_BYTES)
    if hasattr(transport, "set_read_buffer_limits"):  # uvloop's, as asyncio's own
        transport.set_read_buffer_limits(high=UNREAD)


def _came(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _cut(accepted: socket.socket) -> None:
    """Close a socket at once, without a word and without waiting for the other side."""
    accepted.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    accepted.close()
