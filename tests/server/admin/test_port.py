"""The port of the admin pages: its names, its connections, and what it does not tell."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import resource
import statistics
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiohttp.web_protocol import RequestHandler

from gateway.server.admin import port as admin_port
from gateway.server.admin.port import MAX_CONNECTIONS, PIECE, is_known, known_names, most_connections
from gateway.server.aiohttp_lane.protocol import ServerProtocol
from gateway.settings.tables.server import Server
from gateway.tasks import cancelled, spawn
from tests.support.gateways.revoking import SECRET
from tests.support.gateways.running import RawClient, RawResponse, RunningGateway, request, running_gateway, until
from tests.support.gateways.workers import config_text, workers_gateway
from tests.support.pace import paced

PUBLIC: tuple[dict[str, Any], ...] = ({"path": "/", "auth": "public"},)

KNOWN = [
    *(b"localhost", b"LOCALHOST", b"localhost:9090", b"localhost.", b"127.0.0.1", b"127.0.0.1:9090", b"10.1.2.3:9090"),
    *(
        b"[::1]",
        b"[::1]:9090",
        b"[::ffff:10.0.0.1]",
        b"gateway-admin.monitoring.svc:9090",
        b"Gateway-Admin.Monitoring.svc",
    ),
]
UNKNOWN = [
    *(b"evil.example", b"evil.example:9090", b"127.0.0.1.evil.example", b"localhost.evil.example", b"x.localhost"),
    *(b"gateway.test", b"2130706433", b"0x7f000001", b"127.1", b"gateway-admin", b"monitoring.svc"),
]
MALFORMED = [b"", b"a b", b"a/b", b"user@localhost", b"[::1", b"localhost:x", b"localhost, evil.example"]


async def ask(gateway: RunningGateway, data: bytes) -> RawResponse:
    client = RawClient(*await asyncio.open_connection("127.0.0.1", gateway.app.admin_port))
    gateway.clients.append(client)
    return await client.exchange(data)


@pytest.mark.rule("R436")
async def test_only_hosts_that_no_stranger_can_name_are_served(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """CWE-350: a page of evil.example whose name now leads to this address reads and calls nothing."""
    secret = tmp_path / "secret"
    secret.write_bytes(SECRET)
    (tmp_path / "revoked").touch()
    revocation = {"file": str(tmp_path / "revoked"), "admin_token_file": str(secret)}
    server = {"admin_hosts": ["gateway-admin.monitoring.svc."]}
    pages = ["/", "/healthz", "/readyz", "/status", "/metrics", "/nowhere"]
    async with running_gateway(
        "http://127.0.0.1:1", tmp_path, routes=PUBLIC, server=server, revocation=revocation
    ) as gateway:
        for host in KNOWN:
            assert (await ask(gateway, request(b"GET", "/healthz", (b"Host", host)))).status == 200, host
        with caplog.at_level(logging.WARNING, "gateway.admin"):
            for host in UNKNOWN:
                answer = await ask(gateway, request(b"GET", "/healthz", (b"Host", host)))
                assert (answer.status, answer.json["error"]) == (421, "misdirected_request"), host
                assert "server.admin_hosts" in answer.json["error_description"]
        assert len(caplog.messages) == 1  # an operator whose monitoring is turned away learns why
        assert "evil" not in caplog.text
        for host in MALFORMED:
            assert (await ask(gateway, request(b"GET", "/healthz", (b"Host", host)))).status == 400, host
        for page in pages:
            assert (await ask(gateway, request(b"GET", page, (b"Host", b"evil.example")))).status == 421, page
        body = b'{"jti": "a"}'
        fields = [(b"Authorization", b"Bearer " + SECRET), (b"Content-Length", b"%d" % len(body))]
        evil = request(b"POST", "/revoke", (b"Host", b"evil.example"), *fields, body=body)
        assert (await ask(gateway, evil)).status == 421
        assert (tmp_path / "revoked").read_bytes() == b""
        good = request(b"POST", "/revoke", (b"Host", b"10.1.2.3:9090"), *fields, body=body)
        assert (await ask(gateway, good)).json == {"revoked": 1, "store": "file"}


@pytest.mark.parametrize(
    ("data", "status"),
    [
        pytest.param(b"GET /healthz HTTP/1.0\r\n\r\n", 200, id="no Host in HTTP/1.0, as simple probes send it"),
        pytest.param(b"GET /healthz HTTP/1.0\r\nHost: evil.example\r\n\r\n", 421, id="HTTP/1.0 with a Host"),
        pytest.param(b"GET /healthz HTTP/1.1\r\n\r\n", 400, id="no Host in HTTP/1.1"),
        pytest.param(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n", 400, id="two of them"),
        pytest.param(b"GET http://evil.example/healthz HTTP/1.1\r\nHost: localhost\r\n\r\n", 421, id="absolute form"),
        pytest.param(b"GET http://localhost/healthz HTTP/1.1\r\nHost: evil.example\r\n\r\n", 200, id="which wins"),
    ],
)
@pytest.mark.rule("R436", "R220", "R221")
async def test_requests_without_one_plain_host(data: bytes, status: int, tmp_path: Path) -> None:
    """RFC 9112 section 3.2."""
    async with running_gateway("http://127.0.0.1:1", tmp_path, routes=PUBLIC) as gateway:
        assert (await ask(gateway, data)).status == status


@pytest.mark.parametrize(
    ("listen", "host"),
    [("gateway.internal:9090", "gateway.internal"), ("[::1]:9090", "[::1]"), ("[0::0:1]:9090", "[::1]")],
)
@pytest.mark.rule("R436")
def test_the_name_that_it_listens_on_is_its_own(listen: str, host: str) -> None:
    """Own addresses."""
    names = known_names(Server(admin_listen=listen))
    assert host in names
    assert is_known(host, names)
    assert not is_known("evil.example", names)


def test_names_are_needed_for_tcp_only() -> None:
    assert known_names(Server(admin_listen="unix:/run/admin.sock")) == {"localhost"}


@pytest.mark.rule("R436")
async def test_a_unix_socket_is_asked_by_any_name(tmp_path: Path) -> None:
    """No browser has a way to it, and its clients make a Host up."""
    socket = tmp_path / "admin.sock"
    server = {"admin_listen": f"unix:{socket}"}
    async with running_gateway("http://127.0.0.1:1", tmp_path, routes=PUBLIC, server=server):
        client = RawClient(*await asyncio.open_unix_connection(str(socket)))
        assert (await client.exchange(request(b"GET", "/healthz", (b"Host", b"whatever")))).status == 200
        await client.close()


@pytest.mark.rule("R436", "R413")
async def test_no_answer_names_software_or_versions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """CWE-200: not the pages, not their refusals, not the answers to what is no HTTP; each has its date."""
    asked = [
        request(b"GET", "/healthz", (b"Host", b"localhost")),
        request(b"GET", "/metrics", (b"Host", b"localhost")),
        request(b"HEAD", "/nowhere", (b"Host", b"localhost")),
        request(b"GET", "/nowhere", (b"Host", b"localhost")),
        request(b"POST", "/healthz", (b"Host", b"localhost")),
        request(b"GET", "/healthz", (b"Host", b"evil.example")),
        request(b"GET", "/healthz", (b"Host", b"a b")),
        request(b"GET", "/healthz", (b"Host", b"localhost"), (b"Expect", b"unknown")),
        b"\x00\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: nonsense\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 20_000,
        request(b"GET", "/status", (b"Host", b"localhost")),
    ]
    statuses = []
    async with running_gateway("http://127.0.0.1:1", tmp_path, routes=PUBLIC) as gateway:
        monkeypatch.setattr(gateway.app.telemetry, "connections", object())  # a page that fails
        for data in asked:
            client = RawClient(*await asyncio.open_connection("127.0.0.1", gateway.app.admin_port))
            gateway.clients.append(client)
            answer = await client.exchange(data, head_only=data.startswith(b"HEAD"))
            statuses.append(answer.status)
            text = (answer.head + answer.body).lower()
            assert answer.all(b"server") == [], data
            assert len(answer.all(b"date")) == 1, data
            assert not [word for word in (b"aiohttp", b"python/", b"traceback") if word in text], data
        monkeypatch.undo()
    assert statuses == [200, 503, 404, 404, 405, 421, 400, 417, 400, 400, 400, 431, 503]


@pytest.mark.rule("R436")
async def test_heads_without_an_end_are_closed_in_time(tmp_path: Path) -> None:
    """Whether they say nothing, little, or a byte now and then."""
    server = {"request_head_timeout_seconds": 0.3}
    async with running_gateway("http://127.0.0.1:1", tmp_path, routes=PUBLIC, server=server) as gateway:
        loop = asyncio.get_running_loop()
        began = loop.time()
        clients = [await asyncio.open_connection("127.0.0.1", gateway.app.admin_port) for _ in range(3)]
        clients[1][1].write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n")
        trickle = spawn(_trickle(clients[2][1]), "trickle")
        for reader, _ in clients:
            with contextlib.suppress(ConnectionError):
                assert await asyncio.wait_for(reader.read(), 5) == b""
        assert loop.time() - began < paced(2)
        await cancelled(trickle)
        for _, writer in clients:
            writer.close()


async def _trickle(writer: asyncio.StreamWriter) -> None:
    for byte in b"GET /healthz HTTP/1.1\r\nX: " + b"x" * 10_000:
        writer.write(bytes([byte]))
        await asyncio.sleep(0.02)


@pytest.mark.rule("R436")
async def test_a_flood_of_unfinished_heads_keeps_no_one_out(tmp_path: Path) -> None:
    """Of 1,500 no more than the bound are held, and scrapes and probes in between are answered at once."""
    open_now: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
    waits = []
    async with running_gateway("http://127.0.0.1:1", tmp_path, routes=PUBLIC) as gateway:
        loop = asyncio.get_running_loop()
        for number in range(1500):
            open_now.append(await asyncio.open_connection("127.0.0.1", gateway.app.admin_port))
            open_now[-1][1].write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n")
            if number % 100 == 99:
                began = loop.time()
                for page in ("/healthz", "/metrics"):
                    assert (await gateway.admin(page)).status == 200
                waits.append(loop.time() - began)
                for reader, writer in open_now:
                    if _ended(reader):
                        writer.transport.abort()
                open_now = [each for each in open_now if not each[1].transport.is_closing()]
        await until(lambda: sum(not _ended(reader) for reader, _ in open_now) <= MAX_CONNECTIONS)
        assert not _ended(open_now[-1][0])
        for _, writer in open_now:
            writer.transport.abort()
    assert statistics.median(waits) < paced(0.1)


def _ended(reader: asyncio.StreamReader) -> bool:
    return reader.at_eof() or reader.exception() is not None


@pytest.mark.rule("R436")
async def test_content_that_is_sent_slowly_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A call whose content never comes holds its place for a bounded time."""
    monkeypatch.setattr(admin_port, "ANSWER_SECONDS", 0.2)
    (tmp_path / "secret").write_bytes(SECRET)
    (tmp_path / "revoked").touch()
    revocation = {"file": str(tmp_path / "revoked"), "admin_token_file": str(tmp_path / "secret")}
    fields = [(b"Host", b"localhost"), (b"Authorization", b"Bearer " + SECRET), (b"Content-Length", b"100")]
    async with running_gateway("http://127.0.0.1:1", tmp_path, routes=PUBLIC, revocation=revocation) as gateway:
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.app.admin_port)
        writer.write(request(b"POST", "/revoke", *fields, body=b"{"))
        with contextlib.suppress(ConnectionError):
            assert await asyncio.wait_for(reader.read(), 5) == b""
        writer.close()
        assert (await gateway.admin("/healthz")).status == 200


@pytest.mark.rule("R436")
async def test_a_connection_is_for_one_request(tmp_path: Path) -> None:
    """What is kept open by those who have been answered would need a bound of its own."""
    async with running_gateway("http://127.0.0.1:1", tmp_path, routes=PUBLIC) as gateway:
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.app.admin_port)
        writer.write(request(b"GET", "/healthz", (b"Host", b"localhost")) * 2)
        answers = await asyncio.wait_for(reader.read(), 5)
        writer.close()
    assert answers.count(b"HTTP/1.1 200 OK") == 1
    assert b"Connection: close" in answers


@pytest.mark.rule("R429", "R436")
async def test_what_follows_the_request_is_not_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A read full of requests of a few bytes would hold all others up, and fill the memory."""
    looked_at: list[int] = []
    take = RequestHandler.data_received

    def counted(connection: RequestHandler, data: bytes) -> None:
        if isinstance(connection, ServerProtocol):
            looked_at.append(len(data))
        take(connection, data)

    monkeypatch.setattr(RequestHandler, "data_received", counted)
    async with running_gateway("http://127.0.0.1:1", tmp_path, routes=PUBLIC) as gateway:
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.app.admin_port)
        writer.write(b"GET /healthz HTTP/1.0\r\n\r\n" * 20_000)
        with contextlib.suppress(ConnectionError):
            assert (await asyncio.wait_for(reader.read(), 5)).count(b"HTTP/1.") == 1
        writer.transport.abort()
    assert sum(looked_at) <= PIECE


@pytest.mark.rule("R429")
async def test_content_in_chunks_of_a_byte_is_looked_at_in_pieces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And it is the content all the same."""
    pieces: list[int] = []
    take = RequestHandler.data_received

    def counted(connection: RequestHandler, data: bytes) -> None:
        pieces.append(len(data))
        take(connection, data)

    (tmp_path / "secret").write_bytes(SECRET)
    (tmp_path / "revoked").touch()
    revocation = {"file": str(tmp_path / "revoked"), "admin_token_file": str(tmp_path / "secret")}
    content = orjson.dumps({"sub": "alice", "reason": "x" * 20_000})
    chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in content) + b"0\r\n\r\n"
    fields = [(b"Host", b"localhost"), (b"Authorization", b"Bearer " + SECRET), (b"Transfer-Encoding", b"chunked")]
    async with running_gateway("http://127.0.0.1:1", tmp_path, routes=PUBLIC, revocation=revocation) as gateway:
        whole = await ask(
            gateway, request(b"POST", "/revoke", *fields[:2], (b"Content-Length", b"%d" % len(content)), body=content)
        )
        monkeypatch.setattr(RequestHandler, "data_received", counted)
        in_chunks = await ask(gateway, request(b"POST", "/revoke", *fields, body=chunks))
        assert (in_chunks.status, in_chunks.body) == (whole.status, whole.body)
    assert max(pieces) <= PIECE


@pytest.mark.rule("R436")
def test_a_connection_with_a_whole_request_is_not_closed_for_others() -> None:
    """Only connections that wait make room; when none waits, the newest is turned away."""

    class Stub:
        gone = False

        def cut(self) -> None:
            self.gone = True

    port = admin_port.AdminPort(None, 1)  # type: ignore[arg-type]
    old: list[Any] = [Stub() for _ in range(MAX_CONNECTIONS)]
    assert all(map(port.admit, old))
    port.answer(old[0])
    new: Any = Stub()
    assert port.admit(new)
    assert [stub.gone for stub in old[:3]] == [False, True, False]
    port.begin(old[50])
    assert port.admit(Stub())  # type: ignore[arg-type]
    assert [number for number, stub in enumerate(old) if stub.gone] == [1, 50]  # what says something is not new
    for _ in range(MAX_CONNECTIONS):
        port.admit(late := Stub())  # type: ignore[arg-type]
        port.answer(late)  # type: ignore[arg-type]
    assert not port.admit(Stub())  # type: ignore[arg-type]
    port.leave(old[0])
    assert port.admit(Stub())  # type: ignore[arg-type]
    assert len(port) == MAX_CONNECTIONS


@pytest.mark.rule("R436")
async def test_several_workers_have_one_admin_port_with_the_same_rules(tmp_path: Path, cache: Path) -> None:
    """It is the supervisor's."""
    text = config_text("http://127.0.0.1:1", admin_hosts=["admin.internal"], request_head_timeout_seconds=0.5)
    async with workers_gateway(tmp_path, cache, text) as gateway:
        silent, writer = await asyncio.open_connection("127.0.0.1", gateway.admin_port)
        for host, status in ((b"evil.example", 421), (b"admin.internal", 200), (b"10.0.0.7:9090", 200)):
            client = RawClient(*await asyncio.open_connection("127.0.0.1", gateway.admin_port))
            answer = await client.exchange(request(b"GET", "/healthz", (b"Host", host)))
            assert (answer.status, answer.all(b"server")) == (status, [])
            await client.close()
        with contextlib.suppress(ConnectionError):
            assert await asyncio.wait_for(silent.read(), 5) == b""
        writer.close()


@pytest.mark.parametrize(
    ("files", "most"), [(64, 8), (1024, 32), (4096, 128), (1_000_000, 128), (resource.RLIM_INFINITY, 128)]
)
@pytest.mark.rule("R436", "R431")
def test_few_open_files_leave_few_places(files: int, most: int) -> None:
    """What the admin port holds must not be missing elsewhere."""
    assert most_connections(files) == most
