"""What a valid configuration says that is seldom meant.

Nothing here stops the gateway. Each warning is one sentence for the operator,
with the key that it is about.
"""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit

from gateway.features.api_keys.checks import takes_keys, takes_tokens
from gateway.features.introspection.choice_rules import needs_keys
from gateway.features.resource_metadata.checks import resource_warnings
from gateway.features.revocation.checks import revocation_warnings
from gateway.features.sender_constrained.checks import sender_warnings
from gateway.settings import templates
from gateway.settings.checks.exposures import exposure_warnings
from gateway.settings.checks.fall_through import fall_through_warnings
from gateway.settings.faults import KeyPath
from gateway.settings.readable import read_problem
from gateway.settings.tables.issuers import Issuer, issuer_values
from gateway.settings.tables.root import Settings
from gateway.settings.tables.routes import Route
from gateway.settings.values import http_url, is_loopback


def find_warnings(settings: Settings) -> list[tuple[KeyPath, str]]:
    """Return the doubtful options of a valid configuration, each with a sentence."""
    return [
        *_limits(settings),
        *_issuers(settings),
        *(found for index, route in enumerate(settings.routes) for found in _route(route, ("routes", index))),
        *_unused(settings),
        *resource_warnings(settings),
        *revocation_warnings(settings),
        *sender_warnings(settings),
        *exposure_warnings(settings),
        *fall_through_warnings(settings),
        *_identity(settings),
    ]


def _limits(settings: Settings) -> Iterator[tuple[KeyPath, str]]:
    if settings.tokens.max_bytes >= settings.server.max_head_bytes:
        yield ("tokens", "max_bytes"), "has no effect: longer heads than `server.max_head_bytes` are refused before"


def _issuers(settings: Settings) -> Iterator[tuple[KeyPath, str]]:
    for index, issuer in enumerate(settings.issuers):
        place: KeyPath = ("issuers", index)
        if "account" in issuer.audience:
            yield (
                (*place, "audience"),
                "`account` is in the tokens of every client of a Keycloak realm: any of them gets in;"
                " give this API an audience of its own",
            )
        asked = urlsplit(issuer.introspection_url)
        if asked.scheme == "http" and not is_loopback(asked.hostname or ""):
            yield (
                (*place, "allow_http"),
                "tokens and the client's secret go over http://: whoever is on the way has them",
            )
        if needs_keys(issuer, settings.routes):
            yield from _keys(issuer, place)


def _keys(issuer: Issuer, place: KeyPath) -> Iterator[tuple[KeyPath, str]]:
    if "exp" not in issuer.required_claims:
        yield (*place, "required_claims"), "without `exp` a token that names no end is good for ever"
    if issuer.jwks_file:
        if problem := read_problem(issuer.jwks_file):
            yield (*place, "jwks_file"), f"{problem}; until it can, tokens of this issuer get 503"
        for name in ("jwks_ca_file", "jwks_token_file", "allow_http"):
            if getattr(issuer, name) and not (name == "allow_http" and issuer.introspection_url):
                yield (*place, name), "has no effect with `jwks_file`"
        return
    if issuer.jwks_token_file and (problem := read_problem(issuer.jwks_token_file)):
        yield (*place, "jwks_token_file"), f"{problem}; until it can, no keys are fetched"
    parts = http_url(templates.fill(issuer.jwks_url or issuer_values(issuer)[0], "tenant"))
    if parts.scheme == "http" and not is_loopback(parts.hostname or ""):
        yield (*place, "allow_http"), "the keys come over http://: whoever is on the way can replace them"


def _route(route: Route, place: KeyPath) -> Iterator[tuple[KeyPath, str]]:
    if route.auth == "public" and route.path == "/" and route.match == "prefix":
        yield (*place, "auth"), "everything that no other route covers is open to anybody"
    if route.auth == "optional" and (route.scopes or route.any_scopes or route.claims):
        yield (*place, "auth"), "a request without a token passes without the scopes and claims of this route"
    if route.auth == "public" and route.forward_authorization:
        yield (*place, "forward_authorization"), "the service gets credentials that nobody has looked at"
    if takes_tokens(route) and route.cors_headers and "authorization" not in route.cors_headers:
        yield (*place, "cors_headers"), "without `authorization` pages cannot send a token"
    if takes_keys(route) and route.cors_headers and route.api_key_header not in route.cors_headers:
        yield (*place, "cors_headers"), f"without `{route.api_key_header}` pages cannot send an API key"
    if route.observe:
        yield (*place, "observe"), "requests with a bad token or none pass; only for a roll-out"


def _unused(settings: Settings) -> Iterator[tuple[KeyPath, str]]:
    used = {route.upstream for route in settings.routes}
    for index, upstream in enumerate(settings.upstreams):
        if upstream.name not in used:
            yield ("upstreams", index, "name"), "no route leads to this upstream"
    if not any(map(takes_keys, settings.routes)):
        text = "no route takes API keys: none has them in its `credentials`"
        if settings.api_keys:
            yield ("api_keys",), text
        if settings.tokens.api_keys_file:
            yield ("tokens", "api_keys_file"), text
    looking = [route for route in settings.routes if takes_tokens(route)]
    if all(route.issuers for route in looking):
        accepted = {name for route in looking for name in route.issuers}
        for index, issuer in enumerate(settings.issuers):
            if issuer.name not in accepted:
                yield ("issuers", index, "name"), "no route accepts tokens of this issuer"


def _identity(settings: Settings) -> Iterator[tuple[KeyPath, str]]:
    if not settings.identity and any(route.auth != "public" for route in settings.routes):
        yield ("identity",), "is empty: the services do not learn who calls"
