"""The demo's upstream: it shows what it received, byte for byte."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from gateway.demo.echo_upstream import EchoUpstream


@pytest.fixture
async def upstream() -> AsyncIterator[EchoUpstream]:
    async with EchoUpstream() as upstream:
        yield upstream


async def exchange(upstream: EchoUpstream, request: bytes) -> tuple[list[bytes], Any]:
    """Send raw bytes; return the interim and final status lines, and the JSON body."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(upstream.url.rpartition(":")[2]))
    writer.write(request)
    answer = await asyncio.wait_for(reader.read(), 10)
    writer.close()
    await writer.wait_closed()
    *heads, body = answer.split(b"\r\n\r\n")
    return [head.partition(b"\r\n")[0] for head in heads], json.loads(body)


async def test_target_and_headers_are_shown_as_received(upstream: EchoUpstream) -> None:
    """No decoding of the target, no folding of names, every field in its place."""
    lines, shown = await exchange(
        upstream,
        b"PURGE /a%2Fb/../%7e?x=%20&y HTTP/1.1\r\nHost: h\r\nX-User-Id: 1\r\nx_user_id: 2\r\n"
        b"X-User-Id: caf\xe9\r\nConnection: close\r\n\r\n",
    )
    assert lines == [b"HTTP/1.1 200 OK"]
    assert (shown["method"], shown["target"]) == ("PURGE", "/a%2Fb/../%7e?x=%20&y")
    assert shown["headers"] == [
        ["Host", "h"],
        ["X-User-Id", "1"],
        ["x_user_id", "2"],
        ["X-User-Id", "caf\xe9"],
        ["Connection", "close"],
    ]
    assert shown["body"] == {"length": 0, "sha256": hashlib.sha256().hexdigest()}


async def test_a_compressed_body_is_not_unpacked(upstream: EchoUpstream) -> None:
    """Length and digest are those of the bytes on the wire."""
    body = gzip.compress(b"x" * 1000)
    head = f"POST / HTTP/1.1\r\nHost: h\r\nContent-Encoding: gzip\r\nContent-Length: {len(body)}\r\nConnection: close"
    _, shown = await exchange(upstream, head.encode() + b"\r\n\r\n" + body)
    assert shown["body"] == {"length": len(body), "sha256": hashlib.sha256(body).hexdigest()}


async def test_a_chunked_body_is_read_to_its_end(upstream: EchoUpstream) -> None:
    """RFC 9112 section 7.1."""
    _, shown = await exchange(
        upstream,
        b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
        b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n",
    )
    assert shown["body"] == {"length": 5, "sha256": hashlib.sha256(b"abcde").hexdigest()}


async def test_an_expecting_client_is_told_to_go_on(upstream: EchoUpstream) -> None:
    """RFC 9110 section 10.1.1: 100 first, then the answer."""
    lines, shown = await exchange(
        upstream,
        b"POST / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok",
    )
    assert lines == [b"HTTP/1.1 100 Continue", b"HTTP/1.1 200 OK"]
    assert shown["body"]["length"] == 2


async def test_long_fields_are_shown_whole(upstream: EchoUpstream) -> None:
    """The limits to be seen in the demo are the gateway's."""
    value = "v" * 60_000
    request = f"GET /{value} HTTP/1.1\r\nHost: h\r\nX-Long: {value}\r\nConnection: close\r\n\r\n"
    _, shown = await exchange(upstream, request.encode())
    assert (len(shown["target"]), shown["headers"][1]) == (60_001, ["X-Long", value])


async def test_a_taken_port_is_an_os_error_and_leaves_nothing_open(upstream: EchoUpstream) -> None:
    """The caller picks another port."""
    taken = int(upstream.url.rpartition(":")[2])
    with pytest.raises(OSError, match=str(taken)):
        await EchoUpstream(taken).start()
