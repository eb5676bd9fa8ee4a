"""Templates in a configuration: what is missing, unsafe or without effect stops the start, each with its key."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.settings.configs import SMALL, changed, faults_of, warnings_of

REALMS = "https://idp.test/realms/{tenant}"
HOST_FROM_TOKENS = (
    "issuers[0].tenant_pattern: lets tokens choose a host to fetch keys from: a tenant in a host needs `tenants`"
)


@pytest.mark.parametrize(
    "options",
    [
        {"issuer": REALMS, "tenants": ["acme"]},
        {"issuer": REALMS, "tenant_pattern": "team-[a-z]+", "max_tenants": 7, "tenant_idle_seconds": 60},
        {"issuer": REALMS, "tenants": ["acme"], "jwks_url": "https://keys.test/{tenant}"},
        {"issuer": REALMS, "tenants": ["acme"], "jwks_url": "https://keys.test/all"},
        {"issuer": "https://{tenant}.idp.test/", "tenants": ["acme"]},
        {
            "issuer": ["https://login.microsoftonline.com/{tenantid}/v2.0", "https://sts.windows.net/{tenantid}/"],
            "tenant_pattern": "[0-9a-f-]{36}",
            "jwks_url": "https://login.microsoftonline.com/common/discovery/v2.0/keys",
        },
    ],
    ids=["listed", "pattern", "keys of each", "keys of all", "host", "entra"],
)
def test_a_sound_template_is_taken_without_a_warning(options: dict[str, Any], tmp_path: Path) -> None:
    assert faults_of(tmp_path, changed("issuers", **options)) == []
    assert warnings_of(tmp_path, changed("issuers", **options)) == []


def test_template_is_not_introspected(tmp_path: Path) -> None:
    """CWE-918: which tenant's server an opaque token is for would be a guess."""
    url = "https://idp.test/introspect"
    (fault,) = (
        fault
        for fault in faults_of(tmp_path, changed("issuers", issuer=REALMS, tenants=["a"], introspection_url=url))
        if "template" in fault
    )
    assert fault.startswith("issuers[0].introspection_url: cannot be used with a template")


@pytest.mark.parametrize(
    ("options", "faults"),
    [
        ({"issuer": REALMS}, ["issuers[0].tenants: is required for a template, or `tenant_pattern`: without one of them"
                              " every value is accepted as a tenant"]),
        ({"issuer": REALMS, "tenants": ["a"], "tenant_pattern": "a"},
         ["issuers[0].tenant_pattern: cannot be combined with `tenants`: the list already names every tenant"]),
        ({"issuer": "https://{tenant}.idp.test/", "tenant_pattern": "[a-z]+"},
         [HOST_FROM_TOKENS]),
        ({"issuer": REALMS, "jwks_url": "https://{tenant}.keys.test/", "tenant_pattern": "[a-z]+"},
         [HOST_FROM_TOKENS]),
        ({"issuer": "https://{tenant}.idp.test/", "tenants": ["acme", "Acme"]},
         ["issuers[0].tenants: 'Acme' is not a lower-case host label"]),
        ({"issuer": "https://idp.test/x{tenant}", "tenants": ["a"]},
         ["issuers[0].issuer: must have {tenant} as a whole segment of its path, or as a whole label of its host"]),
        ({"issuer": REALMS, "tenants": ["a"], "jwks_url": "https://idp.test/x{tenant}"},
         ["issuers[0].issuer: must have {tenant} as a whole segment of its path, or as a whole label of its host"]),
        ({"issuer": [REALMS, "https://idp.test/"], "tenants": ["a"]},
         ["issuers[0].issuer: mixes placeholders, or templates with other values: give these an entry of their own"]),
        ({"issuer": [REALMS, "https://idp.test/{tenantid}"], "tenants": ["a"]},
         ["issuers[0].issuer: mixes placeholders, or templates with other values: give these an entry of their own"]),
        ({"issuer": REALMS, "tenants": ["a"], "jwks_url": "https://idp.test/{tenantid}"},
         ["issuers[0].issuer: mixes placeholders, or templates with other values: give these an entry of their own"]),
        ({"issuer": "https://idp.test/{realm}"},
         ["issuers[0].issuer: has braces: the placeholder of a template is {tenant} or {tenantid}"]),
        ({"tenants": ["a"]}, ["issuers[0].tenants: has no effect: `issuer` has no {tenant} in it"]),
        ({"tenant_pattern": "a"}, ["issuers[0].tenant_pattern: has no effect: `issuer` has no {tenant} in it"]),
        ({"tenant_claim": "a"}, ["issuers[0].tenant_claim: has no effect: `issuer` has no {tenant} in it"]),
        ({"max_tenants": 5}, ["issuers[0].max_tenants: has no effect: `issuer` has no {tenant} in it"]),
        ({"jwks_url": "https://idp.test/{tenant}"}, ["issuers[0].jwks_url: has a placeholder, but `issuer` has none"]),
        ({"issuer": REALMS, "tenants": ["a"], "max_tenants": 5},
         ["issuers[0].max_tenants: has no effect with `tenants`: the number of tenants is that of the list"]),
        ({"issuer": REALMS, "tenant_pattern": "a", "jwks_url": "https://idp.test/keys", "tenant_idle_seconds": 60},
         ["issuers[0].tenant_idle_seconds: has no effect: all tenants share one set of keys"]),
        ({"issuer": REALMS, "tenants": ["a", "a"]}, ["issuers[0].tenants: names a tenant twice"]),
        ({"issuer": REALMS, "tenants": ["a/b"]},
         ["issuers[0].tenants[0]: is not a tenant, as in the `iss` of its tokens: up to 128 letters and digits, with"
          " . _ - between"]),
        ({"issuer": REALMS, "tenant_pattern": "(a+)+"},
         ["issuers[0].tenant_pattern: repeats a group, which can backtrack without end: write the pattern out"]),
        ({"issuer": "http://idp.test/{tenant}", "tenants": ["a"]},
         ["issuers[0].issuer: keys over http:// can be replaced on the way: use https://, or `allow_http = true` in a"
          " private network"]),
    ],
)  # fmt: skip
def test_fault_names_the_key(options: dict[str, Any], faults: list[str], tmp_path: Path) -> None:
    """CWE-918, CWE-1188: no tenant is accepted that the configuration does not name, and no token names a host."""
    assert faults_of(tmp_path, changed("issuers", **options)) == faults


def _entry(name: str, **options: Any) -> dict[str, Any]:
    return {"name": name, "audience": ["api"], **options}


@pytest.mark.parametrize(
    ("entries", "faults"),
    [
        ([_entry("a", issuer=REALMS, tenants=["x"]), _entry("b", issuer="https://idp.test/realms/x")],
         ["issuers[1].issuer: a value of it also belongs to issuers[0]"]),
        ([_entry("a", issuer=REALMS, tenant_pattern="x"),
          _entry("b", issuer="https://idp.test/{tenant}/x", tenant_pattern="x")],
         ["issuers[1].issuer: could be the same as issuers[0]: a token could fit both"]),
        ([_entry("a", issuer=REALMS, tenant_pattern="x"), _entry("b", issuer="https://idp.test/realms/x")], []),
        ([_entry("a", issuer=REALMS, tenants=["x"]), _entry("b", issuer=REALMS, tenants=["y"])], []),
        ([_entry("a", issuer=REALMS, tenants=["x"]), _entry("b", issuer=REALMS, tenant_pattern="y")], []),
    ],
    ids=["listed and exact", "two patterns", "exact before a pattern", "two lists", "a list before a pattern"],
)  # fmt: skip
def test_nobody_has_to_guess_whose_a_token_is(entries: list[dict[str, Any]], faults: list[str], tmp_path: Path) -> None:
    """RFC 8725 section 3.8: exact values and listed tenants come before patterns, and nothing else is ever in doubt."""
    assert faults_of(tmp_path, {**SMALL, "issuers": entries}) == faults


@pytest.mark.parametrize(
    ("claims", "problem"),
    [
        ({"$tenant": ["acme", "other"]}, ""),
        ({"$tenant": "acme"}, ""),
        ({"$tenant": "amce"}, "names a tenant that no issuer has: amce; did you mean `acme`?"),
        ({"$tenant": 5}, "names a tenant that no issuer has: 5"),
    ],
)
def test_rule_about_tenants_names_tenants_that_there_are(claims: dict[str, Any], problem: str, tmp_path: Path) -> None:
    config = changed("routes", claims=claims)
    config["issuers"][0] |= {"issuer": REALMS, "tenants": ["acme", "other"]}
    wanted = [f'routes[0].claims."$tenant": {problem}'] if problem else []
    assert faults_of(tmp_path, config) == wanted


def test_rule_and_header_about_tenants_need_a_template(tmp_path: Path) -> None:
    config = changed("routes", claims={"$tenant": "acme"})
    config["identity"] = {"x-tenant": "$tenant"}
    assert faults_of(tmp_path, config) == [
        'routes[0].claims."$tenant": can never apply: none of the issuers of this route is a template',
        "identity.x-tenant: can never be set: no issuer is a template",
    ]


def test_rule_about_tenants_needs_tokens(tmp_path: Path) -> None:
    config = changed("routes", claims={"$tenant": "acme"}, credentials=["api_key"])
    config["issuers"][0] |= {"issuer": REALMS, "tenants": ["acme"]}
    config["api_keys"] = [{"id": "k", "hash": "sha256:" + "0" * 64}]
    assert 'routes[0].claims."$tenant": can never apply: API keys have no tenant' in faults_of(tmp_path, config)


def test_api_key_cannot_claim_a_tenant(tmp_path: Path) -> None:
    key = {"id": "k", "hash": "sha256:" + "0" * 64, "claims": {"$tenant": "acme"}}
    [fault] = faults_of(tmp_path, {**changed("routes", credentials=["api_key"]), "api_keys": [key]})
    assert "`$tenant` is not a claim of API keys" in fault


def test_resource_of_listed_tenants_names_all_their_servers_and_of_a_pattern_has_to_be_told(tmp_path: Path) -> None:
    config = changed("issuers", issuer=REALMS, tenant_pattern="[a-z]+")
    config["resources"] = [{"resource": "https://api.test/orders"}]
    assert faults_of(tmp_path, config) == [
        "resources[0].authorization_servers: is required: the value of issuers[0] is not a URL at which clients could"
        " find a server"
    ]
    config["resources"][0]["authorization_servers"] = ["https://idp.test/realms/a"]
    assert faults_of(tmp_path, config) == []
