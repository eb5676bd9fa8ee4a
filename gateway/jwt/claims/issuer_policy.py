"""What an issuer's tokens must say.

This file has the frozen rules, and their compilation from settings.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from gateway.identity import HeaderRule, header_rules
from gateway.jwt.jose.keys import ED25519_NAMES, VerifyingKey
from gateway.settings import templates
from gateway.settings.feature_faults import Hook
from gateway.settings.tables import tenants
from gateway.settings.tables.issuers import Issuer, issuer_values
from gateway.settings.tables.root import Settings


@dataclass(frozen=True, slots=True)
class IssuerPolicy:
    """What every token of one issuer must say, compiled once from its settings.

    Attributes:
        name: what the configuration calls the issuer.
        issuers: its exact ``iss`` values.
        audience: the token must be for any of these.
        audience_required: one that names no audience is refused.
        audience_claim: the claim that names the audience.
        algorithms: accepted ``alg`` names, both names of Ed25519 if either.
        access_token_type: the header's ``typ`` must be ``at+jwt`` (RFC 9068 section 4).
        required_claims: must be there and not null.
        exact_claims: must have exactly this value.
        leeway: seconds of clock difference.
        max_lifetime: seconds from ``iat`` (or now) to ``exp``; 0 = unlimited.
        scope_claims: where the scopes may be, the first one present wins.
        header_rules: the identity headers.
        kept_claims: top-level claims that some route looks at, or counts requests by.
        tenant: the one tenant of a template that this is for; None for an issuer that is not a template.
    """

    name: str
    issuers: frozenset[str]
    audience: frozenset[str]
    audience_claim: str
    algorithms: frozenset[str]
    access_token_type: bool
    required_claims: tuple[str, ...]
    exact_claims: tuple[tuple[str, Any], ...]
    leeway: float
    max_lifetime: float
    scope_claims: tuple[str, ...]
    header_rules: tuple[HeaderRule, ...]
    kept_claims: frozenset[str]
    tenant: str | None = None
    audience_required: bool = True

    def may_use(self, key: VerifyingKey) -> bool:
        """Say whether a key of a set that many tenants share may sign this tenant's tokens.

        A key that names no issuer may sign any tenant's tokens. One that does,
        with the placeholder or with a tenant in it, is for the tenants that it
        names alone (Microsoft identity platform, "Validate the signing key
        issuer").
        """
        return key.issuer is None or templates.fill(key.issuer, self.tenant or "") in self.issuers


def tenant_policy(policy: IssuerPolicy, issuer: Issuer, tenant: str) -> IssuerPolicy:
    """Return the policy of one tenant of a template: its own ``iss`` values, and the claim that names it, if any."""
    claim = tenants.tenant_claim(issuer)
    return replace(
        policy,
        issuers=frozenset(templates.fill(value, tenant) for value in issuer_values(issuer)),
        exact_claims=((claim, tenant), *policy.exact_claims) if claim else policy.exact_claims,
        tenant=tenant,
    )


def compile_policy(issuer: Issuer, settings: Settings) -> IssuerPolicy:
    """Return the policy of one configured issuer; of a template, what all its tenants have in common."""
    algorithms: frozenset[str] = frozenset(issuer.algorithms)
    if not algorithms.isdisjoint(ED25519_NAMES):
        algorithms |= ED25519_NAMES
    return IssuerPolicy(
        name=issuer.name,
        issuers=frozenset(issuer_values(issuer)),
        audience=frozenset(issuer.audience),
        audience_claim=issuer.audience_claim,
        algorithms=algorithms,
        access_token_type=issuer.token_type == "at+jwt",  # noqa: S105  a media type, no password
        required_claims=tuple(issuer.required_claims),
        exact_claims=tuple(issuer.claims.items()),
        leeway=issuer.leeway_seconds,
        max_lifetime=issuer.max_lifetime_seconds,
        scope_claims=tuple(settings.tokens.scope_claims),
        header_rules=header_rules(settings.identity),
        kept_claims=kept_claims(settings),
    )


def kept_claims(settings: Settings) -> frozenset[str]:
    """Return the top-level claims that some route or some feature looks at."""
    kept = frozenset[str]().union(*(route.claims for route in settings.routes))
    for feature in settings.features:
        with Hook(feature.name, "claims"):
            kept |= feature.claims(settings)
    return kept
