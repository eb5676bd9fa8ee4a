"""One entry for many tenants: which they are, and what each one's own entry would be."""

from __future__ import annotations

import pytest

from gateway.settings.tables import tenants
from tests.support.issuers.identity_provider import issuer_settings

REALMS = "https://idp.test/realms/{tenant}"
ENTRA = ["https://login.microsoftonline.com/{tenantid}/v2.0", "https://sts.windows.net/{tenantid}/"]


def test_values_that_are_known_beforehand_are_those_of_listed_tenants() -> None:
    assert tenants.listed_values(issuer_settings(issuer=["a", "b"])) == {"a": None, "b": None}
    assert tenants.listed_values(issuer_settings(issuer=REALMS, tenant_pattern="x")) == {}
    assert tenants.listed_values(issuer_settings(issuer=ENTRA, tenants=["t"])) == {
        "https://login.microsoftonline.com/t/v2.0": "t",
        "https://sts.windows.net/t/": "t",
    }


@pytest.mark.parametrize(
    ("options", "own"),
    [
        ({}, True),
        ({"jwks_url": "https://idp.test/keys/{tenant}"}, True),
        ({"jwks_url": "https://idp.test/keys"}, False),
        ({"jwks_file": "/keys"}, False),
        ({"issuer": "https://idp.test/"}, False),
    ],
)
def test_keys_are_each_tenants_own_unless_their_place_is_one_for_all(options: dict[str, str], *, own: bool) -> None:
    assert tenants.has_own_keys(issuer_settings(**{"issuer": REALMS, "tenants": ["t"], **options})) is own


def test_tenant_of_the_list_or_of_the_whole_pattern_is_accepted() -> None:
    listed = issuer_settings(issuer=REALMS, tenants=["acme"])
    assert tenants.accepts(listed, "acme")
    assert not tenants.accepts(listed, "acm")
    matched = issuer_settings(issuer=REALMS, tenant_pattern="acme|other")
    assert tenants.accepts(matched, "other")
    assert not tenants.accepts(matched, "others")


@pytest.mark.parametrize(
    ("options", "claim"),
    [
        ({"issuer": REALMS}, ""),
        ({"issuer": ENTRA}, "tid"),
        ({"issuer": ENTRA, "tenant_claim": "utid"}, "utid"),
        ({"issuer": REALMS, "tenant_claim": "org"}, "org"),
    ],
)
def test_microsofts_placeholder_binds_microsofts_claim(options: dict[str, str], claim: str) -> None:
    assert tenants.tenant_claim(issuer_settings(**options, tenants=["t"])) == claim


def test_entry_of_a_tenant_is_the_template_filled() -> None:
    entry = tenants.entry_of(
        issuer_settings(issuer=ENTRA, tenants=["t"], jwks_url="https://idp.test/{tenantid}/keys", leeway_seconds=7), "t"
    )
    assert entry.issuer == ["https://login.microsoftonline.com/t/v2.0", "https://sts.windows.net/t/"]
    assert (entry.name, entry.jwks_url, entry.leeway_seconds) == ("main/t", "https://idp.test/t/keys", 7)
