"""The one credential of a request, among the kinds that its route takes, and who shows it.

Only the choice between the kinds lives here: where each may stand is
``tokens/extract.py``'s, and what it is worth the authenticator's and the keys'.
"""

from __future__ import annotations

from collections.abc import Sequence

from gateway.clock import Clock
from gateway.errors import Reason
from gateway.identity import Identity
from gateway.policy.routes import Route
from gateway.proxy.websocket import offered_token
from gateway.server.facts import Facts
from gateway.telemetry import Record
from gateway.tokens.api_keys import ApiKeys, KnownKey
from gateway.tokens.authenticate import Authenticator
from gateway.tokens.cache import CachedToken
from gateway.tokens.extract import PresentedKey, bearer_token, presented_key

#: What a verdict rests on: a token's, or a key's.
Held = CachedToken | KnownKey


def credential(route: Route, facts: Facts, query: bytes, *, websocket: bool) -> bytes:
    """Return the one credential that a request shows: a bearer token, or a ``PresentedKey``.

    A field that holds a key on another route only is an ordinary one.

    Args:
        route: whose kinds of credentials count.
        facts: of the request.
        query: the raw query, without its "?".
        websocket: the request asks for a WebSocket, and the route offers that.

    Raises:
        GatewayError: 400 or 401.
    """
    authorization = _authorization(route, facts, websocket=websocket)
    if route.api_key_header:
        keys = [value for name, value in facts.keys if name == route.api_key_header]
        if keys or "jwt" not in route.credentials:
            return presented_key(keys, authorization, query)
    return bearer_token(authorization, query)


class Callers:
    """Who shows a credential, whatever its kind.

    Args:
        authenticator: knows tokens.
        api_keys: knows keys.
        clock: how long a verification takes.

    Attributes:
        revocations: what is revoked.
    """

    def __init__(self, authenticator: Authenticator, api_keys: ApiKeys, clock: Clock) -> None:
        self.revocations = authenticator.revocations
        self._authenticator = authenticator
        self._api_keys = api_keys
        self._monotonic = clock.monotonic

    def known(self, shown: bytes, record: Record) -> Identity | None:
        """Return who shows a credential; None when an issuer's keys have to be waited for.

        Raises:
            GatewayError: 401 or 503.
        """
        if isinstance(shown, PresentedKey):
            return self._api_keys.identify(shown)
        identity = self._authenticator.cached(shown)
        record.cache_hit = identity is not None
        if identity is None:
            began = self._monotonic()
            try:
                identity = self._authenticator.verify_now(shown)
            finally:
                record.verify_seconds = self._monotonic() - began
        return identity

    def hold(self, shown: bytes) -> Held:
        """Return what the verdict on a credential, which was good, rests on; see ``still_good``.

        Raises:
            GatewayError: it is no longer good.
        """
        return self._api_keys.hold(shown) if isinstance(shown, PresentedKey) else self._authenticator.hold(shown)

    def still_good(self, held: Held) -> Reason | None:
        """Return why a credential that was good is so no longer; None while it is."""
        if isinstance(held, KnownKey):
            reason = self._api_keys.still_good(held)
            return Reason.REVOKED if reason is None and self.revocations.covers(held.identity) else reason
        return self._authenticator.still_good(held)


def _authorization(route: Route, facts: Facts, *, websocket: bool) -> Sequence[bytes]:
    """Return every token of the request, as values of Authorization.

    Raises:
        GatewayError: the one among the subprotocols is malformed.
    """
    if websocket and route.websocket_protocol_token:
        token = offered_token(facts.protocols)
        return facts.authorization if token is None else [*facts.authorization, b"Bearer " + token]
    return facts.authorization
