"""More load than can be carried: it is turned away early, and nothing breaks (R318, R319, R385, R394)."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.gateways.one_process import GatewayProcess
from tests.support.gateways.running import RawClient, RunningGateway, request, running_gateway, until
from tests.support.upstreams.recording import RawUpstream, Received, raw_upstream

PUBLIC: tuple[dict[str, Any], ...] = ({"path": "/", "auth": "public"},)
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Gate:
    """An upstream that answers when the test lets it."""

    def __init__(self) -> None:
        self.open = asyncio.Event()

    async def respond(self, received: Received, *_: object) -> bytes:
        await self.open.wait()
        return OK


async def _fill(gateway: RunningGateway, upstream: RawUpstream, count: int) -> list[RawClient]:
    """Let requests run until as many wait at the upstream."""
    clients = [await gateway.client() for _ in range(count)]
    for client in clients:
        await client.send(request(b"GET", "/"))
    await until(lambda: len(upstream.requests) == count)
    return clients


@pytest.mark.rule("R318", "R394")
async def test_requests_over_the_limit_get_503_at_once_and_the_others_are_served(tmp_path: Path) -> None:
    """Early, with Retry-After, and on a connection that stays open."""
    gate, server = Gate(), {"max_concurrent_requests": 3}
    async with (
        raw_upstream(gate.respond) as upstream,
        running_gateway(upstream.url, tmp_path, routes=PUBLIC, server=server) as gateway,
    ):
        clients = await _fill(gateway, upstream, 3)
        late = await gateway.client()
        for _ in range(2):
            refused = await late.exchange(request(b"GET", "/"), within=1)
            assert (refused.status, refused.json["error"]) == (503, "unavailable")
            assert refused.one(b"retry-after") == b"1"
        metrics = (await gateway.admin("/metrics")).body.decode()
        assert "gateway_running_requests 3.0" in metrics
        gate.open.set()
        assert [(await client.response()).status for client in clients] == [200, 200, 200]
        await until(lambda: gateway.app.telemetry.running == 0)
        assert (await late.exchange(request(b"GET", "/"))).status == 200
        log = await gateway.log(6)
    assert len(upstream.requests) == 4
    assert [line["reason"] for line in log if line["status"] == 503] == ["overloaded"] * 2
    assert {line["outcome"] for line in log if line["status"] == 503} == {"failed"}


@pytest.mark.rule("R318")
async def test_every_end_of_a_request_gives_its_place_back(tmp_path: Path) -> None:
    """Answered, refused, failed, left."""
    gate, server = Gate(), {"max_concurrent_requests": 1}
    routes = ({"path": "/"}, {"path": "/public", "auth": "public"}, {"path": "/page", "cors_origins": ["*"]})
    async with (
        raw_upstream(gate.respond) as upstream,
        running_gateway(upstream.url, tmp_path, routes=routes, server=server) as gateway,
    ):
        telemetry = gateway.app.telemetry
        preflight = ((b"Origin", b"https://a.test"), (b"Access-Control-Request-Method", b"GET"))
        for status, data in (
            (401, request(b"GET", "/")),
            (400, request(b"GET", "/a/../b")),
            (204, request(b"OPTIONS", "/page", *preflight)),
            (401, request(b"GET", "/page")),
        ):
            assert (await gateway.exchange(data)).status == status
            await until(lambda: telemetry.running == 0)
        leaving = await gateway.client()
        await leaving.send(request(b"GET", "/public"))
        await until(lambda: bool(upstream.requests))
        assert (await gateway.get("/public")).status == 503
        leaving.writer.transport.abort()
        await until(lambda: telemetry.running == 0)
        gate.open.set()
        assert (await gateway.get("/public")).status == 200


async def test_without_a_limit_nothing_is_turned_away(tmp_path: Path) -> None:
    gate = Gate()
    async with (
        raw_upstream(gate.respond) as upstream,
        running_gateway(upstream.url, tmp_path, routes=PUBLIC) as gateway,
    ):
        clients = await _fill(gateway, upstream, 50)
        gate.open.set()
        assert {(await client.response()).status for client in clients} == {200}


class FewFiles(GatewayProcess):
    """A gateway that may open few files."""

    def __init__(self, folder: Path, url: str, files: int) -> None:
        super().__init__(folder, [url])
        self._command = ["/bin/sh", "-c", f'ulimit -n {files}; exec "$@"', "sh", *self._command]


async def _connect(port: int, count: int) -> list[RawClient]:
    return [RawClient(*await asyncio.open_connection("127.0.0.1", port)) for _ in range(count)]


async def _answered(client: RawClient) -> int:
    """Return the status that a client gets; 0 when its connection ends without any."""
    try:
        return (await client.exchange(request(b"GET", "/"), within=5)).status
    except (ConnectionError, asyncio.IncompleteReadError, TimeoutError):
        return 0


async def _tries(port: int) -> AsyncIterator[int]:
    """Ask over a connection each time, until the answer is 200 or many were not."""
    for _ in range(100):
        (client,) = await _connect(port, 1)
        status = await _answered(client)
        await client.close()
        yield status
        if status == 200:
            return
        await asyncio.sleep(0.05)


@pytest.mark.rule("R318", "R319", "R385")
async def test_too_few_open_files_are_told_at_start_and_not_exceeded(tmp_path: Path) -> None:
    """Who is too many gets 503, the others are served, and nothing has crashed."""
    async with raw_upstream() as upstream, FewFiles(tmp_path, upstream.url, 128) as gateway:
        assert "open-files limit is 128" in gateway.output()
        own = gateway.open_sockets()
        clients = await _connect(gateway.port, 100)
        statuses = [await _answered(client) for client in clients]
        assert set(statuses) == {200, 503}
        assert statuses.count(200) >= 25
        assert await _admin_answers(gateway.admin_port) < 1
        for client in clients:
            await client.close()
        await until(lambda: gateway.open_sockets() < own + 16)
        (client,) = await _connect(gateway.port, 1)
        assert await _answered(client) == 200
        await client.close()
        assert "Traceback" not in gateway.output()


@pytest.mark.rule("R319")
async def test_gateway_out_of_open_files_goes_on_accepting_when_some_are_free_again(tmp_path: Path) -> None:
    """Files that others than clients hold, here taken away from the running process; the log stays short."""
    async with raw_upstream() as upstream, GatewayProcess(tmp_path, [upstream.url]) as gateway:
        limit_files(gateway.pid, 40)
        clients = await _connect(gateway.port, 80)
        statuses = await asyncio.gather(*map(_answered, clients))
        assert statuses.count(0) > 20
        for client in clients:
            await client.close()
        # Until the last of them has gone, the system may still have no file for another one.
        assert 200 in [status async for status in _tries(gateway.port)]
        assert len([line for line in gateway.output().splitlines() if not line.startswith("{")]) < 20


def limit_files(pid: int, count: int) -> None:
    """Lower the limit of open files of a running process."""
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (count, count))


async def _admin_answers(port: int) -> float:
    """Return how long the admin port takes to answer three pages."""
    began = time.monotonic()
    for page in ("/healthz", "/status", "/metrics"):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        client = RawClient(reader, writer)
        assert (await client.exchange(request(b"GET", page, (b"Host", b"localhost")))).status == 200
        await client.close()
    return time.monotonic() - began


async def _hammer(port: int, until_time: float, counts: dict[int, int], slowest: dict[int, float]) -> None:
    """Send one request after the other on connections of its own, until it is time."""
    loop = asyncio.get_running_loop()
    while loop.time() < until_time:
        began = loop.time()
        status = 0
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            client = RawClient(reader, writer)
            try:
                status = (await client.exchange(request(b"GET", "/"), within=20)).status
            finally:
                await client.close()
        counts[status] = counts.get(status, 0) + 1
        slowest[status] = max(slowest.get(status, 0), loop.time() - began)


@pytest.mark.timeout(90)
@pytest.mark.rule("R318", "R394")
async def test_three_times_the_load_is_turned_away_early_and_the_rest_is_served(tmp_path: Path) -> None:
    """The upstream carries 20 requests at a time; 60 clients ask without a pause for two seconds.

    The admin port answers within a second all the time, memory stays where it
    is, and goodput is what the upstream can do.
    """

    async def respond(received: Received, *_: object) -> bytes:
        await asyncio.sleep(0.1)
        return OK

    limits = {"max_concurrent_requests": 20, "access_log": "off"}
    async with raw_upstream(respond) as upstream, GatewayProcess(tmp_path, [upstream.url], server=limits) as gateway:
        counts: dict[int, int] = {}
        slowest: dict[int, float] = {}
        loop = asyncio.get_running_loop()
        await _hammer(gateway.port, loop.time() + 0.2, counts, slowest)
        memory = gateway.memory("VmRSS")
        counts.clear()
        slowest.clear()
        end = loop.time() + 2
        load = [asyncio.ensure_future(_hammer(gateway.port, end, counts, slowest)) for _ in range(60)]
        waits = []
        while loop.time() < end:
            waits.append(await _admin_answers(gateway.admin_port))
        await asyncio.gather(*load)
        grown = gateway.memory("VmRSS") - memory
        output = gateway.output()
    assert set(counts) == {200, 503}
    assert counts[503] > counts[200] / 2
    assert counts[200] >= 100  # of about 400, on a machine that does other things
    assert slowest[503] < 2
    assert max(waits) < 3  # three pages
    assert grown < 16 * 1024 * 1024
    assert "Traceback" not in output
    assert upstream.connections <= 20
