"""Checks of issuer entries that are templates, and of rules that name tenants.

As in ``all_checks.py``, a check looks only at options that are sound. What makes a template unsafe stops the start:
tenants that are neither listed nor matched by a pattern, and a host name that comes out of a token.
"""

from __future__ import annotations

from collections.abc import Iterator

from gateway.identity import TENANT
from gateway.settings import templates
from gateway.settings.faults import KeyPath, did_you_mean
from gateway.settings.problems import Problem, Sound
from gateway.settings.tables.issuers import Issuer, issuer_values
from gateway.settings.tables.root import Settings
from gateway.settings.tables.routes import BEARER, RouteSettings
from gateway.settings.tables.tenants import accepts, has_own_keys, is_template

_OF_TEMPLATES = ("tenants", "tenant_pattern", "tenant_claim", "max_tenants", "tenant_idle_seconds")
_OF_OWN_KEYS = ("max_tenants", "tenant_idle_seconds")


def tenant_problems(settings: Settings, sound: Sound) -> Iterator[Problem]:
    """Find what is wrong with templates, and with rules that name tenants.

    Args:
        settings: the configuration; where an option has a fault of its own, any value.
        sound: tells whether options, or all of a table, are free of such faults.
    """
    for index, issuer in enumerate(settings.issuers):
        place: KeyPath = ("issuers", index)
        if sound.options(place, "issuer", "jwks_url", "jwks_file", *_OF_TEMPLATES):
            yield from (((*place, name), text) for name, text in _entry(issuer))
    if sound(("issuers",)):
        yield from _overlaps(settings)
        for index, route in enumerate(settings.routes):
            options = (("routes", index, name) for name in ("claims", "issuers", "credentials"))
            if sound(*options) and TENANT in route.claims:
                yield from ((("routes", index, "claims", TENANT), text) for text in _rule(route, settings))
        if sound(("identity",)) and not any(map(is_template, settings.issuers)):
            for header, source in settings.identity.items():
                if source == TENANT:
                    yield ("identity", header), "can never be set: no issuer is a template"


def _entry(issuer: Issuer) -> Iterator[tuple[str, str]]:
    """Find what is wrong with one entry: option and sentence."""
    if not is_template(issuer):
        for name in _OF_TEMPLATES:
            if _given(issuer, name):
                yield name, "has no effect: `issuer` has no {tenant} in it"
        if any(value.startswith("http") and "{" in value for value in issuer_values(issuer)):
            yield "issuer", "has braces: the placeholder of a template is {tenant} or {tenantid}"
        elif templates.placeholder_in(issuer.jwks_url):
            yield "jwks_url", "has a placeholder, but `issuer` has none"
        return
    values = issuer_values(issuer)
    problems = list(filter(None, map(_template_problem, values)))
    placeholders = {templates.placeholder_in(value) for value in values}
    if len(placeholders) > 1 or templates.placeholder_in(issuer.jwks_url) not in ("", *placeholders):
        problems.append("mixes placeholders, or templates with other values: give these an entry of their own")
    if not problems and templates.placeholder_in(issuer.jwks_url):
        problems += filter(None, [templates.template_problem(issuer.jwks_url)])
    for text in problems[:1]:
        yield "issuer", text
    if not issuer.tenants and not issuer.tenant_pattern:
        yield (
            "tenants",
            "is required for a template, or `tenant_pattern`: without one of them every value is accepted as a tenant",
        )
    elif issuer.tenants and issuer.tenant_pattern:
        yield "tenant_pattern", "cannot be combined with `tenants`: the list already names every tenant"
    elif not problems:
        yield from _hosts(issuer)
    if len(set(issuer.tenants)) < len(issuer.tenants):
        yield "tenants", "names a tenant twice"
    for name in _OF_OWN_KEYS:
        if _given(issuer, name) and not has_own_keys(issuer):
            yield name, "has no effect: all tenants share one set of keys"
    if _given(issuer, "max_tenants") and issuer.tenants:
        yield "max_tenants", "has no effect with `tenants`: the number of tenants is that of the list"


def _template_problem(value: str) -> str:
    return templates.template_problem(value) if templates.placeholder_in(value) else ""


def _hosts(issuer: Issuer) -> Iterator[tuple[str, str]]:
    """Find tenants that would name a host that the configuration does not (CWE-918)."""
    in_jwks_url = [issuer.jwks_url] if templates.placeholder_in(issuer.jwks_url) else []
    if not any(templates.split(value).in_host for value in (*issuer_values(issuer), *in_jwks_url)):
        return
    if issuer.tenant_pattern:
        yield "tenant_pattern", "lets tokens choose a host to fetch keys from: a tenant in a host needs `tenants`"
    for tenant in issuer.tenants:
        if not templates.host_label(tenant):
            yield "tenants", f"'{tenant}' is not a lower-case host label"
            return


def _overlaps(settings: Settings) -> Iterator[Problem]:
    """Find templates whose patterns leave open to which of them a token belongs."""
    first: dict[int, list[str]] = {}
    for index, issuer in enumerate(settings.issuers):
        if not issuer.tenant_pattern or not is_template(issuer):
            continue
        for other, values in first.items():
            if any(templates.overlap(one, its) for one in issuer_values(issuer) for its in values):
                yield ("issuers", index, "issuer"), f"could be the same as issuers[{other}]: a token could fit both"
                break
        first[index] = list(issuer_values(issuer))


def _rule(route: RouteSettings, settings: Settings) -> Iterator[str]:
    """Find tenants that no token of the route's issuers can have."""
    if BEARER.isdisjoint(route.credentials):
        yield "can never apply: API keys have no tenant"
        return
    named = [issuer for issuer in settings.issuers if not route.issuers or issuer.name in route.issuers]
    entries = [issuer for issuer in named if is_template(issuer)]
    if not entries:
        yield "can never apply: none of the issuers of this route is a template"
        return
    wanted = route.claims[TENANT]
    for tenant in wanted if isinstance(wanted, list) else [wanted]:
        if not isinstance(tenant, str) or not any(accepts(issuer, tenant) for issuer in entries):
            listed = [known for issuer in entries for known in issuer.tenants]
            yield f"names a tenant that no issuer has: {tenant}{did_you_mean(str(tenant), listed)}"
            return


def _given(issuer: Issuer, name: str) -> bool:
    return bool(getattr(issuer, name) != Issuer.model_fields[name].default)
