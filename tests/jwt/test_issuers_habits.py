"""Public bug reports C33-C40 (keys) and C87-C97 (issuers' habits) as cases, on the synchronous path of a token."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.errors import GatewayError, Reasons
from gateway.jwt.claims.rules import unknown_issuer
from gateway.jwt.jose.compact import parse_token, verify_signature
from gateway.jwt.jose.keys import KeySetError, import_jwks
from tests.support.composed import Tokens
from tests.support.tokens.minting import ABSENT, SigningKey, good_claims, jwks, mint
from tests.support.tokens.verifying import NOW, accepted, is_bad_credential, judge, judge_claims, keys_of, make_policy

KEY = SigningKey.rsa("a")
CLAIMS = good_claims(NOW)


@pytest.mark.parametrize("named_token", [True, False])
@pytest.mark.parametrize("named_keys", [True, False])
@pytest.mark.parametrize(("keys", "signer"), [(1, 0), (2, 0), (2, 1)])
@pytest.mark.rule("C33")
def test_kid_in_token_and_set(named_token: bool, named_keys: bool, keys: int, signer: int) -> None:
    """The whole matrix is accepted; a name that only other keys have is not."""
    signing = [SigningKey.rsa(str(number), variant=number) for number in range(keys)]
    published = [key.public_jwk() if named_keys else key.public_jwk(kid=ABSENT) for key in signing]
    token = mint(signing[signer], CLAIMS, header={} if named_token else {"kid": ABSENT})
    accepted(judge(token, *published))
    if named_keys:
        assert judge(mint(signing[signer], CLAIMS, header={"kid": "z"}), *published) is Reasons.UNKNOWN_KEY


@pytest.mark.parametrize(
    "odd",
    [
        *[{"kty": "AKP"}, {}, "x", {"kty": "RSA", "x5c": ["AA"]}, SigningKey.rsa("w", 1024).public_jwk()],
        *[{**SigningKey.ec("e").public_jwk(), "crv": "P-999"}, {**SigningKey.ec("e").public_jwk(), "y": "AA"}],
        *[SigningKey.ec("e").public_jwk(kid=123), SigningKey.ec("e").public_jwk(kid=None)],
    ],
)
@pytest.mark.rule("C34")
def test_one_odd_key(odd: Any) -> None:
    keys = import_jwks(json.dumps({"keys": [odd, KEY.public_jwk()]}).encode())
    accepted(judge(mint(KEY, CLAIMS), key_set=keys))
    assert len(keys.rejected) == 1


@pytest.mark.rule("C35")
def test_a_jwk_without_alg() -> None:
    accepted(judge(mint(KEY, CLAIMS), KEY.public_jwk(use="sig", x5t="AA", x5c=["AA"], issuer="https://idp.test/")))


@pytest.mark.rule("C38")
def test_secrets_in_a_key_set() -> None:
    """Symmetric keys and private members are of no use; a quoted string is no set."""
    secret = SigningKey.hmac("a", b"published-secret-published-secret")
    assert is_bad_credential(judge(mint(secret, CLAIMS), secret, KEY))
    accepted(judge(mint(KEY, CLAIMS), KEY.private_jwk()))
    with pytest.raises(KeySetError):
        import_jwks(json.dumps(jwks(KEY).decode()).encode())


@pytest.mark.rule("C40")
def test_a_byte_order_mark() -> None:
    accepted(judge(mint(KEY, CLAIMS), key_set=import_jwks(b"\xef\xbb\xbf" + jwks(KEY))))


@pytest.mark.rule("C87")
def test_a_rule_on_typ() -> None:
    """Two spellings pass; anything else of the same issuer does not."""
    policy = make_policy({"token_type": "at+jwt"})
    for typ in ("at+jwt", "application/at+jwt"):
        accepted(judge(mint(KEY, CLAIMS, header={"typ": typ}), KEY, policy=policy))
    for other in ("JWT", ABSENT, "logout+jwt"):
        assert is_bad_credential(judge(mint(KEY, CLAIMS, header={"typ": other}), KEY, policy=policy))
    id_token: dict[str, Any] = {"aud": "client", "nonce": "n", "at_hash": "h"}
    assert is_bad_credential(judge_claims(**id_token))


@pytest.mark.rule("C88")
def test_two_issuer_values_and_one_key_set() -> None:
    """As Entra's v1 and v2 tokens."""
    v1, v2 = "https://sts.windows.net/T/", "https://login.microsoftonline.com/T/v2.0"
    policy = make_policy({"issuer": [v2, v1], "audience": ["api://app", "4f3f"]})
    jwk = KEY.public_jwk(use="sig", x5t="AA", x5c=["AA"], issuer=v2)
    for iss, aud in ((v1, "api://app"), (v2, "4f3f")):
        identity = accepted(judge(mint(KEY, good_claims(NOW, iss=iss, aud=aud)), jwk, policy=policy))
        assert identity.issuer == iss
    other = good_claims(NOW, iss="https://sts.windows.net/OTHER/", aud="api://app")
    assert is_bad_credential(judge(mint(KEY, other), jwk, policy=policy))


@pytest.mark.rule("C90")
def test_microsoft_graph_tokens() -> None:
    """A bad signature with one hint; a good one with nonce passes."""
    header = {"nonce": "abc"}
    accepted(judge(mint(KEY, CLAIMS, header=header), KEY))
    genuine = mint(KEY, CLAIMS, header={"nonce": "hash-of-abc"})
    body = mint(KEY, CLAIMS, header=header).rpartition(b".")[0]
    token = parse_token(body + b"." + genuine.rpartition(b".")[2], 8192)
    with pytest.raises(GatewayError) as caught:
        verify_signature(token, keys_of(KEY).keys)
    assert caught.value.reason is Reasons.BAD_SIGNATURE
    assert caught.value.detail == "token for Microsoft Graph; request a token for this API"


@pytest.mark.rule("C92")
def test_keycloaks_account_audience() -> None:
    assert is_bad_credential(judge_claims(aud="account", azp="other-client"))
    accepted(judge_claims(aud=["account", "api"]))


@pytest.mark.parametrize(
    ("configured", "iss"), [("https://t.auth0.test", "https://t.auth0.test/"), ("https://t.test/", "https://t.test")]
)
@pytest.mark.rule("C94")
def test_a_slash_counts(configured: str, iss: str) -> None:
    """Refused, and the operator sees both values."""
    policy = make_policy({"issuer": configured})
    assert judge_claims(iss=iss, policy=policy) is Reasons.UNKNOWN_ISSUER
    detail = unknown_issuer(iss, policy.issuers).detail
    assert f"'{iss}'" in detail
    assert f"'{configured}'" in detail


@pytest.mark.parametrize(
    ("claims", "grants"),
    [
        ({"scope": "read write"}, True),
        ({"scope": ["read", "write"]}, True),
        ({"scp": "read"}, True),
        ({"scp": ["read"]}, True),
        ({"scopes": ["read"]}, True),
        ({"scope": "readonly"}, False),
        ({"scope": "READ"}, False),
        ({"scope": ""}, False),
        ({"scope": 5}, False),
        ({"scope": {"read": 1}}, False),
        ({"scope": ["read write"]}, False),
        ({"scope": "write", "scp": "read"}, False),
    ],
)
@pytest.mark.rule("C97")
def test_scopes_in_five_spellings(claims: dict[str, Any], grants: bool) -> None:
    scopes = accepted(judge_claims(**{"scope": ABSENT, **claims})).scopes
    assert ("read" in scopes) is grants


@pytest.mark.rule("C97")
def test_the_claims_of_scopes_are_configurable() -> None:
    """In their configured order, without a union."""
    policy = make_policy(tokens=Tokens(scope_claims=["permissions", "scope"]))
    assert accepted(judge_claims(permissions=["a"], scope="b", policy=policy)).scopes == ("a",)
