"""Introspected tokens beside those that are verified by keys: whose a token is, on each route."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gateway.errors import GatewayError, Reasons
from gateway.features.introspection.choice import OpaqueTokens, build_introspectors
from gateway.features.introspection.credential import OpaqueKind
from gateway.features.introspection.introspector import Introspector
from gateway.jwt.authenticator import Authenticator
from gateway.policy.routes import Route, RouteTable
from gateway.server.authentication.credentials import Credentials
from gateway.server.authentication.jwt_kind import JwtKind
from gateway.server.seam.credential import CredentialKind, Shown
from tests.support.clock import FakeClock
from tests.support.composed import Route as RouteSettings
from tests.support.issuers.identity_provider import gateway_settings, issuer_settings
from tests.support.issuers.introspection import introspecting
from tests.support.tokens.minting import SigningKey, good_claims, mint

KEY = SigningKey.ec("a")
JWT, OPAQUE, BOTH = {"credentials": ["jwt"]}, {"credentials": ["opaque"]}, {"credentials": ["jwt", "opaque"]}
NO = Reasons.CREDENTIAL_NOT_ACCEPTED


def of(issuer: str) -> bytes:
    return mint(KEY, good_claims(1, iss=issuer))


class Desk:
    """Both kinds of bearer tokens; ``main`` verifies its tokens, and ``as`` is asked about them."""

    def __init__(self, folder: Path, *routes: dict[str, Any], **introspect: str) -> None:
        issuers = [
            issuer_settings(),
            introspecting(folder, "http://127.0.0.1:1/", issuer=["https://as.test/", "urn:as"], **introspect),
        ]
        made = [
            RouteSettings.model_validate({"path": f"/{n}", "upstream": "default", **r}) for n, r in enumerate(routes)
        ]
        settings, clock = gateway_settings(*issuers, routes=made), FakeClock()
        self.routes = RouteTable(settings.routes).routes
        self.introspectors = build_introspectors(settings, clock)
        self.opaque = OpaqueKind(OpaqueTokens(settings, self.introspectors, self.routes), self.introspectors)
        authenticator = Authenticator(settings, {}, clock)
        kinds: list[CredentialKind] = [self.opaque, JwtKind(authenticator, clock)]
        self.credentials = Credentials(kinds, self.routes, authenticator.revocations)

    def judge(self, route: Route, token: bytes) -> Any:
        """Return the name of what judges a token: an issuer that is asked, or "jwt"; or why nothing does."""
        try:
            kind, verifier = self.credentials.judge(Shown(token), route)
        except GatewayError as error:
            return error.reason
        if kind is not self.opaque:
            return kind.name
        assert isinstance(verifier, Introspector)
        return {id(one): name for name, one in self.introspectors.items()}[id(verifier)]


@pytest.mark.parametrize(
    ("introspect", "expected"),
    [
        # for each route: an opaque token, a JWT of main, one of as, one of an unknown issuer
        ("opaque", [["jwt"] * 4, ["as", NO, NO, NO], ["as", "jwt", "jwt", "jwt"]]),
        ("all", [["jwt"] * 4, ["as", NO, "as", NO], ["as", "jwt", "as", "jwt"]]),
        ("jwt", [["jwt"] * 4, [NO, NO, "as", NO], ["jwt", "jwt", "as", "jwt"]]),
    ],
)
@pytest.mark.rule("R118")
def test_whose_a_token_is(introspect: str, expected: list[list[Any]], tmp_path: Path) -> None:
    desk = Desk(tmp_path, JWT, OPAQUE, BOTH, introspect=introspect)
    tokens = (b"opaque", of("https://idp.test/"), of("urn:as"), of("https://elsewhere.test/"))
    assert [[desk.judge(route, token) for token in tokens] for route in desk.routes] == expected
    as_jwt = [[desk.credentials.judged_as("jwt", Shown(token), route) for token in tokens] for route in desk.routes]
    assert as_jwt == [[one == "jwt" for one in line] for line in expected]
    overridden = [desk.credentials.overridden(route) for route in desk.routes]
    assert overridden == [False, *[introspect != "opaque"] * 2]


@pytest.mark.rule("R118")
def test_jwt_that_cannot_be_read_is_verified_by_keys(tmp_path: Path) -> None:
    """No issuer is asked about it."""
    desk = Desk(tmp_path, BOTH, introspect="all")
    for token in (b"eyJhbGciOiJub25lIn0.e30.x", of("urn:as")[:-5] + b"!!!!!", mint(KEY, good_claims(1, iss=5))):
        assert desk.judge(desk.routes[0], token) == "jwt"


def test_route_that_does_not_accept_the_issuer_asks_nobody(tmp_path: Path) -> None:
    desk = Desk(tmp_path, {**BOTH, "issuers": ["main"]}, {**OPAQUE, "issuers": ["as"]}, introspect="all")
    assert desk.judge(desk.routes[0], of("urn:as")) == "jwt"
    assert desk.judge(desk.routes[1], of("https://idp.test/")) is NO


@pytest.mark.rule("R125")
def test_only_who_is_asked_about_opaque_tokens_turns_them_away(tmp_path: Path) -> None:
    desk = Desk(tmp_path, JWT, OPAQUE, introspect="opaque")
    assert desk.credentials.sheds(desk.routes[1]) == desk.introspectors["as"].turns_away
    assert not desk.credentials.sheds(desk.routes[0])(b"opaque")
    desk = Desk(tmp_path, BOTH, introspect="jwt")
    assert not desk.credentials.sheds(desk.routes[0])(b"opaque")
