"""What rate limits say of settings to the core."""

from __future__ import annotations

from typing import Any

from gateway.features.rate_limits.feature import RateLimitsFeature
from gateway.jwt.claims.issuer_policy import kept_claims
from gateway.settings.tables.root import Kept, Weakness
from tests.support.composed import Settings

FEATURE = RateLimitsFeature()


def settings(*routes: dict[str, Any]) -> Settings:
    return Settings.model_validate(
        {
            "upstreams": [{"name": "orders", "urls": ["http://127.0.0.1:9000"]}],
            "routes": [{"path": f"/{number}", "upstream": "orders", **one} for number, one in enumerate(routes)],
        }
    )


LIMITED = settings({"rate_limit": {"requests": 5, "by": "claim:tenant"}}, {"claims": {"role": "a"}})


def test_claims_that_limits_count_by_are_kept_with_those_of_rules() -> None:
    assert FEATURE.claims(LIMITED) == {"tenant"}
    assert kept_claims(LIMITED) == {"tenant", "role"}
    assert FEATURE.claims(settings({})) == frozenset()


def test_a_route_without_a_limit_lets_in_nobody_else() -> None:
    limited, free = LIMITED.routes
    assert FEATURE.weakness(limited, free) == Weakness("has no `rate_limit`", lets_in=False)
    assert FEATURE.weakness(free, limited) is FEATURE.weakness(limited, limited) is None


def test_counts_may_be_lost() -> None:
    assert list(FEATURE.kept_in_redis(LIMITED)) == [Kept("counts of rate limits", durable=False)]
    assert list(FEATURE.kept_in_redis(settings({}))) == []
