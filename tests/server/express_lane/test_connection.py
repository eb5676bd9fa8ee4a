"""One client connection of the express lane: its time limits, its buffer, and when it is handed over."""

from __future__ import annotations

import asyncio
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from gateway import tasks
from gateway.server.aiohttp_lane.listener import MAX_AHEAD_BYTES, ClientProtocol
from gateway.server.express_lane import connection as express_connection
from gateway.server.express_lane import response as express_response
from gateway.server.express_lane.connection import MAX_CONTENT_BYTES, ExpressConnection
from tests.support.gateways.running import RunningGateway, request, running_gateway, until
from tests.support.loop_side import Arrivals, Timers
from tests.support.upstreams.recording import OK, Received, raw_upstream

PUBLIC: tuple[dict[str, Any], ...] = ({"path": "/", "auth": "public"},)


def settings(**server: Any) -> dict[str, Any]:
    return {"routes": PUBLIC, "server": {"express": True, **server}}


async def only(gateway: RunningGateway) -> ExpressConnection:
    """Return the gateway's one connection, once it is there."""
    await until(lambda: len(gateway.app.express.connections) == 1)
    return next(iter(gateway.app.express.connections))


@pytest.fixture
def arrivals(monkeypatch: pytest.MonkeyPatch) -> Arrivals:
    """What the loop tells connections of this lane."""
    return Arrivals(monkeypatch, ExpressConnection)


async def test_idle_connection_is_closed_without_a_word(tmp_path: Path) -> None:
    async with (
        raw_upstream() as upstream,
        running_gateway(upstream.url, tmp_path, **settings(keepalive_timeout_seconds=0.2)) as gateway,
    ):
        unused, used = await gateway.client(), await gateway.client()
        assert (await used.exchange(request(b"GET", "/"))).status == 200
        assert await unused.at_end()
        assert await used.at_end()
        assert len(await gateway.log()) == 1


@pytest.mark.parametrize("sent", [b"G", b"GET / HTTP/1.1\r\nHost: a\r\n"])
@pytest.mark.parametrize("before", [0, 1])
@pytest.mark.rule("R317")
async def test_head_that_does_not_end_is_408(sent: bytes, before: int, tmp_path: Path) -> None:
    """Whether it is the first of its connection or not."""
    async with (
        raw_upstream() as upstream,
        running_gateway(upstream.url, tmp_path, **settings(request_head_timeout_seconds=0.2)) as gateway,
    ):
        client = await gateway.client()
        for _ in range(before):
            assert (await client.exchange(request(b"GET", "/"))).status == 200
        response = await client.exchange(sent)
        assert (response.status, response.json["error"]) == (408, "request_timeout")
        assert await client.at_end()
        log = await gateway.log(before + 1)
    assert log[-1]["reason"] == "head_timeout"


@pytest.mark.rule("R317")
async def test_time_for_a_head_is_not_renewed_by_its_bytes(arrivals: Arrivals, tmp_path: Path) -> None:
    """A byte at a time does not hold the connection."""
    async with running_gateway("http://127.0.0.1:9", tmp_path, **settings(request_head_timeout_seconds=5)) as gateway:
        client = await gateway.client()
        connection = await only(gateway)
        await client.send(b"GET ")
        await until(lambda: arrivals.data == [b"GET "])
        first = connection.deadline
        await client.send(b"/")
        await until(lambda: arrivals.data == [b"GET ", b"/"])
        assert connection.deadline == first


HANDED_OVER = {
    "chunked": request(b"POST", "/", (b"Transfer-Encoding", b"chunked"), body=b"2\r\nab\r\n0\r\n\r\n"),
    "old": b"GET / HTTP/1.0\r\nHost: a\r\n\r\n",
    "large content": request(
        b"POST", "/", (b"Content-Length", b"%d" % (MAX_CONTENT_BYTES + 1)), body=b"x" * (MAX_CONTENT_BYTES + 1)
    ),
    "expectation": request(b"POST", "/", (b"Content-Length", b"3"), (b"Expect", b"100-continue"), body=b"abc"),
    "upgrade": request(b"GET", "/", (b"Upgrade", b"h2c"), (b"Connection", b"upgrade")),
    "another protocol": b"\x16\x03\x01\r\n",
}
KEPT = {
    "plain": request(b"GET", "/"),
    "content": request(b"POST", "/", (b"Content-Length", b"3"), body=b"abc"),
    "most content": request(
        b"POST", "/", (b"Content-Length", b"%d" % MAX_CONTENT_BYTES), body=b"x" * MAX_CONTENT_BYTES
    ),
    "refused": request(b"GET", "/a/../b"),
    "unknown method": request(b"BREW", "/"),
    "nominated": request(b"GET", "/", (b"Connection", b"keep-alive, X-A"), (b"X-A", b"1")),
    "many fields": request(b"GET", "/", *[(b"X", b"y")] * 300),
    "forwarding": request(b"GET", "/", (b"X-Forwarded-For", b"192.0.2.1"), (b"X_A", b"1"), (b"X-User-Id", b"eve")),
}


@pytest.mark.parametrize(
    ("data", "kept"),
    [pytest.param(data, False, id=name) for name, data in HANDED_OVER.items()]
    + [pytest.param(data, True, id=name) for name, data in KEPT.items()],
)
@pytest.mark.parametrize("before", [0, 1])
async def test_what_is_not_plain_is_handed_over_with_every_byte(
    data: bytes, kept: bool, before: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And is answered there; so is all that follows on the connection."""
    monkeypatch.setattr(express_connection, "CONTENT_WAIT_SECONDS", 5.0)
    handed_over: dict[ClientProtocol, bytes] = {}
    whole = ClientProtocol.data_received

    def noting(self: ClientProtocol, data: bytes) -> None:
        handed_over.setdefault(self, data)  # what comes to it at first
        whole(self, data)

    monkeypatch.setattr(ClientProtocol, "data_received", noting)
    async with (
        raw_upstream() as upstream,
        running_gateway(upstream.url, tmp_path, **settings(max_head_bytes=2048)) as gateway,
    ):
        client = await gateway.client()
        for _ in range(before):
            assert (await client.exchange(request(b"GET", "/"))).status == 200
        response = await client.exchange(data)
        while response.status == 100:
            response = await client.response()
        assert response.status in (200, 400)
        assert len(handed_over) == (0 if kept else 1)
        assert all(data.startswith(rest) and rest for rest in handed_over.values())
        assert len(gateway.app.express.connections) == (1 if kept else 0)


NO_REQUESTS = {
    "garbage": b"\x16\x03\x01\r\n\r\n",
    "large head": request(b"GET", "/", (b"X", b"x" * 3000)),
    "endless head": b"GET / HTTP/1.1\r\nX: " + b"x" * 3000,
    "bad name": request(b"GET", "/", (b"Bad Name", b"x")),
    "no colon": b"GET / HTTP/1.1\r\nHost: a\r\nCookie\r\n\r\n",
    "folded": b"GET / HTTP/1.1\r\nHost: a\r\n folded: x\r\n\r\n",
    "NUL": request(b"GET", "/", (b"X", b"a\x00b")),
    "bare line feed": request(b"GET", "/", (b"X", b"a\nY: b")),
    "two lengths": request(b"POST", "/", (b"Content-Length", b"1"), (b"Content-Length", b"2"), body=b"a"),
    "bad length": request(b"POST", "/", (b"Content-Length", b"+1"), body=b"a"),
    "both framings": request(b"POST", "/", (b"Content-Length", b"1"), (b"Transfer-Encoding", b"chunked"), body=b"a"),
    "other version": b"GET / HTTP/2.0\r\nHost: a\r\n\r\n",
}


@pytest.mark.parametrize("before", [0, 1])
@pytest.mark.parametrize("name", NO_REQUESTS)
@pytest.mark.rule("R200", "R201", "R202", "R273")
async def test_what_is_no_request_is_refused_here_and_ends_its_connection(
    name: str, before: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A dearer lane gets to see none of its bytes, and none of those behind it."""
    arrivals = Arrivals(monkeypatch, ClientProtocol)
    async with (
        raw_upstream() as upstream,
        running_gateway(upstream.url, tmp_path, **settings(max_head_bytes=2048)) as gateway,
    ):
        client = await gateway.client()
        for _ in range(before):
            assert (await client.exchange(request(b"GET", "/"))).status == 200
        response = await client.exchange(NO_REQUESTS[name] + request(b"GET", "/behind"))
        reason = {"large head": "head_too_large", "endless head": "head_too_large", "other version": "http_version"}
        assert response.status == (431 if name in ("large head", "endless head") else 400)
        assert response.one(b"connection") == b"close"
        assert await client.at_end()
        log = await gateway.log(before + 1)
        await gateway.settled()
    assert log[-1]["reason"] == reason.get(name, "malformed_http")
    assert arrivals.data == []
    assert len(upstream.requests) == before


@pytest.mark.parametrize("empty", [1, 2])
@pytest.mark.parametrize("before", [0, 1])
@pytest.mark.rule("R212")
async def test_empty_lines_before_a_request_are_passed_over(empty: int, before: int, tmp_path: Path) -> None:
    """RFC 9112 section 2.2: some clients end their content with a line too many."""
    async with raw_upstream() as upstream, running_gateway(upstream.url, tmp_path, **settings()) as gateway:
        client = await gateway.client()
        for _ in range(before):
            assert (await client.exchange(request(b"GET", "/"))).status == 200
        assert (await client.exchange(b"\r\n" * empty + request(b"GET", "/"))).status == 200
        assert (await client.exchange(request(b"GET", "/"))).status == 200
    assert len(upstream.requests) == before + 2


@pytest.mark.rule("R318")
async def test_connection_beyond_the_limit_is_handed_over_to_be_refused(tmp_path: Path) -> None:
    async with (
        raw_upstream() as upstream,
        running_gateway(upstream.url, tmp_path, **settings(max_connections=1)) as gateway,
    ):
        await gateway.client()
        await only(gateway)
        second = await gateway.client()
        response = await second.response()
        assert (response.status, await second.at_end()) == (503, True)
        assert len(gateway.app.express.connections) == 1
        await until(lambda: gateway.app.telemetry.connections == 1)


@pytest.mark.parametrize("in_time", [True, False])
async def test_content_apart_from_its_head_is_waited_for_a_moment(
    in_time: bool, arrivals: Arrivals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then it is streamed, by the full lane."""
    wait, timers = 31.5 if in_time else 0.0125, Timers(monkeypatch)
    monkeypatch.setattr(express_connection, "CONTENT_WAIT_SECONDS", wait)
    async with raw_upstream() as upstream, running_gateway(upstream.url, tmp_path, **settings()) as gateway:
        client = await gateway.client()
        await only(gateway)
        await client.send(request(b"POST", "/", (b"Content-Length", b"6"), body=b"ab"))
        if in_time:
            await until(lambda: timers.stopped(wait) == [False])
            await client.send(b"cd")
        else:
            await until(lambda: not gateway.app.express.connections)
            await client.send(b"cd")
        assert (await client.exchange(b"ef")).status == 200
        assert timers.stopped(wait) == [in_time]
        assert len(gateway.app.express.connections) == (1 if in_time else 0)
    assert upstream.requests[0].body == b"abcdef"


async def test_wait_for_content_ends_with_the_connection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wait, timers = 31.5, Timers(monkeypatch)
    monkeypatch.setattr(express_connection, "CONTENT_WAIT_SECONDS", wait)
    async with running_gateway("http://127.0.0.1:9", tmp_path, **settings()) as gateway:
        client = await gateway.client()
        await client.send(request(b"POST", "/", (b"Content-Length", b"6"), body=b"ab"))
        await until(lambda: timers.stopped(wait) == [False])
        await client.close()
        await until(lambda: not gateway.app.express.connections)
        assert timers.stopped(wait) == [True]


@pytest.mark.rule("R317")
async def test_client_that_sends_far_ahead_is_not_read_until_its_turn(arrivals: Arrivals, tmp_path: Path) -> None:
    """The requests behind a slow one do not fill the memory, and none of them is lost."""
    hold = asyncio.Event()

    async def respond(received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        await hold.wait()
        return OK

    async with raw_upstream(respond) as upstream, running_gateway(upstream.url, tmp_path, **settings()) as gateway:
        client = await gateway.client()
        await client.send(first := request(b"GET", "/first"))
        await upstream.got_request.wait()
        client.writer.write(b"".join(request(b"GET", f"/{n}", (b"X-Pad", b"x" * 4000)) for n in range(50)))
        (transport,) = arrivals.transports
        await until(lambda: not transport.is_reading())
        assert sum(map(len, arrivals.data)) - len(first) > MAX_AHEAD_BYTES
        hold.set()
        for _ in range(51):
            assert (await client.response()).status == 200
        assert transport.is_reading()
    assert [received.target for received in upstream.requests] == [b"/first", *(b"/%d" % n for n in range(50))]


@pytest.mark.rule("R429", "C119")
async def test_client_that_sends_far_ahead_is_not_read_after_each_request_either(
    arrivals: Arrivals, tmp_path: Path
) -> None:
    """Only when less is left than may be; what is left is not copied for each request."""
    turns = asyncio.Semaphore(0)

    async def respond(received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        await turns.acquire()
        return OK

    async with raw_upstream(respond) as upstream, running_gateway(upstream.url, tmp_path, **settings()) as gateway:

        def received(count: int) -> bool:
            return len(upstream.requests) == count

        client = await gateway.client()
        connection = await only(gateway)
        (transport,) = arrivals.transports
        one = request(b"GET", "/", (b"X-Pad", b"x" * 1000))
        enough = MAX_AHEAD_BYTES // len(one)
        data = one * (enough + 22)  # one is begun at once, and each answer begins another
        unheld = sys.getrefcount(data)
        connection.data_received(data)
        await until(partial(received, 1))
        held = sys.getrefcount(data)
        assert held == unheld + 2  # by the connection, and by what is noted
        for answered in range(20):
            assert not transport.is_reading()
            assert sys.getrefcount(data) == held, "it was copied"
            turns.release()
            await client.response()
            await until(partial(received, answered + 2))
        assert not transport.is_reading()
        turns.release()
        await until(transport.is_reading)
        for _ in range(enough):
            turns.release()
        client.writer.transport.abort()
        await until(lambda: not gateway.app.express.connections)


@pytest.mark.parametrize("before", [0, 1])
@pytest.mark.parametrize("behind", [b"", b"GET /second HTTP/1.1\r\nHost: a\r\n\r\n"])
@pytest.mark.parametrize(("target", "status"), [("/", 200), ("//", 400)])
async def test_connection_is_closed_behind_the_answer_to_its_last_request(
    before: int, behind: bytes, target: str, status: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RFC 9112 section 9.6: the answer says so, and what follows is no request any more."""
    made: list[str] = []
    spawn = tasks.spawn

    def noting(work: Any, name: str, **options: Any) -> Any:
        made.append(name)
        return spawn(work, name, **options)

    monkeypatch.setattr(express_response, "spawn", noting)
    async with raw_upstream() as upstream, running_gateway(upstream.url, tmp_path, **settings()) as gateway:
        warm = await gateway.client()
        assert (await warm.exchange(request(b"GET", "/"))).status == 200
        client, made[:] = await gateway.client(), []
        for _ in range(before):
            assert (await client.exchange(request(b"GET", "/"))).status == 200
        response = await client.exchange(request(b"GET", target, (b"Connection", b"close")) + behind)
        assert (response.status, response.one(b"connection")) == (status, b"close")
        assert response.complete
        assert await client.at_end()
        assert made == []
    assert [one.target for one in upstream.requests] == [b"/"] * (1 + before + (status == 200))
