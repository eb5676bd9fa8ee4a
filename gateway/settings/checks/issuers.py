"""Checks of ``[[issuers]]``: where the keys are, and whose a token is. Templates are checked in ``tenants.py``."""

from __future__ import annotations

from collections.abc import Iterator

from gateway.settings import templates
from gateway.settings.faults import KeyPath
from gateway.settings.problems import Problem, Sound
from gateway.settings.readable import authorities_problem
from gateway.settings.tables.issuers import Issuer, issuer_values
from gateway.settings.tables.root import Settings, needs_keys
from gateway.settings.tables.tenants import listed_values
from gateway.settings.values import http_url, is_loopback


def issuer_problems(settings: Settings, sound: Sound) -> Iterator[Problem]:
    """Return what is wrong with the sources of keys, and values that belong to two issuers."""
    for index, issuer in enumerate(settings.issuers):
        place: KeyPath = ("issuers", index)
        # Whether keys are needed depends on the routes that take tokens of the issuer.
        if not sound(("routes",)) or needs_keys(issuer, settings):
            yield from _issuer(issuer, place, sound)
    yield from _values(settings, sound)


def _issuer(issuer: Issuer, place: KeyPath, sound: Sound) -> Iterator[Problem]:
    if not sound.options(place, "jwks_url", "jwks_file"):
        return
    if issuer.jwks_url and issuer.jwks_file:
        yield (*place, "jwks_file"), "cannot be combined with `jwks_url`: choose one source of keys"
    elif not issuer.jwks_file and sound.options(place, "issuer", "allow_http"):
        key = "jwks_url" if issuer.jwks_url else "issuer"
        yield from (((*place, key), text) for text in _address_problems(issuer))
    if (
        sound.options(place, "jwks_ca_file")
        and issuer.jwks_ca_file
        and (text := authorities_problem(issuer.jwks_ca_file))
    ):
        yield (*place, "jwks_ca_file"), text


def _address_problems(issuer: Issuer) -> Iterator[str]:
    """Look at the address of the keys or of the discovery document (OIDC Discovery 1.0 section 4)."""
    url = templates.fill(issuer.jwks_url or issuer_values(issuer)[0], "tenant")
    try:
        parts = http_url(url)
    except ValueError as error:
        yield f"keys are discovered at this address, but it {error}; or give `jwks_url` or `jwks_file`"
        return
    if not issuer.jwks_url and "?" in url:
        yield "has a query, so discovery cannot use it; give `jwks_url` or `jwks_file`"
    if parts.scheme == "http" and not issuer.allow_http and not is_loopback(parts.hostname or ""):
        yield "keys over http:// can be replaced on the way: use https://, or `allow_http = true` in a private network"


def _values(settings: Settings, sound: Sound) -> Iterator[Problem]:
    owner: dict[str, int] = {}
    for index, issuer in enumerate(settings.issuers):
        if not sound(("issuers", index, "issuer")):
            continue
        for value in listed_values(issuer):
            if owner.setdefault(value, index) != index:
                yield ("issuers", index, "issuer"), f"a value of it also belongs to issuers[{owner[value]}]"
                break
