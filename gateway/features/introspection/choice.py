"""Which bearer tokens are introspected, and by which issuer: the choice between introspection and signature checks.

Makes that choice by route; the requests are ``features/introspection/introspector.py``'s. There are two dangers. A
token could reach a server which it was not meant for: so a JWT goes to the issuer that it names or to none, and a token
that names no issuer goes to the one server that its route leaves. A JWT could pass by its signature although its issuer
is configured for introspection.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import NamedTuple

from aiohttp.abc import AbstractResolver

from gateway.clock import Clock
from gateway.errors import GatewayError
from gateway.features.introspection.introspector import Introspector
from gateway.features.introspection.options import IssuerOptions, asked_about_jwts, asked_about_opaque, takes_opaque
from gateway.features.introspection.shared_answers import SharedAnswers
from gateway.jwt.claims.issuer_policy import IssuerPolicy, compile_policy
from gateway.jwt.jose.compact import parse_token
from gateway.jwt.jose.shape import is_jws
from gateway.policy.routes import Route
from gateway.settings.tables.issuers import Issuer, issuer_values
from gateway.settings.tables.root import Settings
from gateway.store.redis_link import RedisLink


class _Asked(NamedTuple):
    """The issuers that introspect the tokens of one route.

    Attributes:
        opaque: for a token that is no JWT; None when no issuer does.
        jwts: for JWTs, by their ``iss``.
    """

    opaque: Introspector | None
    jwts: Mapping[str, Introspector]


def build_introspectors(
    settings: Settings, clock: Clock, redis: RedisLink | None = None, resolver: AbstractResolver | None = None
) -> dict[str, Introspector]:
    """Return what introspects the tokens of each issuer, by the issuer's name.

    Args:
        settings: the whole configuration.
        clock: the time.
        redis: where answers are shared; None to share none.
        resolver: looks up the hosts of issuers, by default the system's.
    """
    return {
        issuer.name: Introspector(
            issuer,
            introspection_policy(issuer, settings),
            settings.tokens.max_bytes,
            clock,
            None if redis is None else SharedAnswers(redis, settings.redis, issuer),
            resolver,
        )
        for issuer in settings.issuers
        if IssuerOptions.of(issuer).introspection_url
    }


def introspection_policy(issuer: Issuer, settings: Settings) -> IssuerPolicy:
    """Return the policy of a configured issuer for what it says of tokens that are introspected."""
    required = IssuerOptions.of(issuer).introspection_require_audience
    return replace(compile_policy(issuer, settings), audience_required=required)


class OpaqueTokens:
    """The choice, under one configuration.

    Args:
        settings: the whole configuration.
        introspectors: ``build_introspectors``.
        routes: all routes.
    """

    def __init__(self, settings: Settings, introspectors: Mapping[str, Introspector], routes: Iterable[Route]) -> None:
        self._max_bytes = settings.tokens.max_bytes
        self._asked: dict[Route, _Asked] = {}
        for route in routes:
            if takes_opaque(route.settings):
                opaque = asked_about_opaque(route.settings, settings.issuers)
                jwts = {
                    value: introspectors[issuer.name]
                    for issuer in asked_about_jwts(route.settings, settings.issuers)
                    for value in issuer_values(issuer)
                }
                self._asked[route] = _Asked(introspectors[opaque[0].name] if opaque else None, jwts)

    def asks_about_jwts(self, route: Route) -> bool:
        """Return whether some JWTs are introspected on a route, instead of being verified by keys."""
        asked = self._asked.get(route)
        return asked is not None and bool(asked.jwts)

    def asker(self, route: Route, token: bytes) -> Introspector | None:
        """Return what introspects a token on a route; None when no issuer does."""
        asked = self._asked.get(route)
        if asked is None:
            return None
        if not is_jws(token):
            return asked.opaque
        return asked.jwts.get(self._issuer_of(token)) if asked.jwts else None

    def sheds(self, route: Route) -> Callable[[bytes], bool] | None:
        """Return a function that says, of a token that is no JWT, whether a route has no capacity to introspect it."""
        asked = self._asked.get(route)
        return None if asked is None or asked.opaque is None else asked.opaque.turns_away

    def _issuer_of(self, token: bytes) -> str:
        """Return the issuer that a JWT names, or an empty text. It is not trusted: it only selects the server."""
        try:
            return parse_token(token, self._max_bytes).issuer or ""
        except GatewayError:
            return ""
