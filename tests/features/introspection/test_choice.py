"""Which tokens are introspected, and at whom."""

from __future__ import annotations

import json
from base64 import urlsafe_b64encode
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import GatewayError, Reasons
from gateway.features.introspection.choice import OpaqueTokens, build_introspectors, is_jws
from gateway.policy.routes import RouteTable
from gateway.settings.tables import root as schema
from tests.support.clock import FakeClock
from tests.support.idp import gateway_settings, issuer_settings
from tests.support.introspection import introspecting
from tests.support.minting import SigningKey, good_claims, mint

KEY = SigningKey.ec("a")


def of(issuer: str) -> bytes:
    return mint(KEY, good_claims(1, iss=issuer))


@pytest.mark.parametrize(
    "token",
    [
        of("https://as.test/"),
        b"eyJhbGciOiJub25lIn0.e30.x",
        b"eyJ.e30.x",  # a header that begins as one, and is none: of nobody's opaque tokens
        b"IHsi.a.b",  # blanks before the object
        b"ewo.a.b",
        urlsafe_b64encode(b'{"alg":"RS256","crit":["x"]}').rstrip(b"=") + b".a.b",
    ],
)
def test_jws_is_one_however_broken(token: bytes) -> None:
    """R118: so it is never sent to somebody whom it does not name."""
    assert is_jws(token)


@pytest.mark.parametrize(
    "token",
    [
        b"",
        b"opaque",
        b"00Dxx!AQ.Uo_.x",
        b"a.b",
        b"a.b.c",
        b"..",
        b"eyJhbGciOiJub25lIn0..x",
        b"eyJhbGciOiJkaXIifQ.a.b.c.d",
        b"W10.a.b",  # an array
        b"gho_16C7e42F292c6912E7710c838347Ae178B4a",
        b"v1.local.payload",
    ],
)
def test_everything_else_is_opaque(token: bytes) -> None:
    """C95."""
    assert not is_jws(token)


@given(st.dictionaries(st.text(max_size=8), st.text(max_size=8)), st.sampled_from(["", " ", "\n", "\t\r\n "]))
def test_every_json_object_is_a_header(members: dict[str, str], blanks: str) -> None:
    header = urlsafe_b64encode((blanks + json.dumps(members)).encode()).rstrip(b"=")
    assert is_jws(header + b".e30.c2ln")


@given(st.binary(max_size=60))
def test_any_bytes_are_one_or_the_other(token: bytes) -> None:
    assert is_jws(token) in (True, False)


def choice(folder: Path, *routes: dict[str, Any], **introspect: str) -> tuple[OpaqueTokens, Any, dict[str, Any]]:
    """Return the choice between ``main``, which verifies, and ``as``, which is asked; the routes, and who is asked."""
    issuers = [
        issuer_settings(),
        introspecting(folder, "http://127.0.0.1:1/", issuer=["https://as.test/", "urn:as"], **introspect),
    ]
    made = [schema.Route.model_validate({"path": f"/{n}", "upstream": "default", **r}) for n, r in enumerate(routes)]
    settings = gateway_settings(*issuers, routes=made)
    table = RouteTable(settings.routes)
    introspectors = build_introspectors(settings, FakeClock())
    return OpaqueTokens(settings, introspectors, table.routes), table.routes, dict(introspectors)


def asker(choice: OpaqueTokens, route: Any, token: bytes) -> Any:
    try:
        return choice.asker(route, token)
    except GatewayError as error:
        return error.reason


JWT, OPAQUE, BOTH = {"credentials": ["jwt"]}, {"credentials": ["opaque"]}, {"credentials": ["jwt", "opaque"]}
NO = Reasons.CREDENTIAL_NOT_ACCEPTED


@pytest.mark.parametrize(
    ("introspect", "expected"),
    [
        # for each route: an opaque token, a JWT of main, one of as, one of nobody's
        ("opaque", [[None] * 4, ["as", NO, NO, NO], ["as", None, None, None]]),
        ("all", [[None] * 4, ["as", NO, "as", NO], ["as", None, "as", None]]),
        ("jwt", [[None] * 4, [NO, NO, "as", NO], [None, None, "as", None]]),
    ],
)
def test_who_is_asked(introspect: str, expected: list[list[Any]], tmp_path: Path) -> None:
    """R118."""
    made, routes, introspectors = choice(tmp_path, JWT, OPAQUE, BOTH, introspect=introspect)
    tokens = (b"opaque", of("https://idp.test/"), of("urn:as"), of("https://elsewhere.test/"))
    found = [[asker(made, route, token) for token in tokens] for route in routes]
    assert found == [[introspectors.get(one, one) for one in line] for line in expected]
    concerned = [[made.concerns(route, token) for token in tokens] for route in routes]
    assert concerned == [[one is not None for one in line] for line in expected]
    assert [made.asks_about_jwts(route) for route in routes] == [False, *[introspect != "opaque"] * 2]


def test_jwt_that_cannot_be_read_names_nobody(tmp_path: Path) -> None:
    """R118."""
    made, (route,), _ = choice(tmp_path, BOTH, introspect="all")
    for token in (b"eyJhbGciOiJub25lIn0.e30.x", of("urn:as")[:-5] + b"!!!!!", mint(KEY, good_claims(1, iss=5))):
        assert made.asker(route, token) is None


def test_route_that_does_not_accept_the_issuer_asks_nobody(tmp_path: Path) -> None:
    made, routes, _ = choice(tmp_path, {**BOTH, "issuers": ["main"]}, {**OPAQUE, "issuers": ["as"]}, introspect="all")
    assert made.asker(routes[0], of("urn:as")) is None
    assert asker(made, routes[1], of("https://idp.test/")) is NO


def test_only_who_is_asked_about_opaque_tokens_turns_them_away(tmp_path: Path) -> None:
    """R125."""
    made, routes, introspectors = choice(tmp_path, JWT, OPAQUE, introspect="opaque")
    assert made.turning_away(routes[1]) == introspectors["as"].turns_away
    assert not made.turning_away(routes[0])(b"opaque")
    made, routes, _ = choice(tmp_path, BOTH, introspect="jwt")
    assert not made.turning_away(routes[0])(b"opaque")
