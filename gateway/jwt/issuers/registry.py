"""From the ``iss`` of a token to the one issuer that it names: its rules and its keys.

Finds the issuer. A token's ``iss`` leads to one issuer's rules and keys, and to
no other issuer's (RFC 8725 section 3.8); near misses are shown to the operator
and never accepted. Exact values come first: an issuer that is not a template
costs one look-up. Of a template, the ``iss`` also says which tenant; what that
may cause is ``tenants.py``'s.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache, partial

from aiohttp.abc import AbstractResolver

from gateway.clock import Clock
from gateway.errors import GatewayError, Reasons
from gateway.jwt.claims.issuer_policy import IssuerPolicy, compile_policy, tenant_policy
from gateway.jwt.claims.rules import unknown_issuer
from gateway.jwt.issuers.key_sources import make_source
from gateway.jwt.issuers.refresher import IssuerKeys
from gateway.jwt.issuers.tenants import Tenants
from gateway.jwt.jose.compact import Unverified
from gateway.settings import templates
from gateway.settings.tables import tenants
from gateway.settings.tables.issuers import Issuer, issuer_values
from gateway.settings.tables.root import Settings, needs_keys

#: How many configured issuers a refusal's detail shows when none is similar.
_MAX_SHOWN_ISSUERS = 3

#: Rules of how many tenants are remembered: they are made again when needed, because any client may name a tenant.
_POLICIES = 1024


def build_issuers(
    settings: Settings, clock: Clock, first_wait: float = 0.0, resolver: AbstractResolver | None = None
) -> dict[str, IssuerKeys]:
    """Return the keys of each configured issuer that needs some, by its name, not yet started.

    A template is among them when all its tenants share one set; see ``build_tenants`` for the others.

    Args:
        settings: the whole configuration.
        clock: the time.
        first_wait: seconds before the first fetch over a network.
        resolver: looks up the hosts of issuers, by default the system's.
    """
    return {
        issuer.name: IssuerKeys(
            issuer, make_source(issuer, resolver=resolver), clock, first_wait=0.0 if issuer.jwks_file else first_wait
        )
        for issuer in settings.issuers
        if needs_keys(issuer, settings) and not tenants.has_own_keys(issuer)
    }


def build_tenants(settings: Settings, clock: Clock, resolver: AbstractResolver | None = None) -> dict[str, Tenants]:
    """Return the tables of tenants that have keys of their own, by the issuer's name, not yet started.

    Args:
        settings, clock, resolver: as for ``build_issuers``.
    """

    def keys_of(issuer: Issuer, tenant: str) -> IssuerKeys:
        entry = tenants.entry_of(issuer, tenant)
        return IssuerKeys(entry, make_source(entry, resolver=resolver, one_origin=True), clock)

    return {
        issuer.name: Tenants(issuer, partial(keys_of, issuer), clock, settings.tokens.cache_seconds)
        for issuer in settings.issuers
        if tenants.has_own_keys(issuer)
    }


class _Family:
    """A template: whose tenants they are, and where their keys are.

    Attributes:
        keys: one set for all tenants, or a set for each.
        policy: return the rules of a tenant.
    """

    def __init__(self, issuer: Issuer, policy: IssuerPolicy, keys: IssuerKeys | Tenants) -> None:
        self._templates = [templates.split(value) for value in issuer_values(issuer)]
        self._pattern = tenants.compiled(issuer.tenant_pattern)
        self.keys = keys
        self.policy: Callable[[str], IssuerPolicy] = lru_cache(_POLICIES)(partial(tenant_policy, policy, issuer))

    def tenant_of(self, issuer: str) -> str | None:
        """Return the tenant that an ``iss`` names, by the pattern."""
        for template in self._templates:
            tenant = template.tenant_of(issuer)
            if tenant is not None and self._pattern.fullmatch(tenant):
                return tenant
        return None

    def find(self, tenant: str) -> tuple[IssuerPolicy, IssuerKeys | None]:
        """Return the rules of a tenant, and its keys if it has any by now."""
        return self.policy(tenant), self.keys.get(tenant) if isinstance(self.keys, Tenants) else self.keys


class Issuers:
    """The issuers of one configuration, by their ``iss`` values.

    Args:
        settings: the whole configuration.
        keys: the keys of each issuer that it names (``build_issuers``, ``build_tenants``).
    """

    def __init__(self, settings: Settings, keys: Mapping[str, IssuerKeys | Tenants]) -> None:
        self._known: dict[str, tuple[IssuerPolicy, IssuerKeys]] = {}
        self._listed: dict[str, tuple[_Family, str]] = {}
        self._patterns: list[_Family] = []
        self._tables = {name: table for name, table in keys.items() if isinstance(table, Tenants)}
        self._similar: dict[str, list[str]] = {}
        self._shown = [value for issuer in settings.issuers for value in issuer_values(issuer)][:_MAX_SHOWN_ISSUERS]
        for issuer in settings.issuers:
            if issuer.name in keys:  # else it is asked about its tokens, and verifies none here
                self._add(issuer, compile_policy(issuer, settings), keys[issuer.name])

    def _add(self, issuer: Issuer, policy: IssuerPolicy, keys: IssuerKeys | Tenants) -> None:
        for value in issuer_values(issuer):
            self._similar.setdefault(_without_slash(value), []).append(value)
        if not tenants.is_template(issuer):
            assert isinstance(keys, IssuerKeys)
            self._known |= dict.fromkeys(issuer_values(issuer), (policy, keys))
            return
        family = _Family(issuer, policy, keys)
        if issuer.tenant_pattern:
            self._patterns.append(family)
        self._listed |= {
            value: (family, tenant) for value, tenant in tenants.listed_values(issuer).items() if tenant is not None
        }

    def of(self, token: Unverified) -> tuple[IssuerPolicy, IssuerKeys | None]:
        """Return the rules and the keys for a token.

        The keys are None for a tenant that has none yet: ``admit`` begins them,
        once everything but the signature of the token was found right.

        Raises:
            GatewayError: ``UNKNOWN_ISSUER``.
        """
        found = self._known.get(token.issuer) if token.issuer is not None else None
        return found or self._of_template(token.issuer)

    def _of_template(self, issuer: str | None) -> tuple[IssuerPolicy, IssuerKeys | None]:
        if issuer is not None:
            if (listed := self._listed.get(issuer)) is not None:
                return listed[0].find(listed[1])
            for family in self._patterns:
                if (tenant := family.tenant_of(issuer)) is not None:
                    return family.find(tenant)
        # All of a long list would cost more to write than the token to refuse.
        similar = self._similar.get(_without_slash(issuer or ""))
        raise unknown_issuer(issuer, similar or self._shown)

    def admit(self, policy: IssuerPolicy) -> IssuerKeys:
        """Return the keys of a tenant, begun now if need be.

        Raises:
            GatewayError: 503: it has none, or there is no room for it.
        """
        assert policy.tenant is not None
        return self._tables[policy.name].admit(policy.tenant)

    def verified(self, policy: IssuerPolicy) -> None:
        """Note that a token of a tenant was verified."""
        if policy.tenant is not None and (table := self._tables.get(policy.name)) is not None:
            table.verified(policy.tenant)


def cannot_decide(issuer: IssuerKeys) -> GatewayError:
    """Return what is said while an issuer has no keys that may be believed."""
    return GatewayError(
        issuer.usable() or Reasons.NO_KEYS, detail=f"issuer {issuer.name}", retry_after=issuer.retry_after()
    )


def _without_slash(issuer: str) -> str:
    """Return what two issuers share that people take for the same one; never used to accept a token."""
    return issuer.rstrip("/").lower()
