"""Where one issuer's keys come from: discovery and a key set, a fixed address, or a file.

Makes one fetch, from its sources to an imported ``KeySet``; when to fetch is
``refresher.py``'s, the HTTP exchange is ``jwks_client.py``'s, which addresses
are believed is ``outbound/discovery.py``'s. Nothing that a token says ever
reaches this file.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from aiohttp.abc import AbstractResolver
from yarl import URL

from gateway.errors import PREVIEW_CHARS, printable
from gateway.jwt.issuers.jwks_client import JwksClient, KeysAnswer, Validators
from gateway.jwt.jose.keys import MAX_KEY_SET_BYTES, KeySet, KeySetError, import_jwks, import_keys
from gateway.jwt.jose.strict_json import StrictJsonError, parse_object
from gateway.outbound.discovery import DiscoveryError, GuardedResolver, discovery_url, is_local, jwks_uri_of
from gateway.outbound.http import FetchError
from gateway.settings.tables.issuers import Issuer, issuer_values

#: Content types of a key set (RFC 7517 section 8.5.2); what comes back is judged by its content (C40).
_ACCEPT_KEYS = "application/jwk-set+json, application/json"

#: Larger documents are imported in a thread: at about 0.3 ms a key they would hold up the event loop.
_LARGE_DOCUMENT = 4 * 1024

#: A file is looked at this often at least, in seconds: looking costs nothing.
_FILE_SECONDS = 5.0

_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class Fetched:
    """What one fetch gave.

    Attributes:
        keys: the set; None when the last one is still right.
        lifetime: for how many seconds it is fresh.
        document: what the set was read from.
    """

    keys: KeySet | None
    lifetime: float
    document: bytes = b""


class Source(Protocol):
    """Where keys come from, and what was learnt there at the last fetch. One fetch at a time."""

    @property
    def url(self) -> str:
        """The address or path, for ``/status``; empty before discovery."""
        ...

    async def fetch(self, *, discover: bool) -> Fetched:
        """Fetch once.

        Args:
            discover: look for a changed ``jwks_uri`` first. Without it the last
                known one is used, if there is one.

        Raises:
            FetchError: with a stable code.
        """
        ...

    async def read(self, document: bytes) -> KeySet:
        """Read what an earlier fetch has given.

        Raises:
            FetchError: it is no key set.
        """
        ...

    async def close(self) -> None:
        """Give up connections."""
        ...


def make_source(issuer: Issuer, *, resolver: AbstractResolver | None = None, one_origin: bool = False) -> Source:
    """Return the source that an issuer's settings name.

    Args:
        issuer: the settings.
        resolver: looks up hosts, by default the system's.
        one_origin: believe no discovered ``jwks_uri`` but at the issuer's own scheme, host and port.
    """
    return FileSource(issuer) if issuer.jwks_file else RemoteSource(issuer, resolver=resolver, one_origin=one_origin)


class RemoteSource:
    """A key set behind HTTP, at ``jwks_url`` or found by OpenID Connect discovery."""

    def __init__(self, issuer: Issuer, *, resolver: AbstractResolver | None = None, one_origin: bool = False) -> None:
        self._one_origin = one_origin
        self._issuer = issuer_values(issuer)[0]
        self._allow_http = issuer.allow_http
        self._fixed = URL(issuer.jwks_url) if issuer.jwks_url else None
        self._default_lifetime = issuer.jwks_refresh_seconds
        self._client = JwksClient(
            timeout=issuer.jwks_timeout_seconds,
            ca_file=issuer.jwks_ca_file,
            token_file=issuer.jwks_token_file,
            resolver=resolver if self._may_be_private() else GuardedResolver(_host(self._issuer), resolver),
        )
        self._discovered: URL | None = None
        self._discovery_validators = Validators()
        self._keys_from: URL | None = None
        self._keys_validators = Validators()
        self._keys_lifetime = self._default_lifetime

    @property
    def url(self) -> str:
        known = self._fixed or self._keys_from or self._discovered
        return "" if known is None else str(known.with_query(None))

    async def fetch(self, *, discover: bool) -> Fetched:
        url = self._fixed or self._keys_from
        if self._fixed is None and (discover or url is None):
            url = await self._discover()
        assert url is not None
        validators = self._keys_validators if url == self._keys_from else Validators()
        answer = await self._client.get(url, validators, accept=_ACCEPT_KEYS, send_token=self._is_own(url))
        if answer.body is None:
            self._keys_lifetime = answer.lifetime or self._keys_lifetime
            return Fetched(None, self._keys_lifetime)
        keys = await self.read(answer.body)
        self._remember(url, answer)
        return Fetched(keys, self._keys_lifetime, answer.body)

    async def read(self, document: bytes) -> KeySet:
        return await _imported(document, import_jwks)

    async def close(self) -> None:
        await self._client.close()

    def _remember(self, url: URL, answer: KeysAnswer) -> None:
        """Keep what makes the next fetch conditional, only now that the keys are good."""
        self._keys_from = url
        self._keys_validators = answer.validators
        self._keys_lifetime = answer.lifetime or self._default_lifetime

    async def _discover(self) -> URL:
        try:
            answer = await self._client.get(
                discovery_url(self._issuer), self._discovery_validators, accept="application/json", send_token=True
            )
            if answer.body is not None:
                document = parse_object(answer.body.removeprefix(_BOM))
                found = jwks_uri_of(document, self._issuer, allow_http=self._allow_http)
                if self._one_origin and found.origin() != discovery_url(self._issuer).origin():
                    text = f"the keys are at {found.origin()}, not at the issuer's own address: set jwks_url"
                    raise DiscoveryError("jwks_uri_refused", text)
                self._discovered = found
                self._discovery_validators = answer.validators
        except DiscoveryError as error:
            raise FetchError(error.code, str(error)) from None
        except StrictJsonError as error:
            problem = printable(str(error), PREVIEW_CHARS)
            raise FetchError("bad_discovery", f"the discovery document is not a JSON object: {problem}") from None
        assert self._discovered is not None  # 304 comes only after a document was believed
        return self._discovered

    def _is_own(self, url: URL) -> bool:
        """Return whether the bearer token of the token file may go there: only where the operator pointed."""
        return self._fixed is not None or url.origin() == discovery_url(self._issuer).origin()

    def _may_be_private(self) -> bool:
        """Return whether the operator has said that the issuer is inside a private network."""
        return self._fixed is not None or self._allow_http or is_local(_host(self._issuer))


class FileSource:
    """A JWKS or PEM file. It is read at each look and compared by content, so no change is missed."""

    def __init__(self, issuer: Issuer) -> None:
        self._path = issuer.jwks_file
        self._lifetime = min(issuer.jwks_refresh_seconds, _FILE_SECONDS)
        self._digest = b""

    @property
    def url(self) -> str:
        return self._path

    async def fetch(self, *, discover: bool) -> Fetched:
        data = await asyncio.to_thread(_read_file, self._path)
        digest = hashlib.sha256(data).digest()
        if digest == self._digest:
            return Fetched(None, self._lifetime)
        keys = await self.read(data)
        self._digest = digest
        return Fetched(keys, self._lifetime, data)

    async def read(self, document: bytes) -> KeySet:
        return await _imported(document, import_keys)

    async def close(self) -> None:
        return


async def _imported(data: bytes, import_document: Callable[[bytes], KeySet]) -> KeySet:
    try:
        if len(data) > _LARGE_DOCUMENT:
            return await asyncio.to_thread(import_document, data)
        return import_document(data)
    except KeySetError as error:
        raise FetchError("bad_key_set", printable(str(error), PREVIEW_CHARS)) from None


def _read_file(path: str) -> bytes:
    """Read a regular file within the limit. A pipe or device at this path must not block indefinitely."""
    shown = printable(path, PREVIEW_CHARS)
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise FetchError("file", f"jwks_file {shown} is not a regular file")
            data = file.read(MAX_KEY_SET_BYTES + 1)
    except OSError as error:
        raise FetchError("file", f"jwks_file {shown} cannot be read: {error.strerror}") from None
    if len(data) > MAX_KEY_SET_BYTES:
        raise FetchError("too_large", f"jwks_file {shown} is larger than {MAX_KEY_SET_BYTES} bytes")
    return data


def _host(issuer: str) -> str:
    try:
        return discovery_url(issuer).host or ""
    except DiscoveryError:
        return ""
