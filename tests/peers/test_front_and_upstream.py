"""nginx, Caddy and Envoy behind the gateway, and before it: each side reads what the other writes.

Each proxy passes everything on, so that at the end of the chain there is
always the recording upstream: client, gateway, proxy, upstream; or client,
proxy, gateway, upstream.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import random
import re
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.peers.caddy import Caddy
from tests.peers.envoy import Envoy
from tests.peers.nginx_proxy import NginxProxy
from tests.peers.proxies import ReverseProxy
from tests.support.gateways.running import RawClient, RawResponse, RunningGateway, request, running_gateway
from tests.support.ports import free_port
from tests.support.upstreams.recording import RawUpstream, Received, raw_upstream

PROXIES: dict[str, Callable[[Path, str], ReverseProxy]] = {"nginx": NginxProxy, "caddy": Caddy, "envoy": Envoy}
ROUTES = ({"path": "/"}, {"path": "/public", "auth": "public"})
LARGE = random.Random(4).randbytes(4 << 20)


@dataclass
class Chain:
    """A client's way through proxy and gateway to the upstream, and the last connection opened to its beginning."""

    port: int
    gateway: RunningGateway
    upstream: RawUpstream

    async def client(self) -> RawClient:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, limit=1 << 20)
        client = RawClient(reader, writer)
        self.gateway.clients.append(client)
        return client

    def ask(self, method: bytes, target: str, *headers: tuple[bytes, bytes], body: bytes = b"") -> bytes:
        """Return a request with a good token."""
        return request(method, target, *headers, token=self.gateway.token(), body=body)


async def respond(received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes | None:
    """Answer as the target says; content that came in is answered with its digest."""
    match received.target:
        case b"/large":
            if received.line.startswith(b"HEAD "):
                return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(LARGE)
            return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(LARGE), LARGE)
        case b"/chunks":
            writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            for start in range(0, 100_000, 9_999):
                piece = LARGE[start : min(start + 9_999, 100_000)]
                writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
            return b"0\r\n\r\n"
        case b"/unchanged":
            return b'HTTP/1.1 304 Not Modified\r\nETag: "v1"\r\n\r\n'
        case b"/part":
            assert received.one(b"range") == b"bytes=0-2"
            return b"HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-2/9\r\nContent-Length: 3\r\n\r\nabc"
        case b"/socket":
            await echo(received, reader, writer)
            return None
        case _:
            digest = hashlib.sha256(received.body).hexdigest().encode()
            return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(digest), digest)


def accept_of(key: bytes) -> bytes:
    """Return the accept value for a key (RFC 6455 section 4.2.2)."""
    return base64.b64encode(hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())


async def echo(received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Accept a WebSocket, and send back the one small masked text frame that comes, unmasked."""
    key = received.one(b"sec-websocket-key")
    assert key is not None
    writer.write(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + accept_of(key) + b"\r\n\r\n"
    )
    _, length = await reader.readexactly(2)
    mask = await reader.readexactly(4)
    text = await reader.readexactly(length & 0x7F)
    writer.write(b"\x81" + bytes([len(text)]) + bytes(byte ^ mask[place % 4] for place, byte in enumerate(text)))
    await writer.drain()
    await reader.read()  # the close, or the end


@pytest.fixture(params=[f"{name}-{place}" for name in PROXIES for place in ("upstream", "front")])
async def chain(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Chain]:
    name, _, place = request.param.partition("-")
    make = PROXIES[name]
    (folder := tmp_path / name).mkdir()
    async with AsyncExitStack() as stack:
        upstream = await stack.enter_async_context(raw_upstream(respond))
        if place == "upstream":
            proxy = await stack.enter_async_context(make(folder, f"127.0.0.1:{upstream.port}"))
            gateway = await stack.enter_async_context(running_gateway(proxy.url, tmp_path, routes=ROUTES))
            yield Chain(gateway.app.port, gateway, upstream)
        else:
            listen = f"127.0.0.1:{free_port()}"
            server = {"listen": listen, "trusted_proxies": ["127.0.0.1/32"]}
            gateway = await stack.enter_async_context(
                running_gateway(upstream.url, tmp_path, routes=ROUTES, server=server)
            )
            proxy = await stack.enter_async_context(make(folder, listen))
            yield Chain(proxy.port, gateway, upstream)


@pytest.mark.rule("R288", "R289", "R296", "R297", "R329")
async def test_requests_of_every_kind_pass_on_one_connection(chain: Chain) -> None:
    """HEAD, 304, a range and content between them; each answer belongs to its request."""
    client = await chain.client()
    nothing = hashlib.sha256(b"").hexdigest().encode()
    assert (await client.exchange(chain.ask(b"GET", "/a%20b?x=%7e"))).body == nothing
    head = await client.exchange(chain.ask(b"HEAD", "/large"), head_only=True)
    assert (head.status, head.one(b"content-length")) == (200, b"%d" % len(LARGE))
    unchanged = await client.exchange(chain.ask(b"GET", "/unchanged", (b"If-None-Match", b'"v1"')))
    assert (unchanged.status, unchanged.one(b"etag")) == (304, b'"v1"')
    part = await client.exchange(chain.ask(b"GET", "/part", (b"Range", b"bytes=0-2")))
    assert (part.status, part.one(b"content-range"), part.body) == (206, b"bytes 0-2/9", b"abc")
    posted = await client.exchange(chain.ask(b"POST", "/", (b"Content-Length", b"3"), body=b"abc"))
    assert posted.body == hashlib.sha256(b"abc").hexdigest().encode()
    assert [received.line.rpartition(b" ")[0] for received in chain.upstream.requests] == [
        *(b"GET /a%20b?x=%7e", b"HEAD /large", b"GET /unchanged", b"GET /part", b"POST /"),
    ]
    assert chain.upstream.requests[0].one(b"x-user-id") == b"alice"


@pytest.mark.rule("R280", "R301")
async def test_content_without_a_length_passes_in_both_directions(chain: Chain) -> None:
    """Chunked in, chunked out."""
    client = await chain.client()
    chunks = b"".join(b"%x\r\n%b\r\n" % (999, LARGE[start : start + 999]) for start in range(0, 99_900, 999))
    sent = await client.exchange(
        chain.ask(b"POST", "/", (b"Transfer-Encoding", b"chunked"), body=chunks + b"0\r\n\r\n")
    )
    assert sent.body == hashlib.sha256(LARGE[:99_900]).hexdigest().encode()
    got = await client.exchange(chain.ask(b"GET", "/chunks"))
    assert got.complete
    assert got.body == LARGE[:100_000]


@pytest.mark.rule("R280", "R301")
async def test_large_content_passes_in_both_directions(chain: Chain) -> None:
    client = await chain.client()
    length = (b"Content-Length", b"%d" % len(LARGE))
    sent = await client.exchange(chain.ask(b"PUT", "/", length, body=LARGE), within=20)
    assert sent.body == hashlib.sha256(LARGE).hexdigest().encode()
    got = await client.exchange(chain.ask(b"GET", "/large"), within=20)
    assert hashlib.sha256(got.body).digest() == hashlib.sha256(LARGE).digest()


@pytest.mark.rule("R293")
async def test_content_that_waits_for_a_hundred_is_asked_for(chain: Chain) -> None:
    """The client sees 100 before it sends, and then one answer."""
    client = await chain.client()
    expect = (b"Expect", b"100-continue")
    first = await client.exchange(chain.ask(b"POST", "/", expect, (b"Content-Length", b"3")))
    assert first.status == 100
    assert (await client.exchange(b"abc")).body == hashlib.sha256(b"abc").hexdigest().encode()


@pytest.mark.rule("R213", "R294")
async def test_refusals_pass_and_reach_no_upstream(chain: Chain) -> None:
    """Also with content; the connection is usable or closed."""
    client = await chain.client()
    refused = await client.exchange(request(b"GET", "/"))
    assert (refused.status, refused.json["error"]) == (401, "missing_token")
    refused = await client.exchange(request(b"POST", "/", (b"Content-Length", b"3"), token=b"a.b.c", body=b"abc"))
    assert (refused.status, refused.json["error"]) == (401, "invalid_token")
    assert b"Bearer" in (refused.one(b"www-authenticate") or b"")
    assert chain.upstream.requests == []


@pytest.mark.rule("R321", "R324")
async def test_a_websocket_passes(chain: Chain) -> None:
    """The handshake is the upstream's, and frames pass both ways."""
    client = await chain.client()
    key = base64.b64encode(bytes(16))
    handshake = [
        *((b"Upgrade", b"websocket"), (b"Connection", b"Upgrade")),
        *((b"Sec-WebSocket-Key", key), (b"Sec-WebSocket-Version", b"13")),
    ]
    opened: RawResponse = await client.exchange(chain.ask(b"GET", "/socket", *handshake))
    assert (opened.status, opened.one(b"sec-websocket-accept")) == (101, accept_of(key))
    await client.send(b"\x81\x85\x00\x00\x00\x00hello")
    async with asyncio.timeout(5):
        assert await client.reader.readexactly(7) == b"\x81\x05hello"


@pytest.mark.rule("R252", "R256", "R340")
async def test_the_upstream_is_told_about_the_client(chain: Chain, request: pytest.FixtureRequest) -> None:
    """What a front proxy says is believed, what a client says is not; the identity is the token's."""
    client = await chain.client()
    spoofed = [(b"X-User-Id", b"eve"), (b"X-Forwarded-For", b"203.0.113.9"), (b"X-Forwarded-Proto", b"ftp")]
    await client.exchange(chain.ask(b"GET", "/", *spoofed, (b"Connection", b"X-User-Id")))
    (received,) = chain.upstream.requests
    assert received.all(b"x-user-id") == [b"alice"]
    addresses = b", ".join(received.all(b"x-forwarded-for"))
    assert re.fullmatch(rb"127\.0\.0\.1(?:, 127\.0\.0\.1)?", addresses), addresses
    assert received.one(b"x-forwarded-proto") == b"https"
    if "front" in request.node.name:
        assert received.one(b"x-forwarded-host") == b"gateway.test"
        assert (await chain.gateway.log())[0]["client"] == "127.0.0.1"
