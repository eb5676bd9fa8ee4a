"""The services behind the gateway: one bounded pool of connections per URL.

Only the choice of a URL, the leasing of a connection and the translation of
connection faults live here. A lease is a raw connection of aiohttp's pool, so
that both lanes share its limits, name resolution, TLS and keep-alive; what is
sent over it is ``forward.py``'s business.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

from aiohttp import (
    ClientConnectionError,
    ClientConnectorCertificateError,
    ClientConnectorDNSError,
    ClientConnectorSSLError,
    ClientRequest,
    ClientSession,
    ClientTimeout,
    DummyCookieJar,
    TCPConnector,
)
from aiohttp.connector import Connection
from yarl import URL

from gateway.errors import GatewayError, Reason
from gateway.proxy.connection import UpstreamConnection
from gateway.settings import schema

_log = logging.getLogger("gateway.upstreams")


class Lease:
    """One connection to an upstream, held for one exchange.

    Attributes:
        protocol: the connection's protocol.
        reused: it has served an exchange before, so the upstream may have
            closed it in the meantime (RFC 9112 section 9.3.1).
    """

    __slots__ = ("_connection", "_origin", "protocol", "reused")

    def __init__(self, origin: Origin, connection: Connection, protocol: UpstreamConnection, reused: bool) -> None:
        self._origin = origin
        self._connection: Connection | None = connection
        self.protocol = protocol
        self.reused = reused

    def release(self) -> None:
        """Give the connection back for the next exchange, if its state allows."""
        connection, self._connection = self._connection, None
        if connection is not None:
            self._origin.take_back(connection, self.protocol)

    def discard(self) -> None:
        """Close the connection: its exchange did not come to its end."""
        connection, self._connection = self._connection, None
        if connection is not None:
            # Not a graceful close: unsent content must not look like a complete request.
            if (transport := connection.transport) is not None:
                transport.abort()
            connection.close()
            self._origin.give_back()


@dataclass(frozen=True, slots=True)
class OriginState:
    """What the admin port shows of one URL."""

    url: str
    in_use: int
    idle: int
    waiting: int


class Origin:
    """One base URL of an upstream, and its pool.

    Attributes:
        host: the value of ``Host`` for this URL.
        base_path: what is put before each request's path; empty for none.
        preserve_host: send the client's Host instead of this URL's.
    """

    def __init__(self, url: str, settings: schema.Upstream) -> None:
        parsed = URL(url)
        self.url = str(parsed.origin())
        self.host = (parsed.host_port_subcomponent or "").encode("ascii")
        self.base_path = parsed.raw_path.rstrip("/").encode("ascii")
        self.preserve_host = settings.preserve_host
        self._settings = settings
        self._timeout = ClientTimeout(total=None, connect=settings.connect_timeout_seconds)
        # The connector makes connections and knows them all. How many there are, and which
        # one is next, is decided here: without an await, so that the express lane can ask.
        self._connector = TCPConnector(limit=0, ttl_dns_cache=10)
        # aiohttp has no public way to choose the protocol of its pooled connections.
        self._connector._factory = functools.partial(  # type: ignore[assignment]
            UpstreamConnection, loop=asyncio.get_running_loop()
        )
        # The session owns the connector; nothing is ever requested through the session's own
        # methods, which would add header fields, keep cookies and follow redirects.
        self._session = ClientSession(
            connector=self._connector, cookie_jar=DummyCookieJar(), auto_decompress=False, trust_env=False
        )
        self._template = ClientRequest("GET", parsed, loop=asyncio.get_running_loop())
        self._in_use = 0
        self._waiters: deque[asyncio.Future[None]] = deque()
        # Idle connections and since when; the one used last is used next, so that the others can go.
        self._idle: deque[tuple[Connection, UpstreamConnection, float]] = deque()
        self._sweep: asyncio.TimerHandle | None = None

    def lease_now(self) -> Lease | None:
        """Return an idle connection without waiting; None when there is none, or others wait for one."""
        if self._in_use >= self._settings.pool_size or self._waiters:
            return None
        lease = self._pop_idle()
        if lease is not None:
            self._in_use += 1
        return lease

    async def lease(self, *, fresh: bool = False) -> Lease:
        """Return a connection, waiting for a place in the pool if need be.

        Args:
            fresh: never one that has served before.

        Raises:
            GatewayError: the pool stayed full, or no connection could be made.
        """
        await self._take_place()
        if not fresh and (lease := self._pop_idle()) is not None:
            return lease
        try:
            if self._in_use + len(self._idle) > self._settings.pool_size:
                self._idle.popleft()[0].close()
            connection = await self._connector.connect(self._template, traces=[], timeout=self._timeout)
            protocol = connection.protocol
            assert isinstance(protocol, UpstreamConnection)
            return Lease(self, connection, protocol, reused=False)
        except BaseException as error:
            self.give_back()
            if isinstance(error, Exception):
                raise _connect_fault(error) from error
            raise

    def _pop_idle(self) -> Lease | None:
        """Return the idle connection that was used last and is still good; close those that are not."""
        while self._idle:
            connection, protocol, _ = self._idle.pop()
            # Bytes that nobody asked for may have arrived while it was idle: they would be
            # taken for the answer to the next request (response smuggling).
            if protocol.is_connected() and not protocol.should_close:
                return Lease(self, connection, protocol, reused=True)
            connection.close()
        return None

    def take_back(self, connection: Connection, protocol: UpstreamConnection) -> None:
        """Keep a connection for the next exchange, if its state allows, and free its place."""
        if protocol.should_close or not protocol.is_connected() or self._connector.closed:
            connection.close()
        else:
            loop = asyncio.get_running_loop()
            self._idle.append((connection, protocol, loop.time()))
            if self._sweep is None:
                self._sweep = loop.call_later(self._settings.pool_idle_seconds, self._close_idle)
        self.give_back()

    def _close_idle(self) -> None:
        """Close what has been idle too long; look again when the next one will be."""
        loop = asyncio.get_running_loop()
        self._sweep = None
        oldest = loop.time() - self._settings.pool_idle_seconds
        while self._idle and (self._idle[0][2] <= oldest or not self._idle[0][1].is_connected()):
            self._idle.popleft()[0].close()
        if self._idle:
            self._sweep = loop.call_at(self._idle[0][2] + self._settings.pool_idle_seconds, self._close_idle)

    async def _take_place(self) -> None:
        if self._in_use < self._settings.pool_size:
            self._in_use += 1
            return
        place = asyncio.get_running_loop().create_future()
        self._waiters.append(place)
        try:
            async with asyncio.timeout(self._settings.pool_wait_seconds):
                await place
        except BaseException as error:
            if place.done() and not place.cancelled():
                self.give_back()  # the place came at the same moment: hand it on
            elif place in self._waiters:  # else: a place was free since, and passed over this one
                self._waiters.remove(place)
            if isinstance(error, TimeoutError):
                raise GatewayError(Reason.POOL_EXHAUSTED) from None
            raise

    def give_back(self) -> None:
        """Free a place, or hand it to the one who has waited longest."""
        while self._waiters:
            place = self._waiters.popleft()
            if not place.done():
                place.set_result(None)
                return
        self._in_use -= 1

    def state(self) -> OriginState:
        """Return the pool's numbers for the admin port."""
        idle = sum(protocol.is_connected() for _, protocol, _ in self._idle)
        return OriginState(self.url, self._in_use, idle, len(self._waiters))

    async def close(self) -> None:
        """Close every connection."""
        if self._sweep is not None:
            self._sweep.cancel()
        while self._idle:
            self._idle.pop()[0].close()
        await self._session.close()


class Upstream:
    """A named service: its URLs in turn.

    Attributes:
        failures: exchanges that ended without a usable answer, by reason code.
    """

    def __init__(self, settings: schema.Upstream) -> None:
        self.name = settings.name
        self.settings = settings
        self.origins = tuple(Origin(url, settings) for url in settings.urls)
        self.failures: dict[str, int] = {}
        self._turn = 0

    def next_origin(self) -> Origin:
        """Return the URL whose turn it is."""
        self._turn = (self._turn + 1) % len(self.origins)
        return self.origins[self._turn]

    def failed(self, reason: Reason) -> None:
        """Count an exchange that ended without a usable answer."""
        self.failures[reason.code] = self.failures.get(reason.code, 0) + 1

    async def close(self) -> None:
        """Close every pool."""
        for origin in self.origins:
            await origin.close()


def open_upstreams(upstreams: list[schema.Upstream]) -> Mapping[str, Upstream]:
    """Return the upstreams by name. To be called on the event loop that will use them."""
    return {settings.name: Upstream(settings) for settings in upstreams}


def _connect_fault(error: Exception) -> GatewayError:
    """Translate what connecting raised; the only place that does."""
    if isinstance(error, GatewayError):
        return error
    if isinstance(error, ClientConnectorCertificateError | ClientConnectorSSLError):
        reason = Reason.UPSTREAM_TLS
    elif isinstance(error, TimeoutError):
        reason = Reason.UPSTREAM_CONNECT_TIMEOUT
    elif isinstance(error, ClientConnectorDNSError):
        reason = Reason.UPSTREAM_NAME
    elif isinstance(error, ClientConnectionError | OSError):
        reason = Reason.UPSTREAM_CONNECT
    else:
        _log.error("connecting ended by %s", type(error).__name__)
        reason = Reason.UPSTREAM_CONNECT
    return GatewayError(reason, detail=type(error).__name__)
