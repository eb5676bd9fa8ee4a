"""One introspection request to an authorization server about one token (RFC 7662 section 2).

Makes the request, and decides what counts as an answer. The connection and its
limits are ``outbound/http.py``'s; what the answer says of the token is
``answer.py``'s. The danger is the token: it goes into the content of this one
request, and into no address, log or error.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import aiohttp
from aiohttp import hdrs
from aiohttp.abc import AbstractResolver
from yarl import URL

from gateway.clock import Clock
from gateway.errors import PREVIEW_CHARS, printable
from gateway.features.introspection.options import IssuerOptions
from gateway.jwt.jose.strict_json import StrictJsonError, parse_object
from gateway.outbound.client_authentication import ClientAuthentication, OAuthClient
from gateway.outbound.http import FetchError, ProviderSession, read_body, shown_url, translated
from gateway.settings.tables.issuers import Issuer, issuer_values

#: The largest answer, in bytes: what it says of a caller has to fit into a header section.
MAX_ANSWER = 64 * 1024


def client_of(issuer: Issuer) -> OAuthClient:
    """Return the gateway's client registration at an issuer that has an ``introspection_url``."""
    options = IssuerOptions.of(issuer)
    by_key = options.introspection_auth == "private_key_jwt"
    return OAuthClient(
        issuer=issuer.name,
        method=options.introspection_auth,
        client_id=options.introspection_client_id,
        url=options.introspection_url,
        audience=options.introspection_assertion_audience or issuer_values(issuer)[0],
        file=options.introspection_private_key_file if by_key else options.introspection_client_secret_file,
    )


class IntrospectionClient:
    """The gateway's introspection requests to one issuer.

    Args:
        issuer: its settings, with an ``introspection_url``.
        clock: the time.
        resolver: looks up the host; None for the system's.

    Attributes:
        authentication: how the gateway authenticates as a client.
    """

    def __init__(self, issuer: Issuer, clock: Clock, resolver: AbstractResolver | None = None) -> None:
        options = IssuerOptions.of(issuer)
        self.authentication = ClientAuthentication(client_of(issuer), clock)
        self._url = URL(options.introspection_url)
        self._provider = ProviderSession(
            timeout=options.introspection_timeout_seconds,
            connections=options.introspection_max_concurrent,
            ca_file=options.introspection_ca_file,
            ca_option="introspection_ca_file",
            resolver=resolver,
        )

    async def ask(self, token: bytes) -> dict[str, Any]:
        """Return what the issuer's server says of a token.

        Raises:
            FetchError: there was no valid answer. The text holds nothing of the token.
        """
        form = {"token": token.decode("latin-1"), "token_type_hint": "access_token"}
        try:
            with translated(self._url):
                try:
                    kinds, body = await self._exchange(form)
                except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as error:
                    if isinstance(error, aiohttp.ClientConnectorError):
                        raise
                    # A kept connection that the server closed at this moment. The request may be sent again, but with
                    # new credentials: an assertion is for one use.
                    kinds, body = await self._exchange(form)
            if len(kinds) != 1 or kinds[0].partition(";")[0].strip().lower() != "application/json":
                raise FetchError(
                    "content_type", f"{shown_url(self._url)} sent a Content-Type other than application/json"
                )
            return parse_object(body)
        except StrictJsonError as error:
            problem = printable(str(error), PREVIEW_CHARS)
            raise FetchError(
                "bad_answer", f"the answer of {shown_url(self._url)} is not a JSON object: {problem}"
            ) from None

    async def _exchange(self, form: dict[str, str]) -> tuple[Sequence[str], bytes]:
        """Return the content types and the content of one answer."""
        request = await self.authentication.request(form)
        headers = {**request.headers, hdrs.ACCEPT: "application/json", hdrs.ACCEPT_ENCODING: "identity"}
        session = await self._provider.open()
        async with session.post(
            self._url, data=request.body.encode("ascii"), headers=headers, allow_redirects=False
        ) as response:
            body = await read_body(response, MAX_ANSWER)
            return response.headers.getall(hdrs.CONTENT_TYPE, []), body

    async def close(self) -> None:
        """Close the connections."""
        await self._provider.close()
