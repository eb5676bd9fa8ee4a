"""Options that are valid each by itself and let more in than their author meant.

This file has these judgements, and what features need for theirs: each has the
key, what becomes possible, and what to write instead (CWE-1188). A fault is
what cannot be meant; a warning is what may be. The table "Configurations that
open something" of docs/operations.md lists them all. The danger of this file is
noise, as in ``fall_through.py``.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Iterator
from urllib.parse import urlsplit

from gateway.settings.checks.slow_patterns import slow_problem
from gateway.settings.faults import KeyPath
from gateway.settings.problems import Problem, Sound
from gateway.settings.tables.issuers import Issuer, issuer_values
from gateway.settings.tables.root import Settings
from gateway.settings.tables.routes import RouteSettings
from gateway.settings.values import fold_header_name, is_loopback

#: Half of the IPv4 addresses, and of those IPv6 addresses that are given out (RFC 4291 section 2.4).
_MANY_IPV4, _MANY_IPV6 = 2**31, 2**124
_GLOBAL_IPV6 = ipaddress.IPv6Network("2000::/3")

#: What looks like a placeholder or wildcard of other gateways, in a path that is compared as it is written.
_PLACEHOLDER = re.compile(r"[*{}<>\[\]^|]|/:|\$\Z")

#: Claims that users can change at many issuers, or that pass from one user to another (OpenID Connect Core 5.7).
_EDITABLE = frozenset({"email", "preferred_username", "name", "nickname", "upn", "unique_name"})

#: Headers that services take for the stable name of a user, folded as services do.
_USER_NAMES = frozenset(
    {"x-user-id", "x-userid", "x-user", "x-subject", "x-sub", "remote-user", "x-remote-user", "x-forwarded-user"}
    | {"x-webauth-user", "x-auth-request-user", "x-authenticated-user"}
)

#: Claims that say of what kind a token is, or where it comes from, but not for whom it is.
_OF_EVERY_TOKEN = frozenset({"typ", "token_use", "token_type", "ver", "tid", "idp", "acr", "auth_time", "hd"})


def exposure_faults(settings: Settings, sound: Sound) -> Iterator[Problem]:
    """Return what cannot be meant."""
    for index, issuer in enumerate(settings.issuers):
        if sound(("issuers", index, "audience_claim")) and issuer.audience_claim == "iss":
            yield (
                ("issuers", index, "audience_claim"),
                "is in every token of the issuer with the same value: tokens for any other API get in; write the claim"
                ' that names who the token is for, such as "aud", "azp" or "client_id"',
            )


def trusts_most(settings: Settings, sound: Sound, option: KeyPath, effect: str) -> Iterator[Problem]:
    """Say that any client can name its own address, where something of a feature depends on it.

    Args:
        settings: the configuration.
        sound: tells which options are free of faults of their own.
        option: that of the feature.
        effect: what becomes possible.
    """
    if sound(("server", "trusted_proxies"), option) and covers_most(settings.server.trusted_proxies):
        yield (
            ("server", "trusted_proxies"),
            f"covers most addresses, so any client can name any address as its own: {effect}; list the addresses of the"
            " proxies in front",
        )


def exposure_warnings(settings: Settings) -> Iterator[Problem]:
    """Return what is allowed and opens something."""
    yield from _networks(settings)
    for index, issuer in enumerate(settings.issuers):
        yield from _issuer(issuer, ("issuers", index))
    for index, route in enumerate(settings.routes):
        yield from _route(route, ("routes", index))
        yield from _editable_claims(route, ("routes", index), settings.issuers)
    yield from _identity(settings)


def _networks(settings: Settings) -> Iterator[Problem]:
    if covers_most(settings.server.trusted_proxies):
        yield (
            ("server", "trusted_proxies"),
            "covers most addresses: any client can name any address, scheme and host as its own, in logs, rate limits"
            " and what services read in X-Forwarded-*; list the addresses of the proxies in front",
        )


def covers_most(networks: Iterable[str]) -> bool:
    """Tell whether blocks hold most of the addresses of a family, in whatever pieces."""
    # A word, such as one for Unix sockets, is not a network.
    blocks = [ipaddress.ip_network(network) for network in networks if not network.isalpha()]
    fours = ipaddress.collapse_addresses(block for block in blocks if isinstance(block, ipaddress.IPv4Network))
    sixes = list(ipaddress.collapse_addresses(block for block in blocks if isinstance(block, ipaddress.IPv6Network)))
    if any(_GLOBAL_IPV6.subnet_of(block) for block in sixes):
        return True
    in_use = sum(block.num_addresses for block in sixes if block.subnet_of(_GLOBAL_IPV6))
    return sum(block.num_addresses for block in fours) >= _MANY_IPV4 or in_use >= _MANY_IPV6


def _issuer(issuer: Issuer, place: KeyPath) -> Iterator[Problem]:
    named: list[tuple[KeyPath, str]] = [
        (("audience_claim",), issuer.audience_claim),
        (("tenant_claim",), issuer.tenant_claim),
    ]
    named += [(("required_claims", number), name) for number, name in enumerate(issuer.required_claims)]
    named += [(("claims", name), name) for name in issuer.claims]
    yield from (((*place, *key), text) for key, name in named if (text := claim_problem(name)))
    yield from (((*place, "claims", name), _NO_WILDCARD) for name, value in issuer.claims.items() if value == "*")
    own = [value for value in issuer_values(issuer) if value in issuer.audience]
    if own and issuer.audience_claim == "aud":
        yield (
            (*place, "audience"),
            "has the issuer's own name: tokens that clients get for the issuer itself, such as for its userinfo, get"
            " in; give this API an audience of its own",
        )
    if issuer.audience_claim in _OF_EVERY_TOKEN:
        yield (
            (*place, "audience_claim"),
            "does not say who a token is for: tokens for other APIs of the issuer have the same value and get in; write"
            ' the claim that does, such as "aud", "azp" or "client_id"',
        )


def claim_problem(name: str) -> str:
    """Say why a name is probably not that of a top-level claim; empty for one that is.

    Names with a colon or slash in them are those of RFC 7519 section 4.2, such as https://example.com/roles.
    """
    if "*" in name:
        return "is taken as it is written: there are no wildcards in the names of claims; write each name"
    if name.startswith("/") or ("." in name and not re.search(r"[:/]", name) and name != "kubernetes.io"):
        return (
            "is the name of one claim, not a path to a claim within another, which is not found by it; let the issuer"
            ' put that in a claim of its own, or, in [identity], write a list such as ["realm_access", "roles"]'
        )
    return ""


_NO_WILDCARD = (
    'is compared as it is written: `*` is the text "*", not any value; name the values, or use required_claims'
)


def _route(route: RouteSettings, place: KeyPath) -> Iterator[Problem]:
    if route.match == "regex":
        if text := slow_problem(route.path):
            yield (*place, "path"), text
    elif _PLACEHOLDER.search(route.path):
        yield (
            (*place, "path"),
            "is compared as it is written, placeholders and wildcards included: other requests pass this route by and"
            ' reach what is behind it; a prefix such as /orders covers all that is below, and match = "regex" takes'
            " a pattern such as /orders/[^/]+/items",
        )
    for name, value in route.claims.items():
        if name != "$tenant" and (text := claim_problem(name)):
            yield (*place, "claims", name), text
        if "*" in (value if isinstance(value, list) else [value]):
            yield (*place, "claims", name), _NO_WILDCARD
    if route.cors_credentials and any(_is_plain_origin(origin) for origin in route.cors_origins):
        yield (
            (*place, "cors_origins"),
            "has an http:// origin with `cors_credentials`: an attacker on the network can change that page, and so act"
            " for its visitors; write https://",
        )


def _editable_claims(route: RouteSettings, place: KeyPath, issuers: Iterable[Issuer]) -> Iterator[Problem]:
    """Warn of rules on claims that callers may set themselves."""
    accepted = [issuer for issuer in issuers if not route.issuers or issuer.name in route.issuers]
    verified = all("email_verified" in {**issuer.claims, **route.claims} for issuer in accepted)
    for name in sorted(_EDITABLE & route.claims.keys()):
        if name != "email" or not verified:
            yield (
                (*place, "claims", name),
                "can be set by the user at many issuers, who could gain access with it; use `sub`, a role or a group"
                + (", or ask for email_verified = true as well" if name == "email" else ""),
            )


def _is_plain_origin(origin: str) -> bool:
    parts = urlsplit(origin)
    return parts.scheme == "http" and not is_loopback(parts.hostname or "")


def _identity(settings: Settings) -> Iterator[Problem]:
    for header, source in settings.identity.items():
        if isinstance(source, str):
            if not source.startswith("$") and (text := claim_problem(source)):
                yield ("identity", header), text
            if source in _EDITABLE and fold_header_name(header) in _USER_NAMES:
                yield (
                    ("identity", header),
                    f"`{source}` can be changed by the user at many issuers, so that one user can pose as another to"
                    ' the services; write "sub", and give this claim a header of its own',
                )
