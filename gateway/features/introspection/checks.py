"""Checks of the options about tokens that are introspected.

Which options are sound enough to be looked at is ``all_checks.py``'s matter.
"""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit

from gateway.features.introspection.options import IssuerOptions, accepted_issuers, asked_about_opaque, takes_opaque
from gateway.settings import readable as files
from gateway.settings.client_credentials import read_client_key, read_client_secret
from gateway.settings.faults import KeyPath
from gateway.settings.problems import Problem, Sound
from gateway.settings.tables.issuers import Issuer
from gateway.settings.tables.root import Settings, needs_keys
from gateway.settings.tables.tenants import is_template
from gateway.settings.values import http_url, is_loopback

_SECRET, _KEY = "introspection_client_secret_file", "introspection_private_key_file"
_OPTIONS = tuple(name for name in IssuerOptions.model_fields if name != "introspection_url")
_OF_KEYS = ("jwks_url", "jwks_file", "jwks_ca_file", "jwks_token_file")


def introspection_problems(settings: Settings, sound: Sound) -> Iterator[Problem]:
    """Return what is wrong with the options, each with its place."""
    for index, issuer in enumerate(settings.issuers):
        place: KeyPath = ("issuers", index)
        if not sound((*place, "introspection_url")):
            continue
        options = IssuerOptions.of(issuer)
        found = _asked(options, issuer) if options.introspection_url else _not_asked(options)
        yield from (((*place, name), text) for name, text in found if sound((*place, name)))
    if sound(("issuers",)):
        yield from _routes(settings, sound)
        yield from _without_effect(settings, sound)


def _not_asked(options: IssuerOptions) -> Iterator[tuple[str, str]]:
    for name in _OPTIONS:
        if getattr(options, name) != IssuerOptions.model_fields[name].default:
            yield name, "has no effect without `introspection_url`"


def _asked(options: IssuerOptions, issuer: Issuer) -> Iterator[tuple[str, str]]:
    if is_template(issuer):
        yield "introspection_url", "cannot be used with a template: the tenant of an opaque token is unknown"
    parts = http_url(options.introspection_url)
    if parts.scheme == "http":
        if not issuer.allow_http and not is_loopback(parts.hostname or ""):
            yield (
                "introspection_url",
                "tokens and the client's secret over http:// can be read on the way: use https://, or"
                " `allow_http = true` in a private network",
            )
        if options.introspection_ca_file:
            yield "introspection_ca_file", "has no effect: `introspection_url` is http://"
    elif options.introspection_ca_file and (text := files.authorities_problem(options.introspection_ca_file)):
        yield "introspection_ca_file", text
    if not options.introspection_client_id:
        yield "introspection_client_id", "is required with `introspection_url`: the endpoint answers known clients only"
    yield from _credentials(options)


def _credentials(options: IssuerOptions) -> Iterator[tuple[str, str]]:
    auth = options.introspection_auth
    needed, other = (_KEY, _SECRET) if auth == "private_key_jwt" else (_SECRET, _KEY)
    if getattr(options, other):
        yield other, f'has no effect with introspection_auth = "{auth}"'
    if auth != "private_key_jwt" and options.introspection_assertion_audience:
        yield "introspection_assertion_audience", f'has no effect with introspection_auth = "{auth}"'
    file = getattr(options, needed)
    if not file:
        yield needed, f'is required with introspection_auth = "{auth}"'
        return
    try:
        if needed == _KEY:
            read_client_key(file)
        else:
            read_client_secret(file)
    except ValueError as error:
        yield needed, str(error)


def _routes(settings: Settings, sound: Sound) -> Iterator[Problem]:
    for index, route in enumerate(settings.routes):
        place: KeyPath = ("routes", index)
        looked_at = ("auth", "credentials", "issuers")
        if not sound(*((*place, name) for name in looked_at)) or not takes_opaque(route):
            continue
        if not any(IssuerOptions.of(issuer).introspection_url for issuer in accepted_issuers(route, settings.issuers)):
            yield (*place, "credentials"), 'has "opaque", but no issuer of this route has an `introspection_url`'
        asked = asked_about_opaque(route, settings.issuers)
        if len(asked) > 1:
            names = " and ".join(f"`{issuer.name}`" for issuer in asked[:2])
            yield (
                (*place, "issuers"),
                f"leaves open which of {names} introspects tokens that are not JWTs, and a token must not reach a"
                ' server that it was not meant for: name one of them, or give the others introspect = "jwt"',
            )


def _without_effect(settings: Settings, sound: Sound) -> Iterator[Problem]:
    if not sound(("routes",)):
        return
    for index, issuer in enumerate(settings.issuers):
        place: KeyPath = ("issuers", index)
        if not IssuerOptions.of(issuer).introspection_url:
            continue
        if not any(takes_opaque(route) and accepted_issuers(route, [issuer]) for route in settings.routes):
            yield (
                (*place, "introspection_url"),
                'is never used: no route that accepts this issuer has "opaque" in its `credentials`',
            )
        elif not needs_keys(issuer, settings):
            for name in _OF_KEYS:
                if getattr(issuer, name):
                    yield (*place, name), "has no effect: no route verifies JWTs of this issuer by its keys"


def introspection_warnings(settings: Settings) -> Iterator[Problem]:
    """Return options that are allowed and weaken the protection of tokens."""
    for index, issuer in enumerate(settings.issuers):
        place, options = ("issuers", index), IssuerOptions.of(issuer)
        url = urlsplit(options.introspection_url)
        if url.scheme == "http" and not is_loopback(url.hostname or ""):
            yield (
                (*place, "allow_http"),
                "tokens and the client's secret go over http://: an attacker on the network can read them",
            )
        if options.introspection_url and not options.introspection_require_audience:
            yield (
                (*place, "introspection_require_audience"),
                "is off: an opaque token that was issued for any other API of this issuer gets in, where the issuer"
                " does not say who it is for",
            )
