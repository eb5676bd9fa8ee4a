"""A small identity provider for the demo and for tests: it gives a token to every client.

Holds the whole provider: signing keys, discovery (OpenID Connect Discovery
section 3), the JWKS (RFC 7517 section 5), the client-credentials token endpoint
(RFC 6749 section 4.4) and rotation. It does not authenticate clients, so it
listens on loopback only and must never stand in for a real one.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import uuid
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote_plus

from aiohttp import hdrs, web
from joserfc import jwt
from joserfc.jwk import RSAKey

from gateway.clock import Clock, SystemClock
from gateway.demo.loopback import LoopbackServer

#: Where ``gateway demo`` puts it and ``gateway token`` looks for it.
PROVIDER_PORT = 9401

#: The audience of the tokens, unless the request names another ``aud`` in its ``claims``.
AUDIENCE = "demo-api"

#: The name of a client that gives none.
DEMO_CLIENT = "demo-client"

ALGORITHM = "RS256"

#: ``expires_in`` when the request does not say, and its bounds, in seconds.
#: Below zero makes a token that expired already.
LIFETIME, MAX_TOKEN_LIFETIME = 600, 86400

#: How long the published keys may be cached, in seconds.
JWKS_SECONDS = 60


class TokenRequestError(ValueError):
    """A token request that is refused: ``code`` is RFC 6749 section 5.2's ``error``."""

    def __init__(self, code: str, description: str) -> None:
        super().__init__(description)
        self.code = code


class IdentityProvider(LoopbackServer):
    """An issuer on a loopback port of its own; ``async with`` starts and stops it.

    Args:
        port: where to listen; 0 lets the system pick.
        clock: for ``iat`` and ``exp``.

    Attributes:
        issuer: its ``iss`` and base URL, once it listens.
    """

    def __init__(self, port: int = 0, clock: Clock | None = None) -> None:
        super().__init__(port)
        self._clock = clock or SystemClock()
        self._keys: list[RSAKey] = []  # the signing key first, then the one before it
        self.issuer = ""

    async def start(self) -> None:
        """Make the first signing key and listen.

        Raises:
            OSError: the port is taken.
        """
        await self.rotate()
        self.issuer = await self._listen()

    def _make_runner(self) -> web.BaseRunner:
        app = web.Application()
        app.router.add_get("/.well-known/openid-configuration", self._discovery)
        app.router.add_get("/jwks", self._jwks)
        app.router.add_post("/token", self._token)
        app.router.add_post("/rotate", self._rotate)
        return web.AppRunner(app, access_log=None)

    @property
    def key_ids(self) -> tuple[str, ...]:
        """The published keys' ``kid``, the signing key's first."""
        return tuple(key.thumbprint() for key in self._keys)

    async def rotate(self) -> str:
        """Sign with a new key from now on, and return its ``kid``.

        The key before it stays published until the next rotation, so that the
        tokens that it signed can still be verified.
        """
        key = await asyncio.to_thread(RSAKey.generate_key, 2048)
        self._keys = [key, *self._keys[:1]]
        return key.thumbprint()

    def mint(
        self,
        *,
        client: str = DEMO_CLIENT,
        scope: str = "",
        claims: Mapping[str, Any] | None = None,
        expires_in: int = LIFETIME,
    ) -> str:
        """Return a signed access token in the form of RFC 9068.

        Args:
            client: ``client_id``, and ``sub`` unless ``claims`` says otherwise.
            scope: the scopes, space-separated; empty leaves the claim out.
            claims: added to the token's own claims; they replace those of the same name.
            expires_in: seconds from ``iat`` to ``exp``.
        """
        now = int(self._clock.wall())
        payload: dict[str, Any] = {
            "iss": self.issuer,
            "aud": AUDIENCE,
            "sub": client,
            "client_id": client,
            "iat": now,
            "exp": now + expires_in,
            "jti": uuid.uuid4().hex,
        }
        if scope:
            payload["scope"] = scope
        key = self._keys[0]
        header = {"alg": ALGORITHM, "typ": "at+jwt", "kid": key.thumbprint()}
        return jwt.encode(header, payload | dict(claims or {}), key)

    async def _discovery(self, _: web.Request) -> web.Response:
        return web.json_response(
            {
                "issuer": self.issuer,
                "jwks_uri": f"{self.issuer}/jwks",
                "token_endpoint": f"{self.issuer}/token",
                "grant_types_supported": ["client_credentials"],
                "response_types_supported": [],
                "subject_types_supported": ["public"],
                "id_token_signing_alg_values_supported": [ALGORITHM],
                "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post", "none"],
            }
        )

    async def _jwks(self, _: web.Request) -> web.Response:
        keys = [
            {**key.as_dict(private=False), "kid": key.thumbprint(), "use": "sig", "alg": ALGORITHM}
            for key in self._keys
        ]
        return web.json_response(
            {"keys": keys},
            content_type="application/jwk-set+json",
            headers={hdrs.CACHE_CONTROL: f"public, max-age={JWKS_SECONDS}"},
        )

    async def _token(self, request: web.Request) -> web.Response:
        no_store = {hdrs.CACHE_CONTROL: "no-store"}
        try:
            form = {name: value for name, value in (await request.post()).items() if isinstance(value, str)}
            client, scope = _client(request, form), form.get("scope", "")
            claims, expires_in = _claims(form), _expires_in(form)
        except TokenRequestError as error:
            refusal = {"error": error.code, "error_description": str(error)}
            return web.json_response(refusal, status=400, headers=no_store)
        token = self.mint(client=client, scope=scope, claims=claims, expires_in=expires_in)
        answer: dict[str, str | int] = {"access_token": token, "token_type": "Bearer", "expires_in": expires_in}
        if scope:
            answer["scope"] = scope
        return web.json_response(answer, headers=no_store)

    async def _rotate(self, _: web.Request) -> web.Response:
        await self.rotate()
        return web.json_response({"signing_key": self.key_ids[0], "published_keys": self.key_ids})


def _client(request: web.Request, form: Mapping[str, str]) -> str:
    """Return the client's name (RFC 6749 section 2.3.1); any is fine, and any secret."""
    if form.get("grant_type") != "client_credentials":
        raise TokenRequestError("unsupported_grant_type", "grant_type must be client_credentials")
    scheme, _, credentials = request.headers.get(hdrs.AUTHORIZATION, "").partition(" ")
    if scheme.lower() != "basic":
        return form.get("client_id") or DEMO_CLIENT
    try:
        name = base64.b64decode(credentials, validate=True).decode().partition(":")[0]
    except (binascii.Error, UnicodeDecodeError):
        raise TokenRequestError("invalid_request", "the Basic credentials are not base64 of UTF-8") from None
    return unquote_plus(name) or DEMO_CLIENT


def _claims(form: Mapping[str, str]) -> dict[str, Any]:
    """Return the demo's own parameter ``claims``: a JSON object."""
    try:
        claims = json.loads(form.get("claims", "{}"))
        json.dumps(claims, ensure_ascii=False).encode()  # a lone surrogate has no UTF-8
    except (ValueError, RecursionError):
        claims = None
    if not isinstance(claims, dict):
        raise TokenRequestError("invalid_request", "claims must be a JSON object")
    return claims


def _expires_in(form: Mapping[str, str]) -> int:
    """Return the demo's own parameter ``expires_in``, in seconds."""
    try:
        seconds = int(form.get("expires_in", LIFETIME))
    except ValueError:
        seconds = MAX_TOKEN_LIFETIME + 1
    if abs(seconds) > MAX_TOKEN_LIFETIME:
        raise TokenRequestError("invalid_request", f"expires_in must be whole seconds, at most {MAX_TOKEN_LIFETIME}")
    return seconds
