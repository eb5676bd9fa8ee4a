"""The examples of RFC 7520, RFC 8037 and RFC 7797 against the gateway's own steps."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.errors import GatewayError, Reasons
from gateway.jwt.jose.compact import parse_token
from tests.support.tokens.vectors import key_set, load_vectors, vector_path, verify_jws

FOLDER = "rfc7520-cookbook"


@pytest.mark.parametrize(
    ("name", "algorithm"),
    [
        ("jws/4_1.rsa_v15_signature", "RS256"),
        ("jws/4_2.rsa-pss_signature", "PS384"),
        ("jws/4_3.ecdsa_signature", "ES512"),
        ("curve25519/jws", "EdDSA"),
    ],
)
@pytest.mark.rule("R001", "R008", "R020")
def test_the_signed_examples_verify(name: str, algorithm: str) -> None:
    """With the published key, private members and all; not with one bit changed."""
    example: dict[str, Any] = load_vectors(f"{FOLDER}/{name}.json")
    keys, token = key_set(example["input"]["key"]), example["output"]["compact"].encode()
    assert algorithm in verify_jws(token, keys).algorithms
    assert "private" in keys.rejected[0].problem
    header, payload, signature = token.split(b".")
    swapped = b"A" if payload[:1] != b"A" else b"B"
    with pytest.raises(GatewayError) as caught:
        verify_jws(b".".join((header, swapped + payload[1:], signature)), keys)
    assert caught.value.reason is Reasons.BAD_SIGNATURE


@pytest.mark.parametrize(
    "name",
    [
        "jws/4_1.rsa_v15_signature",
        "jws/4_2.rsa-pss_signature",
        "jws/4_3.ecdsa_signature",
        "jws/4_4.hmac-sha2_integrity_protection",
        "jws/4_5.signature_with_detached_content",
        "jws/4_6.protecting_specific_header_fields",
        "jws/4_7.protecting_content_only",
        "jws/4_8.multiple_signatures",
        "curve25519/jws",
        "curve25519/ecdh-es",
        "rfc7797/4.2.hmac-sha2_b64_false",
        "rfc7797/hmac-sha2_b64_false",
    ],
)
@pytest.mark.rule("R037", "R042", "R051", "R063", "R065", "R070")
def test_no_example_is_an_access_token(name: str) -> None:
    """Text, detached, unencoded, encrypted, JSON serialisation."""
    for form in load_vectors(f"{FOLDER}/{name}.json")["output"].values():
        token = form if isinstance(form, str) else json.dumps(form)
        with pytest.raises(GatewayError):
            parse_token(token.encode(), 8192)


@pytest.mark.rule("R037", "R038")
def test_every_encrypted_example_is_refused() -> None:
    """RFC 7520 section 5, compressed content among it."""
    files = sorted(vector_path(f"{FOLDER}/jwe").glob("*.json"))
    assert len(files) == 13
    for file in files:
        output = json.loads(file.read_text("utf-8"))["output"]
        for form in output.values():
            token = form if isinstance(form, str) else json.dumps(form)
            with pytest.raises(GatewayError) as caught:
                parse_token(token.encode(), 1 << 20)
            assert caught.value.reason in (Reasons.ENCRYPTED_TOKEN, Reasons.NOT_A_JWS)


@pytest.mark.rule("R037", "R051")
def test_the_nested_example_is_refused_inside_and_out() -> None:
    """The outer JWE as such; its inner JWS is signed with PS256 and verifies."""
    example = load_vectors(f"{FOLDER}/6.nesting_signatures_and_encryption.json")
    with pytest.raises(GatewayError) as caught:
        parse_token(example["encrypt"]["output"]["compact"].encode(), 1 << 20)
    assert caught.value.reason is Reasons.ENCRYPTED_TOKEN
    inner = example["sign"]["output"]["compact"].encode()
    assert verify_jws(inner, key_set(example["sign"]["input"]["key"])).kid == "hobbiton.example"
    assert parse_token(inner, 8192).claims["iss"] == "hobbiton.example"


@pytest.mark.parametrize(
    ("name", "usable"),
    [
        ("3_1.ec_public_key", True),
        ("3_2.ec_private_key", True),
        ("3_3.rsa_public_key", True),
        ("3_4.rsa_private_key", True),
        ("3_5.symmetric_key_mac_computation", False),
        ("3_6.symmetric_key_encryption", False),
    ],
)
@pytest.mark.rule("R007", "R008")
def test_the_example_keys(name: str, usable: bool) -> None:
    """RFC 7520 section 3."""
    keys = key_set(load_vectors(f"{FOLDER}/jwk/{name}.json"))
    assert bool(keys.keys) is usable
    assert not any(hasattr(key.key.public, "sign") for key in keys.keys)
