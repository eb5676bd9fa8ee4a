"""One bounded GET from an identity provider.

Only the exchange lives here: limits of size and time, what counts as an
answer, TLS, and the translation of every library and system error into
``FetchError``. What the answer means is ``jwks_fetch.py``'s. The danger of
this file is trust: the other side may be slow, huge, hostile or not the
issuer at all, and must cost no more than a bounded failure.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import aiohttp
from aiohttp import hdrs
from aiohttp.abc import AbstractResolver
from yarl import URL

from gateway import __version__
from gateway.errors import printable
from gateway.tokens.jwks_cache_control import answered_lifetime
from gateway.tokens.jwks_discovery import SHOWN
from gateway.tokens.keys import MAX_BYTES

#: Longest bearer token file.
_MAX_TOKEN_FILE = 64 * 1024

#: Longest validator that is sent back.
_MAX_VALIDATOR = 1024


class FetchError(Exception):
    """A fetch that gave nothing to use.

    Args:
        code: stable, for logs, status and metrics.
        message: for the operator; printable, without tokens.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class Validators:
    """What makes the next request for a document conditional (RFC 9110 section 13.1)."""

    etag: str = ""
    last_modified: str = ""

    def headers(self) -> dict[str, str]:
        """Return the precondition fields; none when there is nothing to compare with."""
        named = {hdrs.IF_NONE_MATCH: self.etag, hdrs.IF_MODIFIED_SINCE: self.last_modified}
        return {name: value for name, value in named.items() if value}


@dataclass(frozen=True, slots=True)
class Answer:
    """What a GET gave.

    Attributes:
        body: the document; None when it has not changed (304).
        validators: for the next request for the same document.
        lifetime: seconds, when the answer says (``answered_lifetime``).
    """

    body: bytes | None
    validators: Validators
    lifetime: float | None


class JwksClient:
    """The HTTP client of one issuer: its own session and connections, so that no issuer can hinder another.

    Args:
        timeout: seconds from connecting to the last byte of one answer.
        ca_file: PEM bundle instead of the system's authorities; read again when it changes.
        token_file: file with a bearer token, read again at each request that sends it.
        resolver: looks up the hosts; None for the system's.
    """

    def __init__(
        self, *, timeout: float, ca_file: str = "", token_file: str = "", resolver: AbstractResolver | None = None
    ) -> None:
        self._timeout = aiohttp.ClientTimeout(
            total=timeout, connect=min(1.0, timeout), sock_connect=min(1.0, timeout), ceil_threshold=120
        )
        self._ca_file = ca_file
        self._token_file = token_file
        self._resolver = resolver
        self._session: aiohttp.ClientSession | None = None
        self._ca_version: tuple[int, ...] = ()

    async def get(self, url: URL, validators: Validators, *, accept: str, send_token: bool) -> Answer:
        """Fetch one document.

        Raises:
            FetchError: for everything but a complete 200 within the limits, or a 304 that was asked for.
        """
        headers = {hdrs.ACCEPT: accept, hdrs.ACCEPT_ENCODING: "identity"} | validators.headers()
        if send_token and self._token_file:
            headers[hdrs.AUTHORIZATION] = f"Bearer {await asyncio.to_thread(_read_token, self._token_file)}"
        session = await self._open()
        try:
            async with session.get(url, headers=headers, allow_redirects=False) as response:
                return await _read_answer(response, validators)
        except TimeoutError:
            raise FetchError("timeout", f"{_shown(url)} did not answer in time") from None
        except aiohttp.ClientSSLError as error:
            raise FetchError("tls", f"{_shown(url)}: {printable(str(error), SHOWN)}") from None
        except (aiohttp.ClientConnectorError, aiohttp.ServerDisconnectedError, OSError) as error:
            raise FetchError("connect", f"{_shown(url)}: {printable(str(error), SHOWN)}") from None
        except (aiohttp.ClientError, ValueError) as error:
            raise FetchError("protocol", f"{_shown(url)}: {type(error).__name__}") from None

    async def close(self) -> None:
        """Close the connections; a later ``get`` opens new ones."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _open(self) -> aiohttp.ClientSession:
        """Return the session, made anew when the file of authorities has changed."""
        version = self._ca_version
        context: ssl.SSLContext | bool = True
        if self._ca_file:
            version = await asyncio.to_thread(_file_version, self._ca_file)
            if self._session is None or version != self._ca_version:
                context = await asyncio.to_thread(_authorities, self._ca_file)
        if self._session is not None and version != self._ca_version:
            await self.close()
        if self._session is None:
            self._ca_version = version
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(ssl=context, resolver=self._resolver, use_dns_cache=False, limit=2),
                connector_owner=True,
                timeout=self._timeout,
                headers={hdrs.USER_AGENT: f"jwt-gateway/{__version__}"},
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,  # a proxy variable in the environment must not see or answer these requests
                auto_decompress=False,  # a small compressed answer could be a huge document
            )
        return self._session


async def _read_answer(response: aiohttp.ClientResponse, sent: Validators) -> Answer:
    lifetime = answered_lifetime(response.headers.getall(hdrs.CACHE_CONTROL, []), response.headers.getall(hdrs.AGE, []))
    if response.status == 304 and sent.headers():
        return Answer(None, sent, lifetime)
    if response.status != 200:
        raise FetchError(f"status_{response.status}", f"{_shown(response.url)} answered {response.status}")
    codings = response.headers.getall(hdrs.CONTENT_ENCODING, [])
    if any(coding.strip().lower() not in ("", "identity") for coding in codings):
        raise FetchError("encoded", f"{_shown(response.url)} sent a coded answer although none was accepted")
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > MAX_BYTES:
            response.close()
            raise FetchError("too_large", f"{_shown(response.url)} sent more than {MAX_BYTES} bytes")
    validators = Validators(
        etag=_validator(response.headers.getall(hdrs.ETAG, [])),
        last_modified=_validator(response.headers.getall(hdrs.LAST_MODIFIED, [])),
    )
    return Answer(bytes(body), validators, lifetime)


def _validator(values: Sequence[str]) -> str:
    """Return a validator that can be sent back as it is, or nothing."""
    value = values[0] if len(values) == 1 else ""
    return value if value.isascii() and value.isprintable() and len(value) <= _MAX_VALIDATOR else ""


def _read_token(path: str) -> str:
    try:
        with Path(path).open("rb") as file:
            token = file.read(_MAX_TOKEN_FILE).strip()
    except OSError as error:
        raise FetchError("token_file", f"jwks_token_file cannot be read: {error.strerror}") from None
    if not token or any(not 0x21 <= byte <= 0x7E for byte in token):
        raise FetchError("token_file", "jwks_token_file holds no bearer token")
    return token.decode("ascii")


def _file_version(path: str) -> tuple[int, ...]:
    try:
        found = os.stat(path)
    except OSError as error:
        raise FetchError("ca_file", f"jwks_ca_file cannot be read: {error.strerror}") from None
    return (found.st_mtime_ns, found.st_size, found.st_ino)


def _authorities(path: str) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=path)
    except OSError as error:  # ssl.SSLError is one
        raise FetchError("ca_file", f"jwks_ca_file holds no certificates: {type(error).__name__}") from None


def _shown(url: URL) -> str:
    """Return an address for a log: without query, which may hold a secret."""
    return printable(str(url.with_query(None)), SHOWN)
