"""Rules R070-R084 of the checklist: the payload as a whole, and the times in it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import ValidationError

from gateway.errors import Reasons
from tests.support.tokens.minting import ABSENT, SigningKey, good_claims, mint_raw
from tests.support.tokens.verifying import NOW, accepted, judge, judge_claims, make_policy

KEY = SigningKey.ec("a")
HEADER = b'{"alg":"ES256","kid":"a"}'
WRONG_TIMES: list[Any] = ["123", "1999999999", True, False, None, [], [1], {}, {"a": 1}]


def raw(*replacements: tuple[str, str], now: float = NOW) -> Any:
    """Judge good claims with pieces of their text replaced, for values that Python would not write."""
    text = json.dumps(good_claims(NOW))
    for old, new in replacements:
        assert old in text
        text = text.replace(old, new)
    return judge(mint_raw(KEY, HEADER, text.encode()), KEY, now=now)


@pytest.mark.parametrize("payload", [b"[]", b'"x"', b"1", b"null", b"{}x", b"{", b"true", b"\0", b" "])
@pytest.mark.rule("R070")
def test_a_payload_is_one_object(payload: bytes) -> None:
    assert judge(mint_raw(KEY, HEADER, payload), KEY) is Reasons.BAD_PAYLOAD


@pytest.mark.rule("R070", "R065")
def test_an_empty_payload_is_no_token() -> None:
    assert judge(mint_raw(KEY, HEADER, b""), KEY) is Reasons.NOT_A_JWS


@pytest.mark.parametrize("name", ["sub", "exp", "x"])
@pytest.mark.rule("R071")
def test_repeated_claims_are_refused(name: str) -> None:
    """Equal values or not, and inside a claim too."""
    for payload in (
        f'{{"{name}":1,"{name}":1}}',
        f'{{"{name}":1,"b":2,"{name}":3}}',
        f'{{"c":{{"{name}":1,"{name}":2}}}}',
    ):
        assert judge(mint_raw(KEY, HEADER, payload.encode()), KEY) is Reasons.DUPLICATE_MEMBER


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", "1e400", "-1e400", "1e999"])
@pytest.mark.parametrize("claim", ["exp", "iat", "x"])
@pytest.mark.rule("R072", "C12")
def test_numbers_are_finite(value: str, claim: str) -> None:
    """Also in claims that are not looked at."""
    old = {"exp": f'"exp": {int(NOW) + 600}', "iat": f'"iat": {int(NOW)}', "x": '"sub"'}[claim]
    new = f'"x": {value}, "sub"' if claim == "x" else f'"{claim}": {value}'
    assert raw((old, new)) is Reasons.BAD_PAYLOAD


@pytest.mark.parametrize("depth", [64, 5000 // 2])
@pytest.mark.rule("R074")
def test_deep_payloads_are_refused(depth: int) -> None:
    """Of a validly signed token."""
    assert raw(('"sub"', '"x": ' + "[" * depth + "]" * depth + ', "sub"')) is Reasons.BAD_PAYLOAD


@pytest.mark.rule("R075", "C16")
def test_exp_is_required_unless_configured_otherwise() -> None:
    assert judge_claims(exp=ABSENT) is Reasons.MISSING_CLAIM
    identity = accepted(judge_claims(exp=ABSENT, policy=make_policy({"required_claims": ["sub"]})))
    assert identity.expires_at == float("inf")


@pytest.mark.parametrize("value", WRONG_TIMES)
@pytest.mark.parametrize("claim", ["exp", "nbf", "iat"])
@pytest.mark.rule("R076", "C13")
def test_times_are_numbers(claim: str, value: Any) -> None:
    """True is not 1, null is not absent; whether required or not."""
    assert judge_claims(**{claim: value}) is Reasons.BAD_CLAIM_TYPE
    lenient = make_policy({"required_claims": []})
    assert judge_claims(policy=lenient, **{claim: value}) is Reasons.BAD_CLAIM_TYPE


@pytest.mark.rule("R077", "C13")
def test_fractions_count() -> None:
    """Nothing is rounded up."""
    exact = make_policy({"leeway_seconds": 0})
    assert accepted(judge_claims(now=NOW + 0.4, exp=NOW + 0.5, policy=exact)).expires_at == NOW + 0.5
    assert judge_claims(now=NOW + 0.5, exp=NOW + 0.5, policy=exact) is Reasons.EXPIRED
    assert judge_claims(now=NOW + 30.6, exp=NOW + 0.5) is Reasons.EXPIRED


@pytest.mark.parametrize(
    ("leeway", "exp", "valid"), [(0, 0, False), (0, 1, True), (30, -29, True), (30, -30, False), (30, -31, False)]
)
@pytest.mark.rule("R078", "C14")
def test_the_moment_of_expiry(leeway: int, exp: int, valid: bool) -> None:
    """Valid only while now < exp + leeway."""
    result = judge_claims(exp=int(NOW) + exp, policy=make_policy({"leeway_seconds": leeway}))
    assert (result is not Reasons.EXPIRED) == valid
    if valid:
        accepted(result)


@pytest.mark.parametrize("value", ["1e30", "1" + "0" * 50, "1" + "0" * 300, "1" + "0" * 400, "1800000600000"])
@pytest.mark.rule("R079", "C12")
def test_far_times_are_refused_without_overflow(value: str) -> None:
    """Milliseconds taken for seconds among them."""
    exp = f'"exp": {int(NOW) + 600}'
    assert raw((exp, f'"exp": {value}')) is Reasons.LIFETIME_TOO_LONG
    assert raw((f'"iat": {int(NOW)}', f'"iat": {value}')) is Reasons.ISSUED_IN_FUTURE
    assert raw((exp, f'{exp}, "nbf": {value}')) is Reasons.NOT_YET_VALID
    assert raw((f'"iat": {int(NOW)}', f'"iat": -{value}')) is Reasons.LIFETIME_TOO_LONG
    assert raw((exp, f'"exp": -{value}')) is Reasons.EXPIRED


@pytest.mark.rule("R079")
def test_without_a_lifetime_bound_far_times_are_kept_as_numbers() -> None:
    """What a cache computes with is a float, infinite at most."""
    unlimited = make_policy({"max_lifetime_seconds": 0})
    assert accepted(judge_claims(exp=10**400, policy=unlimited)).expires_at == float("inf")
    assert accepted(judge_claims(exp=10**300, nbf=-(10**400), policy=unlimited)).not_before == float("-inf")


@pytest.mark.parametrize("value", [-1, 0, -0.0, 1])
@pytest.mark.rule("R080")
def test_early_times_are_past(value: float) -> None:
    assert judge_claims(exp=value) is Reasons.EXPIRED


@pytest.mark.rule("R081")
def test_nbf_has_leeway() -> None:
    assert judge_claims(nbf=NOW + 31) is Reasons.NOT_YET_VALID
    for nbf in (NOW + 30, NOW + 29, NOW - 5, 0):
        assert accepted(judge_claims(nbf=nbf)).not_before == nbf


@pytest.mark.rule("R082")
def test_iat_may_be_a_little_ahead() -> None:
    accepted(judge_claims(iat=NOW + 2))
    accepted(judge_claims(iat=NOW + 30, exp=NOW + 60))
    assert judge_claims(iat=NOW + 31) is Reasons.ISSUED_IN_FUTURE
    assert judge_claims(iat=NOW + 3600, exp=NOW + 7200) is Reasons.ISSUED_IN_FUTURE


@pytest.mark.rule("R083")
def test_the_lifetime_is_bounded() -> None:
    """From iat, or from now without it; so no token is older than the bound either."""
    accepted(judge_claims(exp=NOW + 86400))
    assert judge_claims(exp=NOW + 86401) is Reasons.LIFETIME_TOO_LONG
    assert judge_claims(iat=NOW - 2 * 86400) is Reasons.LIFETIME_TOO_LONG
    accepted(judge_claims(iat=ABSENT, exp=NOW + 86400))
    assert judge_claims(iat=ABSENT, exp=NOW + 86401) is Reasons.LIFETIME_TOO_LONG
    accepted(judge_claims(iat=NOW - 2 * 86400, policy=make_policy({"max_lifetime_seconds": 0})))


@pytest.mark.rule("R084")
def test_leeway_is_bounded() -> None:
    for leeway in (301, 3600, -1):
        with pytest.raises(ValidationError):
            make_policy({"leeway_seconds": leeway})
