"""The form and the signature of a token: from bytes to claims with a verified signature.

This file has pure steps, in the order in which ``jwt/authenticator.py`` takes
them; no key is fetched and no clock is read. The danger of this file is an odd
token: whatever it holds, the outcome is a value or a ``GatewayError``, and
nothing that a token names (a key, an address, an algorithm) is followed.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

from joserfc.jws import JWSRegistry

from gateway.errors import GatewayError, Reason, Reasons
from gateway.jwt.jose.base64url import decode_segment
from gateway.jwt.jose.keys import VerifyingKey
from gateway.jwt.jose.strict_json import StrictJsonError, parse_object

#: Bounds before anything is decoded, in base64url characters: 2048 bytes of
#: header, and 1024 of signature, which is RSA with 8192 bits.
MAX_HEADER, MAX_SIGNATURE = 2731, 1366

_VERIFIERS = {
    name: JWSRegistry.algorithms[name]
    for name in (
        *("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
        *("ES256", "ES384", "ES512", "EdDSA", "Ed25519"),
    )
}


class Header(NamedTuple):
    """What counts of a header: ``alg``, ``kid`` (null is absent), ``typ``, and whether there is a ``nonce``."""

    algorithm: str
    key_id: str | None
    token_type: str | None
    nonce: bool


class Unverified(NamedTuple):
    """A token whose form is right. Nothing in it is true before its signature was checked.

    A tuple, because one is made for every token that the cache does not know.

    Attributes:
        algorithm: the header's ``alg``.
        key_id: the header's ``kid``; None when absent or null.
        token_type: the header's ``typ`` as it stands; None when absent.
        claims: the payload.
        issuer: the claim ``iss`` if it is a string.
        signing_input: what was signed (RFC 7515 section 5.2).
        signature: the decoded signature.
        header_nonce: the header has a ``nonce``, as tokens for Microsoft Graph do.
    """

    algorithm: str
    key_id: str | None
    token_type: str | None
    claims: dict[str, Any]
    issuer: str | None
    signing_input: bytes
    signature: bytes
    header_nonce: bool = False


def parse_token(token: bytes, max_bytes: int) -> Unverified:
    """Take a compact JWS apart (RFC 7515 section 7.1), strictly, and believe nothing.

    Args:
        token: the credential as received.
        max_bytes: longer ones are refused unread.

    Raises:
        GatewayError: for every other form, with the reason.
    """
    if len(token) > max_bytes:
        raise GatewayError(Reasons.TOKEN_TOO_LONG, detail=f"more than {max_bytes} bytes")
    segments = token.split(b".", 5)
    if len(segments) != 3 or b"" in segments:
        reason = Reasons.ENCRYPTED_TOKEN if len(segments) == 5 else Reasons.NOT_A_JWS
        raise GatewayError(reason, detail="not a signed JWT")
    header_segment, payload_segment, signature_segment = segments
    if len(header_segment) > MAX_HEADER or len(signature_segment) > MAX_SIGNATURE:
        raise GatewayError(Reasons.TOKEN_TOO_LONG, detail="the header or the signature is too long")
    header = parse_header(header_segment)
    claims = _parse_json(payload_segment, Reasons.BAD_PAYLOAD)
    issuer = claims.get("iss")
    return Unverified(
        header.algorithm,
        header.key_id,
        header.token_type,
        claims,
        issuer if isinstance(issuer, str) else None,
        token[: -len(signature_segment) - 1],
        decode_segment(signature_segment),
        header.nonce,
    )


def verify_signature(token: Unverified, candidates: tuple[VerifyingKey, ...]) -> VerifyingKey:
    """Return the first of ``candidates`` that signed the token (RFC 7515 section 5.2).

    Raises:
        GatewayError: ``BAD_SIGNATURE`` when none did; ``VERIFICATION_FAILED``
            when none did and a check broke instead of answering.
    """
    verifier = _VERIFIERS.get(token.algorithm)
    if verifier is None:
        raise GatewayError(Reasons.ALGORITHM_REFUSED)
    broken = ""
    for candidate in candidates:
        if token.algorithm not in candidate.algorithms:
            continue
        try:
            if verifier.verify(token.signing_input, token.signature, candidate.key):
                return candidate
        except Exception as error:  # the answer to an unknown fault is no
            broken = type(error).__name__
    if broken:
        raise GatewayError(Reasons.VERIFICATION_FAILED, detail=broken)
    hint = "token for Microsoft Graph; request a token for this API" if token.header_nonce else ""
    raise GatewayError(Reasons.BAD_SIGNATURE, detail=hint)


def unforeseen(error: Exception) -> GatewayError:
    """Return a refusal: that is what an unforeseen fault on foreign input is.

    Its text may quote the token: only its type is kept.
    """
    return GatewayError(Reasons.VERIFICATION_FAILED, detail=type(error).__name__)


@lru_cache(maxsize=256)
def parse_header(segment: bytes) -> Header:
    """Read a header. Tokens of one issuer share its bytes, so the answer is remembered; refusals are not.

    Unknown members are ignored (RFC 7515 section 4). ``jku``, ``jwk``, ``x5u``
    and ``x5c`` are among them: keys come from the issuer's set alone.

    Raises:
        GatewayError: the same for the same bytes, each time.
    """
    members = _parse_json(segment, Reasons.BAD_HEADER)
    if "crit" in members:  # RFC 7515 section 4.1.11: no extension is understood here
        raise GatewayError(Reasons.CRITICAL_HEADER)
    if "b64" in members:  # RFC 7797 section 7: not for JWTs
        raise GatewayError(Reasons.UNENCODED_PAYLOAD)
    algorithm, key_id, token_type = members.get("alg"), members.get("kid"), members.get("typ", "")
    if not isinstance(algorithm, str):
        raise GatewayError(Reasons.BAD_HEADER, detail="alg is absent or not a string")
    if not (key_id is None or isinstance(key_id, str)):
        raise GatewayError(Reasons.BAD_HEADER, detail="kid is not a string")
    if not isinstance(token_type, str):
        raise GatewayError(Reasons.BAD_HEADER, detail="typ is not a string")
    return Header(algorithm, key_id, token_type if "typ" in members else None, "nonce" in members)


def _parse_json(segment: bytes, reason: Reason) -> dict[str, Any]:
    data = decode_segment(segment)
    try:
        return parse_object(data)
    except StrictJsonError as error:
        raise GatewayError(Reasons.DUPLICATE_MEMBER if error.duplicate else reason, detail=str(error)) from None
