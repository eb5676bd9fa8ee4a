"""A request's content on its way in: limits to the byte, 100 Continue, and what goes wrong with it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests.support.clock import eventually
from tests.support.gateways.running import request, running_gateway, until
from tests.support.upstreams.recording import Received, raw_upstream

PUBLIC: tuple[dict[str, Any], ...] = ({"path": "/", "auth": "public"},)
CHUNKED = (b"Transfer-Encoding", b"chunked")
EXPECT = (b"Expect", b"100-continue")
LIMIT: dict[str, Any] = {"max_body_bytes": 10}


def length(count: int) -> tuple[bytes, bytes]:
    return (b"Content-Length", b"%d" % count)


def chunks(*sizes: int) -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (size, b"x" * size) for size in sizes) + b"0\r\n\r\n"


AT_THE_LIMIT = [
    pytest.param(request(b"POST", "/", length(10), body=b"x" * 10), 200, id="length-at"),
    pytest.param(request(b"POST", "/", length(11), body=b"x" * 11), 413, id="length-over"),
    pytest.param(request(b"POST", "/", CHUNKED, body=chunks(10)), 200, id="chunk-at"),
    pytest.param(request(b"POST", "/", CHUNKED, body=chunks(11)), 413, id="chunk-over"),
    pytest.param(request(b"POST", "/", CHUNKED, body=chunks(*[1] * 10)), 200, id="chunks-at"),
    pytest.param(request(b"POST", "/", CHUNKED, body=chunks(*[1] * 11)), 413, id="chunks-over"),
    pytest.param(request(b"POST", "/", CHUNKED, body=chunks()), 200, id="none"),
]


@pytest.mark.parametrize(("data", "status"), AT_THE_LIMIT)
@pytest.mark.parametrize("slowly", [False, True])
@pytest.mark.rule("R283")
async def test_limit_is_exact_to_the_byte(data: bytes, status: int, slowly: bool, tmp_path: Path) -> None:
    """Framing does not count, whole or byte by byte; what is over never completes upstream."""
    async with (
        raw_upstream() as upstream,
        running_gateway(upstream.url, tmp_path, routes=PUBLIC, server=LIMIT) as gateway,
    ):
        client = await gateway.client()
        for piece in [data[index : index + 1] for index in range(len(data))] if slowly else [data]:
            try:
                await client.send(piece)
            except ConnectionError:
                break  # refused in the middle
            await asyncio.sleep(0)
        response = await client.response()
        log = await gateway.log()
        assert response.status == status
        if status == 413:
            assert response.one(b"connection") == b"close"
            assert await client.at_end()
            await eventually(lambda: upstream.open_connections == 0)
            assert not any(received.complete for received in upstream.requests)
            assert log[0]["reason"] == "body_too_large"
        else:
            assert log[0]["bytes_in"] == len(upstream.requests[0].body)


async def test_no_limit_by_default(tmp_path: Path) -> None:
    """Contract: max_body_bytes = 0 is no limit; bytes are counted in the log."""
    async with raw_upstream() as upstream, running_gateway(upstream.url, tmp_path, routes=PUBLIC) as gateway:
        body = b"x" * 300_000
        assert (await gateway.exchange(request(b"POST", "/", length(len(body)), body=body))).status == 200
        log = await gateway.log()
    assert log[0]["bytes_in"] == len(body)


@pytest.mark.parametrize(
    ("framing", "body"),
    [(length(6), (b"abc", b"def")), (CHUNKED, (b"3\r\nabc\r\n", b"3\r\ndef\r\n0\r\n\r\n"))],
)
@pytest.mark.rule("R293")
async def test_continue_is_sent_once_for_content_in_pieces(
    framing: tuple[bytes, bytes], body: tuple[bytes, bytes], tmp_path: Path
) -> None:
    """RFC 9110 section 10.1.1: one 100, then the final response."""
    async with raw_upstream() as upstream, running_gateway(upstream.url, tmp_path, routes=PUBLIC) as gateway:
        client = await gateway.client()
        assert (await client.exchange(request(b"POST", "/", framing, EXPECT))).status == 100
        await client.send(body[0])
        await eventually(lambda: upstream.requests)
        await asyncio.sleep(0.02)
        assert (await client.exchange(body[1])).status == 200
        assert (await client.exchange(request(b"GET", "/"))).status == 200
    assert [received.body for received in upstream.requests] == [b"abcdef", b""]
    assert not upstream.requests[0].all(b"expect")


async def test_continue_is_not_sent_to_who_did_not_wait_or_has_nothing_to_send(tmp_path: Path) -> None:
    """RFC 9110 section 10.1.1: content that is there already, no content, and HTTP/1.0 get no 100."""
    async with raw_upstream() as upstream, running_gateway(upstream.url, tmp_path, routes=PUBLIC) as gateway:
        client = await gateway.client()
        assert (await client.exchange(request(b"POST", "/", length(3), EXPECT, body=b"abc"))).status == 200
        assert (await client.exchange(request(b"POST", "/", length(0), EXPECT))).status == 200
        assert (await client.exchange(request(b"GET", "/", EXPECT))).status == 200
        old = await gateway.client()
        await old.send(b"POST / HTTP/1.0\r\nHost: h\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n")
        await asyncio.sleep(0.02)
        assert (await old.exchange(b"abc")).status == 200
    assert [received.body for received in upstream.requests] == [b"abc", b"", b"", b"abc"]


@pytest.mark.parametrize("cause", ["no-upstream", "too-large", "no-route"])
@pytest.mark.rule("R293", "R294")
async def test_refused_upload_that_waits_gets_no_continue_and_a_closed_connection(cause: str, tmp_path: Path) -> None:
    """What the client does next, send or not, cannot be distinguished from a request."""
    routes = ({"path": "/only", "auth": "public"},) if cause == "no-route" else PUBLIC
    count = 11 if cause == "too-large" else 5
    async with running_gateway("http://127.0.0.1:1", tmp_path, routes=routes, server=LIMIT) as gateway:
        client = await gateway.client()
        response = await client.exchange(request(b"POST", "/", length(count), EXPECT))
        assert response.status == {"no-upstream": 502, "too-large": 413, "no-route": 404}[cause]
        assert response.one(b"connection") == b"close"
        assert await client.at_end()


@pytest.mark.rule("R294", "R427")
async def test_upstream_that_refuses_before_the_content_is_not_kept_when_that_has_come(tmp_path: Path) -> None:
    """100 was sent when the upstream stood ready; its own final answer passes, then the content."""

    async def respond(received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        return b"HTTP/1.1 403 No\r\nContent-Length: 2\r\n\r\nno"

    async with (
        raw_upstream(respond, early=True) as upstream,
        running_gateway(upstream.url, tmp_path, routes=PUBLIC) as gateway,
    ):
        client = await gateway.client()
        assert (await client.exchange(request(b"POST", "/", length(5), EXPECT))).status == 100
        response = await client.response()
        assert (response.status, response.body, response.one(b"connection")) == (403, b"no", b"close")
        await client.send(b"abcde")
        await until(lambda: gateway.app.upstreams["main"].origins[0].state().in_use == 0)
        assert await client.at_end()
        assert gateway.app.upstreams["main"].origins[0].state().idle == 0


@pytest.mark.parametrize("body", [b"zz\r\n", b"3\r\nabcd\r\n", b"-1\r\n", b"3\nabc\r\n", b"0\r\nX y\r\n\r\n"])
@pytest.mark.parametrize("together", [True, False])
@pytest.mark.rule("R211")
async def test_content_that_makes_no_sense_is_a_bad_request(body: bytes, together: bool, tmp_path: Path) -> None:
    """Reported at once, whether it comes with the head or later; the connection is closed."""
    async with raw_upstream() as upstream, running_gateway(upstream.url, tmp_path, routes=PUBLIC) as gateway:
        client = await gateway.client()
        head = request(b"POST", "/", CHUNKED)
        if together:
            await client.send(head + body)
        else:
            await client.send(head + b"1\r\na\r\n")
            await eventually(lambda: upstream.requests)
            await client.send(body)
        response = await client.response()
        assert (response.status, response.json["error"]) == (400, "bad_request")
        assert await client.at_end()
        log = await gateway.log()
        assert log[0]["reason"] == "malformed_http"
        await eventually(lambda: upstream.open_connections == 0)
    assert not any(received.complete for received in upstream.requests)
