"""What the connections of the express lane share: who they are, their time limits, the heads they know."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from gateway.server.express_lane.connection import ExpressConnection
from gateway.tasks import failures
from tests.support.gateways.running import request, running_gateway, until
from tests.support.loop_side import Timers
from tests.support.upstreams.recording import Received, raw_upstream

PUBLIC: tuple[dict[str, Any], ...] = ({"path": "/", "auth": "public"},)
EXPRESS = {"express": True}


async def test_connections_are_known_until_they_end(tmp_path: Path) -> None:
    async with (
        raw_upstream() as upstream,
        running_gateway(upstream.url, tmp_path, routes=PUBLIC, server=EXPRESS) as gateway,
    ):
        lane = gateway.app.express
        first, second = await gateway.client(), await gateway.client()
        await until(lambda: len(lane.connections) == 2)
        assert gateway.app.telemetry.connections == 2
        await first.close()
        await until(lambda: len(lane.connections) == 1)
        assert (await second.exchange(request(b"GET", "/"))).status == 200
        await second.close()
        await until(lambda: not lane.connections)
        assert gateway.app.telemetry.connections == 0


@pytest.mark.parametrize(
    ("server", "upstream", "seconds"),
    [
        pytest.param({}, {}, 1.0, id="long limits"),
        pytest.param({"keepalive_timeout_seconds": 2}, {}, 0.5, id="idle"),
        pytest.param({"request_head_timeout_seconds": 0.4}, {}, 0.1, id="head"),
        pytest.param({}, {"response_timeout_seconds": 1}, 0.25, id="response"),
        pytest.param({}, {"idle_timeout_seconds": 0.2}, 0.05, id="content"),
        pytest.param({}, {"idle_timeout_seconds": 0}, 1.0, id="no limit"),
    ],
)
async def test_limits_are_looked_at_four_times_as_often_as_the_shortest_is_long(
    server: dict[str, Any], upstream: dict[str, Any], seconds: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One timer for all connections, and no limit is missed by more than a quarter."""
    timers = Timers(monkeypatch)
    async with running_gateway("http://127.0.0.1:9", tmp_path, server=server, upstream=upstream) as gateway:
        assert list(set(timers.lengths(gateway.app.express))) == [pytest.approx(seconds)]


async def test_only_connections_whose_time_is_over_are_told(tmp_path: Path) -> None:
    async with (
        raw_upstream() as upstream,
        running_gateway(upstream.url, tmp_path, routes=PUBLIC, server=EXPRESS) as gateway,
    ):
        lane = gateway.app.express
        late = await gateway.client()
        assert (await late.exchange(request(b"GET", "/"))).status == 200
        (connection,) = lane.connections
        early = await gateway.client()
        assert (await early.exchange(request(b"GET", "/"))).status == 200
        connection.deadline = 0.0
        assert await late.at_end()
        assert (await early.exchange(request(b"GET", "/"))).status == 200


@pytest.mark.rule("R406")
async def test_a_fault_with_one_connection_keeps_no_other_from_its_time_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one is cut, the others get their answers, and the next look comes."""
    before, real = failures["time limits"], ExpressConnection.too_late

    def fail(connection: ExpressConnection) -> None:
        if connection.deadline == 1.0:
            raise RuntimeError("secret")
        real(connection)

    monkeypatch.setattr(ExpressConnection, "too_late", fail)
    async with (
        raw_upstream() as upstream,
        running_gateway(upstream.url, tmp_path, routes=PUBLIC, server=EXPRESS) as gateway,
    ):
        lane = gateway.app.express
        clients = [await gateway.client() for _ in range(4)]
        for client in clients:
            assert (await client.exchange(request(b"GET", "/"))).status == 200
        for deadline in (1.0, 0.0):
            for connection in lane.connections:
                connection.deadline = deadline
            for client in clients:
                assert await client.at_end()
            clients = [await gateway.client()]
            assert (await clients[0].exchange(request(b"GET", "/"))).status == 200
    assert failures["time limits"] >= before + 4


async def test_drain_closes_what_is_idle_and_lets_the_running_request_end(tmp_path: Path) -> None:
    hold = asyncio.Event()

    async def respond(received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        await hold.wait()
        return b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

    async with (
        raw_upstream(respond) as upstream,
        running_gateway(upstream.url, tmp_path, routes=PUBLIC, server=EXPRESS) as gateway,
    ):
        idle, busy = await gateway.client(), await gateway.client()
        await busy.send(request(b"GET", "/"))
        await upstream.got_request.wait()
        drained = asyncio.ensure_future(gateway.app.drain())
        assert await idle.at_end()
        hold.set()
        response = await busy.response()
        assert (response.status, response.body) == (200, b"ok")
        assert await busy.at_end()
        await drained


async def test_stop_cuts_what_is_still_open(tmp_path: Path) -> None:
    """The task of a request, and a connection without one: nothing is left behind."""

    async def respond(received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with (
        raw_upstream(respond) as upstream,
        running_gateway(upstream.url, tmp_path, routes=PUBLIC, server=EXPRESS) as gateway,
    ):
        idle, busy = await gateway.client(), await gateway.client()
        await busy.send(request(b"GET", "/"))
        await upstream.got_request.wait()
        await gateway.app.express.stop()
        assert await idle.at_end()
        assert await busy.at_end()
        await until(lambda: not gateway.app.express.connections and not upstream.open_connections)
        assert gateway.app.telemetry.running == 0
