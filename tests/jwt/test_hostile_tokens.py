"""Public bug reports C01-C25 (token) and C95 as cases: each is the smallest input of a fault that others had.

What a case says about the token alone is judged here on the whole synchronous
path; what it says about fetching and HTTP is tested where those are.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.errors import GatewayError, Reasons
from gateway.jwt.jose.compact import parse_token
from tests.support.tokens.minting import ABSENT, SigningKey, b64, good_claims, mint, mint_raw, unb64
from tests.support.tokens.verifying import NOW, accepted, is_bad_credential, judge, judge_claims, make_policy

KEY = SigningKey.rsa("a")
CLAIMS = good_claims(NOW)
KIDS_OF_OTHER_TYPES: list[Any] = [1, ["a"], {}]


@pytest.mark.parametrize("form", ["pem", "der", "jwk"])
@pytest.mark.rule("C01")
def test_hmac_signed_with_the_public_key(form: str) -> None:
    secret = {
        "pem": KEY.public_bytes(),
        "der": b64(KEY.public_bytes()),
        "jwk": json.dumps(KEY.public_jwk()).encode(),
    }[form]
    assert is_bad_credential(judge(mint(SigningKey.hmac("a", secret), CLAIMS), KEY))


@pytest.mark.parametrize("alg", ["none", "None", "NONE", "nOnE", ""])
@pytest.mark.parametrize("signature", [b"", b"anVuaw"])
@pytest.mark.rule("C02")
def test_unsecured_tokens(alg: str, signature: bytes) -> None:
    token = b64(json.dumps({"alg": alg}).encode()) + b"." + b64(json.dumps(CLAIMS).encode()) + b"." + signature
    assert is_bad_credential(judge(token, KEY))


@pytest.mark.parametrize("kid", ["a", ABSENT])
@pytest.mark.rule("C03")
def test_a_key_smuggled_in_the_header(kid: object) -> None:
    attacker = SigningKey.rsa("a", variant=7)
    token = mint(attacker, CLAIMS, header={"kid": kid, "jwk": attacker.public_jwk()})
    assert is_bad_credential(judge(token, KEY))


@pytest.mark.parametrize(
    "header",
    [{"crit": ["x"], "x": 1}, {"crit": []}, {"crit": "x"}, {"crit": ["exp"]}, {"crit": ["b64"], "b64": False}],
)
@pytest.mark.rule("C04", "C05")
def test_critical_members_refuse_and_unknown_ones_do_not(header: dict[str, Any]) -> None:
    """Together."""
    assert is_bad_credential(judge(mint(KEY, CLAIMS, header=header), KEY))
    accepted(judge(mint(KEY, CLAIMS, header={"cat": "cl_1", "x": 1}), KEY))


@pytest.mark.parametrize(
    "token",
    [
        *[b"X", b"a.b", b"a.b.c.d", b"..", b"e30.e30.", "é.é.é".encode(), b"A" * 30_000],
        *[b64(header) + b".e30.AAAA" for header in (b"[1]", b'"x"', b"junk", b"\xff\xfe", b"{")],
    ],
)
@pytest.mark.rule("C06")
def test_junk_after_bearer(token: bytes) -> None:
    assert is_bad_credential(judge(token, KEY))


@pytest.mark.parametrize(
    "header",
    [{}, {"alg": 1}, {"alg": ["RS256"]}, *({"alg": "RS256", "kid": kid} for kid in KIDS_OF_OTHER_TYPES)],
)
@pytest.mark.rule("C08")
def test_header_members_of_other_types(header: dict[str, Any]) -> None:
    assert is_bad_credential(judge(mint_raw(KEY, json.dumps(header).encode(), json.dumps(CLAIMS).encode()), KEY))
    assert is_bad_credential(judge(mint(KEY, CLAIMS, header={"typ": 1}), KEY))


@pytest.mark.rule("C09")
def test_kid_null_is_absent() -> None:
    accepted(judge(mint(KEY, CLAIMS, header={"kid": None}), KEY))


@pytest.mark.parametrize("typ", [ABSENT, "JWT", "jwt", "at+jwt", "application/at+jwt", "AT+JWT"])
@pytest.mark.rule("C10")
def test_typ_is_loose(typ: object) -> None:
    accepted(judge(mint(KEY, CLAIMS, header={"typ": typ}), KEY))


@pytest.mark.parametrize("text", ["Infinity", "1e999", "NaN", "1" + "0" * 50])
@pytest.mark.parametrize("claim", ["exp", "nbf"])
@pytest.mark.rule("C12")
def test_times_that_are_no_moments(text: str, claim: str) -> None:
    claims = json.dumps(good_claims(NOW, **{claim: "@"})).replace('"@"', text)
    assert is_bad_credential(judge(mint_raw(KEY, b'{"alg":"RS256","kid":"a"}', claims.encode()), KEY))


@pytest.mark.parametrize("value", [True, "1999999999", [1], {}, None])
@pytest.mark.parametrize("claim", ["exp", "nbf", "iat"])
@pytest.mark.rule("C13")
def test_times_of_other_types(claim: str, value: Any) -> None:
    """And a fraction is legal."""
    assert is_bad_credential(judge_claims(**{claim: value}))
    accepted(judge_claims(exp=NOW + 600.5))


@pytest.mark.parametrize(("leeway", "exp", "good"), [(0, 0, False), (0, 1, True), (30, -29, True), (30, -30, False)])
@pytest.mark.rule("C14")
def test_the_expiry_boundary(leeway: int, exp: int, good: bool) -> None:
    verdict = judge_claims(exp=int(NOW) + exp, policy=make_policy({"leeway_seconds": leeway}))
    assert is_bad_credential(verdict) is not good


@pytest.mark.rule("C16")
def test_no_exp() -> None:
    """Refused, or allowed for one issuer."""
    assert is_bad_credential(judge_claims(exp=ABSENT))
    accepted(judge_claims(exp=ABSENT, policy=make_policy({"required_claims": ["sub"]})))


@pytest.mark.parametrize("aud", ["myapi2", "api2", "", [], {"api": 1}, [["api"]], ABSENT])
@pytest.mark.rule("C18")
def test_audience_by_equality(aud: Any) -> None:
    assert is_bad_credential(judge_claims(aud=aud))
    for good in ("api", ["x", "api"]):
        accepted(judge_claims(aud=good))
    accepted(judge_claims(aud=["x", "b"], policy=make_policy({"audience": ["a", "b"]})))


@pytest.mark.rule("C23")
def test_one_token_has_one_spelling() -> None:
    """Spare bits, padding, the other alphabet, a line break."""
    token = mint(KEY, CLAIMS)
    while not (b"-" in token.rpartition(b".")[2] and b"_" in token.rpartition(b".")[2]):
        token = mint(KEY, good_claims(NOW, jti=token[-20:].decode()))
    body, _, signature = token.rpartition(b".")
    assert len(signature) % 4 == 2
    spare = signature[:-1] + bytes([signature[-1] + 1])
    assert unb64(spare) == unb64(signature)
    accepted(judge(token, KEY))
    for other in (
        *(spare, signature + b"=", signature + b"=="),
        *(signature.replace(b"-", b"+"), signature.replace(b"_", b"/")),
        *(signature[:40] + b"\n" + signature[40:], signature + b"\r\n"),
    ):
        assert judge(body + b"." + other, KEY) is Reasons.BAD_ENCODING


@pytest.mark.rule("C24")
def test_signatures_of_the_wrong_shape() -> None:
    key = SigningKey.ec("a")
    token = mint(key, CLAIMS)
    body, _, signature = token.rpartition(b".")
    for other in (unb64(signature)[:-1], bytes(64)):
        assert judge(body + b"." + b64(other), key) is Reasons.BAD_SIGNATURE
    wide = SigningKey.ec("a", "P-521")
    assert is_bad_credential(judge(mint(wide, CLAIMS, header={"alg": "ES256"}), wide))


@pytest.mark.parametrize(("member", "alg"), [("Ed25519", "EdDSA"), ("EdDSA", "Ed25519")])
@pytest.mark.rule("C24")
def test_one_key_under_two_names(member: str, alg: str) -> None:
    key = SigningKey.ed25519("a")
    policy = make_policy({"algorithms": ["EdDSA"]})
    accepted(judge(mint(key, CLAIMS, alg=alg), key.public_jwk(alg=member), policy=policy))


@pytest.mark.parametrize("token", [b"00Dxx!AQ.Uo_.x", b"0123456789abcdef0123456789abcdef", b"a.b.c.d.e", b"e30...."])
@pytest.mark.rule("C25", "C95")
def test_opaque_and_encrypted_tokens(token: bytes) -> None:
    """Reported as such to the operator, without the token."""
    assert is_bad_credential(judge(token, KEY))
    if token.count(b".") != 2:
        with pytest.raises(GatewayError) as caught:
            parse_token(token, 8192)
        assert caught.value.detail == "not a signed JWT"
