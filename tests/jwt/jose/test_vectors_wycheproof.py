"""Wycheproof's JOSE and primitive vectors against the gateway's own steps.

What the gateway refuses by policy is listed here once, with the reason:

- HMAC keys (``kty`` oct): asymmetric algorithms only, so every HS* vector and
  every set that holds nothing else is refused, valid or not.
- A JWK whose ``alg`` member is not a signature algorithm of its type, or not
  the token's, binds (RFC 7517 section 4.4): tests 346, 347, 350 and 351.
- secp256k1 and Ed448 are not accepted.
- Encrypted tokens are not access tokens here.

Tests 367 and 370 are byte for byte the valid test 357, and 372 and 373 want
junk ignored against RFC 7515 section 2; all four have an HMAC key anyway.
"""

from __future__ import annotations

from typing import Any

import pytest

from gateway.errors import GatewayError, Reason, Reasons
from gateway.jwt.jose.base64url import decode_segment
from gateway.jwt.jose.compact import Unverified, parse_token, verify_signature
from gateway.jwt.jose.keys import KeySet, KeySetError, VerifyingKey, import_pem
from tests.support.tokens.vectors import key_set, verify_jws, wycheproof_cases

ALG_MEMBER_BINDS = {346, 347, 350, 351}
NOT_REAL_CASES = {367, 370, 372, 373}


def published(group: dict[str, Any]) -> dict[str, Any]:
    jwk: dict[str, Any] = group.get("public") or group["private"]
    return jwk


def is_accepted(token: Any, keys: KeySet) -> bool:
    try:
        verify_jws(token.encode() if isinstance(token, str) else repr(token).encode(), keys)
    except GatewayError:
        return False
    return True


def spelling_fault(segment: bytes) -> Reason | None:
    try:
        decode_segment(segment)
    except GatewayError as refusal:
        return refusal.reason
    return None


def signature_fault(token: Unverified, keys: tuple[VerifyingKey, ...]) -> Reason | None:
    try:
        verify_signature(token, keys)
    except GatewayError as refusal:
        return refusal.reason
    return None


def is_symmetric(jwk: dict[str, Any]) -> bool:
    return all(key.get("kty") == "oct" for key in jwk.get("keys", [jwk]))


@pytest.mark.rule(
    "R001",
    "R002",
    "R003",
    "R004",
    "R005",
    "R006",
    "R007",
    "R008",
    "R009",
    "R010",
    "R011",
    "R012",
    "R013",
    "R014",
    "R015",
    "R016",
    "R017",
    "R018",
    "R019",
    "R020",
    "R021",
    "R022",
    "R023",
    "R024",
    "R025",
    "R026",
    "R027",
    "R028",
    "R029",
    "R030",
    "R031",
    "R032",
    "R033",
    "R034",
    "R035",
    "R036",
    "R037",
    "R038",
    "R060",
    "R061",
)
def test_json_web_signatures() -> None:
    """401 vectors."""
    accepted = 0
    for group, test in wycheproof_cases("json_web_signature_test"):
        expected = (
            test["result"] == "valid" and not is_symmetric(published(group)) and test["tcId"] not in ALG_MEMBER_BINDS
        )
        assert is_accepted(test["jws"], key_set(published(group))) == expected, (test["tcId"], test["comment"])
        accepted += expected
    assert accepted == 32


@pytest.mark.rule("R007", "R011", "R015", "R016", "R017", "R018", "R019", "R032")
def test_json_web_keys() -> None:
    """Mixed and duplicate sets, ROCA, short RSA, e = 1, wrong use, alg, curve, point."""
    accepted = 0
    for group, test in wycheproof_cases("json_web_key_test"):
        expected = test["result"] == "valid" and not is_symmetric(published(group))
        assert is_accepted(test["jws"], key_set(published(group))) == expected, (test["tcId"], test["comment"])
        accepted += expected
    assert accepted == 1


@pytest.mark.rule("R003", "R006", "R036", "R037")
def test_json_web_crypto() -> None:
    """none, confusion of families, embedded keys, JWE."""
    accepted = 0
    for group, test in wycheproof_cases("json_web_crypto_test"):
        expected = test["result"] == "valid" and "jws" in test and not is_symmetric(published(group))
        token = test["jws"] if "jws" in test else test["jwe"]
        assert is_accepted(token, key_set(published(group))) == expected, (test["tcId"], test["comment"])
        accepted += expected
    assert accepted == 2


@pytest.mark.rule("R060", "R061")
def test_base64_of_the_signature_vectors() -> None:
    """Their keys are HMAC keys, so the spelling of the segments is judged alone."""
    seen = 0
    for group, test in wycheproof_cases("json_web_signature_test"):
        if group.get("comment") != "base64" or test["tcId"] in NOT_REAL_CASES:
            continue
        seen += 1
        reasons = {spelling_fault(segment) for segment in test["jws"].encode().split(b".")}
        assert reasons <= {None, Reasons.BAD_ENCODING}
        assert (reasons == {None}) == (test["result"] == "valid"), test["tcId"]
    assert seen > 10


@pytest.mark.rule("R037", "R038", "C25", "C95")
def test_encrypted_tokens_are_refused_before_anything_is_decoded() -> None:
    """Valid or not, compact or JSON."""
    for _, test in wycheproof_cases("json_web_encryption_test"):
        token = test["jwe"] if isinstance(test["jwe"], str) else repr(test["jwe"])
        with pytest.raises(GatewayError) as caught:
            parse_token(token.encode(), 1 << 20)
        assert caught.value.reason in (Reasons.ENCRYPTED_TOKEN, Reasons.NOT_A_JWS)
        if token.count(".") == 4:
            assert caught.value.reason is Reasons.ENCRYPTED_TOKEN


@pytest.mark.parametrize(
    ("name", "algorithm", "fewest"),
    [
        ("ecdsa_secp256r1_sha256_p1363_test", "ES256", 173),
        ("ecdsa_secp384r1_sha384_p1363_test", "ES384", 100),
        ("ecdsa_secp521r1_sha512_p1363_test", "ES512", 100),
        ("ed25519_test", "EdDSA", 88),
        ("ed25519_test", "Ed25519", 88),
        ("rsa_signature_2048_sha256_test", "RS256", 7),
        ("rsa_pss_2048_sha256_mgf1_32_test", "PS256", 60),
    ],
)
@pytest.mark.rule("R009", "R023", "R025", "R027")
def test_raw_signatures(name: str, algorithm: str, fewest: int) -> None:
    """Each vector's own verdict; "acceptable" may be either."""
    valid = 0
    for group, test in wycheproof_cases(name):
        keys = import_pem(group["publicKeyPem"].encode()).candidates(None, algorithm)
        token = Unverified(algorithm, None, None, {}, None, bytes.fromhex(test["msg"]), bytes.fromhex(test["sig"]))
        fault = signature_fault(token, keys)
        assert fault in (None, Reasons.BAD_SIGNATURE), test["tcId"]
        assert test["result"] in ("invalid" if fault else "valid", "acceptable"), (test["tcId"], test["comment"])
        valid += fault is None
    assert valid >= fewest


@pytest.mark.rule("R024", "C24")
def test_der_signatures_are_not_jws_signatures() -> None:
    """Even valid ones."""
    for group, test in wycheproof_cases("ecdsa_secp256r1_sha256_test"):
        keys = import_pem(group["publicKeyPem"].encode()).keys
        token = Unverified("ES256", None, None, {}, None, bytes.fromhex(test["msg"]), bytes.fromhex(test["sig"]))
        with pytest.raises(GatewayError):
            verify_signature(token, keys)


@pytest.mark.parametrize("name", ["ecdsa_secp256k1_sha256_p1363_test", "ed448_test"])
@pytest.mark.rule("R009", "R022")
def test_other_curves_are_no_keys_here(name: str) -> None:
    """Refused at import."""
    for group, _ in wycheproof_cases(name):
        with pytest.raises(KeySetError):
            import_pem(group["publicKeyPem"].encode())
        assert key_set(group.get("publicKeyJwk", {})) == KeySet((), ())


@pytest.mark.rule("R007", "R019")
def test_hmac_secrets_are_no_keys_here() -> None:
    """Of any length."""
    for group, test in wycheproof_cases("hmac_sha256_test"):
        assert group["type"] == "MacTest"
        assert key_set({"kty": "oct", "k": test["key"], "alg": "HS256"}).keys == ()
