"""What a valid configuration says that is seldom meant.

Nothing here stops the gateway. Each warning is one sentence for the operator,
with the key that it is about.
"""

from __future__ import annotations

from collections.abc import Iterator

from gateway.settings import templates
from gateway.settings.checks.exposures import exposure_warnings
from gateway.settings.checks.fall_through import fall_through_warnings
from gateway.settings.faults import KeyPath
from gateway.settings.feature_faults import Hook
from gateway.settings.problems import Problem
from gateway.settings.readable import read_problem
from gateway.settings.tables.issuers import Issuer, issuer_values
from gateway.settings.tables.root import Settings, needs_keys
from gateway.settings.tables.routes import RouteSettings, takes_tokens
from gateway.settings.values import http_url, is_loopback


def find_warnings(settings: Settings) -> list[Problem]:
    """Return the doubtful options of a valid configuration, each with a sentence."""
    return [
        *_limits(settings),
        *_issuers(settings),
        *(found for index, route in enumerate(settings.routes) for found in _route(route, ("routes", index))),
        *_unused(settings),
        *_of_features(settings),
        *exposure_warnings(settings),
        *fall_through_warnings(settings),
        *_identity(settings),
    ]


def _limits(settings: Settings) -> Iterator[Problem]:
    if settings.tokens.max_bytes >= settings.server.max_head_bytes:
        yield ("tokens", "max_bytes"), "has no effect: longer heads than `server.max_head_bytes` are refused before"


def _issuers(settings: Settings) -> Iterator[Problem]:
    for index, issuer in enumerate(settings.issuers):
        place: KeyPath = ("issuers", index)
        if "account" in issuer.audience:
            yield (
                (*place, "audience"),
                "`account` is in the tokens of every client of a Keycloak realm: any of them gets in;"
                " give this API an audience of its own",
            )
        if needs_keys(issuer, settings):
            yield from _keys(issuer, place, elsewhere=_called_by_feature(issuer, settings))


def _called_by_feature(issuer: Issuer, settings: Settings) -> bool:
    for feature in settings.features:
        with Hook(feature.name, "calls_issuer"):
            if feature.calls_issuer(issuer):
                return True
    return False


def _keys(issuer: Issuer, place: KeyPath, *, elsewhere: bool) -> Iterator[Problem]:
    """Look at the options about keys.

    Args:
        elsewhere: `allow_http` is also about other requests to the issuer than those for keys.
    """
    if "exp" not in issuer.required_claims:
        yield (*place, "required_claims"), "without `exp` in `required_claims`, tokens without `exp` never expire"
    if issuer.jwks_file:
        if problem := read_problem(issuer.jwks_file):
            yield (*place, "jwks_file"), f"{problem}; until it can, tokens of this issuer get 503"
        for name in ("jwks_ca_file", "jwks_token_file", "allow_http"):
            if getattr(issuer, name) and not (name == "allow_http" and elsewhere):
                yield (*place, name), "has no effect with `jwks_file`"
        return
    if issuer.jwks_token_file and (problem := read_problem(issuer.jwks_token_file)):
        yield (*place, "jwks_token_file"), f"{problem}; until it can, no keys are fetched"
    parts = http_url(templates.fill(issuer.jwks_url or issuer_values(issuer)[0], "tenant"))
    if parts.scheme == "http" and not is_loopback(parts.hostname or ""):
        yield (*place, "allow_http"), "keys are fetched over http://: an attacker on the network can replace them"


def _route(route: RouteSettings, place: KeyPath) -> Iterator[Problem]:
    if route.auth == "public" and route.path == "/" and route.match == "prefix":
        yield (*place, "auth"), "is public: requests that match no other route need no token"
    if route.auth == "optional" and (route.scopes or route.any_scopes or route.claims):
        yield (*place, "auth"), "a request without a token passes without the scopes and claims of this route"
    if route.auth == "public" and route.forward_authorization:
        yield (*place, "forward_authorization"), "the upstream gets credentials that were not verified"
    if takes_tokens(route) and route.cors_headers and "authorization" not in route.cors_headers:
        yield (*place, "cors_headers"), "without `authorization` pages cannot send a token"
    if route.observe:
        yield (*place, "observe"), "requests with a bad token or none pass; only for a roll-out"


def _unused(settings: Settings) -> Iterator[Problem]:
    used = {route.upstream for route in settings.routes}
    for index, upstream in enumerate(settings.upstreams):
        if upstream.name not in used:
            yield ("upstreams", index, "name"), "no route leads to this upstream"
    looking = [route for route in settings.routes if takes_tokens(route)]
    if all(route.issuers for route in looking):
        accepted = {name for route in looking for name in route.issuers}
        for index, issuer in enumerate(settings.issuers):
            if issuer.name not in accepted:
                yield ("issuers", index, "name"), "no route accepts tokens of this issuer"


def _identity(settings: Settings) -> Iterator[Problem]:
    if not settings.identity and any(route.auth != "public" for route in settings.routes):
        yield ("identity",), "is empty: no identity header is set"


def _of_features(settings: Settings) -> Iterator[Problem]:
    for feature in settings.features:
        with Hook(feature.name, "warnings"):
            found = list(feature.warnings(settings))
        yield from found
