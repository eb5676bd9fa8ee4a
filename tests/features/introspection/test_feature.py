"""What introspection says of settings to the core."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.features.introspection.feature import IntrospectionFeature
from gateway.settings.tables.root import needs_keys
from tests.support.composed import Settings

FEATURE = IntrospectionFeature()
ASKED = {"introspection_url": "https://as.test/introspect", "introspection_max_concurrent": 7}


def settings(issuer: dict[str, Any], *credentials: str) -> Settings:
    return Settings.model_validate(
        {
            "issuers": [{"name": "main", "issuer": "https://idp.test/", "audience": ["api"], **issuer}],
            "upstreams": [{"name": "orders", "urls": ["http://127.0.0.1:9000"]}],
            "routes": [{"path": "/", "upstream": "orders", "credentials": list(credentials)}],
        }
    )


@pytest.mark.parametrize(
    ("issuer", "credentials", "needed"),
    [({}, ["jwt"], True), (ASKED, ["jwt", "opaque"], True), (ASKED, ["opaque"], False)],
)
def test_keys_are_not_needed_where_every_token_is_asked_about(
    issuer: dict[str, Any], credentials: list[str], needed: bool
) -> None:
    made = settings(issuer, *credentials)
    assert FEATURE.replaces_keys(made.issuers[0], made) is not needed
    assert needs_keys(made.issuers[0], made) is needed


def test_only_an_issuer_that_is_asked_costs_connections() -> None:
    plain, asked = settings({}, "jwt"), settings(ASKED, "opaque")
    assert (FEATURE.calls_issuer(plain.issuers[0]), FEATURE.open_files(plain)) == (False, 0)
    assert (FEATURE.calls_issuer(asked.issuers[0]), FEATURE.open_files(asked)) == (True, 7)


def test_gateways_should_agree_on_how_long_an_answer_is_good() -> None:
    assert FEATURE.must_agree(settings({}, "jwt")) == {
        "issuers.main.introspection_cache_seconds": 30.0,
        "issuers.main.introspection_inactive_cache_seconds": 5.0,
    }
