"""One bounded GET from an identity provider.

Makes the request, and decides what counts as an answer. The connection and its
limits are ``outbound/http.py``'s; what the answer means is
``key_sources.py``'s.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import aiohttp
from aiohttp import hdrs
from aiohttp.abc import AbstractResolver
from yarl import URL

from gateway.jwt.jose.keys import MAX_KEY_SET_BYTES
from gateway.outbound.cache_control import answered_lifetime
from gateway.outbound.http import FetchError, ProviderSession, read_body, translated
from gateway.settings.readable import MARK

#: Longest bearer token file.
_MAX_TOKEN_FILE = 64 * 1024

#: Longest validator that is sent back.
_MAX_VALIDATOR = 1024

#: Connections to one issuer: one fetch runs at a time, and a host that was left is not waited for.
_CONNECTIONS = 2


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
class KeysAnswer:
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
        self._token_file = token_file
        self._provider = ProviderSession(
            timeout=timeout, ca_file=ca_file, ca_option="jwks_ca_file", connections=_CONNECTIONS, resolver=resolver
        )

    async def get(self, url: URL, validators: Validators, *, accept: str, send_token: bool) -> KeysAnswer:
        """Fetch one document.

        Raises:
            FetchError: for everything but a complete 200 within the limits, or a 304 that was asked for.
        """
        headers = {hdrs.ACCEPT: accept, hdrs.ACCEPT_ENCODING: "identity"} | validators.headers()
        if send_token and self._token_file:
            headers[hdrs.AUTHORIZATION] = f"Bearer {await asyncio.to_thread(_read_token, self._token_file)}"
        session = await self._provider.open()
        with translated(url):
            async with session.get(url, headers=headers, allow_redirects=False) as response:
                return await _read_answer(response, validators)

    async def close(self) -> None:
        """Close the connections; a later ``get`` opens new ones."""
        await self._provider.close()


async def _read_answer(response: aiohttp.ClientResponse, sent: Validators) -> KeysAnswer:
    lifetime = answered_lifetime(response.headers.getall(hdrs.CACHE_CONTROL, []), response.headers.getall(hdrs.AGE, []))
    if response.status == 304 and sent.headers():
        return KeysAnswer(None, sent, lifetime)
    body = await read_body(response, MAX_KEY_SET_BYTES)
    validators = Validators(
        etag=_validator(response.headers.getall(hdrs.ETAG, [])),
        last_modified=_validator(response.headers.getall(hdrs.LAST_MODIFIED, [])),
    )
    return KeysAnswer(body, validators, lifetime)


def _validator(values: Sequence[str]) -> str:
    """Return a validator that can be sent back as it is, or nothing."""
    value = values[0] if len(values) == 1 else ""
    return value if value.isascii() and value.isprintable() and len(value) <= _MAX_VALIDATOR else ""


def _read_token(path: str) -> str:
    try:
        with Path(path).open("rb") as file:
            token = file.read(_MAX_TOKEN_FILE).removeprefix(MARK).strip()
    except OSError as error:
        raise FetchError("token_file", f"jwks_token_file cannot be read: {error.strerror}") from None
    if not token or any(not 0x21 <= byte <= 0x7E for byte in token):
        raise FetchError("token_file", "jwks_token_file holds no bearer token")
    return token.decode("ascii")
