"""One request of the express lane on its way to its upstream, and what its client can do meanwhile."""

from __future__ import annotations

import asyncio
import logging
import socket
from pathlib import Path
from typing import Any, cast

import pytest

from gateway.server.express_lane.connection import ExpressConnection
from gateway.server.express_lane.exchange import ExpressExchange
from gateway.server.pipeline.judge_steps import Pipeline
from tests.support.gateways.running import RawClient, request, running_gateway, until
from tests.support.loop_side import Arrivals
from tests.support.upstreams.recording import OK, Received, raw_upstream

PUBLIC: tuple[dict[str, Any], ...] = ({"path": "/", "auth": "public"},)
OPTIONS: dict[str, Any] = {"routes": PUBLIC, "server": {"express": True}}
LARGE = 20_000_000


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> list[ExpressExchange]:
    """The requests that were begun in this lane."""
    noted: list[ExpressExchange] = []
    whole = ExpressExchange.start

    def noting(self: ExpressExchange) -> None:
        noted.append(self)
        whole(self)

    monkeypatch.setattr(ExpressExchange, "start", noting)
    return noted


async def hold(received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes | None:
    """Answer at once, but for ``/hold``: that one is answered by the end of the connection."""
    if received.target != b"/hold":
        return OK
    await reader.read()
    return None


async def test_request_goes_without_a_task_whether_or_not_a_connection_is_idle(
    begun: list[ExpressExchange], tmp_path: Path
) -> None:
    async with raw_upstream(hold) as upstream, running_gateway(upstream.url, tmp_path, **OPTIONS) as gateway:
        client = await gateway.client()
        await client.send(request(b"GET", "/hold"))
        await until(lambda: len(upstream.requests) == 1)
        assert begun[0].task is None  # the first one has to connect, which is another's task
        await client.close()
        await until(lambda: not gateway.app.express.connections)
        await gateway.get()
        client = await gateway.client()
        await client.send(request(b"GET", "/hold"))
        await until(lambda: len(upstream.requests) == 3)
        exchange = begun[2]
        assert exchange.task is None
        assert exchange.lease is not None
        assert exchange.lease.reused


async def test_request_that_follows_a_plan_looks_like_the_one_before_it(tmp_path: Path) -> None:
    """All but the request id, which is the client's or a new one."""
    async with (
        raw_upstream() as upstream,
        running_gateway(upstream.url, tmp_path, server={"express": True}) as gateway,
    ):
        token = gateway.token(sub="ann")
        await gateway.get(token=token)
        for given in ((), ((b"X-Request-Id", b"mine-1"),)):
            client = await gateway.client()
            for _ in range(3):
                assert (await client.exchange(request(b"GET", "/a?b", *given, token=token))).status == 200
    new, given_ids = upstream.requests[1:4], upstream.requests[4:7]
    for heads in (new, given_ids):
        without = [[pair for pair in head.headers if pair[0] != b"X-Request-Id"] for head in heads]
        assert without[0] == without[1] == without[2]
        assert (b"x-user-id", b"ann") in [(name.lower(), value) for name, value in without[0]]
    assert len({head.one(b"x-request-id") for head in new}) == 3
    assert {head.one(b"x-request-id") for head in given_ids} == {b"mine-1"}


async def test_content_goes_behind_its_head(tmp_path: Path) -> None:
    async with raw_upstream() as upstream, running_gateway(upstream.url, tmp_path, **OPTIONS) as gateway:
        client = await gateway.client()
        for content in (b"abc", b"defgh", b""):
            length = (b"Content-Length", b"%d" % len(content))
            assert (await client.exchange(request(b"POST", "/", length, body=content))).status == 200
    assert [received.body for received in upstream.requests] == [b"abc", b"defgh", b""]


async def test_refusal_takes_no_connection_to_the_upstream(tmp_path: Path) -> None:
    async with (
        raw_upstream() as upstream,
        running_gateway(upstream.url, tmp_path, server={"express": True}) as gateway,
    ):
        client = await gateway.client()
        assert (await client.exchange(request(b"GET", "/"))).status == 401
        assert (await client.exchange(request(b"GET", "/", token=b"junk"))).status == 401
        assert (await client.exchange(request(b"GET", "/", token=gateway.token()))).status == 200
    assert len(upstream.requests) == 1


@pytest.mark.parametrize("step", ["admit", "upstream_head"])
async def test_fault_of_the_gateway_is_answered_and_costs_no_connection(
    step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The client learns nothing of it, and the upstream's connection serves the next request."""
    async with raw_upstream() as upstream, running_gateway(upstream.url, tmp_path, **OPTIONS) as gateway:
        await gateway.get()

        def broken(*args: object) -> None:
            raise RuntimeError("secret of the gateway")

        with monkeypatch.context() as patch, caplog.at_level(logging.ERROR, logger="gateway"):
            patch.setattr(Pipeline, step, broken)
            response = await gateway.get()
        assert response.status == 503
        assert b"secret" not in response.head + response.body
        assert "RuntimeError" in caplog.text
        assert (await gateway.get()).status == 200
        assert (await gateway.log(3))[1]["reason"] == "internal"
    assert (upstream.connections, len(upstream.requests)) == (1, 2)


@pytest.mark.parametrize("warm", [True, False])
@pytest.mark.rule("R285")
async def test_client_that_leaves_ends_its_request(warm: bool, tmp_path: Path) -> None:
    """Whether the shared run has it or not, the upstream's connection is closed, and one line says so."""
    async with raw_upstream(hold) as upstream, running_gateway(upstream.url, tmp_path, **OPTIONS) as gateway:
        if warm:
            await gateway.get()
        client = await gateway.client()
        await client.send(request(b"GET", "/hold"))
        await until(lambda: len(upstream.requests) == 1 + warm)
        client.writer.transport.abort()
        line = (await gateway.log(1 + warm))[-1]
        await until(lambda: not upstream.open_connections)
        assert (line["outcome"], line["status"]) == ("client_gone", 499)
        assert gateway.app.telemetry.running == 0


@pytest.mark.rule("R282")
async def test_client_that_does_not_read_holds_its_upstream_back(begun: list[ExpressExchange], tmp_path: Path) -> None:
    """What it does not take is not read; once it reads, it gets everything."""

    async def respond(received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        if received.target != b"/large":
            return OK
        return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % LARGE + b"x" * LARGE

    async with raw_upstream(respond) as upstream, running_gateway(upstream.url, tmp_path, **OPTIONS) as gateway:
        await gateway.get()
        client = await gateway.client()
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await client.send(request(b"GET", "/large"))
        await until(lambda: len(begun) == 2 and begun[1].lease is not None)
        lease = begun[1].lease
        assert lease is not None
        transport = cast(asyncio.Transport, lease.protocol.transport)
        await until(lambda: not transport.is_reading())
        client.writer.transport.resume_reading()  # type: ignore[attr-defined]
        response = await client.response()
        assert (len(response.body), response.complete) == (LARGE, True)
        assert (await client.exchange(request(b"GET", "/"))).status == 200
    assert upstream.connections == 1


@pytest.mark.rule("R282")
async def test_connection_whose_last_bytes_a_client_does_not_take_serves_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It went back to the pool unread, and the next request, another client's, waited for its answer in vain."""

    async def respond(received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        size = 60_000 if received.target == b"/large" else 2
        return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + b"x" * size

    path = str(tmp_path / "gateway.sock")
    options: dict[str, Any] = {"server": {"express": True, "listen": ["127.0.0.1:0", f"unix:{path}"]}}
    arrivals = Arrivals(monkeypatch, ExpressConnection)
    async with (
        raw_upstream(respond) as upstream,
        running_gateway(
            upstream.url, tmp_path, routes=PUBLIC, upstream={"response_timeout_seconds": 1}, **options
        ) as gateway,
    ):
        # What a Unix socket's reader has not read fills its writer's buffer: how much that holds is known.
        client = RawClient(*await asyncio.open_unix_connection(path))
        gateway.clients.append(client)
        assert (await client.exchange(request(b"GET", "/"))).status == 200
        [transport] = arrivals.transports
        transport.set_write_buffer_limits(high=0)
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await client.send(request(b"GET", "/large"))
        await until(lambda: transport.get_write_buffer_size() > 0 and gateway.app.telemetry.running == 0)
        assert (await gateway.get()).status == 200
        client.writer.transport.resume_reading()  # type: ignore[attr-defined]
        assert len((await client.response()).body) == 60_000
    assert upstream.connections == 1
