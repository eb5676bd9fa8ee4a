"""What was used once: in memory and in a real Redis."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.clock import SystemClock
from gateway.errors import GatewayError, Reason
from gateway.settings.redis import Redis
from gateway.store.redis_link import RedisLink
from gateway.tokens.replay import MAX_SECONDS, ReplayMemory, ReplayRedis, digest_of, make_store
from tests.support.clock import FakeClock, eventually
from tests.support.pace import paced
from tests.support.redis import RedisServer
from tests.support.verifying import make_settings

A, B, C = (digest_of("key", name) for name in "abc")


@contextlib.asynccontextmanager
async def linked(url: str) -> AsyncIterator[RedisLink]:
    # Longer than the default: what is tested is the outcome, on a machine that has other work.
    link = RedisLink(Redis.model_validate({"url": url, "timeout_seconds": 0.5}), SystemClock())
    await link.start()
    try:
        yield link
    finally:
        await link.stop()


def test_no_two_ids_are_one() -> None:
    """R131: whatever the parts hold."""
    assert digest_of("a", "bc") != digest_of("ab", "c") != digest_of("abc") != digest_of("abc", "")
    assert digest_of("a\0b", "c") != digest_of("a", "b\0c")
    assert len({len(digest_of(text)) for text in ("", "x" * 10_000, "\ud800", "a:b\r\nDEL x")}) == 1


async def test_an_id_is_used_once_until_its_time_is_over() -> None:
    """R137: and its room is free again."""
    clock = FakeClock()
    memory = ReplayMemory(10, clock.monotonic)
    assert [await memory.use(A, 60) for _ in range(3)] == [True, False, False]
    assert await memory.use(B, 30)
    assert (memory.entries, memory.replays) == (2, 2)
    clock.jump(30)
    assert not await memory.use(A, 60)
    assert await memory.use(B, 30)
    clock.jump(30)
    assert await memory.use(A, 60)
    assert memory.entries == 1


async def test_a_step_of_the_wall_clock_admits_nothing() -> None:
    """R137: what was used is remembered by time that only goes forward."""
    clock = FakeClock()
    memory = ReplayMemory(10, clock.monotonic)
    assert await memory.use(A, 60)
    clock.step_wall(3600)
    assert not await memory.use(A, 60)


async def test_a_full_memory_decides_nothing_and_forgets_nothing() -> None:
    """R137: bounded, and a client that fills it lets no replay pass."""
    clock = FakeClock()
    memory = ReplayMemory(2, clock.monotonic)
    assert await memory.use(A, 60)
    assert await memory.use(B, 600)
    with pytest.raises(GatewayError) as caught:
        await memory.use(C, 60)
    assert (caught.value.reason, caught.value.retry_after) == (Reason.REPLAY_STORE, 60)
    assert not await memory.use(A, 60)
    assert (memory.entries, memory.undecided) == (2, 1)
    clock.jump(60)
    assert await memory.use(C, 60)


async def test_of_many_at_a_time_one_is_the_first() -> None:
    """R137."""
    memory = ReplayMemory(10, FakeClock().monotonic)
    assert sum(await asyncio.gather(*(memory.use(A, 60) for _ in range(100)))) == 1


async def test_gateways_that_share_a_redis_share_what_was_used(tmp_path: Path) -> None:
    """R137, R131: across workers, under a key that tells nothing; each purpose for itself."""
    async with RedisServer(tmp_path) as server, linked(server.url) as one, linked(server.url) as other:
        stores = [ReplayRedis(one, "proof"), ReplayRedis(other, "proof")]
        assert sum(await asyncio.gather(*(store.use(A, 60) for store in stores for _ in range(20)))) == 1
        assert await ReplayRedis(one, "token").use(A, 60)
        assert stores[0].replays + stores[1].replays == 39
        assert stores[0].entries == 0
        keys = sorted(server.run("KEYS", "*"))
        assert keys == [b"gateway:proof:" + A.hex().encode(), b"gateway:token:" + A.hex().encode()]
        assert 59_000 < server.run("PTTL", keys[0]) <= 60_000


async def test_in_redis_an_id_is_forgotten_in_time(tmp_path: Path) -> None:
    """R129, R137: never before its end, and at the latest in ten years."""
    async with RedisServer(tmp_path) as server, linked(server.url) as link:
        store = ReplayRedis(link, "proof")
        assert await store.use(A, 0.05)
        await eventually(lambda: not server.run("EXISTS", f"gateway:proof:{A.hex()}"))
        assert await store.use(A, 1e300)
        assert server.run("PTTL", f"gateway:proof:{A.hex()}") <= MAX_SECONDS * 1000
        assert await store.use(B, -1)


async def test_while_redis_is_away_nothing_is_admitted_and_nobody_waits(tmp_path: Path) -> None:
    """R130, R137: fail closed, within the link's time limit."""
    async with RedisServer(tmp_path) as server, linked(server.url) as link:
        store = ReplayRedis(link, "proof")
        assert await store.use(A, 60)
        server.pause()
        for _ in range(3):
            began = time.monotonic()
            with pytest.raises(GatewayError) as caught:
                await store.use(B, 60)
            assert caught.value.reason is Reason.REPLAY_STORE
            assert time.monotonic() - began < paced(1)
        server.resume()
        await eventually(lambda: link.available)
        assert not await store.use(A, 60)
        assert store.undecided == 3


async def test_the_configuration_says_where(tmp_path: Path) -> None:
    settings, clock = make_settings(), FakeClock()
    assert make_store(settings, clock, None, "proof").kind == "memory"
    async with RedisServer(tmp_path) as server, linked(server.url) as link:
        assert make_store(settings, clock, link, "proof").kind == "redis"
