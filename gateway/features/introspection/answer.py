"""From an introspection answer to an identity: the rules for what an authorization server says of a token.

Holds the rules on the answer itself (RFC 7662 section 2.2). They are few: the token's times, audience and subject are
judged as the claims of a JWT are (``jwt/claims/rules.py``). It is pure. The danger of this file is an answer that is
accepted wrongly: one that says "active" in any other way than JSON ``true``, or that is about another kind of token,
must not pass.
"""

from __future__ import annotations

from typing import Any

from gateway.errors import GatewayError, Reasons, printable
from gateway.features.introspection.reasons import INACTIVE_TOKEN
from gateway.identity import Identity
from gateway.jwt.claims.issuer_policy import IssuerPolicy
from gateway.jwt.claims.rules import check_claims, make_identity
from gateway.jwt.jose.compact import Unverified

#: What ``token_type`` may say of a token that is presented here (RFC 6749 section 7.1, RFC 9449 section 5), and the
#: values of servers that put the kind of token there instead (RFC 8693 section 3).
_ACCESS_TOKENS = frozenset({"bearer", "dpop", "access_token", "urn:ietf:params:oauth:token-type:access_token"})

#: Other members in which servers give the kind of token, and the kinds that are not for an API: some servers also call
#: a refresh token active.
_KIND_CLAIMS = ("token_use", "typ")
_OTHER_KINDS = frozenset({"refresh", "refresh_token", "offline", "id", "id_token"})


def judge(answer: dict[str, Any], policy: IssuerPolicy, issuer: str, now: float) -> Identity:
    """Return the identity of the caller.

    Args:
        answer: the members of the answer.
        policy: what the issuer's tokens must say.
        issuer: the issuer's value where the answer has no ``iss``: it came from the issuer's own server.
        now: seconds since the epoch.

    Raises:
        GatewayError: the refusal; ``INACTIVE_TOKEN`` for everything that is not ``"active": true``.
    """
    if answer.get("active") is not True:
        raise GatewayError(INACTIVE_TOKEN)
    claims = {"iss": issuer, **answer}
    del claims["active"]
    named = claims["iss"]
    token = Unverified("", None, None, claims, named if isinstance(named, str) else None, b"", b"")
    _check_kind(claims, policy)
    check_claims(token, policy, now)
    return make_identity(token, policy, "opaque")


def _check_kind(claims: dict[str, Any], policy: IssuerPolicy) -> None:
    kind = claims.get("token_type")
    if kind is not None:
        if not isinstance(kind, str):
            raise GatewayError(Reasons.BAD_CLAIM_TYPE, detail="'token_type' is not a string")
        if kind.lower() not in _ACCESS_TOKENS:
            raise GatewayError(Reasons.TYPE_REFUSED, detail=f"token_type is '{printable(kind)}'")
        if kind.lower() == "dpop" and claims.get("cnf") is None:
            # Bound to a key (RFC 9449 section 6.2) that the answer does not name: nothing can be proved.
            raise GatewayError(Reasons.SENDER_CONSTRAINED, detail="token_type is DPoP, but there is no 'cnf'")
    demanded = {name for name, _ in policy.exact_claims}
    for name in _KIND_CLAIMS:
        value = claims.get(name)
        if name not in demanded and isinstance(value, str) and value.lower() in _OTHER_KINDS:
            raise GatewayError(Reasons.TYPE_REFUSED, detail=f"{name} is '{printable(value)}'")
