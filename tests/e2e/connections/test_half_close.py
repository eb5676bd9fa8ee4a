"""Clients that end their sending and wait (``shutdown``), and clients that are refused while they send.

Over TCP the first differ from clients that left only by what they do with an answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from gateway.server.sockets import half_closed, lingering
from gateway.upstream.pool.upstream_url import Origin
from tests.support.certificates import Authority, authority
from tests.support.gateways.running import RawClient, RunningGateway, request, running_gateway, until
from tests.support.upstreams.recording import OK, Received, Responder, raw_upstream

pytestmark = pytest.mark.every_log

ROUTES: tuple[dict[str, Any], ...] = ({"path": "/"}, {"path": "/pub", "auth": "public"})
LENGTH = (b"Content-Length", b"3")
CHUNKED = (b"Transfer-Encoding", b"chunked")


def slow(seconds: float) -> Responder:
    """An upstream that thinks before it answers."""

    async def respond(received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        await asyncio.sleep(seconds)
        return OK

    return respond


async def answers_after_half_close(gateway: RunningGateway, data: bytes) -> list[int]:
    """Send bytes and the end of sending; return the statuses of what is answered until the gateway closes."""
    client = await gateway.client()
    await client.send(data)
    client.half_close()
    statuses: list[int] = []
    while True:
        try:
            response = await client.response()
        except (asyncio.IncompleteReadError, ConnectionError):
            return statuses
        assert response.complete
        statuses.append(response.status)


WHOLE = {
    "served": (request(b"GET", "/pub"), [200]),
    "refused": (request(b"GET", "/a"), [401]),
    "no route": (request(b"GET", "//"), [400]),
    "content": (request(b"POST", "/pub", LENGTH, body=b"abc"), [200]),
    "chunked": (request(b"POST", "/pub", CHUNKED, body=b"3\r\nabc\r\n0\r\n\r\n"), [200]),
    "large": (request(b"POST", "/pub", (b"Content-Length", b"100000"), body=b"x" * 100_000), [200]),
    "several": (
        request(b"GET", "/pub") + request(b"GET", "/a") + request(b"GET", "/pub") * 20,
        [200, 401] + [200] * 20,
    ),
    "last": (request(b"GET", "/pub", (b"Connection", b"close")), [200]),
    "1.0": (b"GET /pub HTTP/1.0\r\n\r\n", [200]),
    "malformed": (b"GET /pub HTTP/1.1\r\nHost: a\r\nHost : b\r\n\r\n", [400]),
    "a head begun behind it": (request(b"GET", "/pub") + b"GET /pub HT", [200]),
    "no websocket behind it": (
        request(b"GET", "/a", (b"Upgrade", b"websocket"), (b"Connection", b"upgrade")) + request(b"GET", "/pub"),
        [401, 200],
    ),
}


@pytest.mark.parametrize("name", WHOLE)
@pytest.mark.parametrize("seconds", [0.0, 0.1])
async def test_client_that_ends_its_sending_gets_its_answers(name: str, seconds: float, tmp_path: Path) -> None:
    """RFC 9112 section 9.6: what was asked whole is answered, in either lane, and then the connection is closed."""
    data, statuses = WHOLE[name]
    async with (
        raw_upstream(slow(seconds if name != "several" else seconds / 10)) as upstream,
        running_gateway(upstream.url, tmp_path, routes=ROUTES) as gateway,
    ):
        assert await answers_after_half_close(gateway, data) == statuses
        await until(lambda: gateway.app.telemetry.connections == 0)
        assert all(one.complete for one in upstream.requests)


@pytest.mark.parametrize(
    "data",
    [
        request(b"POST", "/pub", (b"Content-Length", b"10"), body=b"abc"),
        request(b"POST", "/pub", (b"Content-Length", b"100000"), body=b"x" * 70_000),
        request(b"POST", "/pub", CHUNKED, body=b"3\r\nabc\r\n"),
        request(b"POST", "/pub", CHUNKED, body=b"3\r\nabc\r\n0\r\n"),
        request(b"GET", "/pub") + request(b"POST", "/pub", CHUNKED, body=b"3\r\nabc\r\n"),
        b"GET /pub HTTP/1.1\r\nHost: a\r\n",
    ],
)
@pytest.mark.rule("R211", "R284")
async def test_end_of_sending_inside_a_request_is_its_abort(data: bytes, tmp_path: Path) -> None:
    """The upstream never sees a completed request, and nothing is answered to it."""
    async with (
        raw_upstream() as upstream,
        running_gateway(upstream.url, tmp_path, routes=ROUTES) as gateway,
    ):
        assert set(await answers_after_half_close(gateway, data)) <= {200}
        await until(lambda: gateway.app.telemetry.connections == 0)
        await until(lambda: gateway.app.upstreams["main"].origins[0].state().in_use == 0)
        assert not [one for one in upstream.requests if one.complete and not one.line.startswith(b"GET")]


def waiting_upstream(let_go: asyncio.Event) -> Responder:
    """An upstream that never answers, and notes that the gateway has let go of the request."""

    async def respond(received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert await reader.read() == b""
        let_go.set()

    return respond


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ask a client soon whether it is still there."""
    monkeypatch.setattr(half_closed, "ASK_SECONDS", 0.1)
    monkeypatch.setattr(half_closed, "RESET_SECONDS", 0.05)


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("before", [0, 1])
@pytest.mark.rule("R285")
async def test_slow_answer_reaches_a_client_that_ended_its_sending(before: int, tmp_path: Path) -> None:
    """RFC 9110 section 15.2.1: it is asked once, with an interim response, whether it is still there."""
    async with (
        raw_upstream(slow(0.35)) as upstream,
        running_gateway(upstream.url, tmp_path, routes=ROUTES) as gateway,
    ):
        client = await gateway.client()
        for _ in range(before):
            assert (await client.exchange(request(b"GET", "/pub"))).status == 200
        await client.send(request(b"GET", "/pub") * 2)
        client.half_close()
        assert [(await client.response()).status for _ in range(2)] == [200, 200]
        assert await client.at_end()
        assert client.times_asked == 1


@pytest.mark.parametrize("data", [request(b"GET", "/pub"), request(b"POST", "/pub", LENGTH, body=b"abc")])
@pytest.mark.rule("R285")
async def test_client_that_left_frees_the_upstream(data: bytes, tmp_path: Path) -> None:
    """Within a second, though a FIN is all that comes of a client that left."""
    let_go = asyncio.Event()
    async with (
        raw_upstream(waiting_upstream(let_go)) as upstream,
        running_gateway(upstream.url, tmp_path, routes=ROUTES) as gateway,
    ):
        client = await gateway.client()
        await client.send(data)
        await until(lambda: bool(upstream.requests))
        await client.close()
        async with asyncio.timeout(1):
            await let_go.wait()
        await until(lambda: gateway.app.telemetry.connections == 0)
        assert gateway.app.telemetry.refusals["client_gone"] == 1


@pytest.mark.usefixtures("hasty")
@pytest.mark.rule("R285")
async def test_client_of_http_1_0_is_not_asked_and_is_taken_for_gone(tmp_path: Path) -> None:
    """RFC 9110 section 15.2: HTTP/1.0 has no interim responses."""
    let_go = asyncio.Event()
    async with (
        raw_upstream(waiting_upstream(let_go)) as upstream,
        running_gateway(upstream.url, tmp_path, routes=ROUTES) as gateway,
    ):
        client = await gateway.client()
        await client.send(b"GET /pub HTTP/1.0\r\n\r\n")
        await until(lambda: bool(upstream.requests))
        client.half_close()
        async with asyncio.timeout(1):
            await let_go.wait()
        assert await client.at_end()


def pausing(pause: asyncio.Event, seconds: float) -> Responder:
    """An upstream whose response stands still after each of its pieces."""

    async def respond(received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\na")
        await pause.wait()
        writer.write(b"b")
        await asyncio.sleep(seconds)
        return b"c"

    return respond


@contextlib.asynccontextmanager
async def within_a_response(
    respond: Responder, folder: Path, before: int = 0
) -> AsyncIterator[tuple[RawClient, Origin]]:
    """Have the first piece of a response, behind ``before`` whole ones over the same connection."""
    async with (
        raw_upstream(respond) as upstream,
        running_gateway(upstream.url, folder, routes=ROUTES) as gateway,
    ):
        client = await gateway.client()
        for _ in range(before):  # then the connection's requests are known, and take a shorter way
            assert (await client.exchange(request(b"GET", "/pub"))).status == 200
        await client.send(request(b"GET", "/pub"))
        await client.reader.readuntil(b"\r\n\r\na")
        yield client, gateway.app.upstreams["main"].origins[0]


@pytest.mark.usefixtures("hasty")
@pytest.mark.rule("R282")
async def test_client_that_takes_what_it_is_sent_gets_the_rest_however_long_that_pauses(tmp_path: Path) -> None:
    """A client that has left would have reset the connection."""
    pause = asyncio.Event()
    async with within_a_response(pausing(pause, 0.35), tmp_path) as (client, _):
        client.half_close()
        pause.set()
        assert await asyncio.wait_for(client.reader.read(), 5) == b"bc"


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("before", [0, 3])
@pytest.mark.rule("R285", "R400")
async def test_client_is_asked_nothing_within_a_response(before: int, tmp_path: Path) -> None:
    """One that stands still when the client ends its sending is broken off, with nothing put into it."""
    left = [before]

    async def respond(received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        if left[0]:
            left[0] -= 1
            return OK
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\na")
        assert await reader.read() == b""
        return b""

    async with within_a_response(respond, tmp_path, before) as (client, origin):
        client.half_close()
        assert await client.at_end()
        await until(lambda: origin.state().in_use == 0)


@pytest.mark.usefixtures("hasty")
@pytest.mark.rule("R285")
async def test_client_that_leaves_during_a_response_frees_the_upstream(tmp_path: Path) -> None:
    """Also where only one more piece was sent to it after it had left."""
    pause = asyncio.Event()
    async with within_a_response(pausing(pause, 2), tmp_path) as (client, origin):
        await client.close()
        pause.set()
        await until(lambda: origin.state().in_use == 0, within=1)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a client be silent for a short while only."""
    monkeypatch.setattr(lingering, "SILENCE", 0.3)


async def uploading(gateway: RunningGateway, pieces: int, *, chunked: bool, pause: float = 0.02) -> RawClient:
    """Send an upload that is refused, more slowly than the gateway answers; return its client, once it has sent."""
    client = await gateway.client()
    size = 20_000
    framing = CHUNKED if chunked else (b"Content-Length", b"%d" % (size * pieces))
    await client.send(request(b"POST", "/a", framing))
    for _ in range(pieces):
        await asyncio.sleep(pause)
        await client.send(b"%x\r\n%b\r\n" % (size, b"x" * size) if chunked else b"x" * size)
    return client


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("chunked", [False, True])
async def test_client_that_is_refused_while_it_uploads_can_send_to_its_end_and_read_its_answer(
    chunked: bool, tmp_path: Path
) -> None:
    """RFC 9112 section 9.6: it is read on for longer than it was silent at any time, and its answer is not reset."""
    async with running_gateway("http://127.0.0.1:1", tmp_path, routes=ROUTES) as gateway:
        client = await uploading(gateway, 30, chunked=chunked)
        response = await client.response()
        assert (response.status, response.one(b"connection"), response.complete) == (401, b"close", True)
        assert await client.at_end()
        await until(lambda: gateway.app.telemetry.connections == 0)


@pytest.mark.reads_log  # once in each lane is enough of so long a wait
async def test_refused_upload_that_takes_longer_than_two_seconds_is_not_reset(tmp_path: Path) -> None:
    """RFC 9112 section 9.6: with the limits as they are."""
    async with running_gateway("http://127.0.0.1:1", tmp_path, routes=ROUTES) as gateway:
        client = await uploading(gateway, 23, chunked=False, pause=0.1)
        assert (await client.response()).status == 401
        assert await client.at_end()


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return authority(tmp_path_factory.mktemp("ca"))


@pytest.mark.usefixtures("quick")
async def test_client_that_is_refused_while_it_uploads_over_tls_reads_its_answer(ca: Authority, tmp_path: Path) -> None:
    """RFC 9112 section 9.6: where sending cannot be ended alone, the connection is kept until nothing more comes."""
    own = ca.sign("gateway", "localhost", "127.0.0.1")
    server = {"tls_cert": str(own.cert), "tls_key": str(own.key)}
    async with running_gateway("http://127.0.0.1:1", tmp_path, routes=ROUTES, server=server) as gateway:
        gateway.tls = ssl.create_default_context(cafile=str(ca.bundle))
        client = await uploading(gateway, 30, chunked=False)
        response = await client.response()
        assert (response.status, response.complete) == (401, True)
        assert await client.at_end()


async def test_client_that_sends_without_end_is_closed_at_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """CWE-400: reading what is dropped has a bound."""
    monkeypatch.setattr(lingering, "MAX_LINGERING_SECONDS", 0.5)
    async with running_gateway("http://127.0.0.1:1", tmp_path, routes=ROUTES) as gateway:
        client = await gateway.client()
        await client.send(request(b"POST", "/a", CHUNKED))

        async def send() -> None:
            while True:
                await client.send(b"1\r\na\r\n")
                await asyncio.sleep(0.01)

        with pytest.raises(ConnectionError):
            await asyncio.wait_for(send(), 5)
        await until(lambda: gateway.app.telemetry.connections == 0)


@pytest.mark.rule("R370")
async def test_drain_does_not_wait_for_what_is_dropped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that was answered and goes on sending keeps no gateway from ending."""
    monkeypatch.setattr(lingering, "MAX_LINGERING_DRAINING_SECONDS", 0.1)
    async with running_gateway("http://127.0.0.1:1", tmp_path, routes=ROUTES) as gateway:
        client = await gateway.client()
        await client.send(request(b"POST", "/a", CHUNKED))
        assert (await client.response()).status == 401
        gateway.app.listener.start_drain()
        async with asyncio.timeout(2):
            await gateway.app.listener.empty.wait()
