"""A request of the express lane that waits for a connection: it has no task, and nothing else of its own.

What clients see is in tests/e2e/limits/test_pool_waits.py, the queue in tests/upstream/pool.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, cast

import pytest

from gateway.errors import GatewayError, Reasons
from gateway.server.express_lane.connection import ExpressConnection
from gateway.server.express_lane.waiting import WaitingRequest
from gateway.server.pipeline.judge_steps import Pipeline
from gateway.tasks import running
from gateway.upstream.pool.upstream import Upstream
from gateway.upstream.pool.upstream_url import Lease, Origin
from tests.support.clock import FakeClock
from tests.support.composed import Settings
from tests.support.gateways.running import RunningGateway, configuration, request, running_gateway, until
from tests.support.gateways.timed import timed_gateway
from tests.support.loop_side import Arrivals
from tests.support.tokens.minting import SigningKey, jwks
from tests.support.upstreams.recording import OK, Received, raw_upstream

PUBLIC: tuple[dict[str, Any], ...] = ({"path": "/", "auth": "public"},)
OPTIONS: dict[str, Any] = {
    "routes": PUBLIC,
    "server": {"express": True},
    "upstream": {"pool_size": 1, "pool_wait_seconds": 30},
}


class Noting:
    """An exchange that notes how it is called."""

    def __init__(self) -> None:
        self.calls: list[object] = []

    def connected(self, origin: Origin, lease: Lease) -> None:
        self.calls.append(lease)

    def not_connected(self, error: GatewayError) -> None:
        self.calls.append(error.reason)

    def client_paused(self, paused: bool) -> None:
        self.calls.append(paused)


class Queue:
    """As much of an upstream as a wait uses."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, object]] = []

    def lease_soon(self, wait: object) -> None:
        self.calls.append(("soon", wait))

    def leave(self, wait: object) -> None:
        self.calls.append(("leave", wait))


def test_wait_tells_its_exchange_and_its_queue() -> None:
    """A client that stopped reading while its request waited is not sent more than a connection holds."""
    exchange, queue, lease = Noting(), Queue(), cast(Lease, object())
    wait = WaitingRequest(exchange, cast(Upstream, queue))
    wait.begin()
    wait.end()
    assert queue.calls == [("soon", wait), ("leave", wait)]
    wait.leased(cast(Origin, None), lease)
    wait.client_paused = True
    wait.leased(cast(Origin, None), lease)
    wait.not_leased(GatewayError(Reasons.POOL_EXHAUSTED))
    assert exchange.calls == [lease, lease, True, Reasons.POOL_EXHAUSTED]


class Held:
    """The only connection of a gateway's upstream, held by a test."""

    def __init__(self, gateway: RunningGateway) -> None:
        leased = gateway.app.upstreams["main"].lease_now()
        assert leased is not None
        self.lease = leased[1]


def waits(gateway: RunningGateway) -> int:
    return sum(state.waiting for state in gateway.app.upstreams["main"].states())


@pytest.mark.parametrize("log", ["json", "off"])
async def test_no_task_waits_and_none_is_made(log: str, tmp_path: Path) -> None:
    options: dict[str, Any] = {**OPTIONS, "server": {"express": True, "access_log": log}}
    async with raw_upstream() as upstream, running_gateway(upstream.url, tmp_path, **options) as gateway:
        clients = [await gateway.client() for _ in range(20)]
        for client in clients:  # so that each follows a plan with its next one
            assert (await client.exchange(request(b"GET", "/"))).status == 200
        held, before = Held(gateway), len(running())
        for client in clients:
            await client.send(request(b"GET", "/"))
        await until(lambda: waits(gateway) == 20)
        assert len(running()) == before
        held.lease.release()
        assert [(await client.response()).status for client in clients] == [200] * 20
        assert gateway.app.telemetry.running == 0
    assert upstream.connections == 1


async def test_answer_that_is_not_plain_comes_through_after_a_wait_too(tmp_path: Path) -> None:
    """Its time limit begins with the sending, not with the wait."""
    key, clock = SigningKey.rsa("a"), FakeClock()
    file = tmp_path / "jwks.json"
    file.write_bytes(jwks(key))

    async def respond(received: Received, *_: object) -> bytes:
        return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"

    options: dict[str, Any] = {
        **OPTIONS,
        "upstream": {"pool_size": 1, "pool_wait_seconds": 30, "response_timeout_seconds": 0.5},
    }
    async with raw_upstream(respond) as upstream:
        settings = Settings.model_validate(configuration(upstream.url, file, **options))
        async with timed_gateway(settings, key, clock) as gateway:
            await gateway.get()
            held = Held(gateway)
            client = await gateway.client()
            await client.send(request(b"GET", "/"))
            await until(lambda: waits(gateway) == 1)
            clock.jump(60)  # longer than a response may take
            held.lease.release()
            assert (await client.response()).body == b"ok"
            assert (await gateway.log(2))[1]["upstream_ms"] >= 60_000


async def test_fault_after_a_wait_is_answered_and_the_next_is_served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with raw_upstream() as upstream, running_gateway(upstream.url, tmp_path, **OPTIONS) as gateway:
        await gateway.get()
        held = Held(gateway)
        first, second = await gateway.client(), await gateway.client()
        await first.send(request(b"GET", "/first"))
        await until(lambda: waits(gateway) == 1)
        await second.send(request(b"GET", "/second"))
        await until(lambda: waits(gateway) == 2)
        build = Pipeline.upstream_head

        def broken(self: Pipeline, head: Any, *rest: Any) -> bytes:
            if head.target == b"/first":
                raise RuntimeError
            return build(self, head, *rest)

        monkeypatch.setattr(Pipeline, "upstream_head", broken)
        held.lease.release()
        assert [(await client.response()).status for client in (first, second)] == [503, 200]
    assert [received.target for received in upstream.requests] == [b"/", b"/second"]


async def test_connection_that_is_closed_as_soon_as_it_is_opened_is_a_502(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing was sent over it, and the next request opens another."""
    async with raw_upstream() as upstream, running_gateway(upstream.url, tmp_path, **OPTIONS) as gateway:
        given = WaitingRequest.leased

        def lost(self: WaitingRequest, origin: Origin, lease: Lease) -> None:
            assert lease.protocol.transport is not None
            lease.protocol.transport.abort()
            lease.protocol.transport = None
            given(self, origin, lease)

        with monkeypatch.context() as patch:
            patch.setattr(WaitingRequest, "leased", lost)
            assert (await gateway.get()).status == 502
        assert (await gateway.get()).status == 200
        assert [line.get("reason") for line in await gateway.log(2)] == ["upstream_disconnected", None]


async def test_client_that_stops_reading_while_it_waits_holds_its_upstream_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arrivals = Arrivals(monkeypatch, ExpressConnection)

    async def respond(received: Received, *_: object) -> bytes:
        return OK

    async with raw_upstream(respond) as upstream, running_gateway(upstream.url, tmp_path, **OPTIONS) as gateway:
        await gateway.get()
        held = Held(gateway)
        client = await gateway.client()
        await client.send(request(b"GET", "/"))
        await until(lambda: waits(gateway) == 1)
        connection = cast(ExpressConnection, arrivals.transports[-1].get_protocol())
        connection.pause_writing()
        transport = cast(asyncio.Transport, held.lease.protocol.transport)  # the one that the request gets
        held.lease.release()
        assert not transport.is_reading()
        connection.resume_writing()
        assert (await client.response()).status == 200
