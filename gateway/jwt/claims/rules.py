"""What a token says, judged: times, audience, subject, and who that makes the caller.

This file has the rules on claims (RFC 7519 section 4, RFC 9068 section 4).
Every function is pure and the time is an argument. The danger of this file is
the absent or odd claim: a claim that is missing, null or of another type must
never pass for one that was checked.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Any

from gateway.errors import GatewayError, Reason, Reasons, printable
from gateway.identity import ALWAYS, TENANT, Identity, UnsafeClaimError, freeze, identity_lines
from gateway.jwt.claims.confirmation import read_confirmation
from gateway.jwt.claims.issuer_policy import IssuerPolicy
from gateway.jwt.jose.compact import Unverified
from gateway.settings.tables.routes import Credential

_NO_CLAIMS: Mapping[str, Any] = MappingProxyType({})

#: Tokens that are remembered are many, and were mostly issued in few seconds: each of these is one number for all.
_seconds = lru_cache(maxsize=1024)(float)


def is_current(expires_at: float, not_before: float, leeway: float, now: float) -> Reason | None:
    """Return why a token is not valid at ``now``, or None: the one rule on time.

    Valid is ``not_before - leeway <= now < expires_at + leeway``. All are
    seconds since the epoch and may be infinite (RFC 7519 sections 4.1.4, 4.1.5).
    """
    if now - leeway >= expires_at:
        return Reasons.EXPIRED
    if not_before > now + leeway:
        return Reasons.NOT_YET_VALID
    return None


def unknown_issuer(issuer: str | None, known: Iterable[str]) -> GatewayError:
    """Return the refusal of a token from elsewhere; its detail shows both sides, which often differ by a slash."""
    shown = "none" if issuer is None else f"'{printable(issuer, 200)}'"
    configured = ", ".join(f"'{printable(value, 200)}'" for value in sorted(known))
    return GatewayError(Reasons.UNKNOWN_ISSUER, detail=f"iss is {shown}, configured is {configured}")


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


def check_claims(token: Unverified, policy: IssuerPolicy, now: float) -> None:
    """Refuse a token whose claims are not what this issuer's tokens must say.

    Raises:
        GatewayError: with the reason of the first rule that is broken.
    """
    claims = token.claims
    if token.issuer not in policy.issuers:
        raise unknown_issuer(token.issuer, policy.issuers)
    _check_times(claims, policy, now)
    _check_audience(claims.get(policy.audience_claim), policy)
    if "sub" in claims and not (isinstance(claims["sub"], str) and claims["sub"]):
        raise GatewayError(Reasons.BAD_CLAIM_TYPE, detail="'sub' is not a string, or empty")
    for name in policy.required_claims:
        if claims.get(name) is None:
            raise GatewayError(Reasons.MISSING_CLAIM, detail=f"'{printable(name)}' is required")
    for name, expected in policy.exact_claims:
        if not _same(claims.get(name), expected):
            raise GatewayError(Reasons.WRONG_CLAIM, detail=f"'{printable(name)}' does not have the configured value")
    read_confirmation(claims)  # refuses a binding whose proof could not be checked
    # Security event and logout tokens are signed by the same keys. Their 'events'
    # name URIs (RFC 8417 section 2.2), and not all of them carry their own 'typ'.
    events = claims.get("events")
    if isinstance(events, dict) and any(":" in name for name in events):
        raise GatewayError(Reasons.TYPE_REFUSED, detail="a security event or logout token ('events')")


def granted_scopes(claims: dict[str, Any], names: tuple[str, ...]) -> tuple[str, ...]:
    """Return the scopes of the first claim in ``names`` that is present and not null.

    A string is split at spaces and nowhere else (RFC 8693 section 4.2); in a
    list each string is one scope, even one with a space in it (which then
    equals no scope that a route can ask for). Anything else grants nothing.
    """
    for name in names:
        value = claims.get(name)
        if value is None:
            continue
        if isinstance(value, str):
            return _split(value)
        if isinstance(value, list) and all(isinstance(scope, str) for scope in value):
            return tuple(map(sys.intern, filter(None, value)))
        return ()
    return ()


@lru_cache(maxsize=256)
def _split(text: str) -> tuple[str, ...]:
    """Split the scopes of a string. Callers share few sets of scopes: each is split, and kept in memory, once."""
    return tuple(sys.intern(scope) for scope in text.split(" ") if scope)


def make_identity(
    token: Unverified, policy: IssuerPolicy, credential: Credential = "jwt", *, has_issuer: bool = True
) -> Identity:
    """Return the identity of the caller, from a token that was verified and checked.

    Args:
        credential: what kind of credential says so.
        has_issuer: False for what stands for a credential that no issuer gave out.

    Raises:
        GatewayError: ``UNSAFE_CLAIM`` when a claim cannot be a header value.
    """
    claims = token.claims
    scopes = granted_scopes(claims, policy.scope_claims)
    try:
        lines = identity_lines(policy.header_rules, claims, scopes, policy.tenant)
    except UnsafeClaimError as error:
        raise GatewayError(Reasons.UNSAFE_CLAIM, detail=str(error)) from None
    token_id, session_id = claims.get("jti"), claims.get("sid")
    return Identity(
        policy.name,
        # Shared by all identities that name the same: these are many.
        sys.intern(token.issuer or ""),
        claims.get("sub"),
        scopes,
        _kept(claims, policy),
        lines,
        _moment(claims, "exp", math.inf),
        _moment(claims, "nbf", ALWAYS),
        token_id if isinstance(token_id, str) else None,
        credential,
        session_id if isinstance(session_id, str) else None,
        _moment(claims, "iat", ALWAYS),
        read_confirmation(claims),
        policy.tenant,
        has_issuer,
    )


def _kept(claims: dict[str, Any], policy: IssuerPolicy) -> Mapping[str, Any]:
    """Return the claims that rules look at and that are present, frozen. Text, which they mostly are, is so by itself.

    The tenant is the gateway's own word, never a claim of that name.
    """
    kept = {}
    for name in policy.kept_claims:
        value = policy.tenant if name == TENANT else claims.get(name)
        if value is not None:
            kept[name] = value if type(value) is str else freeze(value)
    return MappingProxyType(kept) if kept else _NO_CLAIMS


def _check_times(claims: dict[str, Any], policy: IssuerPolicy, now: float) -> None:
    expires_at = _moment(claims, "exp", math.inf)
    not_before = _moment(claims, "nbf", ALWAYS)
    issued_at = _moment(claims, "iat", now)
    if reason := is_current(expires_at, not_before, policy.leeway, now):
        raise GatewayError(reason)
    if issued_at > now + policy.leeway:
        raise GatewayError(Reasons.ISSUED_IN_FUTURE)
    # Without 'exp' there is nothing to bound: whether that is allowed is for required_claims.
    if policy.max_lifetime and "exp" in claims and expires_at > issued_at + policy.max_lifetime:
        raise GatewayError(Reasons.LIFETIME_TOO_LONG, detail=f"more than {policy.max_lifetime:g} s")


def _moment(claims: dict[str, Any], name: str, absent: float) -> float:
    """Return a NumericDate (RFC 7519 section 2) as a float that may be infinite but never overflows."""
    value = claims.get(name, absent)
    # Exact types: True is an int to Python, and was the number 1 to other verifiers.
    if type(value) is float:
        return value
    if type(value) is not int:
        raise GatewayError(Reasons.BAD_CLAIM_TYPE, detail=f"'{name}' is not a number")
    try:
        return _seconds(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def _check_audience(value: Any, policy: IssuerPolicy) -> None:
    if isinstance(value, str):
        matches = value in policy.audience
    elif isinstance(value, list) and all(isinstance(item, str) for item in value):
        matches = not policy.audience.isdisjoint(value)
    elif value is None:
        if not policy.audience_required:
            return
        raise GatewayError(Reasons.MISSING_CLAIM, detail=f"'{printable(policy.audience_claim)}' is required")
    else:
        raise GatewayError(Reasons.BAD_CLAIM_TYPE, detail=f"'{printable(policy.audience_claim)}' holds no strings")
    if not matches:
        raise GatewayError(Reasons.WRONG_AUDIENCE)


def _same(value: Any, expected: Any) -> bool:
    """Compare as JSON does: 1 is 1.0, but true is not 1."""
    return isinstance(value, bool) == isinstance(expected, bool) and bool(value == expected)
