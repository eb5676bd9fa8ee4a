"""The one credential of a request, among the kinds that its route takes, and who shows it.

Only the choice between the kinds lives here: where each may stand is
``server/authentication/credential_places.py``'s, and what it is worth the authenticator's and the keys'.
The danger of this file is a credential that is shown to another server although
it could be judged here: so one is asked only about what no local
kind knows.
"""

from __future__ import annotations

from collections.abc import Sequence

from gateway.clock import Clock
from gateway.errors import GatewayError, Reason, Reasons
from gateway.features.api_keys.keys import ApiKeys, KnownKey
from gateway.features.introspection.choice import OpaqueTokens
from gateway.features.introspection.introspector import Introspector
from gateway.features.introspection.verdict_in_use import HeldVerdict
from gateway.http1.websocket import offered_token
from gateway.identity import Identity
from gateway.jwt.authenticator import Authenticator
from gateway.jwt.cache import CachedToken
from gateway.policy.routes import Route
from gateway.server.authentication.credential_places import PresentedKey, bearer_token, presented_key
from gateway.server.request.facts import Facts
from gateway.settings.tables.routes import BEARER
from gateway.telemetry.counters import Record

#: What a verdict rests on: a token's that was verified or introspected, or a key's.
Held = CachedToken | HeldVerdict | KnownKey


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
        if keys or BEARER.isdisjoint(route.credentials):
            return presented_key(keys, authorization, query)
    return bearer_token(authorization, query)


class Callers:
    """Who shows a credential, whatever its kind.

    Args:
        authenticator: knows tokens that are verified by keys.
        opaque: knows who is asked about the others.
        api_keys: knows API keys.
        clock: how long a verification takes.

    Attributes:
        revocations: what is revoked.
    """

    def __init__(self, authenticator: Authenticator, opaque: OpaqueTokens, api_keys: ApiKeys, clock: Clock) -> None:
        self.revocations = authenticator.revocations
        self._authenticator = authenticator
        self._opaque = opaque
        self._api_keys = api_keys
        self._monotonic = clock.monotonic

    def known(self, shown: bytes, route: Route, record: Record) -> Identity | None:
        """Return who shows a credential on a route; None when its issuer has to be waited for: call ``settle``.

        Raises:
            GatewayError: 401 or 503.
        """
        if isinstance(shown, PresentedKey):
            return self._api_keys.identify(shown)
        asker = self._asker(shown, route)
        identity = self._authenticator.cached(shown) if asker is None else asker.known(shown)
        record.cache_hit = identity is not None
        if asker is not None:
            return identity
        if identity is None:
            began = self._monotonic()
            try:
                identity = self._authenticator.verify_now(shown)
            finally:
                record.verify_seconds = self._monotonic() - began
        return identity

    async def settle(self, token: bytes, route: Route) -> Identity:
        """Return who shows a token that ``known`` does not know, waiting for its issuer's keys or word.

        Raises:
            GatewayError: 401 or 503.
        """
        asker = self._asker(token, route)
        return await (self._authenticator.authenticate(token) if asker is None else asker.identify(token))

    def hold(self, shown: bytes, route: Route) -> Held:
        """Return what the verdict on a credential, which was good, rests on; see ``still_good``.

        Raises:
            GatewayError: it is no longer good.
        """
        if isinstance(shown, PresentedKey):
            return self._api_keys.hold(shown)
        asker = self._asker(shown, route)
        return self._authenticator.hold(shown) if asker is None else asker.hold(shown)

    def _asker(self, token: bytes, route: Route) -> Introspector | None:
        """Return who is asked about a bearer token; None when it is to be verified by keys.

        Raises:
            GatewayError: ``CREDENTIAL_NOT_ACCEPTED``: neither; also for an API key, whatever the route takes: it counts
                in its own field only, and its issuer is this gateway.
        """
        asker = self._opaque.asker(route, token)
        if asker is not None and self._api_keys.owns(token):
            raise GatewayError(Reasons.CREDENTIAL_NOT_ACCEPTED, detail="an API key, sent as a bearer token")
        return asker

    def still_good(self, held: Held) -> Reason | None:
        """Return why a credential that was good is so no longer; None while it is."""
        if isinstance(held, CachedToken):
            return self._authenticator.still_good(held)
        reason = held.still_good() if isinstance(held, HeldVerdict) else self._api_keys.still_good(held)
        return Reasons.REVOKED if reason is None and self.revocations.covers(held.identity) else reason


def _authorization(route: Route, facts: Facts, *, websocket: bool) -> Sequence[bytes]:
    """Return every token of the request, as values of Authorization.

    Raises:
        GatewayError: the one among the subprotocols is malformed.
    """
    if websocket and route.websocket_protocol_token:
        token = offered_token(facts.protocols)
        return facts.authorization if token is None else [*facts.authorization, b"Bearer " + token]
    return facts.authorization
