"""Public test vectors: where they are, and how a JWS vector is put to the gateway's own steps.

The files are not part of this repository. They are looked for in the folder
that ``GATEWAY_TEST_VECTORS`` (for the tests themselves: ``TEST_VECTORS``) names, or in ``../shared/vectors`` beside the
checkout. Without them these tests skip and say where to get them; under ``CI=true`` they fail.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from gateway.errors import GatewayError, Reasons
from gateway.jwt.jose.base64url import decode_segment
from gateway.jwt.jose.compact import Unverified, parse_header, verify_signature
from gateway.jwt.jose.keys import KeySet, KeySetError, VerifyingKey, import_jwks
from tests.conftest import require

_ROOT = Path(__file__).resolve().parents[3]

#: Where the folders of vectors come from: what to copy, and the commit that the tests were written for.
_SOURCES = {
    "jsontestsuite": ("test_parsing of https://github.com/nst/JSONTestSuite", "1ef36fa01286"),
    "rfc7520-cookbook": ("all of https://github.com/ietf-jose/cookbook", "13692b68bfc1"),
    "wycheproof": ("testvectors_v1 of https://github.com/C2SP/wycheproof", "dac1dd4729fd"),
}


def vector_path(relative: str) -> Path:
    """Return a vector file or folder; skip the running test (fail it under CI) when it is absent."""
    folder = Path(os.environ.get("TEST_VECTORS", _ROOT.parent / "shared" / "vectors"))
    name = relative.partition("/")[0]
    copied, commit = _SOURCES[name]
    require(
        (folder / relative).exists(),
        f"public test vectors are missing: copy {copied}, commit {commit}, to {folder / name}",
    )
    return folder / relative


def load_vectors(relative: str) -> Any:
    """Return the JSON content of a vector file."""
    return json.loads(vector_path(relative).read_text("utf-8"))


def wycheproof_cases(name: str) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Return (group, test) pairs of a Wycheproof file."""
    groups = load_vectors(f"wycheproof/{name}.json")["testGroups"]
    return [(group, test) for group in groups for test in group["tests"]]


def key_set(jwk: dict[str, Any]) -> KeySet:
    """Import a JWK or JWK Set as a fetched key set would be; an empty set when nothing in it is usable."""
    try:
        return import_jwks(json.dumps(jwk if "keys" in jwk else {"keys": [jwk]}).encode())
    except KeySetError:
        return KeySet()


def verify_jws(token: bytes, keys: KeySet) -> VerifyingKey:
    """Do what the gateway does with a compact JWS, save reading its payload, which in vectors is seldom JSON."""
    segments = token.split(b".")
    if len(segments) != 3:
        raise GatewayError(Reasons.NOT_A_JWS)
    header = parse_header(segments[0])
    decode_segment(segments[1])
    signing_input = segments[0] + b"." + segments[1]
    signature = decode_segment(segments[2])
    unverified = Unverified(
        header.algorithm, header.key_id, header.token_type, {}, None, signing_input, signature, header.nonce
    )
    return verify_signature(unverified, keys.candidates(header.key_id, header.algorithm))
