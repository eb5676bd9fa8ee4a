"""What Prometheus reads of introspection."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.features.introspection.choice import introspection_policy
from gateway.features.introspection.introspector import Introspector
from gateway.features.introspection.part import IntrospectionPart
from gateway.features.introspection.shared_answers import SharedAnswers
from gateway.settings.tables.redis import Redis
from gateway.store.redis_link import RedisLink
from tests.support.clock import FakeClock, eventually
from tests.support.issuers.identity_provider import gateway_settings
from tests.support.issuers.introspection import authorization_server, introspecting, said
from tests.support.parts import samples_of
from tests.support.pipeline import core_of


@pytest.mark.rule("R198")
async def test_counters_are_by_issuer(tmp_path: Path) -> None:
    """Labels are configured or fixed names."""
    clock = FakeClock()
    redis = Redis(url="redis://127.0.0.1:1/0")
    async with authorization_server() as server:
        server.tokens["t"] = said(clock.wall())
        issuer = introspecting(tmp_path, server.url)
        shared = SharedAnswers(RedisLink(redis, clock), redis, issuer)
        asker = Introspector(issuer, introspection_policy(issuer, gateway_settings(issuer)), 8192, clock, shared)
        for token in (b"t", b"t", b"t"):
            await asker.identify(token)
        assert asker.known(b"bad") is None
        await eventually(lambda: asker.gate.taken == 0)
        part = IntrospectionPart(core_of(gateway_settings(issuer), clock))
        assert list(part.introspectors) == ["as"]
        part.introspectors["as"] = asker
        samples, status = samples_of(part), part.status()
        await asker.stop()
    for key, value in {
        ("gateway_introspections_total", "as", "active"): 1,
        ("gateway_introspections_total", "as", "inactive"): 1,
        ("gateway_introspection_duration_seconds_count", "as"): 2,
        ("gateway_introspection_cache_hits_total", "as", "good"): 2,
        ("gateway_introspection_cache_hits_total", "as", "bad"): 0,
        ("gateway_introspection_shared_lookups_total", "as", "failures"): 0,
        ("gateway_introspections_refused_total", "as"): 0,
        ("gateway_introspections_in_flight", "as"): 0,
        ("gateway_introspections_waiting", "as"): 0,
        ("gateway_introspection_cache_entries", "as"): 1,
    }.items():
        assert samples[key] == value, key
    assert status == {"introspection": {"as": asker.status()}}
