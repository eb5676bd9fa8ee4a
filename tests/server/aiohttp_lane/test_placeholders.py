"""What aiohttp's parser reads instead of the heads that clients send."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.http_parser import HttpRequestParser, RawRequestMessage
from aiohttp.test_utils import make_mocked_request

from gateway.http1.request_head import Head, parse_head
from gateway.server.aiohttp_lane.placeholders import NO_REQUEST, StandIns


def head(*lines: bytes, method: bytes = b"GET", version: bytes = b"1.1") -> Head:
    return parse_head(b"\r\n".join([b"%b /real?query HTTP/%b" % (method, version), b"Host: real", *lines, b"", b""]))


def parsed(stand_in: bytes) -> Any:
    """What aiohttp's own parser makes of bytes."""
    loop = asyncio.get_running_loop()
    messages, upgraded, rest = HttpRequestParser(BaseProtocol(loop), loop, 65536).feed_data(stand_in)
    assert (upgraded, rest) == (False, b"")
    return messages


@pytest.mark.parametrize(
    ("lines", "version", "length", "chunked", "closes"),
    [
        pytest.param([], b"1.1", None, False, False, id="plain"),
        pytest.param([b"Connection: close"], b"1.1", None, False, True, id="close"),
        pytest.param([], b"1.0", None, False, True, id="old"),
        pytest.param([b"Connection: keep-alive"], b"1.0", None, False, False, id="old-kept"),
        pytest.param([b"Content-Length: 007"], b"1.1", "7", False, False, id="length"),
        pytest.param([b"Transfer-Encoding: Chunked"], b"1.1", None, True, False, id="chunked"),
        pytest.param([b"Connection: Upgrade", b"Upgrade: websocket"], b"1.1", None, False, False, id="upgrade"),
        pytest.param([b"Accept: a", b"Host: x", b"Expect: odd", b"Cookie: y"], b"1.1", None, False, False, id="others"),
    ],
)
@pytest.mark.rule("R210", "R215")
async def test_stand_in_has_the_framing_and_the_connection_of_its_head_and_nothing_else(
    lines: list[bytes], version: bytes, length: str | None, chunked: bool, closes: bool
) -> None:
    """Whatever the method, no field of the request reaches aiohttp's parser."""
    for method in (b"GET", b"HEAD", b"PURGE", b"M-SEARCH"):
        stand_in = StandIns().make(head(*lines, method=method, version=version))
        ((message, _),) = parsed(stand_in)
        assert isinstance(message, RawRequestMessage)
        assert (message.chunked, message.should_close, message.upgrade) == (chunked, closes, False)
        assert message.headers.get("Content-Length") == length
        assert {name.lower() for name in message.headers} <= {
            *("host", "connection", "content-length", "transfer-encoding")
        }
        assert b"real" not in stand_in


@pytest.mark.rule("R210")
async def test_heads_are_given_out_in_order_each_for_its_own_stand_in() -> None:
    """Two parsers in a row can never mean two requests."""
    stand_ins = StandIns()
    first, second = head(b"X: 1"), head(b"X: 2")
    targets = [parsed(stand_ins.make(each))[0][0].path for each in (first, second)]
    assert len(stand_ins) == 2
    assert stand_ins.take(make_mocked_request("POST", targets[0])) is first
    with pytest.raises(RuntimeError):
        stand_ins.take(make_mocked_request("POST", targets[0]))
    assert len(stand_ins) == 0


@pytest.mark.rule("R210")
async def test_what_is_no_request_is_an_error_wherever_it_comes() -> None:
    """As a request, as the size of a chunk, and behind one."""
    for before in (b"", b"Transfer-Encoding: chunked\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n1\r\nx"):
        with pytest.raises(HttpProcessingError):
            parsed((b"POST / HTTP/1.1\r\nHost: h\r\n" + before if before else b"") + NO_REQUEST)


@pytest.mark.rule("R429")
async def test_long_heads_weigh_more() -> None:
    """How many are kept is a matter of their length."""
    stand_ins = StandIns()
    parsed_heads = [parsed(stand_ins.make(one))[0][0] for one in (head(), head(b"X: " + b"a" * 58_000))]
    assert (len(stand_ins), stand_ins.weight) == (2, 1 + 8)
    for message, left in zip(parsed_heads, (8, 0), strict=True):
        stand_ins.take(make_mocked_request(message.method, message.path))
        assert stand_ins.weight == left
