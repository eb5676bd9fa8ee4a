"""What is doubtful about a real server's settings, and what a user may not see."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from gateway.clock import SystemClock
from gateway.settings.tables.redis import Redis
from gateway.store.conditions import CONDITIONS_LOOK_SECONDS, SOON_SECONDS, Conditions
from gateway.store.redis_link import RedisLink
from tests.support.clock import FakeClock, eventually
from tests.support.composed import Settings
from tests.support.gateways.running import configuration
from tests.support.stores.redis import RedisServer

LIMIT: dict[str, Any] = {"rate_limit": {"requests": 1, "seconds": 1}}


def settings(*routes: dict[str, Any], **sections: Any) -> Settings:
    made = configuration("http://127.0.0.1:1", Path("jwks.json"), routes=list(routes) or [{"path": "/"}], **sections)
    return Settings.model_validate({**made, "redis": {"url": "redis://127.0.0.1:1"}})


@contextlib.asynccontextmanager
async def looking(folder: Path, made: Settings, **options: Any) -> AsyncIterator[tuple[RedisServer, Conditions]]:
    async with RedisServer(folder, **options) as server:
        link = RedisLink(Redis(url=server.url, timeout_seconds=2), SystemClock())
        await link.start()
        try:
            yield server, Conditions(link, made, SystemClock())
        finally:
            await link.stop()


@pytest.mark.parametrize(
    ("made", "kept"),
    [
        (settings(), ["revocations"]),
        (settings(revocation={"redis": False}), []),
        (settings({"path": "/", "single_use": True}, revocation={"redis": False}), ["used tokens"]),
        (settings({"path": "/", "sender_constrained": "dpop"}), ["revocations", "used proofs"]),
    ],
)
def test_what_must_not_be_lost(made: Settings, kept: list[str]) -> None:
    assert [one.what for rules in made.features for one in rules.kept_in_redis(made) if one.durable] == kept


@pytest.mark.rule("R444")
async def test_persistence_and_eviction_are_named_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """And no more once they are put right."""
    async with looking(tmp_path, settings({"path": "/", "single_use": True, **LIMIT})) as (server, conditions):
        for _ in range(2):
            await conditions.look()
        (problem,) = conditions.problems
        assert problem == (
            "Redis loses all revocations and used tokens at a restart (appendonly no, no snapshots); set appendonly yes"
        )
        server.run("CONFIG", "SET", "save", "3600 1")
        server.run("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
        await conditions.look()
        assert len(conditions.problems) == 1, "without maxmemory nothing is evicted"
        server.run("CONFIG", "SET", "maxmemory", "100mb")
        await conditions.look()
        assert list(conditions.problems) == [
            "Redis may evict revocations and used tokens and counts of rate limits: its maxmemory-policy is"
            " allkeys-lru; set noeviction",
            "Redis loses the last revocations and used tokens at a restart (appendonly no, snapshots only);"
            " set appendonly yes",
        ]
        server.run("CONFIG", "SET", "maxmemory-policy", "noeviction")
        server.run("CONFIG", "SET", "appendonly", "yes")
        await conditions.look()
        assert list(conditions.problems) == []
        await eventually(lambda: not server.run("INFO", "persistence")["aof_rewrite_in_progress"])
        server.run("CONFIG", "SET", "save", "")
    assert len([line for line in caplog.records if line.name == "gateway.redis"]) == 3


@pytest.mark.rule("R444")
async def test_what_needs_none_of_it_is_not_warned_of(tmp_path: Path) -> None:
    """Shared introspection answers may be evicted and lost; limits may be lost."""
    for made, problems in ((settings(revocation={"redis": False}), 0), (settings(LIMIT | {"path": "/"}), 2)):
        async with looking(tmp_path, made) as (server, conditions):
            server.run("CONFIG", "SET", "maxmemory", "100mb")
            server.run("CONFIG", "SET", "maxmemory-policy", "volatile-lru")
            await conditions.look()
            assert len(conditions.problems) == problems


@pytest.mark.rule("R444")
async def test_what_a_user_may_not_see_is_said(tmp_path: Path) -> None:
    async with looking(tmp_path, settings()) as (server, conditions):
        server.run("ACL", "SETUSER", "default", "-config")
        await conditions.look()
        (problem,) = conditions.problems
        assert "whether it takes snapshots is unknown: this Redis user may not run CONFIG GET save" in problem


async def test_a_user_who_may_not_ask_for_facts_is_no_fault(tmp_path: Path) -> None:
    async with looking(tmp_path, settings()) as (server, conditions):
        server.run("ACL", "SETUSER", "default", "-info")
        await conditions.look()
        (problem,) = conditions.problems
        assert problem.startswith("Redis settings cannot be checked: this Redis user may not run INFO")


async def test_a_cluster_is_named(tmp_path: Path) -> None:
    async with looking(tmp_path, settings(), cluster=True, keep=True) as (_, conditions):
        await conditions.look()
        (problem,) = conditions.problems
        assert problem.startswith("Redis is part of a cluster, which is not supported")


async def test_after_an_outage_the_next_look_comes_soon(tmp_path: Path) -> None:
    async with RedisServer(tmp_path) as server:
        link, clock = RedisLink(Redis(url=server.url, timeout_seconds=2), SystemClock()), FakeClock()
        conditions = Conditions(link, settings(), clock)
        try:
            conditions.start()  # Redis has not answered yet
            await eventually(lambda: clock.naps == [SOON_SECONDS])
            await link.start()
            await clock.advance(SOON_SECONDS)
            await eventually(lambda: clock.naps == [CONDITIONS_LOOK_SECONDS])
            await server.kill()
            await eventually(lambda: not link.available)
            await clock.advance(CONDITIONS_LOOK_SECONDS)
            await eventually(lambda: clock.naps == [SOON_SECONDS])
            assert len(conditions.problems) == 1
            await server.restart()
            await eventually(lambda: link.available)
            await clock.advance(SOON_SECONDS)
            await eventually(lambda: clock.naps == [CONDITIONS_LOOK_SECONDS])
        finally:
            await conditions.stop()
            await link.stop()
