"""May this caller use this route?

Compares an identity with a route's rules. It runs on every request and its
result is never kept with the token: the same token may be enough for one route
and not for the next.

How claims are compared: a claim that is a list needs any one of its elements
to be accepted; text is compared whole, never by substring or letter case; the
JSON types are kept apart, so ``true``, ``1`` and ``"1"`` are three different
values, while ``1`` and ``1.0`` are one number (RFC 8259 section 6). Objects,
null, and lists inside lists are never accepted.
"""

from __future__ import annotations

from typing import Any

from gateway.errors import GatewayError, Reasons
from gateway.identity import Identity
from gateway.policy.routes import ClaimRule, Route

# Claims are frozen, so their lists are tuples; a list is read the same.
_LIST = (tuple, list)
_NUMBER = (int, float)


def authorize(route: Route, identity: Identity) -> None:
    """Return when ``identity`` fulfils all of the route's rules.

    Every caller is asked for ``credentials``, ``scopes``, ``any_scopes`` and ``claims``. A caller without an issuer
    (``Identity.has_issuer``), which today is one with an API key, is not asked for two more:

    - ``issuers`` says whose tokens the route believes. A key is believed because this gateway's configuration has it,
      so no issuer vouches for its caller; what lets it in on the route is ``api_key`` in ``credentials``.
    - ``sender_constrained`` says that tokens must be bound to a key or a certificate of their sender (RFC 7800
      section 3.1). An issuer binds a token when it issues it; a key is a secret and has nothing to be bound to.

    A route that must not be used without an issuer, or without proof of possession, leaves keys out of ``credentials``.

    Raises:
        GatewayError: ``CREDENTIAL_NOT_ACCEPTED`` when this route does not take this kind
            of credential, ``ISSUER_NOT_ACCEPTED`` when it does not believe the issuer,
            ``MISSING_SCOPE`` with the scopes that would do (RFC 6750 section 3.1),
            ``CLAIM_NOT_ACCEPTED``, or ``UNBOUND_TOKEN`` when it wants tokens that are
            bound to their sender. Whether the sender has what a token is bound to was
            asked before.
    """
    if identity.credential not in route.credentials:
        raise GatewayError(Reasons.CREDENTIAL_NOT_ACCEPTED)
    if identity.has_issuer:
        if route.issuers and identity.issuer_name not in route.issuers:
            raise GatewayError(Reasons.ISSUER_NOT_ACCEPTED)
        if route.sender_constrained != "optional":
            _demand_bound(route, identity)
    for scope in route.scopes:
        if scope not in identity.scopes:
            raise GatewayError(Reasons.MISSING_SCOPE, scope=_needed_scopes(route, identity))
    if route.any_scopes and route.any_scopes.isdisjoint(identity.scopes):
        raise GatewayError(Reasons.MISSING_SCOPE, scope=_needed_scopes(route, identity))
    for rule in route.claim_rules:
        if not _accepts(rule, identity.claims.get(rule.name)):
            raise GatewayError(Reasons.CLAIM_NOT_ACCEPTED, detail=f"claim {rule.name}")


def _demand_bound(route: Route, identity: Identity) -> None:
    bound, wanted = identity.confirmation, route.sender_constrained
    if bound is None:
        raise GatewayError(Reasons.UNBOUND_TOKEN)
    if (wanted == "dpop" and bound.jwk_thumbprint is None) or (
        wanted == "mtls" and bound.certificate_thumbprint is None
    ):
        raise GatewayError(Reasons.UNBOUND_TOKEN, detail=f"not bound by {wanted}")


def _accepts(rule: ClaimRule, value: Any) -> bool:
    if isinstance(value, _LIST):
        return any(_accepts_one(rule, element) for element in value)
    return _accepts_one(rule, value)


def _accepts_one(rule: ClaimRule, value: Any) -> bool:
    if isinstance(value, str):
        return value in rule.texts
    if isinstance(value, bool):  # before numbers: to Python a bool is an int
        return value in rule.booleans
    if isinstance(value, _NUMBER):
        return value in rule.numbers
    return False


def _needed_scopes(route: Route, identity: Identity) -> str:
    """Return what would do: all of ``scopes``, and the choice of ``any_scopes`` when the caller has none of them."""
    needed = list(route.settings.scopes)
    if route.any_scopes and route.any_scopes.isdisjoint(identity.scopes):
        needed.extend(route.settings.any_scopes)
    return " ".join(dict.fromkeys(needed))
