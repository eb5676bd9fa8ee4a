"""Services that answer before they have read a request: their answers, and what becomes of the rest (R425-R427)."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.e2e.http.test_content import CHUNKED, PUBLIC
from tests.support.clients.uploads import Uploaded, upload
from tests.support.gateways.running import RawClient, RunningGateway, request, running_gateway, until
from tests.support.socket_buffers import MIB, most_buffered
from tests.support.upstreams.early_closing import End, blunt_service, blunt_upstream
from tests.support.upstreams.recording import OK, RawUpstream, Received, breaking_off, raw_upstream

MEGABYTE = 1_000_000
PIECE = 50_000
ACCEPTED = b"HTTP/1.1 202 Accepted\r\nContent-Length: 5\r\n\r\ntaken"
WITH_LENGTH = b"HTTP/1.1 413 Too Large\r\nContent-Length: 10\r\n\r\ntoo large\n"
WITHOUT_LENGTH = b"HTTP/1.1 413 Too Large\r\nX: y\r\n\r\ntoo large\n"

#: Content in bytes: collected by the express lane, streamed, and more than the buffers of a connection hold.
SIZES = (50_000, 200_000, 3_000_000)


def piece_of(chunked: bool) -> bytes:
    return b"%x\r\n%b\r\n" % (PIECE, b"x" * PIECE) if chunked else b"x" * PIECE


def head_of(chunked: bool) -> bytes:
    framing = CHUNKED if chunked else ((b"Content-Length", b"%d" % MEGABYTE),)
    return request(b"POST", "/", *framing)


async def logged(gateway: RunningGateway, *names: str) -> list[Any]:
    line = (await gateway.log())[-1]
    return [line.get(name) for name in names]


class Accepting:
    """An upstream that accepts at the head, and then reads or leaves."""

    def __init__(self, *, leaves: bool = False) -> None:
        self.leaves = leaves
        self.body = b""
        self.whole = asyncio.Event()

    async def respond(
        self, received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bytes | None:
        if received.line.startswith(b"GET"):
            return OK
        writer.write(ACCEPTED)
        await writer.drain()
        if self.leaves:
            return None
        end = b"0\r\n\r\n" if received.one(b"transfer-encoding") else b""
        while not (self.body.endswith(end) if end else len(self.body) == MEGABYTE):
            data = await reader.read(65536)
            if not data:
                return None
            self.body += data
        self.whole.set()
        return b""


class Answered(NamedTuple):
    """An upload of ``MEGABYTE`` that was answered after its first piece."""

    service: Accepting
    upstream: RawUpstream
    gateway: RunningGateway
    client: RawClient


@contextlib.asynccontextmanager
async def answered(
    folder: Path, *, chunked: bool = False, leaves: bool = False, **upstream_options: Any
) -> AsyncIterator[Answered]:
    """Begin an upload, and have its answer; with ``leaves`` the upstream has gone then."""
    service = Accepting(leaves=leaves)
    async with (
        raw_upstream(service.respond, early=True) as upstream,
        running_gateway(upstream.url, folder, routes=PUBLIC, upstream=upstream_options) as gateway,
    ):
        client = await gateway.client()
        await client.send(head_of(chunked) + piece_of(chunked))
        response = await client.response()
        assert (response.status, response.body, response.one(b"connection")) == (202, b"taken", None)
        if leaves:
            await until(lambda: upstream.open_connections == 0)
        yield Answered(service, upstream, gateway, client)


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.rule("R427", "C117")
async def test_upload_goes_on_behind_an_early_answer(chunked: bool, tmp_path: Path) -> None:
    """202 at once, then the service gets every byte; the client's connection serves the next request."""
    async with answered(tmp_path, chunked=chunked) as (service, upstream, gateway, client):
        assert not service.whole.is_set()
        for _ in range(MEGABYTE // PIECE - 1):
            await client.send(piece_of(chunked))
        if chunked:
            await client.send(b"0\r\n\r\n")
        async with asyncio.timeout(5):
            await service.whole.wait()
        assert service.body.count(b"x") == MEGABYTE
        assert (await client.exchange(request(b"GET", "/"))).body == b"ok"
        first, second = await gateway.log(2)
        assert (first["status"], first["outcome"], first["bytes_out"]) == (202, "forwarded", 5)
        assert (first["bytes_in"], second["status"]) == (MEGABYTE, 200)
        # A service that answers unread content may take the rest of it for a request: not over this connection.
        assert [received.connection for received in upstream.requests] == [1, 2]


@pytest.mark.rule("R427")
async def test_upload_whose_upstream_leaves_is_read_to_its_end(tmp_path: Path) -> None:
    """The answer is whole, so the client's connection is kept in step and used again."""
    async with answered(tmp_path, leaves=True) as (_, _, _, client):
        for _ in range(MEGABYTE // PIECE - 1):
            await client.send(piece_of(False))
        assert (await client.exchange(request(b"GET", "/"))).body == b"ok"


@pytest.mark.rule("R211", "R427")
async def test_upload_that_turns_bad_after_its_upstream_left_ends_the_connection(tmp_path: Path) -> None:
    """What is behind bad chunks is not taken for a request."""
    async with answered(tmp_path, chunked=True, leaves=True) as (_, upstream, gateway, client):
        await client.send(piece_of(True) + b"no size\r\n" + request(b"GET", "/"))
        assert await client.at_end()
        assert [received.line for received in upstream.requests] == [b"POST / HTTP/1.1"]
        assert await logged(gateway, "status", "outcome", "bytes_out") == [202, "forwarded", 5]


@pytest.mark.rule("R427")
async def test_client_that_stops_after_its_answer_is_given_up(tmp_path: Path) -> None:
    """Bounded by the idle timeout; the answer was whole, and the log says so."""
    async with answered(tmp_path, idle_timeout_seconds=0.2) as (service, upstream, gateway, _):
        await until(lambda: upstream.open_connections == 0)
        assert await logged(gateway, "status", "outcome", "bytes_out") == [202, "forwarded", 5]
        assert not service.whole.is_set()


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.rule("R315", "R317")
async def test_service_that_does_not_read_an_upload_is_given_up(chunked: bool, tmp_path: Path) -> None:
    """idle_timeout_seconds without a byte taken; 504, and the place in the pool is free again."""

    async def respond(received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await leave.wait()

    leave, size = asyncio.Event(), most_buffered(2) + 8 * MIB
    async with (
        raw_upstream(respond, early=True) as upstream,
        running_gateway(upstream.url, tmp_path, routes=PUBLIC, upstream={"idle_timeout_seconds": 0.3}) as gateway,
    ):
        outcome = await asyncio.to_thread(upload, gateway.app.port, size, chunked=chunked)
        assert (outcome.status, outcome.complete) == (504, True)
        assert await logged(gateway, "reason", "outcome") == ["upstream_timeout", "failed"]
        assert gateway.app.upstreams["main"].origins[0].state().in_use == 0
        leave.set()


@pytest.mark.rule("R427", "R426")
async def test_client_that_leaves_after_its_answer_ends_the_upload(tmp_path: Path) -> None:
    """The upstream does not get a request that looks whole; the client had all of its answer."""
    async with answered(tmp_path) as (service, upstream, gateway, client):
        await client.close()
        await until(lambda: upstream.open_connections == 0)
        assert await logged(gateway, "status", "outcome", "bytes_out") == [202, "forwarded", 5]
        assert not service.whole.is_set()
        assert gateway.app.upstreams["main"].origins[0].state().in_use == 0


@pytest.mark.rule("R427", "R284")
async def test_bad_content_behind_an_early_answer_ends_the_request(tmp_path: Path) -> None:
    """The answer stays what it was, and the upstream's request does not become whole."""
    async with answered(tmp_path, chunked=True) as (_, upstream, gateway, client):
        await client.send(b"zz\r\n")
        await until(lambda: upstream.open_connections == 0)
        assert await client.at_end(within=10)
        names = "status", "outcome", "reason", "bytes_out"
        assert await logged(gateway, *names) == [202, "forwarded", "malformed_http", 5]


async def uploads(gateway: RunningGateway, tries: int) -> list[Uploaded]:
    return [
        await asyncio.to_thread(upload, gateway.app.port, size, chunked=chunked)
        for _ in range(tries)
        for size in SIZES
        for chunked in (False, True)
    ]


@pytest.mark.parametrize("access_log", ["json", "off"])
@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("end", [End.CLOSE, End.FIN, End.RESET])
@pytest.mark.rule("R425", "C115")
async def test_answer_of_a_service_that_closes_unread_arrives(
    end: End, secure: bool, access_log: str, tmp_path: Path
) -> None:
    """Never 502 when the answer was there, whatever became of the writes."""
    with blunt_upstream(tmp_path, WITH_LENGTH, end, secure=secure) as (url, options):
        server = {"access_log": access_log}
        async with running_gateway(url, tmp_path, routes=PUBLIC, server=server, upstream=options) as gateway:
            outcomes = await uploads(gateway, 2)
            assert {(outcome.status, outcome.body) for outcome in outcomes} == {(413, b"too large\n")}
            assert all(outcome.complete for outcome in outcomes)
            if access_log == "json":
                log = await gateway.log(len(outcomes))
                assert {(line["status"], line["outcome"], line["bytes_out"]) for line in log} == {
                    (413, "forwarded", 10)
                }


@pytest.mark.parametrize(
    ("end", "secure", "whole"),
    [
        (End.CLOSE, False, False),
        (End.FIN, False, True),
        (End.RESET, False, False),
        (End.CLOSE, True, False),
        (End.FIN, True, False),
        (End.RESET, True, False),
        (End.ALERT, True, True),
    ],
)
@pytest.mark.rule("R426", "R409", "C116")
async def test_answer_without_length_arrives_as_far_as_it_came(
    end: End, secure: bool, whole: bool, tmp_path: Path
) -> None:
    """Head and content, then the break if the service's end was none; the log agrees."""
    with blunt_upstream(tmp_path, WITHOUT_LENGTH, end, secure=secure) as (url, options):
        async with running_gateway(url, tmp_path, routes=PUBLIC, upstream=options) as gateway:
            outcomes = await uploads(gateway, 1)
            log = await gateway.log(len(outcomes))
    assert {(outcome.status, outcome.body) for outcome in outcomes} == {(413, b"too large\n")}
    assert {outcome.complete for outcome in outcomes} == {whole}
    assert {(line["status"], line["bytes_out"]) for line in log} == {(413, 10)}
    detail = None if whole else "no TLS closure alert" if secure else "content broke off"
    assert {(line["outcome"], line.get("detail")) for line in log} == {("forwarded" if whole else "failed", detail)}


@pytest.mark.rule("R425")
async def test_waiting_client_gets_its_100_and_the_early_answer(tmp_path: Path) -> None:
    """``Expect`` changes nothing about what arrives."""
    with blunt_service(WITH_LENGTH, End.CLOSE) as port:
        async with running_gateway(f"http://127.0.0.1:{port}", tmp_path, routes=PUBLIC) as gateway:
            client = await gateway.client()
            expect = (b"Expect", b"100-continue"), (b"Content-Length", b"%d" % MEGABYTE)
            assert (await client.exchange(request(b"POST", "/", *expect))).status == 100
            response = await client.response()
            assert (response.status, response.body) == (413, b"too large\n")


def slow_get(port: int) -> int:
    """Read a response over a connection that holds little, from a moment later; return how many bytes came."""
    size = 0
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        connection.connect(("127.0.0.1", port))
        connection.sendall(request(b"GET", "/", (b"Connection", b"close")))
        time.sleep(0.1)
        while data := connection.recv(65536):
            size += len(data)
            time.sleep(0.0005)
    return size


@pytest.mark.parametrize("end", [End.CLOSE, End.ALERT])
@pytest.mark.rule("R425")
async def test_slow_client_gets_all_of_a_response_over_tls_whose_service_has_closed(end: End, tmp_path: Path) -> None:
    """What TLS still holds when the FIN comes has arrived as well."""
    content = b"x" * 12_000_000
    answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(content), content)
    with blunt_upstream(tmp_path, answer, end, secure=True) as (url, options):
        async with running_gateway(url, tmp_path, routes=PUBLIC, upstream=options) as gateway:
            assert await asyncio.to_thread(slow_get, gateway.app.port) > len(content)
            assert await logged(gateway, "outcome", "bytes_out") == ["forwarded", len(content)]


HALF = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n"


@pytest.mark.rule("R286", "R426")
async def test_broken_answer_to_an_old_client_ends_by_a_reset(tmp_path: Path) -> None:
    """HTTP/1.0 has no other sign: a FIN would say that the content is complete."""
    leave = asyncio.Event()
    async with (
        raw_upstream(breaking_off(HALF, leave)) as upstream,
        running_gateway(upstream.url, tmp_path, routes=PUBLIC) as gateway,
    ):
        client = await gateway.client()
        await client.send(b"GET / HTTP/1.0\r\nHost: h\r\n\r\n")
        async with asyncio.timeout(5):
            assert b"200 OK" in await client.reader.readuntil(b"\r\n\r\n")
            assert await client.reader.readexactly(4) == b"half"
            leave.set()
            with pytest.raises(ConnectionResetError):
                assert await client.reader.read() is None
        assert await logged(gateway, "status", "outcome", "bytes_out") == [200, "failed", 4]
