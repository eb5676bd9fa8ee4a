"""Rate limits that gateways share through a real Redis, also while it is killed, stopped, empty or full."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from gateway.tasks import periodic
from tests.support.clock import eventually
from tests.support.gateways.running import RawClient, RawResponse, RunningGateway, request, running_gateway
from tests.support.pace import own_time, paced
from tests.support.parts import rate_limits
from tests.support.stores.redis import RedisServer
from tests.support.tokens.minting import SigningKey
from tests.support.upstreams.recording import raw_upstream

KEY = SigningKey.rsa("a")
LIMIT = b"ratelimit"


@contextlib.asynccontextmanager
async def gateways(
    folder: Path, server: RedisServer, limit: Any, count: int = 2, **options: Any
) -> AsyncIterator[list[RunningGateway]]:
    """Run gateways with one Redis and one route."""
    async with contextlib.AsyncExitStack() as stack:
        upstream = await stack.enter_async_context(raw_upstream())
        started = []
        for number in range(count):
            (folder / str(number)).mkdir()
            running = running_gateway(
                upstream.url,
                folder / str(number),
                key=KEY,
                routes=[{"path": "/", "rate_limit": limit}],
                # Long, for a machine that is busy with other tests.
                redis={"url": server.url, "timeout_seconds": 2, **options},
                revocation={"redis": False},
            )
            started.append(await stack.enter_async_context(running))
        yield started


def table(requests: int, seconds: float, **more: Any) -> dict[str, Any]:
    return {"requests": requests, "seconds": seconds, **more}


async def ask(gateway: RunningGateway, client: RawClient | None = None, **claims: Any) -> RawResponse:
    client = client or await gateway.client()
    return await client.exchange(request(b"GET", "/", token=gateway.token(**claims)))


async def test_a_limit_holds_over_all_gateways(tmp_path: Path) -> None:
    async with RedisServer(tmp_path / "redis") as server, gateways(tmp_path, server, table(4, 100, burst=4)) as both:
        answers = [await ask(both[number % 2]) for number in range(8)]
        assert [answer.status for answer in answers] == [200] * 4 + [429] * 4
        assert [answer.all(LIMIT)[0][:9] for answer in answers] == [
            b'"sub";r=%d' % left for left in (3, 2, 1, 0, 0, 0, 0, 0)
        ]
        assert all(20 < int(answer.one(b"retry-after") or b"") <= 25 for answer in answers[4:])
        assert (await ask(both[0], sub="bob")).status == 200
        counts = [rate_limits(gateway.app).counts for gateway in both]
        assert sum(one["/", "sub", "admitted"] for one in counts) == 5
        assert sum(one["/", "sub", "limited"] for one in counts) == 4
        assert [rate_limits(gateway.app).fallbacks for gateway in both] == [0, 0]
        # R131: no subject, address or token is in Redis, only digests that are gone by themselves.
        keys = server.run("KEYS", "gateway:rate:*")
        assert len(keys) == 2
        assert all(len(key) == len(b"gateway:rate:") + 32 for key in keys)
        assert all(0 < server.run("PTTL", key) <= 100_000 for key in keys)


async def test_whoever_redis_has_refused_is_refused_without_it(tmp_path: Path) -> None:
    """A flood of one caller costs Redis nothing, and no time is lost when it would let the next one through."""
    async with RedisServer(tmp_path / "redis") as server, gateways(tmp_path, server, table(1, 1.5), count=1) as (one,):
        client = await one.client()
        assert (await ask(one, client)).status == 200
        assert (await ask(one, client)).status == 429
        assert one.app.redis is not None
        asked = one.app.redis.commands
        began = own_time()
        while (answer := await ask(one, client)).status == 429:
            assert own_time() - began < paced(5)
            assert (answer.all(LIMIT)[0][:9], answer.one(b"retry-after")) in (
                (b'"sub";r=0', b"1"),
                (b'"sub";r=0', b"2"),
            )
        assert one.app.redis.commands - asked <= 2
        assert own_time() - began < paced(2)


async def test_several_limits_are_one_exchange(tmp_path: Path) -> None:
    limits = [
        table(2, 100, burst=2),
        table(50, 1000),
        table(90, 1, by="claim:tenant"),
        table(9, 9, by="address", burst=9),
    ]
    async with RedisServer(tmp_path / "redis") as server, gateways(tmp_path, server, limits, count=1) as (one,):
        assert one.app.redis is not None
        (settings,) = (each for each in periodic() if each.kind == "Redis settings")
        await eventually(lambda: settings.rounds)  # it asks, too
        before = one.app.redis.commands
        answers = [await ask(one) for _ in range(4)]
        assert [answer.status for answer in answers] == [200, 200, 429, 429]
        assert answers[2].all(LIMIT)[1].startswith(b'"sub";r=0;t=')
        assert b'"sub-2";r=3;t=' in answers[2].all(LIMIT)[1]
        # One for the address before the credential, one for all others after it; the last one is known to be refused.
        assert one.app.redis.commands - before == 7
        assert rate_limits(one.app).counts["/", "claim:tenant", "admitted"] == 2


@pytest.mark.rule("R130")
async def test_without_redis_each_worker_counts_for_itself_and_nobody_waits(tmp_path: Path) -> None:
    """Killed; as documented, visible in metrics, and back by itself."""
    async with RedisServer(tmp_path / "redis") as server, gateways(tmp_path, server, table(3, 1000, burst=3)) as both:
        assert [(await ask(both[0])).status for _ in range(4)] == [200, 200, 200, 429]
        await server.kill()
        assert (await ask(both[0])).status == 429  # from what Redis last said of this caller
        before = [rate_limits(gateway.app).fallbacks for gateway in both]
        for gateway, fallbacks in zip(both, before, strict=True):
            began = time.monotonic()
            answers = [await ask(gateway, sub="bob") for _ in range(5)]
            assert time.monotonic() - began < paced(0.6)  # the first one finds it out
            assert [answer.status for answer in answers] == [200, 200, 200, 429, 429]
            assert answers[4].all(LIMIT) == [b'"sub";r=0;t=334']
            assert rate_limits(gateway.app).fallbacks == fallbacks + 5
        page = (await both[0].admin("/metrics")).body.decode()
        total = before[0] + 5
        assert f"\ngateway_rate_limit_fallbacks_total {total}.0\n" in page
        await server.restart()
        await eventually(lambda: all(gateway.app.redis and gateway.app.redis.available for gateway in both))
        # It has forgotten everything: nothing of it was on disk. Then they share again.
        assert [(await ask(both[number % 2], sub="bob")).status for number in range(4)] == [200, 200, 200, 429]
        assert [rate_limits(gateway.app).fallbacks for gateway in both] == [total, before[1] + 5]


async def test_an_outage_gives_nobody_another_burst(tmp_path: Path) -> None:
    """Each worker goes on from what Redis last said, also of callers who were not refused."""
    async with RedisServer(tmp_path / "redis") as server, gateways(tmp_path, server, table(5, 1000, burst=5)) as both:
        assert [(await ask(both[number % 2])).status for number in range(4)] == [200] * 4
        await server.kill()
        assert [(await ask(both[1])).status for _ in range(3)] == [200, 429, 429]
        assert [(await ask(both[0])).status for _ in range(3)] == [200, 200, 429]


@pytest.mark.rule("R130")
async def test_nobody_waits_longer_than_the_time_limit_for_a_server_that_stands_still(tmp_path: Path) -> None:
    """20 requests at once, and then one after the other; beside what they take while it runs."""
    limit = table(100, 1000, burst=100)
    async with (
        RedisServer(tmp_path / "redis") as server,
        gateways(tmp_path, server, limit, count=1, timeout_seconds=0.1) as (gateway,),
    ):
        clients = [await gateway.client() for _ in range(20)]
        sent = request(b"GET", "/", token=gateway.token())

        async def wait(client: RawClient) -> float:
            began = time.monotonic()
            assert (await client.exchange(sent)).status == 200
            return time.monotonic() - began

        usual = max(await asyncio.gather(*map(wait, clients)))
        before = rate_limits(gateway.app).fallbacks
        server.pause()
        try:
            assert max(await asyncio.gather(*map(wait, clients))) < usual + 0.1 + 0.15  # what a busy machine adds
            waits = sorted([await wait(client) for client in clients])
            assert waits[10] < usual + 0.05  # no worker tries any more
            assert rate_limits(gateway.app).fallbacks == before + 40
        finally:
            server.resume()
        await eventually(lambda: gateway.app.redis and gateway.app.redis.available)


@pytest.mark.rule("R130")
async def test_a_server_that_takes_nothing_more_is_as_good_as_none(tmp_path: Path) -> None:
    """Full."""
    async with RedisServer(tmp_path / "redis") as server, gateways(tmp_path, server, table(2, 1000, burst=2)) as both:
        server.run("CONFIG", "SET", "maxmemory", "1")
        assert [(await ask(both[0])).status for _ in range(3)] == [200, 200, 429]
        assert rate_limits(both[0].app).fallbacks == 3


async def test_a_gateway_that_starts_without_redis_serves(tmp_path: Path) -> None:
    server = RedisServer(tmp_path / "redis")
    async with gateways(tmp_path, server, table(1, 1000), count=1) as (one,):
        assert [(await ask(one)).status for _ in range(2)] == [200, 429]
        assert rate_limits(one.app).status() == {
            "limits": 1,
            "shared": True,
            "callers": 1,
            "forgotten": 0,
            "fallbacks": 2,
        }


async def test_other_limits_have_other_buckets(tmp_path: Path) -> None:
    """Gateways with one Redis share a limit only where it is the same one of the same route."""
    async with RedisServer(tmp_path / "redis") as server, contextlib.AsyncExitStack() as stack:
        upstream = await stack.enter_async_context(raw_upstream())
        for number, route in enumerate(
            (
                {"path": "/", "rate_limit": table(1, 1000)},
                {"path": "/", "rate_limit": table(1, 2000)},
                {"path": "/", "rate_limit": table(1, 1000, by="claim:sub")},
                {"path": "/", "rate_limit": table(1, 1000), "hosts": ["gateway.test"]},
                {"path": "/", "rate_limit": table(1, 1000), "methods": ["GET"]},
                {"path": "/", "rate_limit": table(1, 1000), "match": "exact"},
            )
        ):
            (tmp_path / str(number)).mkdir()
            running = running_gateway(
                upstream.url,
                tmp_path / str(number),
                key=KEY,
                routes=[route],
                redis={"url": server.url, "timeout_seconds": 2},
                revocation={"redis": False},
            )
            gateway = await stack.enter_async_context(running)
            assert [(await ask(gateway)).status for _ in range(2)] == [200, 429]
