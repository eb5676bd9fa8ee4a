"""What was used stays used, whatever became of the store that remembers it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.clients.proving import bound_token, proved
from tests.support.clock import eventually
from tests.support.gateways.fleet import Member, Relay, fleet, remembering_server
from tests.support.gateways.running import RunningGateway, request
from tests.support.parts import single_use
from tests.support.stores.redis import RedisServer
from tests.support.tokens.minting import ABSENT
from tests.support.upstreams.recording import raw_upstream

ROUTES: tuple[dict[str, Any], ...] = (
    {"path": "/"},
    {"path": "/once", "single_use": True},
    {"path": "/open", "single_use": True, "single_use_failure": "open"},
)
OPTIONS: dict[str, Any] = {"routes": ROUTES, "revocation": {"redis": False}}


def uses(gateway: RunningGateway, count: int = 20, **claims: Any) -> list[bytes]:
    """Return requests with tokens for one request, and with proofs."""
    bound = bound_token(gateway)
    tokens = [gateway.token(jti=f"{time.monotonic()}-{number}", **claims) for number in range(count)]
    return [*(request(b"GET", "/once", token=token) for token in tokens), *(proved(bound) for _ in tokens)]


async def statuses(gateway: RunningGateway, requests: list[bytes]) -> list[int]:
    client = await gateway.client()
    return [(await client.exchange(data)).status for data in requests]


async def new_ones_pass(gateway: RunningGateway) -> None:
    """Wait until tokens and proofs that are made now pass: tokens say no more than the second of their birth."""
    deadline = time.monotonic() + 5
    while await statuses(gateway, uses(gateway, 1)) != [200, 200]:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.1)


def available(*gateways: RunningGateway) -> Callable[[], bool]:
    return lambda: all(gateway.app.redis is not None and gateway.app.redis.available for gateway in gateways)


async def lose(server: RedisServer, how: str) -> None:
    if how == "restarted":
        await server.restart()
    elif how == "flushed":
        server.run("FLUSHALL")
    else:
        server.run("CONFIG", "SET", "maxmemory-policy", "allkeys-random")
        while server.run("EXISTS", "gateway:2:used:token"):  # it takes a little at a time
            server.run("CONFIG", "SET", "maxmemory", "1")
            await asyncio.sleep(0)
        server.run("CONFIG", "SET", "maxmemory-policy", "noeviction")
        server.run("CONFIG", "SET", "maxmemory", "0")


@pytest.mark.parametrize("how", ["restarted", "flushed", "evicted"])
@pytest.mark.rule("R439", "C122")
async def test_nothing_passes_twice_when_the_store_has_lost_everything(how: str, tmp_path: Path) -> None:
    """At the same worker, at another one, and at a gateway that starts afterwards; new ones pass."""
    async with (
        raw_upstream() as upstream,
        remembering_server(tmp_path / "redis") as server,
        fleet(tmp_path, upstream.url, server.url, Member(), Member(), **OPTIONS) as (one, two),
    ):
        await new_ones_pass(one)  # it has learned since when the store remembers
        upstream.requests.clear()
        used = uses(one)
        assert await statuses(one, used) == [200] * 40
        await lose(server, how)
        await eventually(available(one, two))
        assert await statuses(one, used) == [401] * 40
        assert await statuses(two, used) == [503] * 40
        lines = await two.log(40)
        assert {line["reason"] for line in lines} == {"replay_undecided"}
        async with fleet(tmp_path, upstream.url, server.url, Member(), **OPTIONS) as (three,):
            assert await statuses(three, used) == [503] * 40
            assert len(upstream.requests) == 40
            for gateway in (one, two, three):
                await new_ones_pass(gateway)


@pytest.mark.rule("R439")
async def test_nothing_passes_twice_when_a_replica_takes_over_late(tmp_path: Path) -> None:
    """It has the mark and some ids, and does not know what it lacks."""
    async with (
        raw_upstream() as upstream,
        remembering_server(tmp_path / "master") as master,
        RedisServer(tmp_path / "replica") as replica,
        Relay(master.port) as relay,
    ):
        url = f"redis://127.0.0.1:{relay.port}"
        members = fleet(tmp_path, upstream.url, url, Member(), Member(), **OPTIONS)
        async with members as (one, two):
            early, late = uses(one, 5), uses(one, 5)
            assert await statuses(one, early) == [200] * 10
            replica.run("REPLICAOF", "127.0.0.1", master.port)
            await eventually(lambda: b"link_status:up" in _replication(replica))
            replica.run("REPLICAOF", "127.0.0.1", 1)
            assert await statuses(one, late) == [200] * 10
            before = since(one)
            replica.run("REPLICAOF", "NO", "ONE")
            relay.to = replica.port
            relay.cut()
            await master.kill()
            await eventually(lambda: since(one) != before)  # it looks four times a second
            await eventually(available(one, two))
            assert await statuses(two, early) == [401] * 10
            assert await statuses(two, late) == [503] * 10
            assert await statuses(one, early + late) == [401] * 20
            await new_ones_pass(two)


def since(gateway: RunningGateway) -> float | None:
    """Return since when the store remembers tokens, as far as a gateway knows."""
    remembered: float | None = single_use(gateway.app).used.status()["remembers_since"]
    return remembered


def _replication(server: RedisServer) -> bytes:
    return str(server.run("INFO", "replication")).encode().replace(b"'master_link_status': '", b"link_status:")


@pytest.mark.rule("R439")
async def test_a_route_may_let_pass_what_is_undecided(tmp_path: Path) -> None:
    """Once for each worker, counted; what is known to be used is refused all the same."""
    quick = Member(sections={"redis": {"timeout_seconds": 0.5}})
    async with (
        raw_upstream() as upstream,
        remembering_server(tmp_path / "redis") as server,
        fleet(tmp_path, upstream.url, server.url, quick, quick, **OPTIONS) as (one, two),
    ):
        known, old = (request(b"GET", "/open", token=one.token(jti=name)) for name in ("known", "old"))
        assert await statuses(one, [known]) == [200]
        server.run("FLUSHALL")
        assert await statuses(one, [known, old]) == [401, 200]
        assert await statuses(two, [old]) == [401]
        server.pause()
        away = request(b"GET", "/open", token=one.token(jti="away"))
        assert await statuses(one, [away, away, known]) == [200, 401, 401]
        assert await statuses(one, [request(b"GET", "/once", token=one.token(jti="closed"))]) == [503]
        server.resume()
        page = (await one.admin("/metrics")).body.decode()
        assert "\ngateway_single_use_passed_undecided_total 2.0\n" in page
        status = (await one.admin("/status")).json["replay"]["tokens"]
        assert (status["passed_undecided"], status["failures"], status["replays"]) == (2, 3, 3)


@pytest.mark.rule("R439")
async def test_a_token_without_a_time_of_birth_waits_until_its_longest_life_is_over(tmp_path: Path) -> None:
    """Only so is it sure that it was not used before the store began to remember."""
    options = {**OPTIONS, "issuer": {"max_lifetime_seconds": 100}}
    async with (
        raw_upstream() as upstream,
        RedisServer(tmp_path / "redis") as server,
        fleet(tmp_path, upstream.url, server.url, Member(), **options) as (one,),
    ):
        tokens = [one.token(jti="a", iat=ABSENT, nbf=ABSENT, exp=int(time.time()) + seconds) for seconds in (50, 90)]
        assert await statuses(one, [request(b"GET", "/once", token=tokens[0])]) == [503]
        _age(server, 200)
        assert await statuses(one, [request(b"GET", "/once", token=token) for token in tokens]) == [200, 401]


def _age(server: RedisServer, seconds: float) -> None:
    """Let the store have remembered for longer."""
    name = "gateway:2:used:token"
    (mark,) = (member for member in server.run("ZRANGE", name, 0, -1) if member.startswith(b"server:"))
    server.run("ZADD", name, -(int(time.time()) - int(seconds)) * 1000, mark)
