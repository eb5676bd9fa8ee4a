"""gateway/jwt/claims/rules.py: the rule on time, the identity, and what operators read."""

from __future__ import annotations

import math
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import pytest

from gateway.errors import GatewayError, Reason, Reasons
from gateway.jwt.claims.rules import check_claims, is_current, unknown_issuer
from gateway.jwt.jose.compact import parse_token
from tests.support.composed import Route
from tests.support.tokens.minting import SigningKey, good_claims, mint
from tests.support.tokens.verifying import DEFAULT_POLICY, NOW, accepted, judge_claims, make_policy

MARKER = "marker-of-a-claim"


@pytest.mark.parametrize(
    ("now", "reason"),
    [
        (69.9, Reasons.NOT_YET_VALID),
        (70, None),
        (100, None),
        (229.9, None),
        (230, Reasons.EXPIRED),
        (1e9, Reasons.EXPIRED),
    ],
)
@pytest.mark.rule("R078", "R081", "R181", "R182", "C14")
def test_one_rule_on_time_for_cold_and_warm(now: float, reason: Reason | None) -> None:
    """Not before 100, expires at 200, leeway 30."""
    assert is_current(200, 100, 30, now) is reason


@pytest.mark.rule("R079")
def test_infinite_times_never_end() -> None:
    assert is_current(math.inf, -math.inf, 30, 1e12) is None
    assert is_current(-math.inf, -math.inf, 30, 0) is Reasons.EXPIRED
    assert is_current(math.inf, math.inf, 30, 1e12) is Reasons.NOT_YET_VALID


@pytest.mark.rule("R187", "R191", "R350")
def test_an_identity_holds_what_routes_and_upstreams_need() -> None:
    """The kept claims are those that some route looks at, frozen."""
    policy = make_policy(
        routes=[
            Route(path="/a", upstream="orders", claims={"role": "admin"}),
            Route(path="/b", upstream="orders", claims={"groups": ["x"], "role": ["y"]}),
        ]
    )
    identity = accepted(
        judge_claims(policy=policy, role="admin", groups=["a", {"b": 1}], email="a@b.test", jti="7", nbf=NOW - 1)
    )
    assert identity.issuer_name == "main"
    assert identity.issuer == "https://idp.test/"
    assert identity.subject == "alice"
    assert identity.scopes == ("read", "write")
    assert identity.claims == {"role": "admin", "groups": ("a", {"b": 1})}
    assert isinstance(identity.claims, MappingProxyType)
    assert identity.headers == ((b"x-user-id", b"alice"), (b"x-user-role", b"admin"), (b"x-scope", b"read write"))
    assert (identity.expires_at, identity.not_before, identity.token_id) == (NOW + 600, NOW - 1, "7")


@pytest.mark.rule("R350")
def test_what_is_absent_is_absent() -> None:
    """No kept claim, no role header, no nbf, no jti."""
    identity = accepted(judge_claims())
    assert dict(identity.claims) == {}
    assert [name for name, _ in identity.headers] == [b"x-user-id", b"x-scope"]
    assert identity.not_before == -math.inf
    assert identity.token_id is None


@pytest.mark.parametrize("jti", [5, None, ["x"], {}])
@pytest.mark.rule("R034")
def test_a_jti_that_is_no_text_is_no_id(jti: object) -> None:
    """The token is good; it just cannot be distinguished by it."""
    assert accepted(judge_claims(jti=jti)).token_id is None


@pytest.mark.parametrize("role", ["a\r\nX-Admin: 1", "a\0b", "\x7f", "x" * 8193, ["a", "b\n"]])
@pytest.mark.rule("R346", "C69")
def test_claims_that_cannot_be_headers_refuse_the_token(role: object) -> None:
    assert judge_claims(role=role) is Reasons.UNSAFE_CLAIM


@pytest.mark.rule("C97")
def test_a_scope_with_a_space_does_not_read_as_two() -> None:
    """One scope to routes, and one to services that split the header at spaces."""
    identity = accepted(judge_claims(scope=["read", "admin all"]))
    assert identity.scopes == ("read", "admin all")
    assert dict(identity.headers)[b"x-scope"].split(b" ") == [b"read", b"admin%20all"]


@pytest.mark.rule("C94", "R197")
def test_both_issuers_are_shown_to_operators() -> None:
    """Quoted, escaped and cut, because one side is foreign text."""
    detail = unknown_issuer("https://idp.test", {"https://idp.test/", "https://b.test"}).detail
    assert "'https://idp.test'" in detail
    assert "'https://idp.test/'" in detail
    odd = unknown_issuer("x\r\n\x1b" * 1000, {"https://idp.test/"}).detail
    assert odd.isprintable()
    assert len(odd) < 300
    assert "none" in unknown_issuer(None, ["x"]).detail


@pytest.mark.parametrize("claim", ["aud", "sub", "exp", "nbf", "iat", "cnf", "events", "token_use"])
@pytest.mark.rule("R196")
def test_no_detail_quotes_a_claim(claim: str) -> None:
    """Whatever is wrong, the log shows the claim's name and not its value."""
    policy = make_policy({"required_claims": ["exp", "sub", "azp"], "claims": {"token_use": "access"}})
    good = {"azp": "x", "token_use": "access"}
    bad = good | {claim: {"urn:x": MARKER}}
    token = parse_token(mint(SigningKey.ec(), good_claims(NOW, **bad)), 8192)
    with pytest.raises(GatewayError) as caught:
        check_claims(token, policy, NOW)
    assert MARKER not in caught.value.detail + str(caught.value)
    check_claims(parse_token(mint(SigningKey.ec(), good_claims(NOW, **good)), 8192), policy, NOW)


def test_the_default_policy_is_the_contracts() -> None:
    """RS256 and ES256, exp and sub, 30 s, one day."""
    assert DEFAULT_POLICY.algorithms == {"RS256", "ES256"}
    assert DEFAULT_POLICY.required_claims == ("exp", "sub")
    assert (DEFAULT_POLICY.leeway, DEFAULT_POLICY.max_lifetime) == (30, 86400)


@pytest.mark.rule("R340")
def test_tenant_is_the_policys_word_and_no_claims() -> None:
    """For headers and for rules alike, whatever the token says."""
    routes = [Route(path="/", upstream="orders", claims={"$tenant": "acme", "role": "admin"})]
    policy = make_policy(routes=routes, identity={"x-tenant": "$tenant"})
    spoofed: dict[str, Any] = {"$tenant": "acme"}
    identity = accepted(judge_claims(policy=policy, **spoofed))
    assert (identity.tenant, dict(identity.claims), identity.headers) == (None, {}, ())
    identity = accepted(judge_claims(policy=replace(policy, tenant="other"), **spoofed))
    assert identity.tenant == identity.claims["$tenant"] == "other"
    assert identity.headers == ((b"x-tenant", b"other"),)
