"""How the gateway says who it is to an authorization server, as the client that the server knows.

Authenticates the gateway (RFC 6749 section 2.3.1, RFC 7523 section 2.2); the
files are read by ``settings/client_credentials.py``, and authlib writes the
fields. The danger is the secret in a log: faults are reported without it.
"""

from __future__ import annotations

import asyncio
import logging
import warnings
from typing import Literal, NamedTuple
from urllib.parse import quote_plus, urlencode

from authlib.oauth2.auth import ClientAuth
from authlib.oauth2.rfc7523 import private_key_jwt_sign
from authlib.oauth2.rfc7523.client import ASSERTION_TYPE
from joserfc.jwk import RSAKey

from gateway.clock import Clock
from gateway.outbound.http import FetchError
from gateway.settings.client_credentials import ClientKey, read_client_key, read_client_secret
from gateway.watched_file import WatchedFile

_log = logging.getLogger("gateway.introspection")

#: How often the file is looked at, in seconds.
CREDENTIAL_LOOK_SECONDS = 1.0

#: For how many seconds an assertion is good. It is used at once: what counts is the difference of the clocks.
_ASSERTION_SECONDS = 60


class OutboundRequest(NamedTuple):
    """A form request with the client's authentication in it.

    Attributes:
        headers: its fields.
        body: its content, ``application/x-www-form-urlencoded``.
    """

    headers: dict[str, str]
    body: str


class OAuthClient(NamedTuple):
    """What the gateway is to one issuer.

    Attributes:
        issuer: the issuer's configured name.
        method: how the gateway says who it is (OpenID Connect Core section 9).
        client_id: what the issuer calls it.
        url: where it says so.
        audience: the ``aud`` of its assertions.
        file: its secret, or for ``private_key_jwt`` its key.
    """

    issuer: str
    method: Literal["client_secret_basic", "client_secret_post", "private_key_jwt"]
    client_id: str
    url: str
    audience: str
    file: str


class ClientAuthentication:
    """The gateway as a client of one issuer.

    Args:
        client: what it is to that issuer.
        clock: the time.
    """

    def __init__(self, client: OAuthClient, clock: Clock) -> None:
        self._name = client.issuer
        self._method = client.method
        self._client_id = client.client_id
        self._url = client.url
        self._audience = client.audience
        self._file = client.file
        self._wall, self._monotonic = clock.wall, clock.monotonic
        self._credential: str | ClientKey | None = None
        self._watched = WatchedFile(self._file)
        self._looked_at = float("-inf")
        self._looking = asyncio.Lock()

    async def request(self, form: dict[str, str]) -> OutboundRequest:
        """Return a request that sends ``form`` and authenticates the gateway.

        Raises:
            FetchError: ``client_file``: there is no secret or key.
        """
        credential = await self.credential()
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        body = urlencode(form)
        if isinstance(credential, str):
            client_id, secret = self._client_id, credential
            if self._method == "client_secret_basic":
                # RFC 6749 section 2.3.1 encodes both as a form does before they are joined; authlib does not.
                client_id, secret = quote_plus(client_id), quote_plus(secret)
            _, headers, body = ClientAuth(client_id, secret, self._method).prepare("POST", self._url, headers, body)
            return OutboundRequest(headers, body)
        sign = asyncio.to_thread(self._assertion, credential) if isinstance(credential.key, RSAKey) else None
        assertion = self._assertion(credential) if sign is None else await sign
        # RFC 7521 section 4.2: the assertion's "sub" names the client; those that look for the parameter find it too.
        proof = {"client_id": self._client_id, "client_assertion_type": ASSERTION_TYPE, "client_assertion": assertion}
        return OutboundRequest(headers, urlencode({**form, **proof}))

    async def credential(self) -> str | ClientKey:
        """Return the secret or key as the file has it, looked at once a second at most.

        One that was good stays while the file is missing or wrong.

        Raises:
            FetchError: it never was.
        """
        now = self._monotonic()
        if self._credential is None or now - self._looked_at >= CREDENTIAL_LOOK_SECONDS:
            self._looked_at = now
            async with self._looking:  # callers wait here for the first read, because they cannot go on without it
                await asyncio.to_thread(self._look)
        if self._credential is None:
            raise FetchError("client_file", "the client secret or key cannot be read")
        return self._credential

    def _look(self) -> None:
        watched = self._watched
        if not watched.look():
            return
        try:
            reader = read_client_key if self._method == "private_key_jwt" else read_client_secret
            self._credential = reader(self._file)
        except ValueError as error:
            watched.forget()  # what the system does not let be read now may be read later, as the same version
            if not watched.fails_again():
                what = "key" if self._method == "private_key_jwt" else "secret"
                _log.warning("issuer %s: client %s file %s cannot be used: %s", self._name, what, self._file, error)
        else:
            watched.succeeds()

    def _assertion(self, client: ClientKey) -> str:
        """Return an assertion for one use (RFC 7523 section 3)."""
        if client.algorithm != "EdDSA":
            return self._signed(client)
        # RFC 9864 replaces this name, but a JWK may ask for it. Never in a thread: the filters are the process's.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return self._signed(client)

    def _signed(self, client: ClientKey) -> str:
        assertion: str = private_key_jwt_sign(
            client.key,
            self._client_id,
            self._audience,
            alg=client.algorithm,
            header={} if client.key_id is None else {"kid": client.key_id},
            issued_at=int(self._wall()),
            expires_in=_ASSERTION_SECONDS,
        )
        return assertion
