"""Where a configuration has revoked credentials read from."""

from __future__ import annotations

from typing import Any

from gateway.clock import SystemClock
from gateway.features.revocation.options import Revocation
from gateway.features.revocation.sources import build_sources
from gateway.settings.tables.redis import Redis
from gateway.store.redis_link import RedisLink
from tests.support.clock import FakeClock
from tests.support.composed import Settings


def settings(**tables: Any) -> Settings:
    return Settings.model_construct(**{"redis": Redis(), "revocation": Revocation(), **tables})


def test_nothing_configured_reads_nothing() -> None:
    assert build_sources(settings(), FakeClock(), None) == []


async def test_the_configuration_says_which_sources_there_are() -> None:
    link = RedisLink(Redis(url="redis://127.0.0.1:1"), SystemClock())
    tables = {"redis": Redis(url="redis://127.0.0.1:1"), "revocation": Revocation(file="/nowhere")}
    assert [one.name for one in build_sources(settings(**tables), FakeClock(), link)] == ["file", "redis"]
    tables["revocation"] = Revocation(redis=False)
    assert build_sources(settings(**tables), FakeClock(), link) == []
    await link.stop()
