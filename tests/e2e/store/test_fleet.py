"""Gateways with one Redis whose clocks and settings differ."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from tests.support.clients.proving import CLIENT, proof_for
from tests.support.gateways.fleet import Member, fleet, remembering
from tests.support.gateways.running import RunningGateway, request
from tests.support.issuers.introspection import authorization_server, opaque_issuer, said
from tests.support.stores.redis import RedisServer
from tests.support.tokens.proofs import bound_to, with_proof
from tests.support.upstreams.recording import raw_upstream

ROUTES: tuple[dict[str, Any], ...] = ({"path": "/"}, {"path": "/once", "single_use": True})


def member(ahead: float, leeway: float, max_age: float) -> Member:
    sections = {"issuer": {"leeway_seconds": leeway}, "dpop": {"max_age_seconds": max_age, "max_future_seconds": 5}}
    return Member(ahead, sections)


#: All pairs are tried: clocks that are off by 20 and by 90 seconds, leeway of 2 and 60, proofs of 5 and 60.
MEMBERS = (member(20, 2, 5), member(-20, 60, 60), member(90, 60, 5), member(-90, 2, 60), member(0, 2, 5))


async def statuses(gateways: list[RunningGateway], data: bytes) -> list[int]:
    return [(await gateway.exchange(data)).status for gateway in gateways]


@pytest.mark.rule("R440")
async def test_no_token_passes_twice_though_clocks_and_leeway_differ(tmp_path: Path) -> None:
    """Each is used where it is about to end, and then tried where it is still good for minutes."""
    async with raw_upstream() as upstream, RedisServer(tmp_path / "redis") as server:
        remembering(server, 3600)
        async with fleet(tmp_path, upstream.url, server.url, *MEMBERS, routes=ROUTES) as gateways:
            tokens = []
            for gateway, own in zip(gateways, MEMBERS, strict=True):
                # A quarter of a second later this gateway itself refuses it.
                end = time.time() + own.ahead - own.sections["issuer"]["leeway_seconds"] + 0.25
                token = gateway.token(jti=f"token of {own}", iat=end - 900, exp=end)
                assert await statuses([gateway], request(b"GET", "/once", token=token)) == [200]
                tokens.append(token)
            await asyncio.sleep(0.3)
            found = [await statuses(gateways, request(b"GET", "/once", token=token)) for token in tokens]
            assert {status for each in found for status in each} == {401}
            # Some of them would have been good elsewhere.
            reasons = [line.get("reason") for gateway in gateways for line in await gateway.log(6)]
            assert reasons.count("replayed_token") >= 5
            assert len(upstream.requests) == len(MEMBERS)


@pytest.mark.rule("R440")
async def test_a_proof_is_remembered_as_long_as_any_gateway_could_accept_it(tmp_path: Path) -> None:
    """One that accepts proofs for a minute, and whose clock is 90 seconds late."""
    async with raw_upstream() as upstream, RedisServer(tmp_path / "redis") as server:
        remembering(server, 3600)
        async with fleet(tmp_path, upstream.url, server.url, *MEMBERS, routes=ROUTES) as gateways:
            for gateway, own in zip(gateways, MEMBERS, strict=True):
                token = gateway.token(cnf=bound_to(CLIENT), iat=int(time.time()) - 600)
                born = time.time() + own.ahead - 4
                data = request(b"GET", "/", *with_proof(token, proof_for(token, iat=born)))
                before = set(server.run("ZRANGE", "gateway:2:used:proof", 0, -1))
                assert await statuses([gateway], data) == [200]
                (kept,) = {
                    score
                    for member, score in server.run("ZRANGE", "gateway:2:used:proof", 0, -1, "WITHSCORES")
                    if member not in before and len(member) == 16
                }
                assert kept / 1000 >= born + 60 + 90
                assert 200 not in await statuses(gateways, data)


@pytest.mark.rule("R440")
async def test_differences_are_on_the_status_page(tmp_path: Path) -> None:
    async with (
        raw_upstream() as upstream,
        RedisServer(tmp_path / "redis") as server,
        fleet(tmp_path, upstream.url, server.url, *MEMBERS[:2], routes=ROUTES) as (_, two),
    ):
        seen = (await two.admin("/status")).json["fleet"]
        assert seen["others"] == 1
        assert round(seen["clock_offset_seconds"]) == -20
        assert {each["option"]: (each["there"], each["here"]) for each in seen["differences"][:-2]} == {
            "issuers.main.leeway_seconds": ("2", "60"),
            "dpop.max_age_seconds": ("5", "60"),
        }
        assert [each["option"] for each in seen["differences"][-2:]] == ["clock"] * 2


@pytest.mark.rule("R443")
async def test_a_shared_answer_is_as_old_as_redis_says(tmp_path: Path) -> None:
    """A gateway that finds it late believes it for what is left, whatever the clocks say."""
    seconds = 1.0
    async with (
        raw_upstream() as upstream,
        RedisServer(tmp_path / "redis") as server,
        authorization_server() as asked,
    ):
        issuer = {**opaque_issuer(tmp_path, asked.url, introspection_cache_seconds=seconds), "leeway_seconds": 300}
        options = {
            "routes": [{"path": "/", "credentials": ["opaque"]}],
            "issuer": {name: value for name, value in issuer.items() if name != "name"},
            "revocation": {"redis": False},
        }
        members = [Member(ahead) for ahead in (90, -90, 20, -20)]
        async with fleet(tmp_path, upstream.url, server.url, *members, **options) as gateways:
            names = [f"token-{number}" for number in range(len(gateways))]
            for name in names:
                asked.tokens[name] = said()
            began = time.monotonic()
            first = zip(gateways, names, strict=True)
            assert [(await gateway.get("/", token=name.encode())).status for gateway, name in first] == [200] * 4
            asked.tokens.clear()
            await asyncio.sleep(0.7 * seconds)
            late = [(gateway, name) for gateway in gateways for name in names]
            found = [(await gateway.get("/", token=name.encode())).status for gateway, name in late]
            assert (time.monotonic() - began > seconds) or found == [200] * 16
            assert time.monotonic() - began > seconds or len(asked.asked) == 4
            await asyncio.sleep(max(0.0, began + 1.3 * seconds - time.monotonic()))
            assert {(await gateway.get("/", token=name.encode())).status for gateway, name in late} == {401}
