"""Connections to Redis: how they are made from the configuration, and to which server they lead.

Makes them. The danger is a server that is not who it says it is (so TLS means
the certificate and the name in it), and one that was the master once (so with
Sentinel each connection asks anew where the master is).
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from typing import Any

from redis.asyncio import BlockingConnectionPool, Connection, Redis, SSLConnection
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from gateway.settings.tables.redis import Redis as RedisSettings
from gateway.tls_contexts import client_context

#: Where the master is: host and port. It may raise redis-py's ``ConnectionError``.
Where = Callable[[], tuple[str, int]]


class _Led(AbstractConnection):
    """A connection that leads to where the master is when it is made, if that is known."""

    def __init__(self, *, where: Where | None = None, **options: Any) -> None:
        super().__init__(**options)
        self._where = where

    async def connect(self) -> None:
        if self._where is not None and not self.is_connected:
            self.host, self.port = self._where()
        await super().connect()  # type: ignore[no-untyped-call]


class _LedConnection(_Led, Connection):
    """Over TCP."""


class _TlsConnection(_Led, SSLConnection):
    """Over TLS, with a server that is verified as every other one is; redis-py's own context is not used.

    Args:
        settings: the table ``[redis]``.
        options: redis-py's own.
    """

    def __init__(self, *, settings: RedisSettings, **options: Any) -> None:
        super().__init__(**options)
        self._settings = settings
        self._context: ssl.SSLContext | None = None

    def _connection_arguments(self) -> dict[str, Any]:
        if self._context is None:
            self._context = _tls_context(self._settings)
        return {**super(SSLConnection, self)._connection_arguments(), "ssl": self._context}


def new_client(
    settings: RedisSettings,
    connections: int,
    step_seconds: float | None = None,
    *,
    url: str = "",
    where: Where | None = None,
) -> Redis:
    """Return a client with a pool of its own, which is for the caller to close.

    Args:
        settings: the table ``[redis]``.
        connections: the size of its pool.
        step_seconds: bound on each step (a free connection, connecting, an answer). None: the caller bounds the whole,
            by cancelling it (two limits that end at one moment would take up to twice as long), and gets answers as
            the server gave them.
        url: another server than the configured one.
        where: asked before each connection, instead of taking the host and port of the URL.
    """
    url = url or settings.url
    tls = url.lower().startswith("rediss://")
    pool = BlockingConnectionPool.from_url(
        url,
        max_connections=connections,
        timeout=step_seconds,
        socket_timeout=step_seconds,
        socket_connect_timeout=step_seconds,
        retry=Retry(NoBackoff(), 0),
        protocol=2,
        driver_info=None,
    )
    if tls:
        pool.connection_class = _TlsConnection
        pool.connection_kwargs |= {"settings": settings, "where": where}
    elif where is not None:
        pool.connection_class = _LedConnection
        pool.connection_kwargs["where"] = where
    client = Redis(connection_pool=pool)
    if step_seconds is None:
        client.response_callbacks.clear()
    return client


def _tls_context(settings: RedisSettings) -> ssl.SSLContext:
    context = client_context(settings.tls_ca_file)
    if settings.tls_client_cert:
        context.load_cert_chain(settings.tls_client_cert, settings.tls_client_key)
    return context
