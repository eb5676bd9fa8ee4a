"""Checks of names: one entry each, and none that points nowhere."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from tests.settings.configs import SMALL, changed, faults_of

# fmt: off
CONTRADICTIONS: dict[str, tuple[str, dict[str, Any], str]] = {
    "an upstream that does not exist": (
        "routes", {"upstream": "order"}, "routes[0].upstream: unknown upstream; did you mean `orders`?"),
    "an issuer that does not exist": (
        "routes", {"issuers": ["main", "mian"]},
        "routes[0].issuers[1]: unknown issuer; did you mean `main`?"),
}
# fmt: on


@pytest.mark.parametrize("case", CONTRADICTIONS)
@pytest.mark.rule("R381", "R383")
def test_a_contradiction_is_a_fault_at_its_key(case: str, tmp_path: Path) -> None:
    """What can never apply or points nowhere stops the start."""
    table, options, fault = CONTRADICTIONS[case]
    assert faults_of(tmp_path, changed(table, **options)) == [fault]


@pytest.mark.rule("R381")
def test_names_and_issuer_values_belong_to_one_entry(tmp_path: Path) -> None:
    config = copy.deepcopy(SMALL)
    config["issuers"].append({"name": "main", "issuer": ["https://b.test", "https://idp.test/"], "audience": ["b"]})
    config["upstreams"].append({"name": "orders", "urls": ["http://127.0.0.1:9001"]})
    assert faults_of(tmp_path, config) == [
        "issuers[1].name: is also the name of issuers[0]",
        "issuers[1].issuer: a value of it also belongs to issuers[0]",
        "upstreams[1].name: is also the name of upstreams[0]",
    ]


@pytest.mark.parametrize("auth", ["required", "optional"])
@pytest.mark.rule("R382")
def test_a_route_that_looks_at_tokens_needs_an_issuer(auth: str, tmp_path: Path) -> None:
    """Without `auth` a route requires a token, so no issuer is no open door."""
    config = changed("routes", auth=auth)
    del config["issuers"]
    assert faults_of(tmp_path, config) == [
        'issuers: is empty, but routes[0] looks at tokens; name an issuer, or write auth = "public"'
    ]
    config["routes"][0]["auth"] = "public"
    assert faults_of(tmp_path, config) == []


@pytest.mark.rule("R341", "R359")
def test_two_identity_headers_that_services_fold_together_are_one(tmp_path: Path) -> None:
    """And names that differ in case only are not lost silently."""
    config = {**SMALL, "identity": {"X-User-Id": "sub", "x_user_id": "email", "x-user-id": "name"}}
    assert faults_of(tmp_path, config) == [
        'identity.x_user_id: is the same header as X-User-Id for services that treat "_" and "-" alike',
        'identity.x-user-id: is the same header as X-User-Id for services that treat "_" and "-" alike',
    ]


@pytest.mark.rule("R381")
def test_a_faulty_name_does_not_hide_a_misspelt_one(tmp_path: Path) -> None:
    """What cannot be the faulty one is still reported; what may be it is not reported twice."""
    config = copy.deepcopy(SMALL)
    config["issuers"].append({**config["issuers"][0], "name": "not a name", "issuer": "https://other.test/"})
    name_fault = (
        "issuers[1].name: must be up to 64 letters, digits, dots, hyphens and underscores, and begin with a letter"
        " or digit"
    )
    config["routes"][0]["issuers"] = ["main", "mian"]
    hinted = "routes[0].issuers[1]: unknown issuer; did you mean `main`?"
    assert faults_of(tmp_path, config) == [name_fault, hinted]
    config["routes"][0]["issuers"] = ["other"]
    assert faults_of(tmp_path, config) == [name_fault]
    config["routes"][0]["issuers"] = ["other", "third"]
    assert len(faults_of(tmp_path, config)) == 3
