"""The gateway beside a direct connection: random messages through both, compared byte for byte.

What differs must be on docs/transparency.md; the model of that page is
``tests/support/wire/any_message.py``.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from hypothesis import example, given, settings

from tests.fuzz.stage import Stage, on_stage, stage
from tests.support.gateways.running import RawClient, RawResponse
from tests.support.upstreams.recording import OK, Received
from tests.support.wire.any_message import (
    REQUESTS,
    RESPONSES,
    Body,
    Request,
    Response,
    expected_at_client,
    expected_upstream,
)

pytestmark = [pytest.mark.untraced, pytest.mark.every_log]

ROUTES = ({"path": "/", "auth": "public"},)
FRAMING = (b"content-length", b"transfer-encoding", b"connection")


async def ask(port: int, data: bytes, *, head_only: bool) -> tuple[RawResponse, bytes]:
    """Send a request on a new connection; return the response, and what came behind it until the end."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 20)
    client = RawClient(reader, writer)
    try:
        await client.send(data)
        response = await client.response(head_only=head_only)
        writer.write_eof()
        async with asyncio.timeout(5):
            return response, await reader.read()
    finally:
        await client.close()


async def both_received(made: Stage, request: Request) -> tuple[Received, Received]:
    """Send a request directly and through the gateway; return what the upstream got each time."""
    got = []
    for port in (made.upstream.port, made.gateway.app.port):
        made.upstream.requests.clear()
        response, behind = await ask(port, request.wire(), head_only=request.method == b"HEAD")
        assert (response.status, behind) == (200, b""), response
        assert len(made.upstream.requests) == 1
        got.append(made.upstream.requests[0])
    return got[0], got[1]


def compared_at_upstream(made: Stage, direct: Received, through: Received) -> None:
    """Hold what came through the gateway against the document."""
    method, target, _ = direct.line.split(b" ")
    assert through.line == b"%b %b HTTP/1.1" % (method, target)
    made_id = through.all(b"x-request-id")[-1]
    expected = expected_upstream(
        direct,
        upstream=b"127.0.0.1:%d" % made.upstream.port,
        port=made.gateway.app.port,
        pseudonym=made.gateway.app.pseudonym,
        made_id=made_id,
    )
    # The bytes themselves: lines as they came, white space around values included.
    assert through.head == b"\r\n".join([through.line, *expected]) + b"\r\n\r\n"
    assert through.complete
    assert through.body == direct.body


@pytest.mark.rule("R241", "R262", "R263", "R264", "R265", "R268", "R280", "R300", "R301")
def test_the_upstream_cannot_tell_the_gateway_from_its_client(tmp_path: Path) -> None:
    """Method, target, fields and content, apart from the documented list."""

    async def respond(received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        return OK.removesuffix(b"ok") if received.line.startswith(b"HEAD ") else OK

    with on_stage(stage(tmp_path, respond, routes=ROUTES)) as (made, run):

        @settings(max_examples=100)  # in each lane and with each log
        @example(Request(b"X-UNHEARD-OF", b"/a;b?c", b"HTTP/1.1", (), Body("none"), 0, (b"", b"")))
        @example(
            Request(b"GET", b"/", b"HTTP/1.1", ((b"A", b"\xff"), (b"a", b"")), Body("chunked"), 1, (b"\t", b" \t"))
        )
        @example(Request(b"GET", b"/", b"HTTP/1.1", ((b"DPOP", b""), (b"HTTP-Via", b"a")), Body("none"), 0, (b"", b"")))
        @given(REQUESTS)
        def compare(request: Request) -> None:
            direct, through = run(both_received(made, request))
            compared_at_upstream(made, direct, through)

        compare()


def compared_at_client(made: Stage, asked: Request, response: Response, via: RawResponse) -> None:
    """Hold a response that came through the gateway against the document."""
    assert via.head.split(b"\r\n", 1)[0].rstrip(b" ") == b"HTTP/1.1 %d %b" % (response.status, response.phrase) or (
        not response.phrase and via.head.startswith(b"HTTP/1.1 %d \r\n" % response.status)
    )
    sent = [(name, value.strip(b" \t")) for name, value in response.fields]
    kept = [pair for pair in via.headers if pair[0].lower() not in FRAMING]
    assert kept == expected_at_client(sent, pseudonym=made.gateway.app.pseudonym, now=made.now)
    bodyless = asked.method == b"HEAD" or response.status in (204, 304)
    assert via.complete
    assert via.body == (b"" if bodyless else response.body.content)
    length = b"%d" % len(response.body.content) if response.body.framing == "length" else None
    assert via.one(b"content-length") == (None if response.status == 204 else length)
    coded = length is None and not bodyless and asked.version == b"HTTP/1.1"
    assert via.one(b"transfer-encoding") == (b"chunked" if coded else None)


@pytest.mark.rule("R263", "R266", "R269", "R270", "R288", "R289", "R297", "R298", "R301")
def test_the_client_cannot_tell_the_gateway_from_the_upstream(tmp_path: Path) -> None:
    """Status, fields, content, apart from the documented list."""
    planned = [OK]
    closing = [False]

    async def respond(received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes | None:
        writer.write(planned[0])
        await writer.drain()
        return None if closing[0] else b""

    with on_stage(stage(tmp_path, respond, routes=ROUTES)) as (made, run):

        @settings(max_examples=100)  # in each lane and with each log
        @given(REQUESTS, RESPONSES)
        def compare(request: Request, response: Response) -> None:
            head_only = request.method == b"HEAD"
            planned[0] = response.wire(head_only=head_only)
            closing[0] = response.body.framing == "close"
            run(both(request, response, head_only=head_only))

        async def both(request: Request, response: Response, *, head_only: bool) -> None:
            plain, behind = await ask(made.upstream.port, request.wire(), head_only=head_only)
            # The judge itself: the client reads from the upstream what was planned.
            bodyless = head_only or response.status in (204, 304)
            assert (plain.body, behind) == (b"" if bodyless else response.body.content, b"")
            through, behind = await ask(made.gateway.app.port, request.wire(), head_only=head_only)
            assert behind == b""
            compared_at_client(made, request, response, through)

        compare()
