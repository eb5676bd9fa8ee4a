"""One base URL of a service: its bounded pool of connections, and the leasing of one.

Keeps connections and hands them out. How one is opened
is ``dialer.py``'s business, which URL a request goes to and who waits for a
connection ``upstream.py``'s, and what is sent ``exchange/exchange.py``'s. An
idle connection is handed out without an await, so that both lanes can ask.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections import deque
from collections.abc import Callable, Coroutine, Sized
from dataclasses import dataclass
from typing import Any

from aiohttp.abc import AbstractResolver

from gateway.clock import Clock, SystemClock
from gateway.errors import GatewayError
from gateway.settings.tables.upstreams import UpstreamSettings
from gateway.upstream.pool.connection import LentConnection, UpstreamConnection
from gateway.upstream.pool.dialer import CONNECT_FAULTS, Dialer
from gateway.upstream.pool.health import Health

_log = logging.getLogger("gateway.upstreams")

#: How long the rest of an answered request may take to its service when ``idle_timeout_seconds`` is 0.
UNSENT_SECONDS = 60.0


class Lease:
    """One connection to an upstream, held for one exchange.

    Attributes:
        protocol: the connection's protocol.
        reused: it has served an exchange before, so the upstream may have
            closed it in the meantime (RFC 9112 section 9.3.1).
    """

    __slots__ = ("_connection", "_held", "_origin", "protocol", "reused")

    def __init__(self, origin: Origin, connection: LentConnection, protocol: UpstreamConnection) -> None:
        self._origin = origin
        self._connection = connection
        self._held = True
        self.protocol = protocol
        self.reused = False

    def release(self) -> None:
        """Give the connection back for the next exchange, if its state allows."""
        if self._held:
            self._held = False
            self._origin.take_back(self)

    def detach(self) -> LentConnection:
        """Return the connection for good: it is the caller's to close, and its slot in the pool is free."""
        assert self._held
        self._held = False
        self._origin.give_back()
        return self._connection

    def discard(self) -> None:
        """Close the connection: its exchange did not come to its end."""
        if self._held:
            self._held = False
            # Not a graceful close: unsent content must not look like a complete request.
            if (transport := self._connection.transport) is not None:
                transport.abort()
            self._connection.close()
            self._origin.give_back()

    def again(self) -> Lease | None:
        """Return this lease for another exchange, if its connection is still good; else close that."""
        transport = self.protocol.transport
        # Unsolicited bytes may have arrived while it was idle: they would be taken for the answer to the next request
        # (response smuggling).
        if transport is None or transport.is_closing() or self.protocol.heard:
            self._connection.close()
            return None
        self._held = self.reused = True
        return self

    def close(self) -> None:
        """Close a connection that is not held."""
        self._connection.close()


@dataclass(frozen=True, slots=True)
class OriginState:
    """What the admin port shows of one URL.

    Attributes:
        in_use: slots of the pool that are taken.
        idle: connections kept for the next exchange.
        waiting: requests that wait for a slot.
        health: ``healthy``, ``ejected`` or ``unhealthy``.
        connect_failures: failures to connect, ever.
        ejections: how often it was ejected; failed trials are not counted anew.
        back_off_seconds: until the next try of an ejected URL; 0 otherwise.
        last_check: the last answer to a health check was good; None before the first one.
    """

    url: str
    in_use: int
    idle: int
    waiting: int
    health: str
    connect_failures: int
    ejections: int
    back_off_seconds: float
    last_check: bool | None


class Origin:
    """One base URL of an upstream, and its pool.

    Args:
        waits: those who wait for a connection to the upstream.
        freed: called when a connection has come back or a place has come free while a request waits.
        tls: for ``https://``; see ``dialer.client_tls``.
        resolver: looks names up, instead of the system's way.

    Attributes:
        url: the URL in one spelling, for logs and metrics.
        host: the value of ``Host`` for this URL.
        base_path: what is put before each request's path; empty for none.
        preserve_host: send the client's Host instead of this URL's.
        health: whether it is given requests.
        connect_failures: failures to connect, ever.
    """

    def __init__(
        self,
        url: str,
        settings: UpstreamSettings,
        *,
        waits: Sized = (),
        freed: Callable[[], None] = lambda: None,
        clock: Clock | None = None,
        tls: ssl.SSLContext | None = None,
        resolver: AbstractResolver | None = None,
    ) -> None:
        self._dialer = Dialer(url, settings, tls, resolver)
        self.url, self.host, self.base_path = self._dialer.url, self._dialer.host, self._dialer.base_path
        self.preserve_host = settings.preserve_host
        self.health = Health(settings.eject_after_failures, settings.eject_max_seconds)
        self.connect_failures = 0
        self._settings = settings
        self._pool_size, self._max_age = settings.pool_size, settings.pool_max_age_seconds
        self._closed = False
        self._clock = clock or SystemClock()
        self._in_use = 0
        self._waits, self._freed = waits, freed
        # Idle connections and since when; the one used last is used next, so that the others can go.
        self._idle: deque[tuple[Lease, float]] = deque()
        self._loop = asyncio.get_running_loop()
        self._sweep: asyncio.TimerHandle | None = None

    @property
    def has_place(self) -> bool:
        """Whether there is room for one more exchange."""
        return self._in_use < self._pool_size

    def lease_now(self) -> Lease | None:
        """Return an idle connection; None without one. Whether others wait for one is not looked at."""
        if self._idle and self._in_use < self._pool_size:
            lease = self._pop_idle()
            if lease is not None:
                self._in_use += 1
            return lease
        return None

    def open(self) -> Coroutine[Any, Any, Lease]:
        """Take a place, which there must be, and return what opens a connection in it.

        The place is free again when that fails. It must be awaited.

        Raises:
            GatewayError: no connection could be made; by what is returned.
        """
        self._in_use += 1
        return self._opened()

    async def _opened(self) -> Lease:
        try:
            if self._in_use + len(self._idle) > self._pool_size:
                self._idle.popleft()[0].close()
            connection, protocol = await self._dialer.connect()
        except BaseException as error:
            self._in_use -= 1
            if isinstance(error, GatewayError) and error.reason in CONNECT_FAULTS:
                self._connect_failed(error)
            raise
        if self.health.connected():
            _log.info("upstream %s, %s: connected again after an ejection", self._settings.name, self.url)
        return Lease(self, connection, protocol)

    async def probe(self) -> bool | None:
        """Ask for its health once; None when it could not be asked."""
        return await self._dialer.probe(self._settings.health_path, self._settings.health_timeout_seconds)

    def checked(self, good: bool) -> None:
        """Note the answer to a health check."""
        if self.health.checked(good):
            _log.warning("upstream %s, %s: health check: now %s", self._settings.name, self.url, self.health.state)

    def _connect_failed(self, error: GatewayError) -> None:
        self.connect_failures += 1
        if seconds := self.health.connect_failed(self._clock.monotonic()):
            _log.warning(
                "upstream %s, %s: ejected for %g s after %d failed connects, the last one: %s",
                self._settings.name,
                self.url,
                seconds,
                self.health.connect_failures,
                error.detail,
            )

    def _pop_idle(self) -> Lease | None:
        """Return the idle connection that was used last and is still good; close those that are not."""
        while self._idle:
            if (lease := self._idle.pop()[0].again()) is not None:
                return lease
        return None

    def take_back(self, lease: Lease) -> None:
        """Keep a connection for the next exchange, if its state and age allow, and free its slot."""
        protocol, max_age = lease.protocol, self._max_age
        now = self._loop.time()
        too_old = max_age and now - protocol.opened_at >= max_age
        transport = protocol.transport
        unsent = transport is not None and transport.get_write_buffer_size() > 0
        if too_old or protocol.should_close or not protocol.is_connected() or self._closed or unsent:
            lease.close()
            if transport is not None and unsent:  # an answer that came early: the service may still read the request
                self._loop.call_later(self._settings.idle_timeout_seconds or UNSENT_SECONDS, transport.abort)
        else:
            protocol.heard = False
            self._idle.append((lease, now))
            if self._sweep is None:
                self._sweep = self._loop.call_later(self._settings.pool_idle_seconds, self._close_idle)
        self._in_use -= 1
        if self._waits:
            self._freed()

    def _close_idle(self) -> None:
        """Close what has been idle too long; look again when the next one will be."""
        self._sweep = None
        oldest = self._loop.time() - self._settings.pool_idle_seconds
        while self._idle and (self._idle[0][1] <= oldest or not self._idle[0][0].protocol.is_connected()):
            self._idle.popleft()[0].close()
        if self._idle:
            self._sweep = self._loop.call_at(self._idle[0][1] + self._settings.pool_idle_seconds, self._close_idle)

    def give_back(self) -> None:
        """Free a place."""
        self._in_use -= 1
        if self._waits:
            self._freed()

    def state(self, waiting: int = 0) -> OriginState:
        """Return the numbers for the admin port.

        Args:
            waiting: see ``OriginState``; the queue knows.
        """
        health = self.health
        return OriginState(
            url=self.url,
            in_use=self._in_use,
            idle=sum(lease.protocol.is_connected() for lease, _ in self._idle),
            waiting=waiting,
            health=health.state,
            connect_failures=self.connect_failures,
            ejections=health.ejections,
            back_off_seconds=max(0.0, health.back_off_ends - self._clock.monotonic()),
            last_check=health.last_check,
        )

    async def close(self) -> None:
        """Close every connection."""
        self._closed = True
        if self._sweep is not None:
            self._sweep.cancel()
        while self._idle:
            self._idle.pop()[0].close()
        await self._dialer.close()
