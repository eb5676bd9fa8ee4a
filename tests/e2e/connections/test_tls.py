"""What holds for plain connections holds over TLS: one behaviour of each kind, again."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from gateway import app
from gateway.settings.tables.server import Server
from tests.support.certificates import Certificate, authority
from tests.support.gateways.running import RunningGateway, request, running_gateway, until
from tests.support.upstreams.recording import RawUpstream, Received, Responder, raw_upstream

ROUTES: tuple[dict[str, Any], ...] = (
    {"path": "/"},
    {"path": "/public", "auth": "public"},
    {"path": "/pages", "cors_origins": ["https://app.test"]},
)
CHUNKED = (b"Transfer-Encoding", b"chunked")
LARGE = bytes(range(256)) * (4 * 1024 * 16)


@contextlib.asynccontextmanager
async def secure(
    directory: Path, respond: Responder | None = None, *, early: bool = False, **server: Any
) -> AsyncIterator[tuple[RunningGateway, RawUpstream]]:
    """Run a gateway whose port speaks HTTPS, with clients that do."""
    ca = authority(directory / "tls")
    certificate = ca.sign("server", "localhost")
    files = {"tls_cert": str(certificate.cert), "tls_key": str(certificate.key)}
    async with (
        raw_upstream(respond, early=early) as upstream,
        running_gateway(upstream.url, directory, routes=ROUTES, server={**files, **server}) as gateway,
    ):
        gateway.tls = ssl.create_default_context(cafile=str(ca.bundle))
        yield gateway, upstream


async def _identity(gateway: RunningGateway, upstream: RawUpstream) -> None:
    """A good token passes, and the upstream learns who calls and how."""
    response = await gateway.get("/a", (b"X-User-Id", b"root"), token=gateway.token(sub="alice"))
    assert (response.status, response.body) == (200, b"ok")
    assert upstream.requests[0].all(b"x-user-id") == [b"alice"]
    assert upstream.requests[0].one(b"x-forwarded-proto") == b"https"


async def _refusals(gateway: RunningGateway, upstream: RawUpstream) -> None:
    """Refusals keep the connection; what follows is served."""
    client = await gateway.client()
    assert (await client.exchange(request(b"GET", "/"))).status == 401
    assert (await client.exchange(request(b"GET", "/a/../b"))).status == 400
    assert (await client.exchange(request(b"GET", "/", token=gateway.token()[:-4] + b"AAAA"))).status == 401
    assert (await client.exchange(request(b"GET", "/public"))).status == 200
    assert len(upstream.requests) == 1


async def _pipelining(gateway: RunningGateway, upstream: RawUpstream) -> None:
    """Requests in one record are answered in order."""
    client = await gateway.client()
    await client.send(request(b"GET", "/public/1") + request(b"GET", "/2") + request(b"GET", "/public/3"))
    assert [(await client.response()).status for _ in range(3)] == [200, 401, 200]
    assert [received.target for received in upstream.requests] == [b"/public/1", b"/public/3"]


async def _uploads(gateway: RunningGateway, upstream: RawUpstream) -> None:
    """Content by length and in chunks, small and large."""
    for body in (b"abc", LARGE):
        length = (b"Content-Length", b"%d" % len(body))
        assert (await gateway.exchange(request(b"POST", "/public", length, body=body))).status == 200
        coded = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
        assert (await gateway.exchange(request(b"POST", "/public", CHUNKED, body=coded))).status == 200
        assert [received.body for received in upstream.requests[-2:]] == [body, body]


async def _smuggling(gateway: RunningGateway, upstream: RawUpstream) -> None:
    """Bytes with two readings are refused, and what is behind them is not a request."""
    client = await gateway.client()
    conflict = request(b"POST", "/public", (b"Content-Length", b"5"), CHUNKED, body=b"0\r\n\r\n")
    await client.send(conflict + request(b"GET", "/public/canary"))
    response = await client.response()
    assert (response.status, response.one(b"connection")) == (400, b"close")
    assert await client.at_end()
    assert upstream.connections == 0


async def _too_large(gateway: RunningGateway, upstream: RawUpstream) -> None:
    """The answer arrives although the client still sends."""
    client = await gateway.client()
    await client.send(request(b"GET", "/public", (b"X-A", b"a" * 70_000)))
    assert (await client.response()).status == 431
    assert await client.at_end()


async def _preflight(gateway: RunningGateway, upstream: RawUpstream) -> None:
    """Browsers ask over HTTPS."""
    asked = ((b"Origin", b"https://app.test"), (b"Access-Control-Request-Method", b"GET"))
    assert (await gateway.exchange(request(b"OPTIONS", "/pages", *asked))).status == 204
    assert upstream.connections == 0


async def _drain(gateway: RunningGateway, upstream: RawUpstream) -> None:
    """Idle connections end at once."""
    client = await gateway.client()
    assert (await client.exchange(request(b"GET", "/public"))).status == 200
    draining = asyncio.ensure_future(gateway.app.drain())
    assert await client.at_end(within=1)
    await client.close()
    await asyncio.wait_for(draining, 2)


Behaviour = Callable[[RunningGateway, RawUpstream], Awaitable[None]]


@pytest.mark.parametrize(
    "behaviour",
    [
        pytest.param(_identity, id="identity"),
        pytest.param(_refusals, id="refusals"),
        pytest.param(_pipelining, id="pipelining"),
        pytest.param(_uploads, id="uploads"),
        pytest.param(_smuggling, id="smuggling"),
        pytest.param(_too_large, id="too-large"),
        pytest.param(_preflight, id="preflight"),
        pytest.param(_drain, id="drain"),
    ],
)
@pytest.mark.rule("R101", "R110", "R211", "R229", "R273", "R280", "R301", "R370", "C72")
async def test_behaviour_is_the_same_over_tls(behaviour: Behaviour, tmp_path: Path) -> None:
    """As over plain connections."""
    async with secure(tmp_path) as (gateway, upstream):
        await behaviour(gateway, upstream)


@pytest.mark.rule("R301")
async def test_large_responses_arrive_whole_over_tls(tmp_path: Path) -> None:
    async def respond(received: Received, *_: object) -> bytes:
        return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(LARGE) + LARGE

    async with secure(tmp_path, respond) as (gateway, _):
        response = await (await gateway.client()).exchange(request(b"GET", "/public"), within=20)
    assert response.body == LARGE


@pytest.mark.rule("R281")
async def test_events_come_one_by_one_over_tls(tmp_path: Path) -> None:
    step = asyncio.Queue[bytes]()

    async def respond(received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        while event := await step.get():
            writer.write(b"%x\r\n%b\r\n" % (len(event), event))
        return b"0\r\n\r\n"

    async with secure(tmp_path, respond) as (gateway, _):
        client = await gateway.client()
        await client.send(request(b"GET", "/public"))
        async with asyncio.timeout(5):
            await client.reader.readuntil(b"\r\n\r\n")
            for event in (b"data: 1\n\n", b"data: 2\n\n"):
                await step.put(event)
                assert await client.reader.readexactly(14) == b"9\r\n" + event + b"\r\n"
            await step.put(b"")
            assert await client.reader.readexactly(5) == b"0\r\n\r\n"


@pytest.mark.rule("R284", "R285")
async def test_client_that_leaves_frees_the_upstream_over_tls(tmp_path: Path) -> None:
    async def respond(received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with secure(tmp_path, respond) as (gateway, upstream):
        client = await gateway.client()
        await client.send(request(b"GET", "/public"))
        await until(lambda: bool(upstream.requests))
        client.writer.transport.abort()
        await until(lambda: upstream.open_connections == 0, within=1)
        assert (await gateway.log())[0]["outcome"] == "client_gone"


@pytest.mark.rule("R211")
async def test_truncated_upload_is_never_whole_over_tls(tmp_path: Path) -> None:
    """An end of TLS in the middle of content is no end of content."""
    async with secure(tmp_path) as (gateway, upstream):
        client = await gateway.client()
        await client.send(request(b"POST", "/public", CHUNKED, body=b"3\r\nabc\r\n"))
        await until(lambda: bool(upstream.requests))
        await client.close()
        await until(lambda: upstream.open_connections == 0)
    assert not upstream.requests[0].complete


def _renew(files: Server, certificate: Certificate) -> None:
    Path(files.tls_key).write_bytes(certificate.key.read_bytes())
    Path(files.tls_cert).write_bytes(certificate.cert.read_bytes())


def _spoil(files: Server) -> None:
    Path(files.tls_cert).write_text("broken")


async def test_running_gateway_takes_changed_certificates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Contract: no restart for a new certificate; a broken one is counted, and the old one stays."""
    monkeypatch.setattr(app, "RELOAD_SECONDS", 0.02)
    async with secure(tmp_path) as (gateway, _):
        first = await gateway.client()
        _renew(gateway.app.settings.server, authority(tmp_path / "new").sign("renewed", "localhost"))
        gateway.tls = ssl.create_default_context(cafile=str(tmp_path / "new" / "ca.pem"))

        async def served() -> bool:
            with contextlib.suppress(ssl.SSLError):
                return (await gateway.get("/public")).status == 200
            return False

        for _ in range(250):
            if await served():
                break
            await asyncio.sleep(0.02)
        assert await served()
        assert (await first.exchange(request(b"GET", "/public"))).status == 200
        _spoil(gateway.app.settings.server)
        await until(lambda: gateway.app.telemetry.tls_reload_failures == 1)
        assert await served()
        assert b"gateway_tls_reload_failures_total 1.0" in (await gateway.admin("/metrics")).body
