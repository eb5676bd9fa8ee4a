"""JSONTestSuite's files as payload, header and member of signed tokens.

Files whose name begins with ``y_`` must be read by every parser, ``n_`` by
none, ``i_`` as one likes. Only objects can be tokens, so most ``y_`` files
are refused as such, and are tried as a member of an object too.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gateway.errors import GatewayError, Reason, Reasons
from gateway.identity import Identity
from gateway.jwt.jose.compact import parse_token
from tests.support.tokens.minting import SigningKey, good_claims, mint_raw
from tests.support.tokens.vectors import vector_path
from tests.support.tokens.verifying import NOW, judge, keys_of, make_policy

KEY = SigningKey.ed25519("a")
KEYS = keys_of(KEY)
HEADER = json.dumps({"alg": "EdDSA", "kid": "a"}).encode()
POLICY = make_policy({"algorithms": ["EdDSA"]})
#: The only reasons that a bad text may have.
FORM = {Reasons.BAD_PAYLOAD, Reasons.BAD_HEADER, Reasons.DUPLICATE_MEMBER, Reasons.TOKEN_TOO_LONG}


def suite() -> list[Path]:
    files = sorted(vector_path("jsontestsuite").glob("[yni]_*.json"))
    assert len(files) == 318
    return files


def is_object(data: bytes) -> bool:
    return data.strip(b" \t\r\n").startswith(b"{")


def refusal(token: bytes) -> Reason | None:
    try:
        parse_token(token, 1 << 20)
    except GatewayError as error:
        return error.reason
    return None


@pytest.mark.rule("R044", "R047", "R053", "R054", "R070", "R071", "R072", "R073", "R074")
def test_as_payloads_and_headers_only_strict_objects_are_read() -> None:
    """Acceptance of a valid object or the refusal of a bad token, nothing else."""
    for file in suite():
        data = file.read_bytes()
        if not data:
            continue
        payload = refusal(mint_raw(KEY, HEADER, data))
        header = refusal(mint_raw(KEY, data, b"{}"))
        if file.name.startswith("n_") or not is_object(data) or "duplicated_key" in file.name:
            assert payload in FORM, file.name
        elif file.name.startswith("y_"):
            assert payload is None, file.name
        assert payload is None or payload in FORM, file.name
        assert header in FORM, file.name  # none of them has an alg


@pytest.mark.rule("R046", "R071")
def test_duplicate_members_are_valid_json_and_no_token() -> None:
    """The two files of the suite that RFC 7519 section 4 rules out."""
    for name in ("y_object_duplicated_key.json", "y_object_duplicated_key_and_value.json"):
        token = mint_raw(KEY, HEADER, vector_path(f"jsontestsuite/{name}").read_bytes())
        assert refusal(token) is Reasons.DUPLICATE_MEMBER


@pytest.mark.rule("R072", "R073", "R074", "R094")
def test_as_a_member_of_a_good_token_they_pass_or_are_refused() -> None:
    """Every file inside otherwise perfect claims, verified to the end."""
    claims = json.dumps(good_claims(NOW)).encode()
    for file in suite():
        payload = claims[:-1] + b', "x": ' + file.read_bytes() + b"}"
        verdict = judge(mint_raw(KEY, HEADER, payload), key_set=KEYS, policy=POLICY)
        if file.name.startswith("y_") and "duplicated_key" not in file.name:
            assert isinstance(verdict, Identity), file.name
        elif not file.name.startswith("i_"):
            assert verdict in FORM, file.name
        else:
            assert isinstance(verdict, Identity) or verdict in FORM, file.name
