"""What follows from several options about tokens that are introspected: who is asked, and who needs no keys.

Only these rules live here, on settings that are sound; what contradicts them is
``checks.py``'s. The rule behind all: nothing in an opaque token
says whose it is, so it goes to the one server that its route leaves, and to
none when there are several (a token must not reach a server that it was not
meant for).
"""

from __future__ import annotations

from collections.abc import Iterable

from gateway.features.introspection.options import IssuerOptions
from gateway.settings.tables.issuers import Issuer
from gateway.settings.tables.routes import Route


def takes_opaque(route: Route) -> bool:
    """Tell whether a route's callers may show tokens that are introspected."""
    return route.auth != "public" and "opaque" in route.credentials


def accepted_issuers(route: Route, issuers: Iterable[Issuer]) -> list[Issuer]:
    """Return the issuers whose tokens a route accepts."""
    return [issuer for issuer in issuers if not route.issuers or issuer.name in route.issuers]


def asked_about_opaque(route: Route, issuers: Iterable[Issuer]) -> list[Issuer]:
    """Return who could be asked about a token on a route that is no JWT; more than one is a fault."""
    return [issuer for issuer in _asked(route, issuers) if IssuerOptions.of(issuer).introspect != "jwt"]


def asked_about_jwts(route: Route, issuers: Iterable[Issuer]) -> list[Issuer]:
    """Return who is asked about the JWTs that name it on a route."""
    return [issuer for issuer in _asked(route, issuers) if IssuerOptions.of(issuer).introspect != "opaque"]


def replaces_keys(issuer: Issuer, routes: Iterable[Route]) -> bool:
    """Tell whether every token of an issuer is introspected, on all routes that accept it."""
    return bool(IssuerOptions.of(issuer).introspection_url) and not any(_verifies(route, issuer) for route in routes)


def _verifies(route: Route, issuer: Issuer) -> bool:
    if route.auth == "public" or "jwt" not in route.credentials or not accepted_issuers(route, [issuer]):
        return False
    return not asked_about_jwts(route, [issuer])


def _asked(route: Route, issuers: Iterable[Issuer]) -> list[Issuer]:
    if not takes_opaque(route):
        return []
    return [issuer for issuer in accepted_issuers(route, issuers) if IssuerOptions.of(issuer).introspection_url]
