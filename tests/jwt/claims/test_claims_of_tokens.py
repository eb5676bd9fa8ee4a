"""Rules R085-R097 of the checklist: issuer, audience, subject, scopes, and what is no access token."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

from gateway.errors import GatewayError, Reasons
from gateway.identity import HeaderRule, find_claim
from gateway.jwt.claims import rules as claims_module
from gateway.jwt.jose import compact as verify_module
from gateway.jwt.jose import keys as keys_module
from gateway.jwt.jose.compact import Unverified
from tests.support.tokens.minting import ABSENT
from tests.support.tokens.verifying import accepted, judge_claims, make_policy

NO_HEADERS = make_policy(identity={})


@pytest.mark.parametrize(
    "iss",
    [
        *(ABSENT, None, 5, ["https://idp.test/"], "", "https://idp.test", "https://IDP.test/", "https://idp.test/x"),
        *("https://idp.test.evil/", "https://idp.test//", " https://idp.test/", "http://169.254.169.254/"),
    ],
)
@pytest.mark.rule("R085", "R086", "C94")
def test_iss_is_exact(iss: Any) -> None:
    """Nothing is normalised."""
    assert judge_claims(iss=iss) is Reasons.UNKNOWN_ISSUER


@pytest.mark.parametrize("aud", ["api", ["api"], ["x", "api"], ["api", "api"]])
@pytest.mark.rule("R087", "C18")
def test_the_audience_is_one_of_the_tokens(aud: Any) -> None:
    accepted(judge_claims(aud=aud))


@pytest.mark.parametrize("aud", ["ap", "myapi2", "api2", "API", "", [], ["x"], "x api", [""], "api "])
@pytest.mark.rule("R087", "C18")
def test_another_audience_is_refused(aud: Any) -> None:
    assert judge_claims(aud=aud) is Reasons.WRONG_AUDIENCE


@pytest.mark.parametrize("aud", [1, ["a", 1], ["api", 1], {}, {"api": 1}, [["api"]], True, ["api", None]])
@pytest.mark.rule("R088", "C18")
def test_an_audience_of_another_type_is_refused(aud: Any) -> None:
    """Also when the right one is among it."""
    assert judge_claims(aud=aud) is Reasons.BAD_CLAIM_TYPE


@pytest.mark.rule("R087")
def test_the_audience_is_required() -> None:
    """Whatever required_claims says."""
    policy = make_policy({"required_claims": []})
    assert judge_claims(aud=ABSENT, policy=policy) is Reasons.MISSING_CLAIM
    assert judge_claims(aud=None, policy=policy) is Reasons.MISSING_CLAIM


@pytest.mark.rule("R087", "R090")
def test_another_claim_may_name_the_audience() -> None:
    """For issuers without aud; with the same strictness."""
    policy = make_policy({"audience_claim": "client_id"})
    accepted(judge_claims(client_id="api", aud=ABSENT, policy=policy))
    assert judge_claims(client_id="other", policy=policy) is Reasons.WRONG_AUDIENCE
    assert judge_claims(client_id={"api": 1}, policy=policy) is Reasons.BAD_CLAIM_TYPE
    assert judge_claims(policy=policy) is Reasons.MISSING_CLAIM


@pytest.mark.parametrize("sub", ["", 5, None, True, [], ["alice"], {"a": 1}])
@pytest.mark.rule("R089")
def test_sub_is_text(sub: Any) -> None:
    """Also where it is not required."""
    assert judge_claims(sub=sub) is Reasons.BAD_CLAIM_TYPE
    assert judge_claims(sub=sub, policy=make_policy({"required_claims": ["exp"]})) is Reasons.BAD_CLAIM_TYPE


@pytest.mark.rule("R089")
def test_sub_is_required_unless_configured_otherwise() -> None:
    assert judge_claims(sub=ABSENT) is Reasons.MISSING_CLAIM
    assert accepted(judge_claims(sub=ABSENT, policy=make_policy({"required_claims": ["exp"]}))).subject is None


@pytest.mark.rule("R075", "R090")
def test_required_claims_are_there_and_not_null() -> None:
    """False, zero and empty are values."""
    policy = make_policy({"required_claims": ["exp", "azp"]})
    for nothing in (ABSENT, None):
        assert judge_claims(azp=nothing, policy=policy) is Reasons.MISSING_CLAIM
    values: list[Any] = ["x", 0, False, "", []]
    for value in values:
        accepted(judge_claims(azp=value, policy=policy))


@pytest.mark.parametrize(
    ("expected", "right", "wrong"),
    [
        ("access", ["access"], ["id", "Access", "", None, True, ["access"], {"access": 1}, ABSENT]),
        (1, [1, 1.0], [True, "1", 2, None, [1], ABSENT]),
        (True, [True], [1, "true", False, None, ABSENT]),
        (False, [False], [0, "", None, [], ABSENT]),
        ("", [""], [None, False, ABSENT]),
    ],
)
@pytest.mark.rule("R090", "C87")
def test_exact_claims_compare_value_and_type(expected: Any, right: list[Any], wrong: list[Any]) -> None:
    """A claim rule per issuer, such as token_use = "access"."""
    policy = make_policy({"claims": {"token_use": expected}})
    for value in right:
        accepted(judge_claims(token_use=value, policy=policy))
    for value in wrong:
        assert judge_claims(token_use=value, policy=policy) is Reasons.WRONG_CLAIM


@pytest.mark.parametrize(
    ("claims", "scopes"),
    [
        ({"scope": "read write"}, ("read", "write")),
        ({"scope": ["read", "write"]}, ("read", "write")),
        ({"scope": "a\tb"}, ("a\tb",)),
        ({"scope": " read  write "}, ("read", "write")),
        ({"scope": ""}, ()),
        ({"scope": 5}, ()),
        ({"scope": {"read": 1}}, ()),
        ({"scope": True}, ()),
        ({"scope": ["read", 5]}, ()),
        ({"scope": ["read write", "", "x"]}, ("read write", "x")),
        ({"scope": None, "scp": "read"}, ("read",)),
        ({"scp": "read"}, ("read",)),
        ({"scp": ["read"]}, ("read",)),
        ({"scopes": ["read"]}, ("read",)),
        ({"scope": "read", "scp": "write"}, ("read",)),
        ({"scope": "", "scp": "write"}, ()),
        ({"scope": 5, "scp": "write"}, ()),
        ({}, ()),
    ],
)
@pytest.mark.rule("R091", "C97")
def test_scopes_are_exact_tokens(claims: dict[str, Any], scopes: tuple[str, ...]) -> None:
    """The first claim present decides; nothing raises and nothing is guessed."""
    assert accepted(judge_claims(policy=NO_HEADERS, **{"scope": ABSENT, **claims})).scopes == scopes


@pytest.mark.rule("R093")
def test_claims_are_addressed_by_path_not_by_spelling() -> None:
    """A dot or a slash in a name is no step."""
    policy = make_policy(
        identity={"x-roles": ["https://x/roles"], "x-realm": ["realm_access", "roles"], "x-odd": "realm_access.roles"}
    )
    token: dict[str, Any] = {"https://x/roles": "a", "realm_access": {"roles": ["b", "c"]}}
    assert accepted(judge_claims(policy=policy, **token)).headers == ((b"x-roles", b"a"), (b"x-realm", b"b,c"))
    assert policy.header_rules[1] == HeaderRule(b"x-realm", ("realm_access", "roles"))
    assert find_claim(token, ("realm_access", "roles", "0")) is None


@pytest.mark.rule("R095")
def test_the_actor_is_not_the_subject() -> None:
    identity = accepted(judge_claims(act={"sub": "admin"}, may_act={"sub": "root"}))
    assert identity.subject == "alice"
    assert (b"x-user-id", b"alice") in identity.headers


@pytest.mark.parametrize("cnf", [{"jkt": "x"}, {"x5t#S256": "x"}, {"kid": "x"}, {}, "x", False, 0, []])
@pytest.mark.rule("R096")
def test_a_binding_that_cannot_be_checked_is_no_bearer_token(cnf: Any) -> None:
    """The token does not pass at all."""
    assert judge_claims(cnf=cnf) is Reasons.SENDER_CONSTRAINED


@pytest.mark.rule("R096", "R133", "R139")
def test_a_binding_that_can_be_checked_is_kept_with_the_caller() -> None:
    """Who asks for the proof finds it there."""
    thumbprint = "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"
    identity = accepted(judge_claims(cnf={"jkt": thumbprint}))
    assert identity.confirmation == (thumbprint, None)
    assert accepted(judge_claims(cnf=None)).confirmation is None


LOGOUT: dict[str, Any] = {"http://schemas.openid.net/event/backchannel-logout": {}}


@pytest.mark.parametrize("events", [LOGOUT, {"urn:example:event": {}}, {"x": 1, "https://e.test/": None}])
@pytest.mark.rule("R050")
def test_security_events_are_no_access_tokens(events: Any) -> None:
    """Logout tokens and SETs, also those without their own typ."""
    assert judge_claims(events=events) is Reasons.TYPE_REFUSED


@pytest.mark.parametrize("events", [{}, {"concert": 1}, ["http://x"], "http://x", None, 5])
@pytest.mark.rule("R050")
def test_other_claims_of_that_name_are_nobodys_business(events: Any) -> None:
    accepted(judge_claims(events=events))


@pytest.mark.rule("R049", "C87")
def test_id_tokens_fail_by_their_audience_or_type() -> None:
    """Nonce and at_hash alone tell nothing."""
    extra: dict[str, Any] = {"nonce": "n", "at_hash": "h"}
    assert judge_claims(aud="client", **extra) is Reasons.WRONG_AUDIENCE
    assert judge_claims(policy=make_policy({"token_type": "at+jwt"}), **extra) is Reasons.TYPE_REFUSED
    assert (
        judge_claims(policy=make_policy({"claims": {"token_use": "access"}}), token_use="id", **extra)
        is Reasons.WRONG_CLAIM
    )
    accepted(judge_claims(**extra))


@pytest.mark.rule("R097")
def test_no_secret_is_compared_here() -> None:
    """Signatures are checked with public keys; there is no secret whose comparison could be timed."""
    for module in (verify_module, claims_module, keys_module):
        assert "hmac" not in inspect.getsource(module)
    for name in ("HS256", "HS384", "HS512", "none"):
        with pytest.raises(GatewayError) as caught:
            verify_module.verify_signature(Unverified(name, None, None, {}, None, b"", b""), ())
        assert caught.value.reason is Reasons.ALGORITHM_REFUSED
