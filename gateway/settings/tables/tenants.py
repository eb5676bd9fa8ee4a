"""One issuer entry for many tenants: which of them it means, and the entry of one of them.

This file has what follows from an entry alone; it is pure. What a template is,
is ``templates.py``'s; which tenants have keys is ``jwt/issuers/tenants.py``'s.
"""

from __future__ import annotations

import re
from functools import lru_cache

from gateway.settings import templates
from gateway.settings.tables.issuers import Issuer, issuer_values

#: The claim that names the tenant at Microsoft, whose placeholder says who the provider is.
_MICROSOFT = "{tenantid}", "tid"


def is_template(issuer: Issuer) -> bool:
    """Tell whether an entry stands for many tenants."""
    return any(map(templates.placeholder_in, issuer_values(issuer)))


def has_own_keys(issuer: Issuer) -> bool:
    """Tell whether an entry is a template whose tenants have keys of their own, rather than all of them one set."""
    shared = issuer.jwks_file or (issuer.jwks_url and not templates.placeholder_in(issuer.jwks_url))
    return is_template(issuer) and not shared


def listed_values(issuer: Issuer) -> dict[str, str | None]:
    """Return the exact ``iss`` values of an entry that are known beforehand, each with its tenant.

    A template with a pattern has none; an entry that is no template has no tenants.
    """
    if not is_template(issuer):
        return dict.fromkeys(issuer_values(issuer))
    return {templates.fill(value, tenant): tenant for value in issuer_values(issuer) for tenant in issuer.tenants}


def accepts(issuer: Issuer, tenant: str) -> bool:
    """Tell whether a tenant is one of those that a template is for."""
    if issuer.tenants:
        return tenant in issuer.tenants
    return compiled(issuer.tenant_pattern).fullmatch(tenant) is not None


def tenant_claim(issuer: Issuer) -> str:
    """Return the claim that must be the tenant; empty when none has to."""
    placeholder, claim = _MICROSOFT
    microsoft = any(placeholder in value for value in issuer_values(issuer))
    return issuer.tenant_claim or (claim if microsoft else "")


def entry_of(issuer: Issuer, tenant: str) -> Issuer:
    """Return the entry that a tenant would have if it were the only one; its name is for logs."""
    return issuer.model_copy(
        update={
            "name": f"{issuer.name}/{tenant}",
            "issuer": [templates.fill(value, tenant) for value in issuer_values(issuer)],
            "jwks_url": templates.fill(issuer.jwks_url, tenant),
        }
    )


@lru_cache(maxsize=64)
def compiled(pattern: str) -> re.Pattern[str]:
    """Return a checked pattern, ready to be compared."""
    return re.compile(pattern)
