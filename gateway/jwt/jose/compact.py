"""The form and the signature of a token: from bytes to claims that somebody vouches for.

Only pure steps live here, in the order in which ``authenticate.py`` takes
them; no key is fetched and no clock is read. The danger of this file is an
odd token: whatever it holds, the outcome is a value or a ``GatewayError``,
and nothing that a token names (a key, an address, an algorithm) is followed.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

from joserfc.jws import JWSRegistry

from gateway.errors import GatewayError, Reason, Reasons, printable
from gateway.jwt.claims.issuer_policy import IssuerPolicy, Unverified, compile_policy
from gateway.jwt.claims.rules import check_claims, granted_scopes, is_current, make_identity, unknown_issuer
from gateway.jwt.jose.base64url import decode_segment
from gateway.jwt.jose.keys import VerifyingKey
from gateway.jwt.jose.strict_json import StrictJsonError, parse_object

__all__ = [
    "Header",
    "IssuerPolicy",
    "Unverified",
    "check_claims",
    "check_header",
    "compile_policy",
    "granted_scopes",
    "is_current",
    "make_identity",
    "parse_header",
    "parse_token",
    "unknown_issuer",
    "verify_signature",
]

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


def check_header(token: Unverified, policy: IssuerPolicy) -> None:
    """Refuse an algorithm that the issuer may not use, and a JWT of another kind.

    Raises:
        GatewayError: ``ALGORITHM_REFUSED`` or ``TYPE_REFUSED``.
    """
    if token.algorithm not in policy.algorithms:
        raise GatewayError(Reasons.ALGORITHM_REFUSED, detail=f"alg is '{printable(token.algorithm)}'")
    kind = "" if token.token_type is None else token.token_type.lower().removeprefix("application/")
    if kind == "at+jwt" or (kind == "jwt" and not policy.access_token_type):
        return
    # A JWT that says what it is (logout+jwt, dpop+jwt, secevent+jwt, kb+jwt, ...) is
    # that and no access token (RFC 8725 section 3.11); plain and absent types are not explicit.
    if policy.access_token_type or kind.endswith(("+jwt", "+sd-jwt")) or kind == "jwe":
        shown = "absent" if token.token_type is None else f"'{printable(token.token_type)}'"
        raise GatewayError(Reasons.TYPE_REFUSED, detail=f"typ is {shown}")


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
