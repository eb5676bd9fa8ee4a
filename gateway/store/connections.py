"""Connections to Redis: how they are made from the configuration, and to which server they lead.

Only the making lives here. The danger is a server that is not who it says it
is (so TLS means the certificate and the name in it), and one that was the
master once (so with Sentinel each connection asks anew where the master is).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from redis.asyncio import BlockingConnectionPool, Connection, Redis, SSLConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from gateway.settings.redis import Redis as RedisSettings

#: Where the master is: host and port. It may raise redis-py's ``ConnectionError``.
Where = Callable[[], tuple[str, int]]


class _LedConnection(Connection):
    """A connection that leads to where the master is when it is made."""

    def __init__(self, *, where: Where, **options: Any) -> None:
        super().__init__(**options)
        self._where = where

    async def connect(self) -> None:
        if not self.is_connected:
            self.host, self.port = self._where()
        await super().connect()  # type: ignore[no-untyped-call]


class _LedTlsConnection(SSLConnection):
    """The same, with TLS."""

    def __init__(self, *, where: Where, **options: Any) -> None:
        super().__init__(**options)
        self._where = where

    async def connect(self) -> None:
        if not self.is_connected:
            self.host, self.port = self._where()
        await super().connect()  # type: ignore[no-untyped-call]


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
        **(_tls_options(settings) if tls else {}),
    )
    if where is not None:
        pool.connection_class = _LedTlsConnection if tls else _LedConnection
        pool.connection_kwargs["where"] = where
    client = Redis(connection_pool=pool)
    if step_seconds is None:
        client.response_callbacks.clear()
    return client


def _tls_options(settings: RedisSettings) -> dict[str, Any]:
    options: dict[str, Any] = {"ssl_cert_reqs": "required", "ssl_check_hostname": True}
    if settings.tls_ca_file:
        options["ssl_ca_certs"] = settings.tls_ca_file
    if settings.tls_client_cert:
        options |= {"ssl_certfile": settings.tls_client_cert, "ssl_keyfile": settings.tls_client_key}
    return options
