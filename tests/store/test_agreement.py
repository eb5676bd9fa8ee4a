"""What gateways that share a Redis should have in common."""

from __future__ import annotations

import pytest

from gateway.store.agreement import what_must_agree
from tests.support.tokens.verifying import make_settings


@pytest.mark.rule("R440")
def test_leeway_lives_and_caches_are_published_by_the_names_of_their_options() -> None:
    published = what_must_agree(make_settings({"leeway_seconds": 2}))
    assert published["issuers.main.leeway_seconds"] == 2
    assert {name.rpartition(".")[2] for name in published} == {
        "leeway_seconds",
        "max_lifetime_seconds",
        "introspection_cache_seconds",
        "introspection_inactive_cache_seconds",
        "max_age_seconds",
        "max_future_seconds",
        "nonce_seconds",
    }
