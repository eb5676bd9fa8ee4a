"""Requests that wait for a connection to their upstream: in order, bounded in time, and free to leave (R314, R393)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.upstream.pool.upstream_url import OriginState
from tests.support.gateways.running import RawClient, RunningGateway, request, running_gateway, until
from tests.support.upstreams.coming_and_going import services
from tests.support.upstreams.recording import OK, Received, raw_upstream

pytestmark = pytest.mark.every_log

PUBLIC: tuple[dict[str, Any], ...] = ({"path": "/", "auth": "public"},)


class Gate:
    """An upstream that answers ``/hold`` when a test says so, and everything else at once."""

    def __init__(self) -> None:
        self.open = asyncio.Event()

    async def respond(self, received: Received, *_: object) -> bytes:
        if received.target == b"/hold":
            await self.open.wait()
        return OK


def state(gateway: RunningGateway) -> OriginState:
    return gateway.app.upstreams["main"].states()[0]


async def sent(gateway: RunningGateway, data: bytes, came: Callable[[], bool]) -> RawClient:
    """Send a request on a new connection, and return when it has come where it must."""
    client = await gateway.client()
    await client.send(data)
    await until(came)
    return client


async def waiting(gateway: RunningGateway, *requests: bytes) -> list[RawClient]:
    """Have requests wait, one behind the other."""
    before = state(gateway).waiting
    return [
        await sent(gateway, data, lambda number=number: state(gateway).waiting == before + number)  # type: ignore[misc]
        for number, data in enumerate(requests, 1)
    ]


@pytest.mark.rule("R314")
async def test_requests_are_served_in_the_order_in_which_they_came(tmp_path: Path) -> None:
    """Whatever they are: those of the full lane, with content of unknown length, stand in the same queue."""
    gate = Gate()
    chunked = (b"Transfer-Encoding", b"chunked")
    requests = [
        request(b"GET", "/0"),
        request(b"POST", "/1", chunked, body=b"3\r\none\r\n0\r\n\r\n"),
        request(b"POST", "/2", (b"Content-Length", b"3"), body=b"two"),
        request(b"DELETE", "/3"),
        request(b"GET", "/4"),
    ]
    options: dict[str, Any] = {"routes": PUBLIC, "upstream": {"pool_size": 1, "pool_wait_seconds": 30}}
    async with raw_upstream(gate.respond) as upstream, running_gateway(upstream.url, tmp_path, **options) as gateway:
        holding = await sent(gateway, request(b"GET", "/hold"), lambda: len(upstream.requests) == 1)
        clients = await waiting(gateway, *requests)
        gate.open.set()
        assert (await holding.response()).status == 200
        for client in clients:
            assert (await client.response()).status == 200
            assert (await client.exchange(request(b"GET", "/after"))).status == 200
        assert (state(gateway).in_use, state(gateway).waiting) == (0, 0)
    targets = [received.target for received in upstream.requests if received.target != b"/after"]
    assert targets == [b"/hold", b"/0", b"/1", b"/2", b"/3", b"/4"]
    assert [received.body for received in upstream.requests if received.body] == [b"one", b"two"]
    assert upstream.connections <= 2  # what is read by chunks may end its connection


async def test_caller_that_is_new_or_known_waits_and_is_forwarded_as_itself(tmp_path: Path) -> None:
    gate, ids = Gate(), ["ann", "ben", "ann", "eve"]
    options: dict[str, Any] = {"upstream": {"pool_size": 1, "pool_wait_seconds": 30}}
    async with raw_upstream(gate.respond) as upstream, running_gateway(upstream.url, tmp_path, **options) as gateway:
        tokens = {name: gateway.token(sub=name) for name in ids}
        clients = [await gateway.client() for _ in ids]
        for client in clients:
            assert (await client.exchange(request(b"GET", "/", token=tokens["ann"]))).status == 200
        count = len(upstream.requests)
        holding = await sent(
            gateway, request(b"GET", "/hold", token=tokens["ann"]), lambda: len(upstream.requests) == count + 1
        )
        for number, (client, name) in enumerate(zip(clients, ids, strict=True), 1):
            await client.send(request(b"GET", "/", token=tokens[name]))
            await until(lambda number=number: state(gateway).waiting == number)  # type: ignore[misc]
        gate.open.set()
        assert (await holding.response()).status == 200
        assert [(await client.response()).status for client in clients] == [200] * 4
    assert [received.one(b"x-user-id") for received in upstream.requests[-4:]] == [name.encode() for name in ids]


@pytest.mark.rule("R314")
async def test_full_pool_is_503_when_the_time_is_over_and_the_connection_serves_on(tmp_path: Path) -> None:
    gate = Gate()
    options: dict[str, Any] = {"routes": PUBLIC, "upstream": {"pool_size": 1, "pool_wait_seconds": 0.05}}
    async with raw_upstream(gate.respond) as upstream, running_gateway(upstream.url, tmp_path, **options) as gateway:
        holding = await sent(gateway, request(b"GET", "/hold"), lambda: len(upstream.requests) == 1)
        client = await gateway.client()
        for _ in range(2):
            refused = await client.exchange(request(b"GET", "/"))
            assert (refused.status, refused.json["error"]) == (503, "unavailable")
            assert refused.one(b"retry-after") is not None
        status = (await gateway.admin("/status")).json["upstreams"]["main"]
        assert status["failures"] == {"pool_exhausted": 2}
        gate.open.set()
        assert (await holding.response()).status == 200
        assert (await client.exchange(request(b"GET", "/"))).status == 200
        await until(lambda: gateway.app.telemetry.running == 0)
    assert len(upstream.requests) == 2


async def test_wait_is_logged_as_time_of_the_upstream(tmp_path: Path) -> None:
    gate = Gate()
    options: dict[str, Any] = {"routes": PUBLIC, "upstream": {"pool_size": 1, "pool_wait_seconds": 0.05}}
    async with raw_upstream(gate.respond) as upstream, running_gateway(upstream.url, tmp_path, **options) as gateway:
        holding = await sent(gateway, request(b"GET", "/hold"), lambda: len(upstream.requests) == 1)
        assert (await gateway.get("/")).status == 503
        (line,) = await gateway.log(1)
        assert (line["reason"], line["outcome"], line["upstream"]) == ("pool_exhausted", "failed", "main")
        assert line["upstream_ms"] >= 49
        gate.open.set()
        await holding.response()


@pytest.mark.rule("R285")
async def test_client_that_leaves_while_it_waits_takes_no_connection(tmp_path: Path) -> None:
    """The next one gets it, and the upstream never hears of the one who left."""
    gate = Gate()
    options: dict[str, Any] = {"routes": PUBLIC, "upstream": {"pool_size": 1, "pool_wait_seconds": 30}}
    async with raw_upstream(gate.respond) as upstream, running_gateway(upstream.url, tmp_path, **options) as gateway:
        holding = await sent(gateway, request(b"GET", "/hold"), lambda: len(upstream.requests) == 1)
        leaving, staying = await waiting(gateway, request(b"GET", "/left"), request(b"GET", "/stays"))
        leaving.writer.transport.abort()
        await until(lambda: state(gateway).waiting == 1)
        gate.open.set()
        assert (await holding.response()).status == 200
        assert (await staying.response()).status == 200
        await until(lambda: gateway.app.telemetry.running == 0)
    assert [received.target for received in upstream.requests] == [b"/hold", b"/stays"]


@pytest.mark.rule("R285")
async def test_client_that_left_while_it_waited_has_one_line(tmp_path: Path) -> None:
    gate = Gate()
    options: dict[str, Any] = {"routes": PUBLIC, "upstream": {"pool_size": 1, "pool_wait_seconds": 30}}
    async with raw_upstream(gate.respond) as upstream, running_gateway(upstream.url, tmp_path, **options) as gateway:
        holding = await sent(gateway, request(b"GET", "/hold"), lambda: len(upstream.requests) == 1)
        (leaving,) = await waiting(gateway, request(b"GET", "/left"))
        leaving.writer.transport.abort()
        (line,) = await gateway.log(1)
        assert (line["outcome"], line["reason"], line["status"]) == ("client_gone", "client_gone", 499)
        assert (line["upstream"], "upstream_ms" in line) == ("main", True)
        gate.open.set()
        await holding.response()
        assert len(await gateway.log(2)) == 2


@pytest.mark.rule("R370")
async def test_drain_lets_those_who_wait_end_and_says_that_their_connections_do(tmp_path: Path) -> None:
    gate = Gate()
    options: dict[str, Any] = {"routes": PUBLIC, "upstream": {"pool_size": 1, "pool_wait_seconds": 30}}
    async with raw_upstream(gate.respond) as upstream, running_gateway(upstream.url, tmp_path, **options) as gateway:
        holding = await sent(gateway, request(b"GET", "/hold"), lambda: len(upstream.requests) == 1)
        (client,) = await waiting(gateway, request(b"GET", "/"))
        draining = asyncio.ensure_future(gateway.app.drain())
        await asyncio.sleep(0)
        gate.open.set()
        for one in (holding, client):
            response = await one.response()
            assert (response.status, response.one(b"connection")) == (200, b"close")
        await asyncio.wait_for(draining, 2)


@pytest.mark.rule("R370")
async def test_those_who_wait_when_the_drain_is_over_are_cut_and_counted(tmp_path: Path) -> None:
    gate = Gate()
    options: dict[str, Any] = {"routes": PUBLIC, "upstream": {"pool_size": 1, "pool_wait_seconds": 30}}
    server = {"drain_seconds": 0.05}
    async with raw_upstream(gate.respond) as upstream:
        async with running_gateway(upstream.url, tmp_path, server=server, **options) as gateway:
            await sent(gateway, request(b"GET", "/hold"), lambda: len(upstream.requests) == 1)
            (client,) = await waiting(gateway, request(b"GET", "/"))
            await gateway.app.drain()
            await gateway.app.stop()
            assert await client.at_end()
            await until(lambda: sum(gateway.app.telemetry.requests.values()) == 2)
            assert not {key[3] for key in gateway.app.telemetry.requests} & {"forwarded", "refused"}
            assert gateway.app.telemetry.running == 0
        gate.open.set()


async def test_upstream_that_closes_its_connections_holds_no_request_up(tmp_path: Path) -> None:
    """Each answer is a connection's last: a new one is opened for each request in turn."""

    async def respond(received: Received, *_: object) -> bytes:
        return b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"

    options: dict[str, Any] = {"routes": PUBLIC, "upstream": {"pool_size": 2, "pool_wait_seconds": 30}}
    async with raw_upstream(respond) as upstream, running_gateway(upstream.url, tmp_path, **options) as gateway:
        clients = [await gateway.client() for _ in range(20)]
        for client in clients:
            await client.send(request(b"GET", "/"))
        assert [(await client.response()).status for client in clients] == [200] * 20
    assert upstream.connections == 20


async def test_each_request_that_waits_for_an_upstream_that_is_down_is_refused(tmp_path: Path) -> None:
    """One connection is tried for each, two at a time; none waits for the end of the time limit."""
    options: dict[str, Any] = {"routes": PUBLIC, "upstream": {"pool_size": 2, "pool_wait_seconds": 30}}
    async with services(1, on=False) as (service,), running_gateway(service.url, tmp_path, **options) as gateway:
        clients = [await gateway.client() for _ in range(20)]
        for client in clients:
            await client.send(request(b"GET", "/"))
        assert [(await client.response()).status for client in clients] == [502] * 20
        assert state(gateway).connect_failures == 20
        await service.on()
        assert [(await client.exchange(request(b"GET", "/"))).status for client in clients] == [200] * 20
        assert state(gateway).in_use == 0


async def test_many_more_clients_than_connections_are_all_served(tmp_path: Path) -> None:
    options: dict[str, Any] = {"routes": PUBLIC, "upstream": {"pool_size": 4, "pool_wait_seconds": 30}}
    async with raw_upstream() as upstream, running_gateway(upstream.url, tmp_path, **options) as gateway:
        clients = [await gateway.client() for _ in range(200)]
        for _ in range(3):
            for client in clients:
                await client.send(request(b"GET", "/"))
            assert [(await client.response()).status for client in clients] == [200] * 200
        assert (state(gateway).in_use, state(gateway).waiting) == (0, 0)
    assert upstream.connections == 4
