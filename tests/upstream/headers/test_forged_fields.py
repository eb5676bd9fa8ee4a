"""Public bug reports that the pure steps answer: C46, C51, C52, C54, C69.

The same cases run over sockets in ``tests/e2e``; here each input is tried
against the functions alone, in more spellings.
"""

from __future__ import annotations

from typing import Any

import pytest

from gateway.errors import GatewayError, Reasons
from gateway.http1.target import parse_target
from gateway.http1.trusted_proxies import Peer
from gateway.identity import HeaderRule, UnsafeClaimError
from gateway.policy.routes import RouteTable
from gateway.upstream.headers.forwarded import client_address
from gateway.upstream.headers.header_policy import HeaderPolicy, header_policy
from gateway.upstream.headers.rewrite import request_headers
from tests.support.composed import Route
from tests.support.wire.identity_fields import identity_headers

POLICY = header_policy(("x-user-id", "x-user-role", "x-scope"), b"gw", ["10.0.0.0/8"], fields="both")
STRANGER = Peer(b"192.0.2.7", True, 8443)
PROXY = Peer(b"10.0.0.1", True, 8443)


def upstream_section(
    headers: list[tuple[bytes, bytes]],
    *,
    peer: Peer = STRANGER,
    identity: tuple[tuple[bytes, bytes], ...] = (),
    policy: HeaderPolicy = POLICY,
) -> list[tuple[bytes, bytes]]:
    return request_headers(
        headers,
        policy=policy,
        peer=peer,
        identity=identity,
        request_id=b"i",
        host=b"u",
        client_host=b"api.test",
        forward_authorization=False,
        framing=(),
    )


def values(section: list[tuple[bytes, bytes]], name: bytes) -> list[bytes]:
    """The values of a field in every spelling that a CGI upstream folds to ``name``."""
    return [value for field, value in section if field.lower().replace(b"_", b"-") == name]


ROUTES = RouteTable([Route(path="/pub/", upstream="u", auth="public"), Route(path="/admin", upstream="u")])


@pytest.mark.parametrize(
    "target",
    [
        *(b"/pub/../admin", b"/pub/%2e%2e/admin", b"/pub/..%2fadmin", b"/pub%2f..%2fadmin", b"//admin", b"/./admin"),
        *(b"/pub/..;/admin", b"/pub/%2E%2E%2Fadmin", b"/pub/.%2e;x/admin", b"/pub/x/../../admin", b"/pub/..%5cadmin"),
        *(b"/pub//../admin", b"/;/admin", b"/pub/%00/../admin", b"/pub/\x2e\x2e/admin", b"http://h/pub/../admin"),
    ],
)
@pytest.mark.rule("C46")
def test_route_and_upstream_cannot_disagree_about_a_path(target: bytes) -> None:
    """Refused before any route is looked at."""
    with pytest.raises(GatewayError) as caught:
        parse_target("GET", target)
    assert caught.value.reason is Reasons.BAD_PATH


@pytest.mark.parametrize(
    "target", [b"/admin", b"/admin;x", b"/%61dmin", b"/admi%6E;a=b/", b"/admin/x", b"http://h/admin"]
)
@pytest.mark.rule("C46")
def test_spellings_of_a_protected_path_are_protected(target: bytes) -> None:
    """What an upstream may take for /admin needs a token."""
    route = ROUTES.match("h", "GET", parse_target("GET", target).match_path)
    assert route is not None
    assert route.auth == "required"


@pytest.mark.parametrize("target", [b"/ADMIN", b"/pub", b"/admin%2Fx", b"/%2561dmin", b"/admin%3Bx"])
@pytest.mark.rule("C46")
def test_other_paths_are_nobodys(target: bytes) -> None:
    """Letter case counts [policy]; without a route nothing is served."""
    assert ROUTES.match("h", "GET", parse_target("GET", target).match_path) is None


@pytest.mark.parametrize("identity", [(), ((b"x-user-id", b"alice"),)], ids=["without the claim", "with it"])
@pytest.mark.parametrize(
    "forged",
    [
        pytest.param([(b"X-User-Id", b"admin")], id="as configured"),
        pytest.param([(b"x-user-id", b"admin")], id="lower case"),
        pytest.param([(b"X-User-Id", b"admin"), (b"X-User-Id", b"root")], id="twice"),
        pytest.param(
            [*((b"X-Filler-%d" % n, b"1") for n in range(150)), (b"X-User-Id", b"admin")], id="150 others first"
        ),
        pytest.param([(b"X-User-Id", b"admin"), (b"Connection", b"X-User-Id")], id="nominated"),
        pytest.param([(b"X_User_Id", b"admin")], id="underscores"),
        pytest.param([(b"X-User_Id", b"admin")], id="one underscore"),
        pytest.param([(b"x_user-id", b"admin")], id="the other underscore"),
        pytest.param([(b"X-User-Id", b"admin"), (b"X_User_Id", b"admin")], id="both"),
    ],
)
@pytest.mark.rule("C51", "C52")
def test_forged_identity_never_arrives(
    forged: list[tuple[bytes, bytes]], identity: tuple[tuple[bytes, bytes], ...]
) -> None:
    """At most one line, from the verified claim."""
    section = upstream_section(forged, identity=identity)
    assert values(section, b"x-user-id") == [value for _, value in identity]
    fillers = [pair for pair in forged if pair[0].startswith(b"X-Filler")]
    assert [pair for pair in section if pair[0].startswith(b"X-Filler")] == fillers


@pytest.mark.parametrize("name", [b"X_Forwarded_For", b"X-Forwarded_For", b"x_forwarded-proto", b"X_Forwarded_User"])
@pytest.mark.rule("C52")
def test_underscore_twins_of_forwarding_fields_are_dropped(name: bytes) -> None:
    """Even from a trusted proxy, and where an application's own underscores pass."""
    passing = header_policy((), b"gw", ["10.0.0.0/8"], plain_only=False)
    for peer in (STRANGER, PROXY):
        for policy, own in ((POLICY, []), (passing, [b"1"])):
            section = upstream_section([(name, b"9.9.9.9"), (b"my_app", b"1")], peer=peer, policy=policy)
            assert b"9.9.9.9" not in [value for _, value in section]
            assert values(section, b"my-app") == own


FORGED = [
    (b"X-Forwarded-For", b"10.0.0.1"),
    (b"X-Forwarded-Proto", b"http"),
    (b"X-Forwarded-Host", b"admin.test"),
    (b"Forwarded", b"for=1.2.3.4"),
]


@pytest.mark.rule("C54")
def test_forwarding_fields_of_a_stranger_are_replaced() -> None:
    section = upstream_section(FORGED)
    assert values(section, b"x-forwarded-for") == [b"192.0.2.7"]
    assert values(section, b"x-forwarded-proto") == [b"https"]
    assert values(section, b"x-forwarded-host") == [b"api.test"]
    assert values(section, b"forwarded") == []
    assert client_address(FORGED, POLICY, STRANGER) == b"192.0.2.7"


@pytest.mark.rule("C54")
def test_forwarding_fields_of_a_trusted_proxy_are_continued_on_one_line() -> None:
    section = upstream_section([(b"X-Forwarded-For", b"203.0.113.9"), *FORGED], peer=PROXY)
    assert values(section, b"x-forwarded-for") == [b"203.0.113.9, 10.0.0.1, 10.0.0.1"]
    assert values(section, b"x-forwarded-proto") == [b"http"]
    assert values(section, b"x-forwarded-host") == [b"admin.test"]
    assert values(section, b"forwarded") == [b"for=1.2.3.4, for=10.0.0.1;host=api.test;proto=https"]


@pytest.mark.parametrize(
    ("claim", "value"),
    [
        ("Mikołaj", b"Miko%C5%82aj"),
        ("王", b"%E7%8E%8B"),
        (True, b"true"),
        (12, b"12"),
        (1.0, b"1.0"),
        (["a", "b,c"], b'["a","b,c"]'),
        ({"k": 1}, b'{"k":1}'),
        (None, None),
        ("", b""),
    ],
)
@pytest.mark.rule("C69")
def test_claim_arrives_in_its_one_coding(claim: Any, value: bytes | None) -> None:
    headers = identity_headers([HeaderRule(b"x-user-id", ("c",))], {"c": claim}, ())
    assert values(upstream_section([], identity=headers), b"x-user-id") == ([] if value is None else [value])


@pytest.mark.parametrize("claim", ["a\r\nX-Admin: 1", "a\x00b", "x" * 20_480, "é" * 10_240, ["a\r\nb"]])
@pytest.mark.rule("C69")
def test_claim_that_does_not_fit_is_refused(claim: Any) -> None:
    """Never cut off, never a second header, and the verifier answers 401."""
    with pytest.raises(UnsafeClaimError):
        identity_headers([HeaderRule(b"x-user-id", ("c",))], {"c": claim}, ())
