"""The whole synchronous verification of one token, as the gateway does it on a cache miss.

For tests of rules: a token goes in, an identity or the reason of its refusal
comes out. Fetching, caching and HTTP are not here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gateway.errors import Challenge, GatewayError, Reason, Reasons
from gateway.identity import Identity
from gateway.jwt.claims.issuer_policy import IssuerPolicy, compile_policy
from gateway.jwt.claims.rules import check_claims, check_header, make_identity
from gateway.jwt.jose.compact import parse_token, verify_signature
from gateway.jwt.jose.keys import KeySet, KeySetError, import_jwks
from gateway.settings.tables.upstreams import UpstreamSettings
from tests.support.composed import Issuer, Route, Settings
from tests.support.tokens.minting import AUDIENCE, ISSUER, SigningKey, good_claims, jwks, mint

#: The moment at which tests judge tokens.
NOW = 1_800_000_000.0

#: Room for claims that are too long for a header.
MAX_BYTES = 32768

ALL_ALGORITHMS = [
    *("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    *("ES256", "ES384", "ES512", "EdDSA", "Ed25519"),
]


def make_settings(issuer: Mapping[str, Any] | None = None, **sections: Any) -> Settings:
    """Return settings with the default test issuer; ``issuer`` holds options of it, ``sections`` replace tables."""
    options: dict[str, Any] = {"name": "main", "issuer": ISSUER, "audience": [AUDIENCE], **(issuer or {})}
    usual: dict[str, Any] = {
        "issuers": [Issuer(**options)],
        "upstreams": [UpstreamSettings(name="orders", urls=["http://127.0.0.1:9000"])],
        "routes": [Route(path="/", upstream="orders")],
    }
    return Settings(**{**usual, **sections})


def make_policy(issuer: Mapping[str, Any] | None = None, **sections: Any) -> IssuerPolicy:
    """Return the compiled policy of ``make_settings``' issuer."""
    settings = make_settings(issuer, **sections)
    return compile_policy(settings.issuers[0], settings)


DEFAULT_POLICY = make_policy()

CLAIMS_KEY = SigningKey.ec("claims")


def keys_of(*keys: SigningKey | Mapping[str, Any]) -> KeySet:
    """Import the published part of ``keys``; an empty set when none of them is usable."""
    try:
        return import_jwks(jwks(*keys))
    except KeySetError:
        return KeySet()


def judge(
    token: bytes,
    *keys: SigningKey | Mapping[str, Any],
    policy: IssuerPolicy = DEFAULT_POLICY,
    now: float = NOW,
    key_set: KeySet | None = None,
) -> Identity | Reason:
    """Verify a token with the published part of ``keys``; return who it is, or why not."""
    try:
        unverified = parse_token(token, MAX_BYTES)
        check_header(unverified, policy)
        check_claims(unverified, policy, now)
        known = keys_of(*keys) if key_set is None else key_set
        candidates = known.candidates(unverified.key_id, unverified.algorithm)
        if not candidates:
            return Reasons.UNKNOWN_KEY
        verify_signature(unverified, candidates)
        return make_identity(unverified, policy)
    except GatewayError as refusal:
        return refusal.reason


def judge_claims(now: float = NOW, policy: IssuerPolicy = DEFAULT_POLICY, **overrides: Any) -> Identity | Reason:
    """Judge a well-signed token with good claims of ``NOW``, some of them replaced; ``ABSENT`` removes one."""
    return judge(mint(CLAIMS_KEY, good_claims(NOW, **overrides)), CLAIMS_KEY, policy=policy, now=now)


def accepted(verdict: Identity | Reason) -> Identity:
    """Return the identity of a verdict that must be one."""
    assert isinstance(verdict, Identity), verdict
    return verdict


def is_bad_credential(verdict: object) -> bool:
    """D2: 401 with error="invalid_token"."""
    return (
        isinstance(verdict, Reason)
        and verdict.kind.status == 401
        and verdict.kind.error == "invalid_token"
        and verdict.kind.challenge is Challenge.ERROR
    )
