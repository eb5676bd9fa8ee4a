"""Who is asked about which tokens, and who needs keys."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from gateway.features.introspection import options as introspection
from gateway.settings.tables.issuers import Issuer as CoreIssuer
from tests.support.composed import Issuer, Route


def issuer(name: str, *, asked: bool = True, **options: Any) -> Issuer:
    url = "https://as.test/introspect" if asked else ""
    return Issuer(name=name, issuer=f"https://{name}.test/", audience=["api"], introspection_url=url, **options)


def route(*credentials: Any, **options: Any) -> Route:
    return Route(path="/", upstream="u", credentials=list(credentials), **options)


PLAIN, ASKED = issuer("plain", asked=False), issuer("asked")
JWTS, ALL = issuer("jwts", introspect="jwt"), issuer("all", introspect="all")
EVERYBODY = [PLAIN, ASKED, JWTS, ALL]


def names(issuers: Iterable[CoreIssuer]) -> list[str]:
    return [one.name for one in issuers]


@pytest.mark.rule("R118")
def test_asked_is_who_the_route_accepts_and_who_wants_to_be() -> None:
    open_route, one = route("jwt", "opaque"), route("opaque", issuers=["plain", "all"])
    assert names(introspection.asked_about_opaque(open_route, EVERYBODY)) == ["asked", "all"]
    assert names(introspection.asked_about_jwts(open_route, EVERYBODY)) == ["jwts", "all"]
    assert names(introspection.asked_about_opaque(one, EVERYBODY)) == ["all"]
    assert names(introspection.accepted_issuers(one, EVERYBODY)) == ["plain", "all"]


@pytest.mark.parametrize("closed", [route("jwt"), route("api_key"), route("opaque", auth="public")])
@pytest.mark.rule("R118")
def test_nobody_is_asked_where_no_opaque_token_is_taken(closed: Route) -> None:
    assert not introspection.takes_opaque(closed)
    assert introspection.asked_about_opaque(closed, EVERYBODY) == []
    assert introspection.asked_about_jwts(closed, EVERYBODY) == []


@pytest.mark.parametrize(
    ("routes", "needing"),
    [
        ([route("jwt", "opaque")], ["plain", "asked"]),
        ([route("opaque")], ["plain"]),
        ([route("opaque"), route("jwt")], ["plain", "asked", "jwts", "all"]),
        ([route("opaque"), route("jwt", issuers=["all"])], ["plain", "all"]),
        ([route("opaque"), route("jwt", auth="public")], ["plain"]),
        ([route("api_key")], ["plain"]),
    ],
)
def test_keys_are_for_those_whose_jwts_are_verified_somewhere(routes: list[Route], needing: list[str]) -> None:
    assert [one.name for one in EVERYBODY if not introspection.replaces_keys(one, routes)] == needing
