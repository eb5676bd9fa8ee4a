"""The run of a request in the full lane: unforeseen faults, retries, and one honest log line for every way out."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from gateway.http1.plain_response import PlainHead, PlainReader
from gateway.jwt.authenticator import Authenticator
from gateway.policy.routes import RouteTable
from gateway.server.aiohttp_lane.lane import AiohttpClient
from gateway.server.authentication import credentials
from gateway.server.authentication import identify as identification
from gateway.server.pipeline import judge_steps as pipeline
from gateway.server.pipeline import runner as serving
from gateway.server.request.outcome import Outcomes
from gateway.upstream.exchange import exchange as forward
from gateway.upstream.headers.forwarded import Forwarding
from gateway.upstream.pool.connection import UpstreamConnection
from tests.support.clock import eventually
from tests.support.gateways.running import request, running_gateway
from tests.support.upstreams.recording import OK, Received, raw_upstream, reset

PUBLIC: tuple[dict[str, Any], ...] = ({"path": "/", "auth": "public"},)
FULL: dict[str, Any] = {"express": False}
ODD_CHUNKS = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;a=b\r\nok\r\n0\r\n\r\n"
SECRET = "eyJsecret.eyJtoken.c2ln"


def raising(*_: Any, **__: Any) -> Any:
    raise RuntimeError(SECRET)


Patch = Callable[[pytest.MonkeyPatch], None]

#: One fault of the gateway's own code in each step of a request's path.
FAULTS: dict[str, Patch] = {
    "path": lambda patch: patch.setattr(pipeline, "parse_target", raising),
    "host": lambda patch: patch.setattr(pipeline, "parse_host", raising),
    "route": lambda patch: patch.setattr(RouteTable, "match", raising),
    "credential": lambda patch: patch.setattr(credentials, "bearer_token", raising),
    "cache": lambda patch: patch.setattr(Authenticator, "refuse_unread", raising),
    "authorize": lambda patch: patch.setattr(identification, "authorize", raising),
    "forwarding": lambda patch: patch.setattr(Forwarding, "lines", raising),
    "head": lambda patch: patch.setattr(pipeline, "framing", raising),
    "render": lambda patch: patch.setattr(pipeline, "upstream_head", raising),
    "exchange": lambda patch: patch.setattr(forward, "WholeReading", raising),
    "response-head": lambda patch: patch.setattr(PlainReader, "read", raising),
    "known-head": lambda patch: patch.setattr(PlainHead, "end", raising),
    "whole-reply": lambda patch: patch.setattr(forward, "whole_reply", raising),
}
#: The same where a response is not plain.
PARSER_FAULTS: dict[str, Patch] = {
    "parser": lambda patch: patch.setattr(UpstreamConnection, "expect_response", raising),
    "reply": lambda patch: patch.setattr(forward, "checked_reply", raising),
    "client-head": lambda patch: patch.setattr(serving, "client_head", raising),
}
FAULTS |= PARSER_FAULTS


@pytest.mark.parametrize("step", FAULTS)
@pytest.mark.rule("R108", "R196", "R333")
async def test_fault_anywhere_is_503_one_line_and_never_its_text(
    step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """No 500, no stack trace, no text of an exception; the log says where to look."""

    async def respond(received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        return ODD_CHUNKS if step in PARSER_FAULTS else OK

    async with raw_upstream(respond) as upstream, running_gateway(upstream.url, tmp_path, server=FULL) as gateway:
        FAULTS[step](monkeypatch)
        token = gateway.token()
        client = await gateway.client()
        response = await client.exchange(request(b"GET", "/a", token=token))
        log = await gateway.log()
        monkeypatch.undo()
        again = await client.exchange(request(b"GET", "/a", token=token))
        state = gateway.app.upstreams["main"].origins[0].state()
        assert (state.in_use, state.waiting) == (0, 0)
    assert (response.status, response.json["error"]) == (503, "unavailable")
    assert response.one(b"www-authenticate") is None
    assert again.status == 200, "the connection and the pool are as good as before"
    assert len(log) == 1
    assert (log[0]["reason"], log[0]["outcome"]) == ("internal", "failed")
    errors = [line.getMessage() for line in caplog.records if line.levelno >= logging.ERROR]
    assert len(errors) == 1
    assert errors[0].startswith(f"request {log[0]['request_id']}: RuntimeError at raising:")
    everything = caplog.text + str(log) + (response.head + response.body).decode()
    assert SECRET not in everything
    assert token.decode() not in everything


@pytest.mark.rule("R286")
async def test_fault_in_the_middle_of_a_response_cuts_the_connection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing that could be taken for the end of the response, nor a second answer behind it."""
    async with (
        raw_upstream() as upstream,
        running_gateway(upstream.url, tmp_path, routes=PUBLIC, server=FULL) as gateway,
    ):

        async def half(reply: Any, head: bytes, write: Any, **_: object) -> None:
            await write(head)
            reply.begun = True
            reply.abort()
            raising()

        monkeypatch.setattr(serving, "relay", half)
        response = await gateway.get("/")
        log = await gateway.log()
        assert gateway.app.upstreams["main"].origins[0].state().in_use == 0
    assert (response.status, response.complete, response.body) == (200, False, b"")
    assert (log[0]["reason"], log[0]["outcome"]) == ("internal", "failed")
    assert "RuntimeError at raising:" in caplog.text
    assert SECRET not in caplog.text


STALE = [
    pytest.param(b"GET", b"", True, id="get"),
    pytest.param(b"HEAD", b"", True, id="head"),
    pytest.param(b"PUT", b"", True, id="put-without-content"),
    pytest.param(b"DELETE", b"", True, id="delete"),
    pytest.param(b"POST", b"", False, id="post"),
    pytest.param(b"PATCH", b"", False, id="patch"),
    pytest.param(b"BREW", b"", False, id="unknown"),
    pytest.param(b"PUT", b"abc", False, id="put-with-content"),
]


@pytest.mark.parametrize(("method", "body", "again"), STALE)
@pytest.mark.parametrize("express", [False, True])
@pytest.mark.rule("R310", "R311")
async def test_request_is_sent_again_after_a_reset_only_if_that_is_safe(
    method: bytes, body: bytes, again: bool, express: bool, tmp_path: Path
) -> None:
    """A kept connection that is reset before a byte of the response; both lanes alike."""

    async def respond(received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes | None:
        if received.target == b"/again" and received.connection == 1:
            reset(writer)
            return None
        return OK.removesuffix(b"ok") if received.line.startswith(b"HEAD") else OK

    async with (
        raw_upstream(respond) as upstream,
        running_gateway(upstream.url, tmp_path, routes=PUBLIC, server={"express": express}) as gateway,
    ):
        client = await gateway.client()
        assert (await client.exchange(request(b"GET", "/first"))).status == 200
        headers = ((b"Content-Length", b"%d" % len(body)),) if body else ()
        response = await client.exchange(request(method, "/again", *headers, body=body), head_only=method == b"HEAD")
        log = await gateway.log(2)
    assert response.status == (200 if again else 502)
    assert len([received for received in upstream.requests if received.target == b"/again"]) == (2 if again else 1)
    assert len(log) == 2


@pytest.mark.parametrize("data", [b"H", b"HTTP/1.1 103 Early Hints\r\n\r\n", b"HTTP/1.1 200 OK\r\nX:"])
@pytest.mark.parametrize("by_reset", [False, True])
@pytest.mark.parametrize("express", [False, True])
@pytest.mark.rule("R310")
async def test_request_is_not_sent_again_once_a_byte_of_a_response_came(
    data: bytes, by_reset: bool, express: bool, tmp_path: Path
) -> None:
    """The upstream has begun to answer, so it may have acted."""

    async def respond(received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes | None:
        if received.target != b"/again":
            return OK
        writer.write(data)
        await writer.drain()
        await asyncio.sleep(0.03)
        if by_reset:
            reset(writer)
        return None

    async with (
        raw_upstream(respond) as upstream,
        running_gateway(upstream.url, tmp_path, routes=PUBLIC, server={"express": express}) as gateway,
    ):
        client = await gateway.client()
        assert (await client.exchange(request(b"GET", "/first"))).status == 200
        assert (await client.exchange(request(b"GET", "/again"))).status == 502
    assert len(upstream.requests) == 2


@pytest.mark.parametrize("express", [False, True])
@pytest.mark.rule("R389")
async def test_line_tells_how_much_went_out_before_the_end(express: bool, tmp_path: Path) -> None:
    """A response that breaks off, and a client that leaves, are counted as far as they came."""
    hold = asyncio.Event()

    async def respond(received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 9000\r\n\r\n" + b"x" * 3000)
        await writer.drain()
        if received.target == b"/hold":
            await reader.read()
        else:
            await hold.wait()

    async with (
        raw_upstream(respond) as upstream,
        running_gateway(upstream.url, tmp_path, routes=PUBLIC, server={"express": express}) as gateway,
    ):
        breaking = await gateway.client()
        await breaking.send(request(b"GET", "/breaks"))
        await breaking.reader.readuntil(b"xxx")
        hold.set()
        log = await gateway.log(1)
        leaving = await gateway.client()
        await leaving.send(request(b"GET", "/hold"))
        await leaving.reader.readuntil(b"xxx")
        await asyncio.sleep(0.02)
        leaving.writer.transport.abort()
        log = await gateway.log(2)
        await eventually(lambda: upstream.open_connections == 0)
    assert [(line["outcome"], line["status"], line["bytes_out"]) for line in log] == [
        ("failed", 200, 3000),
        ("client_gone", 200, 3000),
    ]


@pytest.mark.rule("R283", "R284")
async def test_bad_content_after_an_early_answer_is_the_clients_fault_alone(tmp_path: Path) -> None:
    """The response is cut, the upstream freed, and the upstream's failures are not counted."""

    async def respond(received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n")
        while await reader.read(100):
            pass

    async with (
        raw_upstream(respond, early=True) as upstream,
        running_gateway(upstream.url, tmp_path, routes=PUBLIC, server={"max_body_bytes": 10}) as gateway,
    ):
        client = await gateway.client()
        await client.send(request(b"POST", "/", (b"Transfer-Encoding", b"chunked"), body=b"3\r\nabc\r\n"))
        await client.reader.readuntil(b"ok\r\n")
        await client.send(b"8\r\n12345678\r\n")
        assert await client.at_end()
        log = await gateway.log()
        await eventually(lambda: upstream.open_connections == 0)
        assert gateway.app.upstreams["main"].failures == {}
    assert (log[0]["outcome"], log[0]["reason"], log[0]["status"]) == ("refused", "body_too_large", 200)


async def test_every_request_is_one_of_its_own_whatever_came_before(tmp_path: Path) -> None:
    """Ids, times and the token's verdict are each request's, also where its head is that of the one before."""
    async with raw_upstream() as upstream, running_gateway(upstream.url, tmp_path, server=FULL) as gateway:
        good, other = gateway.token(), gateway.token(sub="bob")
        named = (b"X-Request-Id", b"mine")
        sent = [
            *([request(b"GET", "/a", token=good)] * 3),
            *([request(b"GET", "/a", token=other)] * 2),
            *([request(b"GET", "/b", named, token=good)] * 2),
            request(b"GET", "/a", token=good),
            *([request(b"GET", "/a", token=b"a.b.c")] * 2),
        ]
        client = await gateway.client()
        statuses = [(await client.exchange(data)).status for data in sent]
        log = await gateway.log(len(sent))
    assert statuses == [200] * 8 + [401] * 2
    ids = [line["request_id"] for line in log]
    assert ids[5:7] == ["mine", "mine"]
    assert len(set(ids)) == len(sent) - 1
    assert [item.one(b"x-request-id") for item in upstream.requests] == [name.encode() for name in ids[:8]]
    assert [item.one(b"x-user-id") for item in upstream.requests] == [
        *([b"alice"] * 3),
        *([b"bob"] * 2),
        *([b"alice"] * 3),
    ]


async def test_nothing_of_one_connection_is_known_to_another(tmp_path: Path) -> None:
    """Of two behind one trusted proxy each says who its client is."""
    proxies = {**FULL, "trusted_proxies": ["127.0.0.1"]}
    async with (
        raw_upstream() as upstream,
        running_gateway(upstream.url, tmp_path, routes=PUBLIC, server=proxies) as gateway,
    ):
        for client in (await gateway.client(), await gateway.client()):
            for address in (b"192.0.2.1", b"192.0.2.1", b"192.0.2.2"):
                data = request(b"GET", "/", (b"X-Forwarded-For", address))
                assert (await client.exchange(data)).status == 200
        log = await gateway.log(6)
    assert [line["client"] for line in log] == ["192.0.2.1", "192.0.2.1", "192.0.2.2"] * 2


async def test_nothing_is_broken_off_once_the_connection_is_gone(tmp_path: Path) -> None:
    """The client may leave at any moment."""
    async with (
        raw_upstream() as upstream,
        running_gateway(upstream.url, tmp_path, routes=PUBLIC, server=FULL) as gateway,
    ):
        listener = gateway.app.listener
        protocol = listener()
        client = AiohttpClient(cast(Any, SimpleNamespace(protocol=protocol, transport=None)))
        for begins in (True, False):
            client.without_end(begins)
            client.break_off(unread=False)
        client.abort()
        assert client.gone


@pytest.mark.parametrize("fields", [(), ((b"Upgrade", b"websocket"), (b"Connection", b"upgrade"))])
@pytest.mark.rule("R429")
async def test_requests_that_are_refused_without_waiting_take_a_turn_of_the_loop_each(
    fields: tuple[tuple[bytes, bytes], ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CWE-400: from Python 3.12 on, aiohttp by itself serves all that wait on a connection in one turn."""
    turn = 0
    ended: list[int] = []
    finish = Outcomes.finish

    async def count() -> None:
        nonlocal turn
        while True:
            turn += 1
            await asyncio.sleep(0)

    def finished(self: Outcomes, run: Any) -> None:
        ended.append(turn)
        finish(self, run)

    monkeypatch.setattr(Outcomes, "finish", finished)
    async with running_gateway("http://127.0.0.1:1", tmp_path, server=FULL) as gateway:
        client = await gateway.client()
        counting = asyncio.ensure_future(count())
        client.writer.write(request(b"GET", "/", *fields) * 20)
        assert [(await client.response()).status for _ in range(20)] == [401] * 20
        counting.cancel()
    assert len(set(ended)) == 20
