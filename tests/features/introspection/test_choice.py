"""Which tokens are introspected, and at whom."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gateway.features.introspection.choice import OpaqueTokens, build_introspectors
from gateway.policy.routes import RouteTable
from tests.support.clock import FakeClock
from tests.support.composed import Route
from tests.support.issuers.identity_provider import gateway_settings, issuer_settings
from tests.support.issuers.introspection import introspecting
from tests.support.tokens.minting import SigningKey, good_claims, mint

KEY = SigningKey.ec("a")


def of(issuer: str) -> bytes:
    return mint(KEY, good_claims(1, iss=issuer))


def choice(folder: Path, *routes: dict[str, Any], **introspect: str) -> tuple[OpaqueTokens, Any, dict[str, Any]]:
    """Return the choice between ``main``, which verifies, and ``as``, which is asked; the routes, and who is asked."""
    issuers = [
        issuer_settings(),
        introspecting(folder, "http://127.0.0.1:1/", issuer=["https://as.test/", "urn:as"], **introspect),
    ]
    made = [Route.model_validate({"path": f"/{n}", "upstream": "default", **r}) for n, r in enumerate(routes)]
    settings = gateway_settings(*issuers, routes=made)
    table = RouteTable(settings.routes)
    introspectors = build_introspectors(settings, FakeClock())
    return OpaqueTokens(settings, introspectors, table.routes), table.routes, dict(introspectors)


JWT, OPAQUE, BOTH = {"credentials": ["jwt"]}, {"credentials": ["opaque"]}, {"credentials": ["jwt", "opaque"]}


@pytest.mark.parametrize(
    ("introspect", "expected"),
    [
        # for each route: an opaque token, a JWT of main, one of as, one of an unknown issuer
        ("opaque", [[None] * 4, ["as", None, None, None], ["as", None, None, None]]),
        ("all", [[None] * 4, ["as", None, "as", None], ["as", None, "as", None]]),
        ("jwt", [[None] * 4, [None, None, "as", None], [None, None, "as", None]]),
    ],
)
@pytest.mark.rule("R118")
def test_who_is_asked(introspect: str, expected: list[list[str | None]], tmp_path: Path) -> None:
    """What becomes of the others is test_credential.py's."""
    made, routes, introspectors = choice(tmp_path, JWT, OPAQUE, BOTH, introspect=introspect)
    tokens = (b"opaque", of("https://idp.test/"), of("urn:as"), of("https://elsewhere.test/"))
    found = [[made.asker(route, token) for token in tokens] for route in routes]
    assert found == [[None if one is None else introspectors[one] for one in line] for line in expected]
    assert [made.asks_about_jwts(route) for route in routes] == [False, *[introspect != "opaque"] * 2]


@pytest.mark.rule("R118")
def test_jwt_that_cannot_be_read_names_nobody(tmp_path: Path) -> None:
    made, (route,), _ = choice(tmp_path, BOTH, introspect="all")
    for token in (b"eyJhbGciOiJub25lIn0.e30.x", of("urn:as")[:-5] + b"!!!!!", mint(KEY, good_claims(1, iss=5))):
        assert made.asker(route, token) is None


def test_route_that_does_not_accept_the_issuer_asks_nobody(tmp_path: Path) -> None:
    made, routes, _ = choice(tmp_path, {**BOTH, "issuers": ["main"]}, {**OPAQUE, "issuers": ["as"]}, introspect="all")
    assert made.asker(routes[0], of("urn:as")) is None
    assert made.asker(routes[1], of("https://idp.test/")) is None


@pytest.mark.rule("R125")
def test_only_who_is_asked_about_opaque_tokens_turns_them_away(tmp_path: Path) -> None:
    made, routes, introspectors = choice(tmp_path, JWT, OPAQUE, introspect="opaque")
    assert made.sheds(routes[1]) == introspectors["as"].turns_away
    assert made.sheds(routes[0]) is None
    made, routes, _ = choice(tmp_path, BOTH, introspect="jwt")
    assert made.sheds(routes[0]) is None
