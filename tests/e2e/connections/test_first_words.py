"""Strangers that do not speak HTTP, or not here: answered or closed at once, named, and bounded.

R418, R428, R430 to R433.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import time
from pathlib import Path
from typing import Any

import pytest

from gateway.server.sockets import tls
from tests.e2e.credentials.test_certificate_bound import bound_to_certificate
from tests.e2e.credentials.test_certificate_bound import secure as bound
from tests.support.certificates import authority
from tests.support.gateways.one_process import GatewayProcess
from tests.support.gateways.running import RunningGateway, request, running_gateway, until
from tests.support.tls_listening import replace
from tests.support.upstreams.recording import raw_upstream

NOWHERE = "http://127.0.0.1:1"
PUBLIC: tuple[dict[str, Any], ...] = ({"path": "/", "auth": "public"},)


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("tls", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
        ("ssh", b"SSH-2.0-OpenSSH_9.6\r\n"),
        ("redis", b"*1\r\n$4\r\nPING\r\n"),
        ("proxy_protocol", b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n"),
        ("bare_lf", b"GET / HTTP/1.1\nHost: a\n\n"),
        ("bare_lf", b"GET / HTTP/1.1\r\nHost: a\n\n"),
        ("other", b"HELO a.test\r\n"),
    ],
)
@pytest.mark.rule("R418", "R428", "C118")
async def test_another_protocol_is_refused_at_once_and_named(
    kind: str, said: bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Not after the time limit of a head, which is a minute here; `duration_ms` is true."""
    server = {"request_head_timeout_seconds": 60, "keepalive_timeout_seconds": 60}
    async with running_gateway(NOWHERE, tmp_path, routes=PUBLIC, server=server) as gateway:
        client = await gateway.client()
        await asyncio.sleep(0.05)  # the log has how long the connection has lasted, not how long it took to judge
        await client.send(said)
        refused = await client.response(within=2)
        assert (refused.status, refused.one(b"connection")) == (400, b"close")
        assert await client.at_end(within=2)
        (line,) = await gateway.log()
        assert (line["reason"], line["detail"]) == ("malformed_http", kind)
        assert 40 <= line["duration_ms"] < 2000
        assert f'gateway_not_http_total{{kind="{kind}"}} 1.0'.encode() in (await gateway.admin("/metrics")).body
    logged = [record.getMessage() for record in caplog.records if "not HTTP: " in record.getMessage()]
    assert len(logged) == 1
    assert f"not HTTP: client 127.0.0.1 sent {kind}, closed after 0." in logged[0]


@pytest.mark.rule("R428")
async def test_the_same_on_a_connection_that_has_served_a_request(tmp_path: Path) -> None:
    """What came before does not make it a request; the time is that of what came last."""
    async with running_gateway(NOWHERE, tmp_path, server={"request_head_timeout_seconds": 60}) as gateway:
        client = await gateway.client()
        assert (await client.exchange(request(b"GET", "/"))).status == 401
        await asyncio.sleep(0.1)
        assert (await client.exchange(b"*1\r\n$4\r\nPING\r\n", within=2)).status == 400
        assert await client.at_end(within=2)
        line = (await gateway.log(2))[1]
    assert line["detail"] == "redis"
    assert line["duration_ms"] < 90


@pytest.mark.rule("R428")
async def test_a_head_that_does_not_end_is_logged_with_the_time_that_it_took(tmp_path: Path) -> None:
    """Ten seconds of silence are not logged as zero milliseconds."""
    async with running_gateway(NOWHERE, tmp_path, server={"request_head_timeout_seconds": 0.3}) as gateway:
        client = await gateway.client()
        assert (await client.exchange(request(b"GET", "/"))).status == 401
        assert (await client.exchange(b"GET / HTTP/1.1\r\nHost: a", within=5)).status == 408
        line = (await gateway.log(2))[1]
    assert line["reason"] == "head_timeout"
    assert 250 <= line["duration_ms"] < 4000


def _tls(directory: Path, **server: Any) -> dict[str, Any]:
    ca = authority(directory / "tls")
    own = ca.sign("server", "localhost")
    return {"tls_cert": str(own.cert), "tls_key": str(own.key), **server}


@pytest.mark.rule("R418", "R433")
async def test_plain_http_on_the_tls_port_is_answered_in_plain_text(tmp_path: Path) -> None:
    """A 400 that says what is wrong, while the request still comes in."""
    async with running_gateway(NOWHERE, tmp_path, routes=PUBLIC, server=_tls(tmp_path)) as gateway:
        client = await gateway.client()
        await client.send(request(b"POST", "/", (b"Content-Length", b"200000"), body=b"a" * 200_000))
        refused = await client.response(within=2)
        assert refused.status == 400
        assert b"HTTPS" in refused.body
        await client.close()
        (line,) = await gateway.log()
        assert (line["reason"], line["client"]) == ("https_expected", "127.0.0.1")
        metrics = (await gateway.admin("/metrics")).body
        assert b'gateway_tls_handshake_failures_total{cause="plain_http"} 1.0' in metrics
        await until(lambda: gateway.app.telemetry.connections == gateway.app.telemetry.lingering == 0)


def _again(port: int, context: ssl.SSLContext, token: bytes, session: ssl.SSLSession | None) -> tuple[bytes, Any, bool]:
    """Send a request with a session, and return the status line, the session, and whether it was resumed."""
    plain = socket.create_connection(("127.0.0.1", port), timeout=5)
    with plain, context.wrap_socket(plain, server_hostname="localhost", session=session) as secure:
        secure.sendall(request(b"GET", "/", token=token))
        answer = secure.recv(12)
        found = secure.session, bool(secure.session_reused)
        with contextlib.suppress(OSError):
            secure.unwrap().close()  # an orderly end, or OpenSSL would forget the session
    return answer, *found


@pytest.mark.rule("R430", "C120")
async def test_a_certificate_that_is_over_is_over_for_sessions_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The authority is withdrawn; neither a handshake nor a session brings the bound token back."""
    monkeypatch.setattr(tls, "RELOAD_SECONDS", 0.02)
    async with bound(tmp_path) as scene:
        gateway, ca = scene.gateway, scene.ca
        context = ssl.create_default_context(cafile=str(ca.bundle))
        context.load_cert_chain(scene.alice.cert, scene.alice.key)
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        token = gateway.token(cnf=bound_to_certificate(scene.alice))
        answer, session, _ = await asyncio.to_thread(_again, gateway.app.port, context, token, None)
        assert answer == b"HTTP/1.1 200"
        answer, session, resumed = await asyncio.to_thread(_again, gateway.app.port, context, token, session)
        assert (answer, resumed) == (b"HTTP/1.1 200", False)
        bundle = Path(gateway.app.settings.server.tls_client_ca)
        replace(authority(tmp_path / "new", "new").bundle, bundle)
        async with asyncio.timeout(10):
            while True:
                try:
                    await asyncio.to_thread(_again, gateway.app.port, context, token, session)
                except (ssl.SSLError, ConnectionError):
                    break
        for kept in (session, None):
            with pytest.raises((ssl.SSLError, ConnectionError)):
                await asyncio.to_thread(_again, gateway.app.port, context, token, kept)
        assert gateway.app.telemetry.handshake_failures["bad_client_certificate"] >= 3


@pytest.mark.rule("R432")
async def test_names_that_are_no_ascii_leave_standard_error_quiet(tmp_path: Path) -> None:
    """Python's own traceback would quote the client's bytes, 300 times."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(incoming, outgoing, server_hostname="secret-name.test")
    with contextlib.suppress(ssl.SSLWantReadError):
        client.do_handshake()
    hello = outgoing.read().replace(b"secret-name", b"secret-n\xc3\xa4m")
    assert b"secret-n\xc3" in hello
    async with GatewayProcess(tmp_path, [NOWHERE], server=_tls(tmp_path)) as gateway:
        for _ in range(300):
            reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
            writer.write(hello)
            assert (await asyncio.wait_for(reader.read(), 5))[:1] == b"\x15"  # an alert
            writer.close()
        metrics = await _page(gateway.admin_port, "/metrics")
        output = gateway.output()
    assert b'gateway_tls_handshake_failures_total{cause="server_name"} 300.0' in metrics
    assert b'gateway_unexpected_errors_total{where="unraisable"} 300.0' in metrics
    assert "secret" not in output
    assert "Traceback" not in output
    assert len(output.splitlines()) < 40


async def _page(port: int, path: str) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request(b"GET", path, (b"Host", b"localhost"), (b"Connection", b"close")))
    page = await asyncio.wait_for(reader.read(), 5)
    writer.close()
    return page


class FewFiles(GatewayProcess):
    """A gateway that may open 214 files."""

    def __init__(self, folder: Path, url: str, **server: Any) -> None:
        super().__init__(
            folder, [url], server=server, upstream={"health_path": "/health", "health_interval_seconds": 1}
        )
        self._command = ["/bin/sh", "-c", 'ulimit -n 214; exec "$@"', "sh", *self._command]


async def _crowd(port: int, count: int, said: bytes) -> list[socket.socket]:
    """Connect as fast as possible, say something, and nothing more."""
    loop, made = asyncio.get_running_loop(), []
    for _ in range(count):
        one = socket.socket()
        one.setblocking(False)
        made.append(one)
        with contextlib.suppress(OSError):
            await loop.sock_connect(one, ("127.0.0.1", port))
            await loop.sock_sendall(one, said)
    return made


@pytest.mark.parametrize(
    ("secure", "said"),
    [
        pytest.param(True, b"", id="silent at the TLS port"),
        pytest.param(True, b"\x16\x03\x01\x02\x00\x01", id="half a hello"),
        pytest.param(False, b"\0", id="turned away at the plain port"),
    ],
)
@pytest.mark.rule("R431")
async def test_a_crowd_that_holds_sockets_leaves_files_for_everything_else(
    secure: bool, said: bytes, tmp_path: Path
) -> None:
    """400 sockets, a limit of 214 files: health, kept connections and the upstream's standing are untouched."""
    options = _tls(tmp_path) if secure else {}
    trust = ssl.create_default_context(cafile=str(tmp_path / "tls" / "ca.pem")) if secure else None
    name = "localhost" if secure else None
    async with raw_upstream() as upstream, FewFiles(tmp_path, upstream.url, **options) as gateway:
        kept = [
            await asyncio.open_connection("127.0.0.1", gateway.port, ssl=trust, server_hostname=name) for _ in range(8)
        ]
        crowd = await _crowd(gateway.port, 400, said)
        began = time.monotonic()
        while time.monotonic() < began + 0.6:
            assert b" 200 OK" in (await _page(gateway.admin_port, "/healthz"))[:20]
            for reader, writer in kept:
                writer.write(request(b"GET", "/"))
                head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\nok"), 5)
                assert head.startswith(b"HTTP/1.1 200")
        assert gateway.open_sockets() < 200
        metrics = await _page(gateway.admin_port, "/metrics")
        for one in crowd:
            one.close()
        for _, writer in kept:
            writer.transport.abort()
        await until(lambda: gateway.open_sockets() < 30)
        assert "Traceback" not in gateway.output()
    assert b"gateway_upstream_ejections_total{" in metrics
    assert all(
        line.endswith(b" 0.0") for line in metrics.splitlines() if line.startswith(b"gateway_upstream_ejections")
    )
    assert all(line.endswith(b" 0.0") for line in metrics.splitlines() if b"connect_failures_total{" in line)


@pytest.mark.rule("R431")
async def test_refused_uploads_that_go_on_have_a_bound(tmp_path: Path) -> None:
    """Those beyond it are closed after their answer, and no other is turned away for them."""
    async with running_gateway(NOWHERE, tmp_path, server={"max_connections": 16}) as gateway:
        senders = [await gateway.client() for _ in range(6)]
        for sender in senders:
            await sender.send(request(b"POST", "/", (b"Content-Length", b"1000000"), body=b"a" * 1000))
            await _refused(gateway, sender)
        assert gateway.app.telemetry.lingering <= 2
        assert (await gateway.get("/")).status == 401


async def _refused(gateway: RunningGateway, sender: Any) -> None:
    with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
        assert (await sender.response()).status == 401
    del gateway
