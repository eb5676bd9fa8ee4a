"""The public port's own limits: head size and time, connections, TLS, addresses."""

from __future__ import annotations

import asyncio
import socket
import ssl
from pathlib import Path
from typing import Any, cast

import pytest
from aiohttp.web_protocol import RequestHandler

from gateway.http1.message_scanner import MAX_PARTS
from gateway.server.aiohttp_lane.listener import MAX_AHEAD_BYTES, MAX_AHEAD_REQUESTS, ClientProtocol, reset_at_end
from gateway.server.aiohttp_lane.protocol import CONTENT_AHEAD_BYTES
from tests.support.certificates import authority
from tests.support.clock import settle
from tests.support.gateways.running import RawClient, request, running_gateway, until
from tests.support.upstreams.recording import OK, Received, raw_upstream

PUBLIC: tuple[dict[str, Any], ...] = ({"path": "/", "auth": "public"},)


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param(((b"X-A", b"a" * 3000),), id="one-field"),
        pytest.param(tuple((b"X-%d" % number, b"a" * 200) for number in range(20)), id="sum"),
        pytest.param(tuple((b"X", b"") for _ in range(1100)), id="count"),
    ],
)
@pytest.mark.rule("R273", "R274", "C63")
async def test_head_over_the_limit_is_431_and_closes(headers: tuple[tuple[bytes, bytes], ...], tmp_path: Path) -> None:
    """Nothing of the head is in the answer."""
    server = {"max_head_bytes": 2048 if len(headers) < 1000 else 65536}
    async with raw_upstream() as upstream, running_gateway(upstream.url, tmp_path, server=server) as gateway:
        client = await gateway.client()
        response = await client.exchange(request(b"GET", "/", *headers))
        assert (response.status, response.json["error"]) == (431, "too_large")
        assert await client.at_end()
        assert b"a" * 33 not in response.head + response.body  # longer than an id, which may have four by chance
    assert upstream.connections == 0


@pytest.mark.rule("R273")
async def test_long_target_is_431(tmp_path: Path) -> None:
    """The request line counts too."""
    async with raw_upstream() as upstream, running_gateway(upstream.url, tmp_path, routes=PUBLIC) as gateway:
        assert (await gateway.get("/" + "a" * 70_000)).status == 431
        assert (await gateway.get("/" + "a" * 60_000)).status == 200


@pytest.mark.rule("R273", "R316")
async def test_head_that_never_ends_is_cut_off_at_the_limit(tmp_path: Path) -> None:
    """Bytes without an end of the head are bounded before a parser would complain."""
    async with (
        raw_upstream() as upstream,
        running_gateway(upstream.url, tmp_path, server={"max_head_bytes": 4096}) as gateway,
    ):
        client = await gateway.client()
        await client.send(b"GET / HTTP/1.1\r\n")
        for number in range(200):
            try:
                await client.send(b"X-%d: %b\r\n" % (number, b"a" * 50))
            except ConnectionError:
                break
            await asyncio.sleep(0)
        response = await client.response()
    assert response.status == 431


@pytest.mark.rule("C63")
async def test_large_token_and_cookies_under_the_limit_pass(tmp_path: Path) -> None:
    """A token of 9,000 characters and cookies of 8.4 kB."""
    async with (
        raw_upstream() as upstream,
        running_gateway(upstream.url, tmp_path, tokens={"max_bytes": 16384}) as gateway,
    ):
        token = gateway.token(groups=[f"group-{number:04}-{'x' * 20}" for number in range(200)])
        assert len(token) > 9000
        response = await gateway.get("/", (b"Cookie", b"c=" + b"v" * 8400), token=token)
    assert response.status == 200


@pytest.mark.rule("R316")
async def test_slow_head_is_ended_in_time(tmp_path: Path) -> None:
    """From the first byte, however regularly more bytes come."""
    server = {"request_head_timeout_seconds": 0.3}
    async with raw_upstream() as upstream, running_gateway(upstream.url, tmp_path, server=server) as gateway:
        client = await gateway.client()
        await client.send(b"GET / HTTP/1.1\r\n")

        async def trickle() -> None:
            for _ in range(100):
                client.writer.write(b"X: a\r\n")
                await asyncio.sleep(0.05)

        feeding = asyncio.ensure_future(trickle())
        response = await client.response()
        assert response.status == 408
        assert await client.at_end()
        feeding.cancel()
        log = await gateway.log()
    assert log[0]["reason"] == "head_timeout"


@pytest.mark.rule("R316")
async def test_head_time_counts_anew_for_each_request_of_a_connection(tmp_path: Path) -> None:
    """A kept connection may idle longer than a head may take."""
    server = {"request_head_timeout_seconds": 0.2}
    async with (
        raw_upstream() as upstream,
        running_gateway(upstream.url, tmp_path, routes=PUBLIC, server=server) as gateway,
    ):
        client = await gateway.client()
        for _ in range(3):
            assert (await client.exchange(request(b"GET", "/"))).status == 200
            await asyncio.sleep(0.3)


@pytest.mark.rule("R316")
async def test_idle_connection_is_closed_after_the_keep_alive_time(tmp_path: Path) -> None:
    """Before the first request and between two."""
    server = {"keepalive_timeout_seconds": 0.3}
    async with (
        raw_upstream() as upstream,
        running_gateway(upstream.url, tmp_path, routes=PUBLIC, server=server) as gateway,
    ):
        silent, used = await gateway.client(), await gateway.client()
        assert (await used.exchange(request(b"GET", "/"))).status == 200
        assert await silent.at_end()
        assert await used.at_end()


@pytest.mark.rule("R318")
async def test_connections_over_the_limit_get_503_and_the_others_are_served(tmp_path: Path) -> None:
    """And a place that becomes free is given away again."""
    server = {"max_connections": 2}
    async with (
        raw_upstream() as upstream,
        running_gateway(upstream.url, tmp_path, routes=PUBLIC, server=server) as gateway,
    ):
        first, second = await gateway.client(), await gateway.client()
        assert (await first.exchange(request(b"GET", "/"))).status == 200
        assert (await second.exchange(request(b"GET", "/"))).status == 200
        third = await gateway.client()
        refused = await third.response()
        assert (refused.status, refused.one(b"retry-after")) == (503, b"1")
        assert await third.at_end()
        await second.close()
        await until(lambda: gateway.app.telemetry.connections == 1)
        assert (await gateway.get("/")).status == 200
        assert (await first.exchange(request(b"GET", "/"))).status == 200
        metrics = (await gateway.admin("/metrics")).body.decode()
    assert "gateway_connections_refused_total 1.0" in metrics


@pytest.mark.parametrize("version", [b"HTTP/2.0", b"HTTP/1.2", b"HTTP/0.9"])
@pytest.mark.rule("R217")
async def test_other_http_versions_are_refused(version: bytes, tmp_path: Path) -> None:
    async with raw_upstream() as upstream, running_gateway(upstream.url, tmp_path, routes=PUBLIC) as gateway:
        client = await gateway.client()
        response = await client.exchange(b"GET / " + version + b"\r\nHost: h\r\n\r\n")
        assert response.status == 400
        assert response.head.startswith(b"HTTP/1.1 ")
        assert await client.at_end()
    assert upstream.connections == 0


async def _tls_client(gateway_port: int, context: ssl.SSLContext) -> RawClient:
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway_port, ssl=context, server_hostname="localhost")
    return RawClient(reader, writer)


async def test_tls_listener_serves_and_tells_the_upstream(tmp_path: Path) -> None:
    """Contract: tls_cert and tls_key make `listen` HTTPS; ALPN is http/1.1."""
    issuing = authority(tmp_path / "tls")
    certificate = issuing.sign("server", "localhost", "127.0.0.1")
    server = {"tls_cert": str(certificate.cert), "tls_key": str(certificate.key)}
    context = ssl.create_default_context(cafile=str(issuing.bundle))
    context.set_alpn_protocols(["h2", "http/1.1"])
    async with (
        raw_upstream() as upstream,
        running_gateway(upstream.url, tmp_path, routes=PUBLIC, server=server) as gateway,
    ):
        client = await _tls_client(gateway.app.port, context)
        assert client.writer.get_extra_info("ssl_object").selected_alpn_protocol() == "http/1.1"
        assert (await client.exchange(request(b"GET", "/"))).status == 200
        await client.close()
    assert upstream.requests[0].one(b"x-forwarded-proto") == b"https"


async def test_tls_listener_demands_a_client_certificate_when_told_to(tmp_path: Path) -> None:
    """Contract: tls_client_ca."""
    issuing, foreign = authority(tmp_path / "tls"), authority(tmp_path / "foreign", "somebody else")
    certificate, mine = issuing.sign("server", "localhost"), issuing.sign("client", "client")
    server = {
        "tls_cert": str(certificate.cert),
        "tls_key": str(certificate.key),
        "tls_client_ca": str(issuing.bundle),
    }
    async with (
        raw_upstream() as upstream,
        running_gateway(upstream.url, tmp_path, routes=PUBLIC, server=server) as gateway,
    ):
        for client_certificate in (None, foreign.sign("client", "client")):
            context = ssl.create_default_context(cafile=str(issuing.bundle))
            if client_certificate is not None:
                context.load_cert_chain(client_certificate.cert, client_certificate.key)
            # TLS 1.3 tells a client only after its handshake that it is not wanted.
            with pytest.raises((ssl.SSLError, ConnectionError, asyncio.IncompleteReadError)):
                await (await _tls_client(gateway.app.port, context)).exchange(request(b"GET", "/"))
        context = ssl.create_default_context(cafile=str(issuing.bundle))
        context.load_cert_chain(mine.cert, mine.key)
        accepted = await _tls_client(gateway.app.port, context)
        assert (await accepted.exchange(request(b"GET", "/"))).status == 200
        await accepted.close()
    assert len(upstream.requests) == 1


@pytest.mark.rule("R411")
async def test_unix_socket_listener_replaces_the_socket_of_an_earlier_run(tmp_path: Path) -> None:
    """The peer of ``unix:/path`` is an address of its own."""
    path = tmp_path / "gateway.sock"
    server = {"listen": f"unix:{path}"}
    for _ in range(2):
        async with (
            raw_upstream() as upstream,
            running_gateway(upstream.url, tmp_path, routes=PUBLIC, server=server) as gateway,
        ):
            reader, writer = await asyncio.open_unix_connection(str(path))
            client = RawClient(reader, writer)
            assert (await client.exchange(request(b"GET", "/"))).status == 200
            await client.close()
            assert (await gateway.log())[0]["client"] == "unix"
        assert upstream.requests[0].one(b"x-forwarded-for") == b"unix"


async def test_file_that_is_no_socket_is_not_removed(tmp_path: Path) -> None:
    """A misconfigured path must not cost a file."""
    path = tmp_path / "precious"
    path.write_text("data")
    with pytest.raises(OSError, match=r"in use|exists"):
        async with running_gateway("http://127.0.0.1:1", tmp_path, server={"listen": f"unix:{path}"}):
            pass
    assert path.read_text() == "data"


@pytest.mark.parametrize("on", [True, False])
@pytest.mark.rule("R286")
async def test_end_of_a_connection_is_a_reset_only_where_that_was_chosen(on: bool) -> None:
    """A FIN says that content without a marked end is complete."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        far = socket.create_connection(listening.getsockname())
        near, _ = listening.accept()
    with far:
        transport, _ = await asyncio.get_running_loop().create_connection(asyncio.Protocol, sock=near)
        reset_at_end(transport, True)
        reset_at_end(transport, on)
        transport.write(b"half")
        transport.abort()
        await settle()
        assert far.recv(4) == b"half"
        if on:
            with pytest.raises(ConnectionResetError):
                far.recv(1)
        else:
            assert far.recv(1) == b""
        reset_at_end(transport, on)  # it is gone


@pytest.mark.rule("R429")
async def test_nothing_is_read_behind_a_read_that_is_more_than_may_be_held(tmp_path: Path) -> None:
    """One read can be four times what may wait; fifty clients with two of them each held 25 MB."""
    options: dict[str, Any] = {"routes": ({"path": "/", "auth": "public"},), "server": {"express": False}}
    async with raw_upstream() as upstream, running_gateway(upstream.url, tmp_path, **options) as gateway:
        client = await gateway.client()
        await until(lambda: bool(gateway.app.listener.connections))
        (protocol,) = gateway.app.listener.connections
        assert isinstance(protocol, ClientProtocol)
        count = MAX_AHEAD_BYTES // 1000 + 1
        protocol.data_received(request(b"GET", "/", (b"X-Pad", b"x" * 1000)) * count)
        assert protocol.input_paused
        for _ in range(count):
            assert (await client.response()).status == 200
        await until(lambda: not protocol.input_paused)
        assert (await client.exchange(request(b"GET", "/"))).status == 200


@pytest.mark.rule("R429", "C119")
async def test_requests_behind_a_slow_one_are_read_to_a_bound_and_no_further(tmp_path: Path) -> None:
    """A head in memory takes many times its bytes; the rest stays as it came."""
    turns = asyncio.Semaphore(0)

    async def respond(received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        await turns.acquire()
        return OK

    options: dict[str, Any] = {"routes": ({"path": "/", "auth": "public"},), "server": {"express": False}}
    async with raw_upstream(respond) as upstream, running_gateway(upstream.url, tmp_path, **options) as gateway:
        client = await gateway.client()
        await until(lambda: bool(gateway.app.listener.connections))
        (protocol,) = gateway.app.listener.connections
        assert isinstance(protocol, ClientProtocol)
        client.writer.write(request(b"GET", "/", (b"X-Pad", b"x" * 1000)) * 2000)
        await until(lambda: protocol._buffer_paused)
        for _ in range(20):
            assert len(protocol._stand_ins) <= MAX_AHEAD_REQUESTS
            assert len(protocol._messages) <= MAX_AHEAD_REQUESTS
            assert protocol._scanner.size_ahead <= MAX_AHEAD_BYTES or protocol._buffer_paused
            turns.release()
            await client.response()
        for _ in range(2000):
            turns.release()
        for _ in range(300):
            await client.response()
        client.writer.transport.abort()
        await until(lambda: not gateway.app.listener.connections)


@pytest.mark.rule("R429")
async def test_many_chunks_that_nothing_takes_are_read_to_a_bound(tmp_path: Path) -> None:
    """Each is an object of its own in memory, so what has come behind them stays as it came.

    Smaller ones become one chunk, or they would have to be fewer bytes.
    """
    turns = asyncio.Semaphore(0)

    async def respond(received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        await turns.acquire()
        return OK

    options: dict[str, Any] = {
        "routes": ({"path": "/", "auth": "public"},),
        "server": {"express": False},
        "upstream": {"pool_size": 1, "pool_wait_seconds": 60},
    }
    async with raw_upstream(respond) as upstream, running_gateway(upstream.url, tmp_path, **options) as gateway:
        first, second = await gateway.client(), await gateway.client()
        first.writer.write(request(b"GET", "/"))
        await until(lambda: bool(upstream.requests))
        chunks = b"10\r\n%b\r\n" % (b"a" * 16) * 20_000
        second.writer.write(request(b"POST", "/", (b"Transfer-Encoding", b"chunked")) + chunks)

        def protocol() -> ClientProtocol:
            found = [one for one in gateway.app.listener.connections if cast(ClientProtocol, one)._content.total_bytes]
            return cast(ClientProtocol, found[0])

        await until(lambda: any(cast(ClientProtocol, one)._buffer_paused for one in gateway.app.listener.connections))
        await until(lambda: protocol()._reading_paused)
        await asyncio.sleep(0.05)  # nothing more is read: there is no event to wait for
        assert protocol()._content.total_bytes <= CONTENT_AHEAD_BYTES + 16 * MAX_PARTS
        for _ in range(2):
            turns.release()
        await first.response()
        second.writer.write(b"0\r\n\r\n")
        assert (await second.response(within=20)).status == 200
        assert upstream.requests[1].body == b"a" * 16 * 20_000


@pytest.mark.rule("R429")
async def test_nothing_behind_a_request_that_was_refused_is_parsed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """aiohttp's parser kept a fault for each read; fifty uploads with too long extensions took 350 MB."""
    fed: list[bytes] = []
    passed = RequestHandler.data_received

    def watched(protocol: RequestHandler, data: bytes) -> None:
        fed.append(data)
        passed(protocol, data)

    monkeypatch.setattr(RequestHandler, "data_received", watched)
    turn = asyncio.Event()

    async def respond(received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        await turn.wait()
        return OK

    options: dict[str, Any] = {"routes": ({"path": "/", "auth": "public"},), "server": {"express": False}}
    async with raw_upstream(respond) as upstream, running_gateway(upstream.url, tmp_path, **options) as gateway:
        client = await gateway.client()
        await client.send(request(b"GET", "/") + b"GET /\x01 HTTP/1.1\r\n\r\n")
        await until(lambda: bool(upstream.requests))
        before = len(fed)
        (protocol,) = gateway.app.listener.connections
        for _ in range(20):
            cast(ClientProtocol, protocol).data_received(b"1;a=b\r\nx\r\n" * 100)
        assert [data for data in fed[before:] if data] == []
        turn.set()
        assert (await client.response()).status == 200
        assert (await client.response()).status == 400
