"""Rules R340-R359: from verified claims to the lines that a service believes."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from gateway.http1.trusted_proxies import Peer
from gateway.identity import HeaderRule, UnsafeClaimError, header_value
from gateway.upstream.headers.header_policy import compile_header_policy, fold, header_policy
from gateway.upstream.headers.rewrite import response_headers
from tests.support.composed import Settings
from tests.support.wire.heads import upstream_bytes, upstream_section
from tests.support.wire.identity_fields import identity_headers

BASE = {
    "upstreams": [{"name": "u", "urls": ["http://127.0.0.1:9000"]}],
    "routes": [{"path": "/", "upstream": "u"}],
}
POLICY = compile_header_policy(Settings.model_validate(BASE), b"gw")
DEFAULT_RULES = (
    HeaderRule(b"x-user-id", ("sub",)),
    HeaderRule(b"x-user-role", ("role",)),
    HeaderRule(b"x-scope", ("$scopes",)),
)


def identity_lines(
    client: list[tuple[bytes, bytes]], claims: dict[str, Any] | None, scopes: tuple[str, ...] = ()
) -> list[bytes]:
    """The lines of the upstream's head whose names fold to an identity header; ``claims`` None: no caller."""
    head = upstream_bytes(
        client,
        policy=POLICY,
        peer=Peer(b"192.0.2.7", False, 80),
        identity=() if claims is None else identity_headers(DEFAULT_RULES, claims, scopes),
    )
    lines = head.split(b"\r\n")[1:-2]
    return [line for line in lines if fold(line.split(b":")[0]) in POLICY.identity_names]


SPOOFS = [
    (name, b"admin")
    for name in (
        *(b"X-User-Id", b"x-user-id", b"X-USER-ID", b"X_User_Id", b"x-user_id", b"X.User.Id", b"HTTP_X_USER_ID"),
        *(b"X-User-Role", b"X_USER_ROLE", b"X-Scope", b"x_scope", b"X~Scope", b"X-User-Id"),
    )
]


@pytest.mark.rule("R340", "R341", "R344")
def test_only_the_gateway_says_who_is_asking() -> None:
    """No caller; a caller without the claims; a caller with them, exactly once."""
    assert identity_lines(SPOOFS, None) == []
    assert identity_lines(SPOOFS, {}) == []
    assert identity_lines(SPOOFS, {"sub": "alice", "role": "user"}, ("read", "write")) == [
        b"x-user-id: alice",
        b"x-user-role: user",
        b"x-scope: read write",
    ]


@pytest.mark.parametrize("name", [b"Transfer_Encoding", b"Content_Length", b"X_Forwarded_For", b"X_User_Id", b"H_ost"])
@pytest.mark.rule("R342")
def test_underscore_names_that_fold_to_a_protected_one_are_dropped(name: bytes) -> None:
    """CVE-2025-64484: those even where the configuration lets others pass, as applications use them."""
    section = upstream_section(
        [(name, b"x"), (b"my_header", b"y")],
        policy=header_policy(("x-user-id",), b"gw", plain_only=False),
        peer=Peer(b"192.0.2.7", False, 80),
    )
    names = [pair[0] for pair in section]
    assert b"my_header" in names
    assert (name in names) is (name == b"H_ost")


@pytest.mark.rule("R345")
def test_connection_neither_removes_nor_adds_identity() -> None:
    client = [(b"Connection", b"X-User-Id, x-scope, x_user_role"), *SPOOFS]
    assert identity_lines(client, {"sub": "alice"}, ("read",)) == [b"x-user-id: alice", b"x-scope: read"]


@pytest.mark.parametrize("value", ["a\r\nX-Admin: 1", "a\x00b", "a\nb", "\x7f", "\x85", "\ud800", "é\r"])
@pytest.mark.rule("R346", "R348")
def test_claim_never_splits_a_head(value: str) -> None:
    """Refused, which the verifier turns into 401."""
    for claims in ({"sub": value}, {"sub": "alice", "role": [value]}):
        with pytest.raises(UnsafeClaimError):
            identity_lines([], claims)
    with pytest.raises(UnsafeClaimError):
        identity_lines([], {"sub": "alice"}, (value,))


@pytest.mark.parametrize(
    ("claim", "line"),
    [
        pytest.param("Ångström", b"x-user-role: %C3%85ngstr%C3%B6m", id="R347"),
        pytest.param(" admin", b"x-user-role: %20admin", id="R349 space"),
        pytest.param("", b"x-user-role: ", id="R349 empty"),
        pytest.param("a,b", b"x-user-role: a,b", id="R349 comma"),
        pytest.param(["a,b", "c"], b'x-user-role: ["a,b","c"]', id="R349 list"),
        pytest.param(None, None, id="R350 null"),
        pytest.param(True, b"x-user-role: true", id="R351 true"),
        pytest.param(1.0, b"x-user-role: 1.0", id="R351 1.0"),
        pytest.param(1e3, b"x-user-role: 1000.0", id="R351 1e3"),
        pytest.param(2**53 + 1, b"x-user-role: 9007199254740993", id="R351 integer"),
        pytest.param(["a", "b"], b"x-user-role: a,b", id="R351 list"),
        pytest.param({"a": 1}, b'x-user-role: {"a":1}', id="R351 object"),
    ],
)
@pytest.mark.rule("R347", "R349", "R350", "R351")
def test_every_kind_of_claim_has_one_form(claim: Any, line: bytes | None) -> None:
    assert identity_lines([], {"role": claim}) == ([] if line is None else [line])


@pytest.mark.rule("R352")
def test_nested_claims_of_wrong_types_are_absent() -> None:
    rules = [HeaderRule(b"x-roles", ("realm_access", "roles"))]
    assert identity_headers(rules, {"realm_access": "x"}, ()) == ()
    assert identity_headers(rules, {"realm_access": {"roles": {"0": "a"}}}, ()) == ((b"x-roles", b'{"0":"a"}'),)


@pytest.mark.rule("R353")
def test_too_many_groups_are_refused_and_never_cut() -> None:
    with pytest.raises(UnsafeClaimError):
        identity_lines([], {"role": [f"group-{number}" for number in range(5000)]})
    with pytest.raises(UnsafeClaimError):
        identity_lines([], {"sub": "alice"}, tuple(f"scope-{number}" for number in range(5000)))


@pytest.mark.rule("R354")
def test_issuer_can_stand_beside_the_subject() -> None:
    """With several issuers a subject alone is not unique; $issuer tells them apart."""
    rules = [HeaderRule(b"x-user-id", ("sub",)), HeaderRule(b"x-issuer", ("$issuer",))]
    one = identity_headers(rules, {"iss": "https://a/", "sub": "alice"}, ())
    other = identity_headers(rules, {"iss": "https://b/", "sub": "alice"}, ())
    assert one[0] == other[0]
    assert one[1] != other[1]


@pytest.mark.rule("R358")
def test_identity_headers_of_an_answer_are_the_upstreams_own() -> None:
    """Answers pass untouched; what an upstream says to the client is its decision."""
    assert response_headers([(b"X-User-Id", b"alice")], b"gw")[0] == (b"X-User-Id", b"alice")


@pytest.mark.parametrize(
    "name",
    [
        *("Content-Length", "content_length", "Transfer-Encoding", "Host", "Connection", "TE", "Upgrade", "Via"),
        *("Authorization", "X-Forwarded-For", "x_forwarded_for", "X-Request-Id", "Keep-Alive", "Proxy-Authorization"),
        *("X Y", "X:Y", "", "X\r\n", "é"),
    ],
)
@pytest.mark.rule("R277", "R359")
def test_configured_names_that_would_break_requests_are_refused(name: str) -> None:
    """At start, in every spelling."""
    with pytest.raises(ValidationError):
        Settings.model_validate(BASE | {"identity": {name: "sub"}})


@pytest.mark.rule("R095")
def test_actor_is_not_the_subject() -> None:
    """act.sub names who acts for the subject; the identity is the subject's."""
    assert identity_lines([], {"sub": "alice", "act": {"sub": "admin"}}) == [b"x-user-id: alice"]


@pytest.mark.rule("R349", "R351")
def test_values_that_look_alike_stay_apart_by_type() -> None:
    """Within a claim of one type, no two values have one coding."""
    lists = [[], ["a"], ["a", "b"], ["a,b"], ["a", " b"], ["ab"], ["a", "b", ""]]
    assert len({header_value(value) for value in lists}) == len(lists)
    numbers = [0, 1, 1.5, -1, 2**53, 2**53 + 1, 10**30]
    assert len({header_value(value) for value in numbers}) == len(numbers)
