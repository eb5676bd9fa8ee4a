"""Buckets shared through a real Redis: a worker's own arithmetic, one exchange, no clock but the server's."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.clock import SystemClock
from gateway.features.rate_limits.shared_buckets import SharedBuckets
from gateway.settings.tables.redis import Redis
from gateway.store.names import BUCKET_PREFIX
from gateway.store.redis_link import RedisLink, StoreUnavailableError
from tests.support.pace import paced
from tests.support.stores.redis import RedisServer

A, B = b"\x01" * 16, b"\x02" * 16
#: Three at once, and one more each hundred seconds.
THREE = (100.0, 200.1)


@contextlib.asynccontextmanager
async def linked(folder: Path, seconds: float = 5) -> AsyncIterator[tuple[RedisServer, RedisLink]]:
    """A server and a link to it, whose exchanges may take long on a busy machine."""
    async with RedisServer(folder) as server:
        link = RedisLink(Redis(url=server.url, timeout_seconds=seconds), SystemClock())
        await link.start()
        try:
            yield server, link
        finally:
            await link.stop()


async def test_a_bucket_gives_its_burst_and_then_says_when_it_would_give_more(tmp_path: Path) -> None:
    async with linked(tmp_path) as (_, link):
        shared = SharedBuckets(link, [THREE])
        answers = [(await shared.take([A]))[0] for _ in range(5)]
        assert [fits for fits, _ in answers] == [True, True, True, False, False]
        for (_, ahead), wanted in zip(answers, (100, 200, 300, 300, 300), strict=True):
            assert wanted - 5 < ahead <= wanted
        assert (await shared.take([B]))[0][0]


async def test_all_buckets_let_a_request_through_or_none_counts_it(tmp_path: Path) -> None:
    async with linked(tmp_path) as (_, link):
        shared = SharedBuckets(link, [(100.0, 0.1), THREE])
        first = await shared.take([A, B])
        again = [await shared.take([A, B]) for _ in range(3)]
        assert [fits for fits, _ in first] == [True, True]
        assert all([fits for fits, _ in answer] == [False, True] for answer in again)
        assert all(95 < ahead <= 100 for answer in (first, *again) for _, ahead in answer)


async def test_two_links_share_one_bucket_by_redis_clock(tmp_path: Path) -> None:
    async with linked(tmp_path) as (server, link):
        other = RedisLink(Redis(url=server.url, timeout_seconds=5), SystemClock())
        await other.start()
        try:
            both = [SharedBuckets(one, [THREE]) for one in (link, other)]
            answers = await asyncio.gather(*(shared.take([A]) for shared in both * 20))
        finally:
            await other.stop()
        assert sum(answer[0][0] for answer in answers) == 3
        assert link.commands == 20  # one exchange each


@pytest.mark.rule("R131")
async def test_nothing_is_kept_longer_than_a_bucket_takes_to_fill(tmp_path: Path) -> None:
    """Keys are digests; and what a client can make many of is gone by itself."""
    async with linked(tmp_path) as (server, link):
        await SharedBuckets(link, [(0.05, 10.0)]).take([A])
        await SharedBuckets(link, [THREE]).take([B])
        await SharedBuckets(link, [(0.000001, 0.0)]).take([b"\x03" * 16])
        assert 95_000 < server.run("PTTL", BUCKET_PREFIX + B.hex()) <= 100_000
        deadline = time.monotonic() + 5
        while server.run("KEYS", "*") != [(BUCKET_PREFIX + B.hex()).encode()]:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.01)


async def test_rates_that_are_no_whole_microseconds_are_kept(tmp_path: Path) -> None:
    """A third of a second is a third, also after many requests."""
    async with linked(tmp_path) as (_, link):
        shared = SharedBuckets(link, [(1 / 3, 1000.0)])
        for _ in range(299):
            await shared.take([A])
        ((_, ahead),) = await shared.take([A])
        assert 95 < ahead <= 100


ODD_MOMENTS = ("", "nonsense", "inf", "-inf", "nan", "-5", "1e30", "0x10", " 5", "99999999999999999999")


@pytest.mark.rule("R435")
async def test_what_is_no_moment_is_an_outage_and_stays_as_it_is(tmp_path: Path) -> None:
    """Another program's data under our key neither admits nor refuses a caller."""
    async with linked(tmp_path) as (server, link):
        key, both = BUCKET_PREFIX + A.hex(), SharedBuckets(link, [THREE, THREE])
        for value in ODD_MOMENTS:
            server.run("SET", key, value)
            with pytest.raises(StoreUnavailableError, match="unexpected answer"):
                await both.take([B, A])
            assert server.run("GET", key) == value.encode()
        server.run("DEL", key)
        server.run("LPUSH", key, "x")
        with pytest.raises(StoreUnavailableError, match="unexpected answer"):
            await both.take([B, A])
        assert link.odd_answers == len(ODD_MOMENTS) + 1
        fits, ahead = (await SharedBuckets(link, [THREE]).take([B]))[0]
        assert fits
        assert ahead == pytest.approx(THREE[0], abs=0.01), "nothing was taken before"


async def test_a_full_server_is_as_good_as_none(tmp_path: Path) -> None:
    async with linked(tmp_path) as (server, link):
        server.run("CONFIG", "SET", "maxmemory", "1")
        with pytest.raises(StoreUnavailableError):
            await SharedBuckets(link, [THREE]).take([A])
        server.run("CONFIG", "SET", "maxmemory", "0")
        assert (await SharedBuckets(link, [THREE]).take([A]))[0][0]


@pytest.mark.rule("R130")
async def test_a_server_that_stands_still_is_not_waited_for(tmp_path: Path) -> None:
    """No longer than ``timeout_seconds``."""
    async with linked(tmp_path, 0.1) as (server, link):
        shared = SharedBuckets(link, [THREE])
        await shared.take([A])
        server.pause()
        began = time.monotonic()
        with pytest.raises(StoreUnavailableError):
            await shared.take([A])
        assert time.monotonic() - began < paced(0.3)
        server.resume()
