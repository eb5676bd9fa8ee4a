"""Connections to an identity provider: what every exchange with one is bounded by.

This file has the session: limits of size and time, TLS, and the translation of
every library and system error into ``FetchError``. What is asked, and what an
answer means, is for the modules that use it. The danger of this file is trust:
the other side may be slow, huge, hostile or not the provider at all, and must
cost no more than a bounded failure.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import Iterator
from contextlib import contextmanager

import aiohttp
from aiohttp import hdrs
from aiohttp.abc import AbstractResolver
from yarl import URL

from gateway import __version__
from gateway.errors import PREVIEW_CHARS, printable
from gateway.network_errors import cause
from gateway.tls_contexts import client_context, system_context
from gateway.watched_file import Version, file_version


class FetchError(Exception):
    """An exchange that gave nothing to use.

    Args:
        code: stable, for logs, status and metrics.
        message: for the operator; printable, without tokens.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class ProviderSession:
    """The HTTP session of one provider: its own connections, so that no provider can hinder another.

    Args:
        timeout: seconds from connecting to the last byte of one answer.
        connections: most of them at a time.
        ca_file: PEM bundle instead of the system's authorities; read again when it changes.
        ca_option: what the configuration calls that file.
        resolver: looks up the hosts; None for the system's.
    """

    def __init__(
        self,
        *,
        timeout: float,
        connections: int,
        ca_file: str = "",
        ca_option: str = "",
        resolver: AbstractResolver | None = None,
    ) -> None:
        self._timeout = aiohttp.ClientTimeout(
            total=timeout, connect=min(1.0, timeout), sock_connect=min(1.0, timeout), ceil_threshold=120
        )
        self._connections = connections
        self._ca_file, self._ca_option = ca_file, ca_option
        self._resolver = resolver
        self._session: aiohttp.ClientSession | None = None
        self._ca_version: Version = None

    async def open(self) -> aiohttp.ClientSession:
        """Return the session, made anew when the file of authorities has changed.

        Raises:
            FetchError: the file of authorities cannot be used.
        """
        found = self._ca_version  # compared without a memory of its own: several may ask at one time
        context: ssl.SSLContext | None = None
        if self._ca_file:
            found = await asyncio.to_thread(file_version, self._ca_file)
            if self._session is None or found is None or found != self._ca_version:
                context = await asyncio.to_thread(self._authorities)
        if self._session is not None and found != self._ca_version:
            await self.close()
        if self._session is None:
            self._ca_version = found
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    ssl=context or system_context(),
                    resolver=self._resolver,
                    use_dns_cache=False,
                    limit=self._connections,
                ),
                connector_owner=True,
                timeout=self._timeout,
                headers={hdrs.USER_AGENT: f"jwt-gateway/{__version__}"},
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,  # a proxy variable in the environment must not see or answer these requests
                auto_decompress=False,  # a small compressed answer could be a huge document
            )
        return self._session

    async def close(self) -> None:
        """Close the connections; a later ``open`` opens new ones."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    def _authorities(self) -> ssl.SSLContext:
        try:
            os.stat(self._ca_file)
        except OSError as error:
            raise FetchError("ca_file", f"{self._ca_option} cannot be read: {error.strerror}") from None
        try:
            return client_context(self._ca_file)
        except OSError:  # ssl.SSLError is one
            raise FetchError("ca_file", f"{self._ca_option} holds no PEM certificates") from None


@contextmanager
def translated(url: URL) -> Iterator[None]:
    """Turn whatever an exchange with ``url`` can raise into ``FetchError``."""
    try:
        yield
    except TimeoutError:
        raise FetchError("timeout", f"{shown_url(url)} did not answer in time") from None
    except aiohttp.ClientSSLError as error:
        raise FetchError("tls", f"{shown_url(url)}: {cause(error)}") from None
    except (aiohttp.ClientConnectorError, aiohttp.ServerDisconnectedError, OSError) as error:
        raise FetchError("connect", f"{shown_url(url)}: {cause(error)}") from None
    except (aiohttp.ClientError, ValueError) as error:
        what = "broke off" if isinstance(error, aiohttp.ClientPayloadError) else "is not valid HTTP"
        raise FetchError("protocol", f"the answer of {shown_url(url)} {what}") from None


async def read_body(response: aiohttp.ClientResponse, most: int) -> bytes:
    """Return the content of an answer with status 200, plain and of at most ``most`` bytes.

    Raises:
        FetchError: the answer is not such a one.
    """
    if response.status != 200:
        raise FetchError(f"status_{response.status}", f"{shown_url(response.url)} answered {response.status}")
    codings = response.headers.getall(hdrs.CONTENT_ENCODING, [])
    if any(coding.strip().lower() not in ("", "identity") for coding in codings):
        text = f"{shown_url(response.url)} sent a compressed answer (Content-Encoding), which was not requested"
        raise FetchError("encoded", text)
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > most:
            response.close()
            raise FetchError("too_large", f"{shown_url(response.url)} sent more than {most} bytes")
    return bytes(body)


def shown_url(url: URL) -> str:
    """Return an address for a log: without query, which may hold a secret."""
    return printable(str(url.with_query(None)), PREVIEW_CHARS)
