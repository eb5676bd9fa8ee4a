"""When a verdict on an opaque token ends: for requests, for WebSockets and for long responses."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from gateway.features.introspection.verdict_in_use import GRACE_SECONDS
from tests.e2e.credentials.test_token_ends import stream
from tests.support.clients.websockets import close_of, dial, socket_upstream
from tests.support.clock import FakeClock, eventually, settle
from tests.support.composed import Settings
from tests.support.gateways.discovering import A
from tests.support.gateways.running import configuration, request, until
from tests.support.gateways.timed import TimedGateway, timed_gateway
from tests.support.issuers.introspection import (
    AuthorizationServer,
    authorization_server,
    json_answer,
    opaque_issuer,
    said,
)
from tests.support.parts import introspectors
from tests.support.tokens.minting import jwks
from tests.support.upstreams.recording import raw_upstream


@contextlib.asynccontextmanager
async def timed(
    directory: Path, upstream_url: str, *, routes: Sequence[dict[str, Any]] = ({"path": "/"},), **options: Any
) -> AsyncIterator[tuple[TimedGateway, AuthorizationServer]]:
    """A gateway under a test's clock whose routes take opaque tokens; ``t`` is a good one."""
    (directory / "jwks.json").write_bytes(jwks(A))
    taking = [{"credentials": ["opaque"], **route} for route in routes]
    async with authorization_server() as server:
        made = configuration(upstream_url, directory / "jwks.json", routes=taking)
        made["issuers"] = [opaque_issuer(directory, server.url, **options)]
        async with timed_gateway(Settings.model_validate(made), A, FakeClock()) as gateway:
            server.tokens["t"] = said(gateway.clock.wall())
            yield gateway, server


async def passes(gateway: TimedGateway, token: bytes = b"t") -> int:
    return (await gateway.get("/", token=token)).status


@pytest.mark.rule("R123")
async def test_revoked_token_is_refused_within_the_time_that_the_configuration_allows(tmp_path: Path) -> None:
    """30 s, and 5 s for a token that becomes good."""
    async with raw_upstream() as upstream, timed(tmp_path, upstream.url) as (gateway, server):
        assert await passes(gateway) == 200
        del server.tokens["t"]
        gateway.clock.jump(29.9)
        assert await passes(gateway) == 200
        gateway.clock.jump(0.2)
        assert await passes(gateway) == 401
        server.tokens["t"] = said(gateway.clock.wall())
        gateway.clock.jump(4.9)
        assert await passes(gateway) == 401
        gateway.clock.jump(0.2)
        assert await passes(gateway) == 200
    assert len(server.asked) == 3


@pytest.mark.rule("R123", "R181")
async def test_verdict_never_outlives_the_token(tmp_path: Path) -> None:
    """exp plus leeway ends it before the cache does."""
    async with raw_upstream() as upstream, timed(tmp_path, upstream.url, leeway_seconds=2) as (gateway, server):
        server.tokens["t"] = said(gateway.clock.wall(), exp=gateway.clock.wall() + 3)
        assert await passes(gateway) == 200
        gateway.clock.jump(4.9)
        assert await passes(gateway) == 200
        gateway.clock.jump(0.2)
        assert await passes(gateway) == 401
    assert len(server.asked) == 2


@pytest.mark.rule("R123")
async def test_cache_of_no_seconds_asks_each_time(tmp_path: Path) -> None:
    options: dict[str, Any] = {"introspection_cache_seconds": 0, "introspection_inactive_cache_seconds": 0}
    async with raw_upstream() as upstream, timed(tmp_path, upstream.url, **options) as (gateway, server):
        statuses = [await passes(gateway, token) for token in (b"t", b"t", b"bad", b"bad")]
    assert statuses == [200, 200, 401, 401]
    assert len(server.asked) == 4


@pytest.mark.rule("R113", "R123")
async def test_outage_is_503_only_for_what_is_not_known(tmp_path: Path) -> None:
    """A verdict is not stretched while no answer comes; the server's return is noticed at once."""
    async with raw_upstream() as upstream, timed(tmp_path, upstream.url) as (gateway, server):
        assert await passes(gateway) == 200
        server.answer = json_answer(b"", 503)
        gateway.clock.jump(29)
        assert await passes(gateway) == 200
        gateway.clock.jump(2)
        assert [await passes(gateway), await passes(gateway)] == [503, 503]
        server.answer = None
        assert await passes(gateway) == 200


@pytest.mark.rule("R322", "R123", "C65")
async def test_tunnel_ends_when_its_token_is_revoked(tmp_path: Path) -> None:
    """It is asked about at the cache's interval, whatever passes, and no other caller's tunnel ends."""
    async with socket_upstream() as upstream, timed(tmp_path, upstream.url) as (gateway, server):
        server.tokens["other"] = said(gateway.clock.wall())
        async with dial(gateway, token=b"t") as client, dial(gateway, token=b"other") as other:
            for _ in range(4):
                await gateway.clock.advance(29)
                await client.send("hello")
                assert await client.recv() == "hello"
                await gateway.clock.advance(2)
                await settle_answers(gateway)
            assert server.questions("t") == 4 + 1
            del server.tokens["t"]
            await gateway.clock.advance(31)
            await settle_answers(gateway)
            await gateway.clock.advance(1)
            assert await close_of(client) == (1008, "token withdrawn")
            await other.send("still")
            assert await other.recv() == "still"
        log = await gateway.log(2)
    assert log[0]["reason"] == "withdrawn"


async def settle_answers(gateway: TimedGateway) -> None:
    """Wait until every introspection request is answered, and a second passes in which that is seen."""
    (asker,) = introspectors(gateway.app).values()
    await eventually(lambda: asker.gate.taken == 0)
    await settle()


@pytest.mark.rule("R322")
async def test_tunnel_ends_with_its_token(tmp_path: Path) -> None:
    """exp plus leeway, without an introspection request."""
    async with socket_upstream() as upstream, timed(tmp_path, upstream.url, leeway_seconds=0) as (gateway, server):
        server.tokens["t"] = said(gateway.clock.wall(), exp=gateway.clock.wall() + 3)
        async with dial(gateway, token=b"t") as client:
            await gateway.clock.advance(4)
            assert await close_of(client) == (1008, "token expired")
    assert len(server.asked) == 1


@pytest.mark.rule("R113", "R322")
async def test_tunnel_outlives_an_outage_for_a_while(tmp_path: Path) -> None:
    """A minute without an answer, then it ends: it is not known whether its token was revoked."""
    async with socket_upstream() as upstream, timed(tmp_path, upstream.url) as (gateway, server):
        async with dial(gateway, token=b"t") as client:
            server.answer = json_answer(b"", 500)
            for _ in range(int(GRACE_SECONDS) + 28):
                await gateway.clock.advance(1)
                await settle_answers(gateway)
            await client.send("hello")
            assert await client.recv() == "hello"
            await gateway.clock.advance(4)
            assert await close_of(client) == (1013, "token cannot be checked")
        log = await gateway.log()
    assert log[0]["reason"] == "introspection_failed"


@pytest.mark.rule("R322")
async def test_tunnel_ends_when_its_token_gets_other_rights(tmp_path: Path) -> None:
    """What it was opened with is no longer so."""
    async with socket_upstream() as upstream, timed(tmp_path, upstream.url) as (gateway, server):
        async with dial(gateway, token=b"t") as client:
            server.tokens["t"] = said(gateway.clock.wall(), scope="read")
            await gateway.clock.advance(31)
            await settle_answers(gateway)
            await gateway.clock.advance(1)
            assert await close_of(client) == (1008, "token withdrawn")
        log = await gateway.log()
    assert log[0]["reason"] == "withdrawn"


@pytest.mark.parametrize("ends", [True, False])
@pytest.mark.rule("C65", "R123")
async def test_long_response_ends_with_its_token_where_the_route_says_so(ends: bool, tmp_path: Path) -> None:
    routes = ({"path": "/", "end_at_expiry": ends},)
    async with raw_upstream(stream) as upstream, timed(tmp_path, upstream.url, routes=routes) as (gateway, server):
        client = await gateway.client()
        await client.send(request(b"GET", "/", token=b"t"))
        await client.reader.readuntil(b"event\r\n")
        del server.tokens["t"]
        await gateway.clock.advance(31)
        await settle_answers(gateway)
        await gateway.clock.advance(1)
        if ends:
            assert await client.at_end(within=1)
            assert (await gateway.log())[0]["reason"] == "inactive_token"
        else:
            assert len(server.asked) == 1
            assert upstream.open_connections == 1


@pytest.mark.rule("R322")
async def test_held_verdict_survives_that_the_token_is_forgotten(tmp_path: Path) -> None:
    """Other tokens push it out of memory; it is asked about again all the same."""
    async with (
        socket_upstream() as upstream,
        timed(tmp_path, upstream.url, introspection_cache_size=1) as (gateway, server),
    ):
        server.tokens["other"] = said(gateway.clock.wall())
        async with dial(gateway, token=b"t") as client, dial(gateway, token=b"other") as other:
            await gateway.clock.advance(31)
            await settle_answers(gateway)
            await gateway.clock.advance(1)
            for one in (client, other):
                await one.send("still")
                assert await one.recv() == "still"
            del server.tokens["t"]
            await gateway.clock.advance(31)
            await settle_answers(gateway)
            await gateway.clock.advance(1)
            assert (await close_of(client))[0] == 1008
        await until(lambda: (1008, "token withdrawn") in upstream.ends)
