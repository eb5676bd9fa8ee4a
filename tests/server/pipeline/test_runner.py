"""The shared run of a request: every way out is accounted for once."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.errors import GatewayError, Reasons
from gateway.http1.trusted_proxies import Peer
from gateway.server.pipeline.runner import Serving
from gateway.server.request.in_progress import Run
from gateway.server.request.outcome import CLIENT_CLOSED_REQUEST
from gateway.telemetry.record import Record
from gateway.upstream.exchange.exchange import exchange
from tests.support.gateways.running import RunningGateway, running_gateway, until
from tests.support.upstreams.recording import Received, raw_upstream
from tests.support.wire.heads import head_of
from tests.upstream.pools import GET


class RecordingClient:
    """A client that keeps what it gets."""

    def __init__(self) -> None:
        self.keep_alive, self.gone, self.draining, self.stalled = True, False, False, False
        self.certificate: bytes | None = None
        self.got = b""
        self.aborted = False

    async def write(self, data: bytes) -> None:
        if self.gone:
            raise ConnectionResetError("gone")
        self.got += data

    def abort(self) -> None:
        self.aborted = True

    def break_off(self, *, unread: bool) -> None:
        self.aborted = True

    def without_end(self, begins: bool) -> None: ...


def new_run(serving: Serving) -> tuple[Run, RecordingClient]:
    client = RecordingClient()
    record = Record(serving.clock.monotonic(), request_id="abc", method="GET")
    return Run(client, head_of(), Peer(b"192.0.2.1", False, 8080), record, b"abc"), client


@contextlib.asynccontextmanager
async def serving_of(directory: Path, limit: int = 0) -> AsyncIterator[tuple[Serving, RunningGateway]]:
    server = {"max_concurrent_requests": limit}
    async with running_gateway("http://127.0.0.1:9", directory, server=server) as gateway:
        yield gateway.app.express.serving, gateway


async def raising(error: BaseException) -> bool:
    raise error


async def test_refusal_is_answered_counted_and_logged_once(tmp_path: Path) -> None:
    async with serving_of(tmp_path) as (serving, gateway):
        run, client = new_run(serving)
        serving.outcomes.enter(run)
        assert await serving.settle(run, raising(GatewayError(Reasons.NO_CREDENTIAL)))
        assert client.got.startswith(b"HTTP/1.1 401 ")
        assert serving.telemetry.refusals == {"no_credential": 1}
        assert (await gateway.log())[0]["outcome"] == "refused"
        assert sum(serving.telemetry.requests.values()) == 1
        assert serving.telemetry.running == 0


async def test_fault_of_the_gateway_tells_the_client_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """No stack trace, no text of the exception."""
    async with serving_of(tmp_path) as (serving, gateway):
        run, client = new_run(serving)
        with caplog.at_level(logging.ERROR, logger="gateway"):
            await serving.settle(run, raising(RuntimeError("secret of the gateway")))
        answer = serving.outcomes.account(Record(0.0), GatewayError(Reasons.INTERNAL))
        assert client.got.startswith(b"HTTP/1.1 %d " % answer.status)
        assert b"secret" not in client.got
        assert "secret" not in caplog.text
        assert "abc" in caplog.text
        assert (await gateway.log())[0]["reason"] == "internal"


@pytest.mark.parametrize("error", [ConnectionResetError("left"), GatewayError(Reasons.CLIENT_GONE)])
async def test_client_that_left_is_no_fault_and_gets_nothing(error: BaseException, tmp_path: Path) -> None:
    async with serving_of(tmp_path) as (serving, gateway):
        run, client = new_run(serving)
        client.gone = True
        assert not await serving.settle(run, raising(error))
        assert client.got == b""
        line = (await gateway.log())[0]
        assert (line["outcome"], line["status"]) == ("client_gone", CLIENT_CLOSED_REQUEST)


@pytest.mark.rule("R289")
async def test_client_that_is_still_there_gets_an_answer_when_another_connection_breaks(tmp_path: Path) -> None:
    """Whatever breaks on the way, only a client that left gets nothing."""
    async with serving_of(tmp_path) as (serving, gateway):
        run, client = new_run(serving)
        await serving.settle(run, raising(ConnectionResetError("not the client's")))
        assert client.got.startswith(b"HTTP/1.1 502 ")
        line = (await gateway.log())[0]
        assert (line["outcome"], line["reason"]) == ("failed", "upstream_disconnected")


async def test_cancelled_request_is_accounted_for_and_the_cancellation_goes_on(tmp_path: Path) -> None:
    async with serving_of(tmp_path) as (serving, gateway):
        run, _ = new_run(serving)
        with pytest.raises(asyncio.CancelledError):
            await serving.settle(run, raising(asyncio.CancelledError()))
        assert (await gateway.log())[0]["outcome"] == "client_gone"


@pytest.mark.rule("R286")
async def test_failure_after_the_first_byte_breaks_the_connection(tmp_path: Path) -> None:
    """A second answer would be taken for a part of the first."""
    async with serving_of(tmp_path) as (serving, _):
        run, client = new_run(serving)
        run.started_reply = True
        assert not await serving.settle(run, raising(GatewayError(Reasons.UPSTREAM_DISCONNECTED)))
        assert (client.aborted, client.got) == (True, b"")


@pytest.mark.parametrize("kept", [True, False])
async def test_answer_says_whether_the_connection_stays(kept: bool, tmp_path: Path) -> None:
    async with serving_of(tmp_path) as (serving, _):
        run, client = new_run(serving)
        client.keep_alive = kept
        assert await serving.refuse(run, GatewayError(Reasons.NO_CREDENTIAL)) is kept
        assert (b"\r\nConnection: close\r\n" in client.got) is not kept


async def test_answer_names_the_request(tmp_path: Path) -> None:
    async with serving_of(tmp_path) as (serving, _):
        run, client = new_run(serving)
        await serving.refuse(run, GatewayError(Reasons.NO_ROUTE))
        await until(lambda: b"\r\n\r\n" in client.got)
        assert json.loads(client.got.partition(b"\r\n\r\n")[2])["request_id"] == "abc"


@pytest.mark.rule("R426")
async def test_client_that_left_before_its_response_began_got_none(tmp_path: Path) -> None:
    """The log does not say that the upstream's status was sent, and the upstream's connection is given up."""
    async with raw_upstream() as upstream, running_gateway(upstream.url, tmp_path) as gateway:
        serving, service = gateway.app.express.serving, gateway.app.upstreams["main"]
        run, client = new_run(serving)
        _, lease = await service.lease()
        reply = await exchange(lease, GET, None, head_only=False, response_timeout=5, idle_timeout=5)
        client.gone = True
        assert not await serving.settle(run, serving.deliver(run, reply, service))
        assert client.got == b""
        line = (await gateway.log())[0]
        assert (line["outcome"], line["status"], line["bytes_out"]) == ("client_gone", CLIENT_CLOSED_REQUEST, 0)
        assert service.origins[0].state().in_use == 0


@pytest.mark.rule("R426")
async def test_response_that_is_broken_before_it_began_is_a_502(tmp_path: Path) -> None:
    """While nothing was sent, the client can still get the truth; so do the log and the metrics."""

    async def respond(received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf")

    async with raw_upstream(respond) as upstream, running_gateway(upstream.url, tmp_path) as gateway:
        serving, service = gateway.app.express.serving, gateway.app.upstreams["main"]
        run, client = new_run(serving)
        _, lease = await service.lease()
        reply = await exchange(lease, GET, None, head_only=False, response_timeout=5, idle_timeout=5)
        await until(lambda: reply.content.exception() is not None)
        assert await serving.settle(run, serving.deliver(run, reply, service))
        assert (client.got[:13], client.aborted) == (b"HTTP/1.1 502 ", False)
        line = (await gateway.log())[0]
        assert (line["status"], line["outcome"], line["reason"]) == (502, "failed", "upstream_disconnected")
        assert line["bytes_out"] == len(client.got.partition(b"\r\n\r\n")[2])
        assert list(serving.telemetry.requests) == [("", "read", 502, "failed")]


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.rule("R426")
async def test_content_of_an_answer_is_counted_only_if_it_was_sent(method: str, tmp_path: Path) -> None:
    """An answer to HEAD has none."""
    async with serving_of(tmp_path) as (serving, gateway):
        run, client = new_run(serving)
        run.head = replace(run.head, method=method)
        await serving.settle(run, raising(GatewayError(Reasons.NO_CREDENTIAL)))
        sent = client.got.partition(b"\r\n\r\n")[2]
        assert (await gateway.log())[0]["bytes_out"] == len(sent)
        assert bool(sent) is (method == "GET")


@pytest.mark.rule("R427")
async def test_end_of_the_client_behind_its_response_is_no_fault(tmp_path: Path) -> None:
    """Its upload ended with it, but it had all of its answer."""
    async with serving_of(tmp_path) as (serving, gateway):
        run, _ = new_run(serving)
        run.delivered, run.record.status = True, 202
        with pytest.raises(asyncio.CancelledError):
            await serving.settle(run, raising(asyncio.CancelledError()))
        line = (await gateway.log())[0]
        assert (line["outcome"], line["status"], line.get("reason")) == ("forwarded", 202, None)
