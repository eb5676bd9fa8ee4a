"""A second opinion on tokens, sharing no code with the gateway: may this one pass, yes or no.

The rules of the default test issuer, written from the RFCs on ``cryptography``
and the standard library, slow and plain. A fuzz run compares it with the
gateway in both directions: nothing that it refuses may pass, and what it
accepts must pass.
"""

from __future__ import annotations

import binascii
import json
import re
from collections.abc import Mapping
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from tests.support.tokens.minting import AUDIENCE, ISSUER, SigningKey, b64, unb64

LEEWAY, MAX_LIFETIME, MAX_BYTES, MAX_DEPTH = 30, 86400, 8192, 64
ALGORITHMS = ("RS256", "ES256", "EdDSA", "Ed25519")

_COMPACT = re.compile(rb"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)")
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")


class _NoError(Exception):
    """The token must be refused."""


def acceptable(token: bytes, keys: Mapping[str, SigningKey], now: float) -> bool:
    """Say whether the default test issuer's policy admits a token at ``now``; ``keys`` are its published keys."""
    try:
        match = _COMPACT.fullmatch(token)
        _demand(match is not None and len(token) <= MAX_BYTES)
        assert match is not None
        header, payload, signature = (_decoded(segment) for segment in match.groups())
        _demand(len(header) <= 2048 and len(signature) <= 1024)
        members = _object(header)
        claims = _object(payload)
        candidates = _candidates(members, keys)
        _check_claims(claims, now)
        signed = token[: token.rindex(b".")]
        _demand(any(_signed_by(key, members["alg"], signed, signature) for key in candidates))
    except _NoError:
        return False
    return True


def _demand(condition: object) -> None:
    if not condition:
        raise _NoError


def _decoded(segment: bytes) -> bytes:
    try:
        data = unb64(segment)
    except binascii.Error:
        raise _NoError from None
    _demand(b64(data) == segment)
    return data


def _object(data: bytes) -> dict[str, Any]:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        _demand(len({name for name, _ in pairs}) == len(pairs))
        return dict(pairs)

    def number(text: str) -> float:
        _demand(abs(float(text)) != float("inf"))
        return float(text)

    def constant(_name: str) -> float:
        raise _NoError

    try:
        value = json.loads(data.decode("utf-8"), object_pairs_hook=unique, parse_float=number, parse_constant=constant)
    except (ValueError, RecursionError):
        raise _NoError from None
    _demand(isinstance(value, dict))
    _check_text_and_depth(value, 1)
    assert isinstance(value, dict)
    return value


def _check_text_and_depth(value: Any, depth: int) -> None:
    if isinstance(value, str):
        _demand(not any("\ud800" <= character <= "\udfff" for character in value))
    elif isinstance(value, dict | list):
        _demand(depth <= MAX_DEPTH)
        for item in [*value, *value.values()] if isinstance(value, dict) else value:
            _check_text_and_depth(item, depth + 1)


def _candidates(header: dict[str, Any], keys: Mapping[str, SigningKey]) -> list[SigningKey]:
    """Return the keys that a header may point at; every one of them has a name here."""
    _demand("crit" not in header and "b64" not in header)
    _demand(header.get("alg") in ALGORITHMS if isinstance(header.get("alg"), str) else False)
    kid = header.get("kid")
    _demand(kid is None or isinstance(kid, str))
    kind = header.get("typ", "")
    _demand(isinstance(kind, str))
    kind = kind.lower().removeprefix("application/")
    _demand(kind == "at+jwt" or not (kind.endswith(("+jwt", "+sd-jwt")) or kind == "jwe"))
    return list(keys.values()) if kid is None else [keys[kid]] if kid in keys else []


def _signed_by(key: SigningKey, algorithm: str, data: bytes, signature: bytes) -> bool:
    private = key.private
    try:
        if isinstance(private, rsa.RSAPrivateKey) and algorithm == "RS256":
            private.public_key().verify(signature, data, padding.PKCS1v15(), hashes.SHA256())
        elif isinstance(private, ec.EllipticCurvePrivateKey) and algorithm == "ES256" and len(signature) == 64:
            r, s = (int.from_bytes(half, "big") for half in (signature[:32], signature[32:]))
            private.public_key().verify(encode_dss_signature(r, s), data, ec.ECDSA(hashes.SHA256()))
        elif isinstance(private, Ed25519PrivateKey) and algorithm in ("EdDSA", "Ed25519"):
            private.public_key().verify(signature, data)
        else:
            return False
    except InvalidSignature:
        return False
    return True


def _check_claims(claims: dict[str, Any], now: float) -> None:
    _demand(claims.get("iss") == ISSUER)
    _demand("exp" in claims)
    for name in ("exp", "nbf", "iat"):
        _demand(name not in claims or type(claims[name]) in (int, float))
    # Python compares integers and floats exactly, whatever their size.
    _demand(now - LEEWAY < claims["exp"])
    _demand(claims.get("nbf", now) <= now + LEEWAY and claims.get("iat", now) <= now + LEEWAY)
    _demand(claims["exp"] <= claims.get("iat", now) + MAX_LIFETIME)
    audience = claims.get("aud")
    listed = isinstance(audience, list) and all(isinstance(item, str) for item in audience) and AUDIENCE in audience
    _demand(audience == AUDIENCE or listed)
    _demand(isinstance(claims.get("sub"), str) and claims["sub"])
    _demand(claims.get("cnf") is None)
    events = claims.get("events")
    _demand(not (isinstance(events, dict) and any(":" in name for name in events)))
    _check_headers(claims)


def _check_headers(claims: dict[str, Any]) -> None:
    """Refuse what cannot be an identity header: control characters, overlong text."""
    scopes = next((claims[name] for name in ("scope", "scp", "scopes") if claims.get(name) is not None), "")
    if isinstance(scopes, str):
        scopes = scopes.split(" ")
    elif not (isinstance(scopes, list) and all(isinstance(scope, str) for scope in scopes)):
        scopes = []
    role = claims.get("role")
    texts = [claims["sub"], *(scope for scope in scopes if " " not in scope)]
    if isinstance(role, str):
        texts.append(role)
    elif isinstance(role, list) and all(isinstance(item, str) and "," not in item for item in role):
        texts += role
    for text in texts:
        _demand(not _CONTROL.search(text))
