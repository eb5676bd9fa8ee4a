"""Opening connections to one base URL: addresses, names, TLS, Unix sockets, and what goes wrong with them.

This file has what happens until a connection is open, and the health check of a
URL, which has a connection of its own. Keeping connections is
``upstream_url.py``'s business. Certificates are always verified, names looked
up anew every ``DNS_SECONDS``, proxies of the environment never used.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import ssl

from aiohttp import (
    BaseConnector,
    ClientConnectionError,
    ClientConnectorCertificateError,
    ClientConnectorDNSError,
    ClientConnectorSSLError,
    ClientError,
    ClientRequest,
    ClientSession,
    ClientTimeout,
    DummyCookieJar,
    TCPConnector,
    UnixConnector,
)
from aiohttp.abc import AbstractResolver
from yarl import URL

from gateway.errors import GatewayError, Reasons
from gateway.network_errors import cause
from gateway.settings.tables.upstreams import UpstreamSettings
from gateway.settings.values import split_socket_url
from gateway.tasks import where
from gateway.tls_contexts import client_context
from gateway.upstream.pool.connection import (
    LentConnection,
    UpstreamConnection,
    make_own_connections,
    open_connection,
)

_log = logging.getLogger("gateway.upstreams")

#: How long the addresses of a name are used before it is looked up again.
DNS_SECONDS = 10

#: What ``Host`` says to a service behind a Unix socket, which has no name.
SOCKET_HOST = b"localhost"

#: How health checks introduce themselves.
CHECKER = "jwt-gateway-health-check"

#: The reasons that mean that no connection could be opened, so that nothing was sent.
CONNECT_FAULTS = frozenset(
    {Reasons.UPSTREAM_CONNECT, Reasons.UPSTREAM_NAME, Reasons.UPSTREAM_TLS, Reasons.UPSTREAM_CONNECT_TIMEOUT}
)

# What the system says when it, or this process, has nothing left for another socket.
_OWN_SHORTAGES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL})


class Dialer:
    """Opens connections to one base URL.

    Args:
        url: as configured.
        tls: for ``https://``; see ``client_tls``.
        resolver: looks names up, instead of the system's way.

    Attributes:
        url: the URL in one spelling, for logs and metrics.
        host: the value of ``Host`` for this URL.
        base_path: what is put before each request's path; empty for none.
    """

    def __init__(
        self,
        url: str,
        settings: UpstreamSettings,
        tls: ssl.SSLContext | None = None,
        resolver: AbstractResolver | None = None,
    ) -> None:
        loop = asyncio.get_running_loop()
        connector: BaseConnector
        if url.startswith("unix:"):
            socket, base = split_socket_url(url)
            self._target = URL(f"http://{SOCKET_HOST.decode()}{base}")
            # No connection ever goes back to the connector: the pool is elsewhere, checks have one of their own.
            connector = UnixConnector(socket, limit=0, force_close=True)
            self.host, prefix = SOCKET_HOST, f"unix:{socket}:"
        else:
            self._target = URL(url)
            connector = TCPConnector(
                limit=0, force_close=True, ttl_dns_cache=DNS_SECONDS, ssl=tls or True, resolver=resolver
            )
            self.host = (self._target.host_port_subcomponent or "").encode("ascii")
            prefix = str(self._target.origin())
        base_path = self._target.raw_path.rstrip("/")
        self.base_path = base_path.encode("ascii")
        self.url = (prefix + base_path).rstrip(":")
        make_own_connections(connector, loop)
        self._connector = connector
        self._name = settings.tls_server_name or None
        self._timeout = ClientTimeout(total=None, connect=settings.connect_timeout_seconds)
        self._template = ClientRequest("GET", self._target, loop=loop, server_hostname=self._name)
        # The session owns the connector. Requests never go through its own methods, which would add
        # header fields, keep cookies and follow redirects; only health checks do.
        self._session = ClientSession(
            connector=connector, cookie_jar=DummyCookieJar(), auto_decompress=False, trust_env=False
        )

    async def connect(self) -> tuple[LentConnection, UpstreamConnection]:
        """Open a connection.

        Raises:
            GatewayError: with one of ``CONNECT_FAULTS``.
        """
        try:
            return await open_connection(self._connector, self._template, self._timeout)
        except Exception as error:
            raise _connect_fault(self.url, error) from error

    async def probe(self, path: str, seconds: float) -> bool | None:
        """Ask for ``path`` over a connection of its own; return whether a 2xx or 3xx came in time.

        None when it was not asked, because this process could open no connection.
        """
        request = self._session.get(
            self._target.join(URL(path, encoded=True)),
            headers={"User-Agent": CHECKER},
            allow_redirects=False,
            timeout=ClientTimeout(total=seconds),
            server_hostname=self._name,
        )
        try:
            async with request as response:
                return 200 <= response.status <= 399
        except (ClientError, OSError, TimeoutError, ValueError) as error:
            return None if _out_of_files(error) else False

    async def close(self) -> None:
        """Close every connection."""
        await self._session.close()


def client_tls(settings: UpstreamSettings) -> ssl.SSLContext | None:
    """Return how the ``https://`` URLs of an upstream are spoken to; None when it has none.

    Raises:
        OSError: a file cannot be read or used; ``ssl.SSLError`` is one.
    """
    if not any(url.startswith("https://") for url in settings.urls):
        return None
    # Verifies the chain and the name by default; the system's authorities when no file is given.
    context = client_context(settings.tls_ca_file)
    context.set_alpn_protocols(["http/1.1"])
    if settings.tls_client_cert:
        context.load_cert_chain(settings.tls_client_cert, settings.tls_client_key)
    return context


def _out_of_files(error: BaseException) -> bool:
    """Tell whether a connection failed because this machine had no file, port or memory left for it."""
    cause: BaseException | None = getattr(error, "os_error", error)
    return isinstance(cause, OSError) and cause.errno in _OWN_SHORTAGES


def _connect_fault(url: str, error: Exception) -> GatewayError:
    """Translate what connecting raised; the only place that does."""
    if _out_of_files(error):
        reason = Reasons.OUT_OF_FILES  # says nothing about the upstream
    elif isinstance(error, ClientConnectorCertificateError | ClientConnectorSSLError):
        reason = Reasons.UPSTREAM_TLS
    elif isinstance(error, TimeoutError):
        reason = Reasons.UPSTREAM_CONNECT_TIMEOUT
    elif isinstance(error, ClientConnectorDNSError):
        reason = Reasons.UPSTREAM_NAME
    elif isinstance(error, ClientConnectionError | OSError):
        reason = Reasons.UPSTREAM_CONNECT
    else:
        _log.error("connecting to %s failed unexpectedly: %s", url, where(error))
        reason = Reasons.UPSTREAM_CONNECT
    return GatewayError(reason, detail=cause(error))
