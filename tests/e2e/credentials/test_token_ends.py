"""WebSockets and long responses whose token ends: expiry, withdrawn keys, and what is not cut off."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from gateway.server.websocket import tunnel
from tests.support.clients.websockets import SWITCHING, close_of, dial, open_and_wait, shake, socket_upstream
from tests.support.clock import FakeClock, eventually
from tests.support.composed import Settings
from tests.support.gateways.discovering import A, B
from tests.support.gateways.running import configuration, request, until
from tests.support.gateways.timed import TimedGateway, timed_gateway
from tests.support.tokens.minting import jwks
from tests.support.upstreams.recording import Received, raw_upstream

STREAM = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nevent\r\n"


@contextlib.asynccontextmanager
async def timed(
    directory: Path, upstream_url: str, *, routes: Sequence[dict[str, Any]] = ({"path": "/"},), **issuer: Any
) -> AsyncIterator[TimedGateway]:
    """A gateway with key ``A`` in a file, under a test's clock."""
    file = directory / "jwks.json"
    file.write_bytes(jwks(A))
    settings = Settings.model_validate(configuration(upstream_url, file, routes=routes, issuer=issuer))
    async with timed_gateway(settings, A, FakeClock()) as gateway:
        yield gateway


def expiring(gateway: TimedGateway, seconds: float) -> bytes:
    """A token that is good for some seconds."""
    return gateway.token(exp=gateway.clock.wall() + seconds)


@pytest.mark.parametrize("leeway", [0, 30])
@pytest.mark.rule("R322", "C65")
async def test_tunnel_is_closed_on_both_sides_when_its_token_expires(leeway: int, tmp_path: Path) -> None:
    """1008 at exp plus leeway, however busy it is."""
    async with socket_upstream() as upstream, timed(tmp_path, upstream.url, leeway_seconds=leeway) as gateway:
        async with dial(gateway, token=expiring(gateway, 3 - leeway)) as client:
            await client.send("before")
            assert await client.recv() == "before"
            await gateway.clock.advance(2)
            await client.send("still")
            assert await client.recv() == "still"
            await gateway.clock.advance(1)
            assert await close_of(client) == (1008, "token expired")
        await until(lambda: upstream.ends == [(1008, "token expired")], within=1)
        log = await gateway.log()
        metrics = (await gateway.admin("/metrics")).body
    assert (log[0]["status"], log[0]["reason"], log[0]["outcome"]) == (101, "expired", "refused")
    assert log[0]["duration_ms"] == 3000
    assert b'gateway_tunnels_total{reason="expired"} 1.0' in metrics
    assert b"gateway_request_duration_seconds_count 0.0" in metrics


@pytest.mark.rule("C65")
async def test_far_expiry_is_no_trouble_for_any_timer(tmp_path: Path) -> None:
    """The year 9999, and no bound on lifetimes."""
    async with (
        socket_upstream() as upstream,
        timed(tmp_path, upstream.url, max_lifetime_seconds=0) as gateway,
        dial(gateway, token=gateway.token(exp=253_402_300_799)) as client,
    ):
        await gateway.clock.advance(100)
        await client.send("hello")
        assert await client.recv() == "hello"
    assert upstream.ends == [(1000, "")]


@pytest.mark.rule("R322", "C65")
async def test_tunnel_ends_when_the_key_of_its_token_is_withdrawn(tmp_path: Path) -> None:
    """Within the file's next reading and a second; tokens of other keys go on."""
    file = tmp_path / "jwks.json"
    async with socket_upstream() as upstream, timed(tmp_path, upstream.url, jwks_refresh_seconds=5) as gateway:
        file.write_bytes(jwks(A, B))
        await gateway.clock.advance(6)
        await eventually(lambda: len(gateway.app.issuers["main"].keys.keys) == 2)
        async with dial(gateway, token=gateway.token_of(A)) as old, dial(gateway, token=gateway.token_of(B)) as new:
            file.write_bytes(jwks(B))
            for _ in range(8):
                await gateway.clock.advance(1)
                await asyncio.sleep(0.01)
            assert await close_of(old) == (1008, "token withdrawn")
            await new.send("hello")
            assert await new.recv() == "hello"
        log = await gateway.log(2)
    assert upstream.ends == [(1008, "token withdrawn"), (1000, "")]
    assert [line["reason"] for line in log] == ["withdrawn", "client_closed"]


@pytest.mark.parametrize("cache_size", [0, 1])
@pytest.mark.rule("R322", "C65")
async def test_expiry_does_not_depend_on_the_cache(cache_size: int, tmp_path: Path) -> None:
    """An entry that was pushed out, or never kept, ends its tunnel all the same."""
    file = tmp_path / "jwks.json"
    file.write_bytes(jwks(A))
    async with socket_upstream() as upstream:
        config = configuration(upstream.url, file, issuer={"leeway_seconds": 0}, tokens={"cache_size": cache_size})
        async with (
            timed_gateway(Settings.model_validate(config), A, FakeClock()) as gateway,
            dial(gateway, token=expiring(gateway, 5)) as client,
        ):
            await gateway.get("/", token=gateway.token(jti="another"))
            await gateway.clock.advance(5)
            assert await close_of(client) == (1008, "token expired")


@pytest.mark.rule("C65")
async def test_tunnel_of_nobody_never_expires(tmp_path: Path) -> None:
    """A public route, and no token in the request."""
    routes = ({"path": "/", "auth": "optional"},)
    async with (
        socket_upstream() as upstream,
        timed(tmp_path, upstream.url, routes=routes) as gateway,
        dial(gateway) as client,
    ):
        await gateway.clock.advance(100_000)
        await client.send("hello")
        assert await client.recv() == "hello"


@pytest.mark.rule("R326", "C65")
async def test_goodbye_waits_for_the_end_of_the_frame_that_is_under_way(tmp_path: Path) -> None:
    """Half of a message is never followed by anything but its other half."""
    received = bytearray()

    async def respond(head: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(SWITCHING)
        while data := await reader.read(65536):
            received.extend(data)

    routes = ({"path": "/"},)
    async with raw_upstream(respond) as upstream, timed(tmp_path, upstream.url, routes=routes) as gateway:
        client, response = await shake(gateway, token=expiring(gateway, -29))
        assert response.status == 101
        await client.send(b"\x82\x8a\0\0\0\0" + b"01234")
        await until(lambda: len(received) == 11)
        await gateway.clock.advance(1)
        assert await client.reader.readexactly(17) == b"\x88\x0f\x03\xf0token expired"
        assert len(received) == 11
        await client.send(b"56789" + b"\x81\x82\0\0\0\0no")
        await until(lambda: len(received) > 16)
        mask = bytes(received[18:22])
        text = bytes(byte ^ mask[place & 3] for place, byte in enumerate(received[22:]))
        assert (bytes(received[:16]), bytes(received[16:18]), text) == (
            *(b"\x82\x8a\0\0\0\0" + b"0123456789", b"\x88\x8f", b"\x03\xf0token expired"),
        )
        await client.send(b"\x88\x80\0\0\0\0")
        await client.close()
        await until(lambda: upstream.open_connections == 0)


@pytest.mark.rule("R326", "C65")
async def test_frame_that_does_not_end_is_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that stays in the middle of a frame does not outlive its token."""
    monkeypatch.setattr(tunnel, "CLOSING_SECONDS", 0.1)
    async with raw_upstream(open_and_wait) as upstream, timed(tmp_path, upstream.url) as gateway:
        client, _ = await shake(gateway, token=expiring(gateway, -29))
        await client.send(b"\x82\xff" + (1 << 20).to_bytes(8) + b"\0\0\0\0" + b"never whole")
        await gateway.clock.advance(1)
        assert await client.reader.readexactly(17) == b"\x88\x0f\x03\xf0token expired"
        assert await client.at_end(within=1)
        await until(lambda: upstream.open_connections == 0, within=1)
        assert (await gateway.log())[0]["reason"] == "expired"


async def stream(received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Begin a response that does not end."""
    writer.write(STREAM)
    await reader.read()


@pytest.mark.parametrize("ends", [True, False])
@pytest.mark.rule("C65")
async def test_response_ends_with_its_token_only_where_the_route_says_so(ends: bool, tmp_path: Path) -> None:
    """Cut, so that it cannot be taken for whole; elsewhere responses in flight are not touched."""
    routes = ({"path": "/", "end_at_expiry": ends},)
    async with raw_upstream(stream) as upstream, timed(tmp_path, upstream.url, routes=routes) as gateway:
        client = await gateway.client()
        await client.send(request(b"GET", "/", token=expiring(gateway, -20)))
        assert (await client.reader.readuntil(b"event\r\n")).startswith(b"HTTP/1.1 200 OK\r\n")
        await gateway.clock.advance(9)
        assert upstream.open_connections == 1
        await gateway.clock.advance(2)
        if ends:
            assert await client.at_end(within=1)
            await until(lambda: upstream.open_connections == 0, within=1)
            log = await gateway.log()
            assert (log[0]["status"], log[0]["reason"], log[0]["outcome"]) == (200, "expired", "refused")
        else:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(client.reader.read(1), 0.2)


@pytest.mark.rule("C65")
async def test_response_that_ended_in_time_is_whole_on_such_a_route(tmp_path: Path) -> None:
    """Only what is still coming is cut off; the connection goes on."""
    routes = ({"path": "/", "end_at_expiry": True},)
    async with raw_upstream() as upstream, timed(tmp_path, upstream.url, routes=routes) as gateway:
        client = await gateway.client()
        token = expiring(gateway, -29)
        assert (await client.exchange(request(b"GET", "/", token=token))).body == b"ok"
        await gateway.clock.advance(2)
        refused = await client.exchange(request(b"GET", "/", token=token))
        again = await client.exchange(request(b"GET", "/", token=gateway.token()))
    assert (refused.status, again.status) == (401, 200)
