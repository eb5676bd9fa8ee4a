"""DPoP proofs (RFC 9449 section 4): from the bytes of a field to the request that was signed.

Parses proofs and makes the checks of section 4.3. Both are pure, and the time is an argument. Whether a proof was used
before is for ``store/one_time_ids.py``, its nonce for ``nonces.py``. The danger of this file is the key: it comes with
the proof, and any client can send one. So it proves nothing until its thumbprint is found to be the token's.
"""

from __future__ import annotations

from base64 import urlsafe_b64encode
from functools import lru_cache
from hashlib import sha256
from typing import Any, NamedTuple

from gateway.errors import GatewayError, printable
from gateway.features.sender_constrained.reasons import (
    FOREIGN_PROOF,
    MALFORMED_PROOF,
    PROOF_SIGNATURE,
    STALE_PROOF,
    UNUSABLE_PROOF_KEY,
    WRONG_PROOF_KEY,
)
from gateway.features.sender_constrained.target_uri import normal_uri
from gateway.jwt.jose.base64url import decode_segment
from gateway.jwt.jose.compact import Unverified, verify_signature
from gateway.jwt.jose.keys import ED25519_NAMES, PRIVATE_MEMBERS, UnusableKeyError, VerifyingKey, import_jwk
from gateway.jwt.jose.strict_json import StrictJsonError, parse_object

#: Bounds before anything is decoded, in bytes: a proof, and its ``jti``.
MAX_PROOF, MAX_ID = 8192, 256

_TYPE = "dpop+jwt"


class ProofHeader(NamedTuple):
    """What counts of a proof's header: ``alg``, and the key in ``jwk``."""

    algorithm: str
    key: VerifyingKey


class Proof(NamedTuple):
    """A proof whose form is right. Nothing in it is true before its signature was checked.

    Attributes:
        header: its algorithm and key.
        method: ``htm``.
        uri: ``htu`` in its normal form; None when it has none.
        issued_at: ``iat``.
        proof_id: ``jti``.
        token_hash: ``ath``; None when absent.
        nonce: None when absent.
        signing_input, signature: as of a token.
    """

    header: ProofHeader
    method: str
    uri: str | None
    issued_at: float
    proof_id: str
    token_hash: str | None
    nonce: str | None
    signing_input: bytes
    signature: bytes


class Wanted(NamedTuple):
    """What a proof must be for.

    Attributes:
        method: the request's.
        uris: normal forms of its URI, any of which may be named.
        token: the access token beside it.
        thumbprint: of the key that the token is bound to.
    """

    method: str
    uris: frozenset[str]
    token: bytes
    thumbprint: str


class Window(NamedTuple):
    """How far the ``iat`` of a proof may be from now, in seconds."""

    past: float
    future: float


def proof_algorithms(configured: list[Any]) -> frozenset[str]:
    """Return the accepted ``alg`` names: both of Ed25519's, if either."""
    names: frozenset[str] = frozenset(configured)
    return names if names.isdisjoint(ED25519_NAMES) else names | ED25519_NAMES


def parse_proof(value: bytes, algorithms: frozenset[str]) -> Proof:
    """Parse a proof strictly (RFC 9449 section 4.2); nothing of it is verified yet.

    Raises:
        GatewayError: ``MALFORMED_PROOF`` or ``UNUSABLE_PROOF_KEY``, and nothing else.
    """
    value = value.strip(b" \t")
    if len(value) > MAX_PROOF:
        raise _malformed(f"more than {MAX_PROOF} bytes")
    segments = value.split(b".", 3)
    if len(segments) != 3 or b"" in segments:
        raise _malformed("not a signed JWT")
    header = _read_header(segments[0])
    if header.algorithm not in algorithms:
        raise _malformed("alg is not in `dpop.algorithms`")
    claims = _object(segments[1], "payload")
    method, uri, proof_id = (_text(claims, name) for name in ("htm", "htu", "jti"))
    if len(proof_id) > MAX_ID:
        raise _malformed(f"'jti' is longer than {MAX_ID} characters")
    return Proof(
        header,
        method,
        normal_uri(uri),
        _moment(claims.get("iat")),
        proof_id,
        _text(claims, "ath") if "ath" in claims else None,
        _text(claims, "nonce") if "nonce" in claims else None,
        value[: -len(segments[2]) - 1],
        _decoded(segments[2], "signature"),
    )


def check_proof(proof: Proof, wanted: Wanted, window: Window, now: float) -> None:
    """Refuse a proof that is for another key, token, request or time; its signature is not looked at.

    Raises:
        GatewayError: ``WRONG_PROOF_KEY``, ``FOREIGN_PROOF`` or ``STALE_PROOF``.
    """
    if proof.header.key.thumbprint != wanted.thumbprint:
        raise GatewayError(WRONG_PROOF_KEY)
    if proof.token_hash != token_hash(wanted.token):
        raise _foreign("'ath' is absent" if proof.token_hash is None else "'ath' is of another token")
    if proof.method != wanted.method:
        raise _foreign("'htm' is another method")
    if proof.uri not in wanted.uris:
        shown = " or ".join(printable(uri, 200) for uri in sorted(wanted.uris))
        raise _foreign(f"'htu' is another URI than {shown}")
    age = now - proof.issued_at
    if not -window.future <= age <= window.past:
        raise GatewayError(STALE_PROOF, detail=f"'iat' is {max(-1e9, min(1e9, age)):.0f} s ago")


def check_signature(proof: Proof) -> None:
    """Refuse a proof that its own key did not sign.

    Raises:
        GatewayError: ``PROOF_SIGNATURE``, and nothing else.
    """
    header = proof.header
    signed = Unverified(header.algorithm, None, _TYPE, {}, None, proof.signing_input, proof.signature)
    try:
        verify_signature(signed, (header.key,))
    except GatewayError:
        raise GatewayError(PROOF_SIGNATURE) from None


def token_hash(token: bytes) -> str:
    """Return what ``ath`` must be (RFC 9449 section 4.2)."""
    return urlsafe_b64encode(sha256(token).digest()).rstrip(b"=").decode("ascii")


@lru_cache(maxsize=512)  # each client sends the same header with each proof; a refusal is not remembered
def _read_header(segment: bytes) -> ProofHeader:
    members = _object(segment, "header")
    kind, algorithm, entry = members.get("typ"), members.get("alg"), members.get("jwk")
    if not isinstance(kind, str) or kind.lower().removeprefix("application/") != _TYPE:
        raise _malformed("typ is not dpop+jwt")
    if "crit" in members or "b64" in members:  # RFC 7515 section 4.1.11: no extension is understood here
        raise _malformed("the header has `crit` or `b64`")
    if not isinstance(algorithm, str):
        raise _malformed("alg is absent or not a string")
    if not isinstance(entry, dict):
        raise GatewayError(UNUSABLE_PROOF_KEY, detail="jwk is absent or not an object")
    if not PRIVATE_MEMBERS.isdisjoint(entry):
        raise GatewayError(UNUSABLE_PROOF_KEY, detail="jwk has private members")
    try:
        return ProofHeader(algorithm, import_jwk(entry))
    except UnusableKeyError as error:
        raise GatewayError(UNUSABLE_PROOF_KEY, detail=str(error)) from None


def _object(segment: bytes, part: str) -> dict[str, Any]:
    try:
        return parse_object(_decoded(segment, part))
    except StrictJsonError as error:
        raise _malformed(f"the {part} is {error}") from None


def _decoded(segment: bytes, part: str) -> bytes:
    try:
        return decode_segment(segment)
    except GatewayError:
        raise _malformed(f"the {part} is not base64url") from None


def _text(claims: dict[str, Any], name: str) -> str:
    value = claims.get(name)
    if not isinstance(value, str) or not value:
        raise _malformed(f"'{name}' is missing or not a string")
    return value


def _moment(value: Any) -> float:
    # Exact types: True is an int to Python.
    if type(value) is float:
        return value
    if type(value) is not int or value.bit_length() > 64:
        raise _malformed("'iat' is not a valid time")
    return float(value)


def _malformed(detail: str) -> GatewayError:
    return GatewayError(MALFORMED_PROOF, detail=detail)


def _foreign(detail: str) -> GatewayError:
    return GatewayError(FOREIGN_PROOF, detail=detail)
