"""Checks of ``[[issuers]]``: where keys come from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.settings.configs import changed, faults_of

# fmt: off
CONTRADICTIONS: dict[str, tuple[str, dict[str, Any], str]] = {
    "keys from two places": (
        "issuers", {"jwks_url": "https://idp.test/keys", "jwks_file": "keys.json"},
        "issuers[0].jwks_file: cannot be combined with `jwks_url`: choose one source of keys"),
}
# fmt: on


@pytest.mark.parametrize("case", CONTRADICTIONS)
@pytest.mark.rule("R381", "R383")
def test_a_contradiction_is_a_fault_at_its_key(case: str, tmp_path: Path) -> None:
    """What can never apply or points nowhere stops the start."""
    table, options, fault = CONTRADICTIONS[case]
    assert faults_of(tmp_path, changed(table, **options)) == [fault]


@pytest.mark.parametrize("url", ["http://idp.internal/", "http://10.0.0.1:8080", "http://127.0.0.1.example/"])
@pytest.mark.parametrize("key", ["issuer", "jwks_url"])
@pytest.mark.rule("R141", "R381")
def test_keys_over_http_must_be_allowed(key: str, url: str, tmp_path: Path) -> None:
    """An http:// issuer whose keys are fetched from there."""
    (fault,) = faults_of(tmp_path, changed("issuers", **{key: url}))
    assert fault.startswith(f"issuers[0].{key}: keys over http:// can be replaced")
    assert faults_of(tmp_path, changed("issuers", allow_http=True, **{key: url})) == []


@pytest.mark.parametrize(
    "url", ["http://localhost:8080/", "http://127.0.0.1:9", "http://[::1]:9/x", "https://idp.test"]
)
def test_keys_over_loopback_or_https_need_no_permission(url: str, tmp_path: Path) -> None:
    assert faults_of(tmp_path, changed("issuers", issuer=url)) == []
    assert faults_of(tmp_path, changed("issuers", issuer="any text", jwks_url=url)) == []


@pytest.mark.rule("R141")
def test_an_issuer_that_is_no_url_needs_a_place_for_its_keys(tmp_path: Path) -> None:
    """Discovery starts from the first issuer value."""
    (fault,) = faults_of(tmp_path, changed("issuers", issuer=["accounts.test", "https://accounts.test"]))
    assert fault.startswith("issuers[0].issuer: keys are discovered at this address, but it must begin")
    (fault,) = faults_of(tmp_path, changed("issuers", issuer="https://idp.test/?tenant=a"))
    assert fault.startswith("issuers[0].issuer: has a query")
    assert faults_of(tmp_path, changed("issuers", issuer="accounts.test", jwks_file="keys.pem")) == []
