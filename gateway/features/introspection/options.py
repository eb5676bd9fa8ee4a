"""The options of token introspection (RFC 7662).

Declares them. Checks that need a second option are ``checks.py``'s.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from gateway.settings import values
from gateway.settings.tables.base import FeatureOptions
from gateway.settings.tables.issuers import Issuer
from gateway.settings.tables.routes import RouteSettings


class IssuerOptions(FeatureOptions):
    """What introspection adds to ``[[issuers]]``."""

    introspection_url: Annotated[str, AfterValidator(values.optional_http_url)] = ""
    """Introspection endpoint for opaque tokens (RFC 7662), used on routes with `opaque` in `credentials`. Keys are
    fetched only if some route verifies JWTs of this issuer with them."""
    introspect: Literal["opaque", "jwt", "all"] = "opaque"
    """Which tokens are introspected on routes with `opaque`: those that are not JWTs, JWTs of this issuer (which then
    end when the issuer says so), or both."""
    introspection_auth: Literal["client_secret_basic", "client_secret_post", "private_key_jwt"] = "client_secret_basic"
    """How the gateway authenticates as a client (OpenID Connect Core section 9)."""
    introspection_client_id: str = ""
    """Client id of the gateway at the issuer."""
    introspection_client_secret_file: str = ""
    """File with the client's secret for `client_secret_basic` and `client_secret_post`; read again when it changes."""
    introspection_private_key_file: str = ""
    """File with the client's private key for `private_key_jwt`: PEM or a JWK, RSA, EC or Ed25519; read again when it
    changes. The algorithm is the JWK's `alg`, or follows from the key."""
    introspection_assertion_audience: str = ""
    """The `aud` of the gateway's assertions, for `private_key_jwt`. Empty: the first issuer value."""
    introspection_ca_file: str = ""
    """PEM bundle for the endpoint's TLS certificate, instead of the system's authorities."""
    introspection_timeout_seconds: Annotated[float, Field(gt=0, le=60)] = 2
    """Timeout of one introspection request, waiting for a slot included; then 503."""
    introspection_max_concurrent: Annotated[int, Field(ge=1, le=1000)] = 64
    """Concurrent introspection requests, per worker (slots)."""
    introspection_max_waiting: Annotated[int, Field(ge=0, le=10000)] = 256
    """Introspection requests that may wait for a slot, per worker; above: 503 at once. A quarter of all slots is
    reserved for tokens that were good before."""
    introspection_max_inactive_per_second: Annotated[float, Field(ge=0, le=1000000)] = 25
    """Introspection requests about unknown tokens per second and worker that may end without a good token; above: 503
    at once for tokens that were not good before, so that a flood of made-up ones costs little. 0 = no limit."""
    introspection_cache_seconds: Annotated[float, Field(ge=0, le=3600)] = 30
    """How long a good token is accepted without another introspection request, at most until its `exp`: it can be used
    for so long after the issuer has revoked it. The tokens of long responses and WebSockets are introspected again at
    this interval."""
    introspection_inactive_cache_seconds: Annotated[float, Field(ge=0, le=300)] = 5
    """How long a bad token is refused without another introspection request."""
    introspection_cache_size: Annotated[int, Field(ge=1, le=10_000_000)] = 10000
    """Good tokens in the cache, per worker, and as many bad ones."""
    introspection_require_audience: bool = True
    """Refuse tokens whose introspection answer has no audience. Off: only for an issuer all of whose tokens are meant
    for this gateway; an audience in an answer must fit all the same."""


# What follows from several of these options. The rule behind all: nothing in an opaque token names its issuer. So it
# goes to the one server that its route leaves, and to none when there are several: it must not reach another one.


def takes_opaque(route: RouteSettings) -> bool:
    """Return whether a route accepts tokens that are introspected."""
    return route.auth != "public" and "opaque" in route.credentials


def accepted_issuers(route: RouteSettings, issuers: Iterable[Issuer]) -> list[Issuer]:
    """Return the issuers whose tokens a route accepts."""
    return [issuer for issuer in issuers if not route.issuers or issuer.name in route.issuers]


def asked_about_opaque(route: RouteSettings, issuers: Iterable[Issuer]) -> list[Issuer]:
    """Return the issuers that could introspect a token that is no JWT on a route; more than one is a fault."""
    return [issuer for issuer in _asked(route, issuers) if IssuerOptions.of(issuer).introspect != "jwt"]


def asked_about_jwts(route: RouteSettings, issuers: Iterable[Issuer]) -> list[Issuer]:
    """Return the issuers that introspect the JWTs that name them on a route."""
    return [issuer for issuer in _asked(route, issuers) if IssuerOptions.of(issuer).introspect != "opaque"]


def replaces_keys(issuer: Issuer, routes: Iterable[RouteSettings]) -> bool:
    """Return whether every token of an issuer is introspected, on all routes that accept it."""
    return bool(IssuerOptions.of(issuer).introspection_url) and not any(_verifies(route, issuer) for route in routes)


def _verifies(route: RouteSettings, issuer: Issuer) -> bool:
    if route.auth == "public" or "jwt" not in route.credentials or not accepted_issuers(route, [issuer]):
        return False
    return not asked_about_jwts(route, [issuer])


def _asked(route: RouteSettings, issuers: Iterable[Issuer]) -> list[Issuer]:
    if not takes_opaque(route):
        return []
    return [issuer for issuer in accepted_issuers(route, issuers) if IssuerOptions.of(issuer).introspection_url]
