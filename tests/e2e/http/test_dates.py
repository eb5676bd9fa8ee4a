"""Date on every response that leaves the gateway (R413, C101; RFC 9110 section 6.6.1)."""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest

from tests.support.clock import FakeClock
from tests.support.composed import Settings
from tests.support.gateways.running import RawResponse, configuration, request, running_gateway
from tests.support.gateways.timed import TimedGateway, timed_gateway
from tests.support.tokens.minting import SigningKey, jwks
from tests.support.upstreams.recording import Received, raw_upstream

ROUTES: tuple[dict[str, Any], ...] = (
    {"path": "/"},
    {"path": "/pub", "auth": "public"},
    {"path": "/cors", "auth": "public", "cors_origins": ["https://app.test"]},
    {"path": "/few", "auth": "public", "rate_limit": {"requests": 1, "seconds": 1_000_000, "burst": 2}},
)

PLAIN = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
DATED = b"HTTP/1.1 200 OK\r\ndate: Sun, 06 Nov 1994 08:49:37 GMT\r\nContent-Length: 2\r\n\r\nok"
KINDS = {
    "plain": PLAIN,
    "pieces": PLAIN,
    "chunked": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    "no-content": b"HTTP/1.1 204 No Content\r\n\r\n",
    "nominated": b"HTTP/1.1 200 OK\r\nConnection: Date\r\nDate: x\r\nContent-Length: 0\r\n\r\n",
    "error": b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n",
}


def timed(upstream: str, folder: Path) -> AbstractAsyncContextManager[TimedGateway]:
    """Run a gateway whose clock stands still."""
    key = SigningKey.rsa("a")
    (folder / "jwks.json").write_bytes(jwks(key))
    settings = Settings.model_validate(configuration(upstream, folder / "jwks.json", routes=ROUTES))
    return timed_gateway(settings, key, FakeClock())


def date_of(response: RawResponse) -> bytes:
    dates = response.all(b"date")
    assert len(dates) == 1, response.head
    return dates[0]


def as_date(seconds: float) -> bytes:
    return formatdate(int(seconds), usegmt=True).encode()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.rule("R413")
async def test_a_response_without_a_date_gets_that_of_now(kind: str, tmp_path: Path) -> None:
    """Each time that of its own second, also when everything else of it is remembered."""

    async def respond(received: Received, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        data = KINDS[kind]
        if kind == "pieces":
            writer.write(data[:-1])
            await writer.drain()
            await asyncio.sleep(0)
            return data[-1:]
        return data

    async with raw_upstream(respond) as upstream, timed(upstream.url, tmp_path) as gateway:
        client = await gateway.client()
        for seconds in (0, 0, 1, 59):
            await gateway.clock.advance(seconds)
            for route in ("/pub", "/cors", "/few", "/"):
                response = await client.exchange(request(b"GET", route, token=gateway.token() if route == "/" else b""))
                assert response.status in (200, 204, 500, 429)
                assert date_of(response) == as_date(gateway.clock.wall())


@pytest.mark.rule("R413")
async def test_a_services_own_date_is_the_only_one(tmp_path: Path) -> None:
    """In any letter case, wrong or not, remembered or not."""

    async def respond(*_: object) -> bytes:
        return DATED

    async with raw_upstream(respond) as upstream, running_gateway(upstream.url, tmp_path, routes=ROUTES) as gateway:
        client = await gateway.client()
        for target in ("/pub", "/pub", "/cors", "/few", "/pub"):
            assert date_of(await client.exchange(request(b"GET", target))) == b"Sun, 06 Nov 1994 08:49:37 GMT"


@pytest.mark.rule("R413")
async def test_the_gateways_own_answers_have_a_date(tmp_path: Path) -> None:
    """Refusals, preflights, what is not a request, WebSocket refusals, and the admin port."""
    async with running_gateway("http://127.0.0.1:1", tmp_path, routes=ROUTES) as gateway:
        preflight = ((b"Origin", b"https://app.test"), (b"Access-Control-Request-Method", b"GET"))
        handshake = ((b"Upgrade", b"websocket"), (b"Connection", b"Upgrade"))
        answers = {
            401: [request(b"GET", "/"), request(b"GET", "/", *handshake)],
            204: [request(b"OPTIONS", "/cors", *preflight), request(b"OPTIONS", "/pub", (b"Max-Forwards", b"0"))],
            400: [b"bad\r\n\r\n", request(b"post", "/pub"), request(b"GET", "/a/../b")],
            502: [request(b"GET", "/pub")],
            405: [request(b"TRACE", "/pub")],
            426: [request(b"GET", "/pub", *handshake)],
        }
        for status, sent in answers.items():
            for data in sent:
                answer = await gateway.exchange(data)
                assert answer.status == status, data
                assert date_of(answer)
        for page in ("/healthz", "/readyz", "/status", "/metrics", "/", "/nothing"):
            assert date_of(await gateway.admin(page))


@pytest.mark.rule("R413")
async def test_refusals_of_a_kept_connection_have_the_date_of_their_own_second(tmp_path: Path) -> None:
    """Whatever of a refusal is remembered."""
    async with timed("http://127.0.0.1:1", tmp_path) as gateway:
        client = await gateway.client()
        for _ in range(4):
            await gateway.clock.advance(1)
            for token in (b"", b"a.b.c"):
                refused = await client.exchange(request(b"GET", "/", token=token))
                assert (refused.status, date_of(refused)) == (401, as_date(gateway.clock.wall()))


@pytest.mark.rule("R413")
async def test_an_open_websocket_has_a_date(tmp_path: Path) -> None:
    """A 101 is forwarded like any other response."""

    async def respond(received: Received, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
        )
        await writer.drain()

    handshake = (
        *((b"Upgrade", b"websocket"), (b"Connection", b"Upgrade"), (b"Sec-WebSocket-Version", b"13")),
        (b"Sec-WebSocket-Key", b"dGhlIHNhbXBsZSBub25jZQ=="),
    )
    async with raw_upstream(respond) as upstream, running_gateway(upstream.url, tmp_path, routes=ROUTES) as gateway:
        opened = await gateway.get("/pub", *handshake)
        assert opened.status == 101
        assert date_of(opened)
