"""Content far larger than memory should be: what the gateway's process holds does not grow with it.

256 MiB in each direction by default; the environment variable LARGE_MIB says otherwise.
"""

from __future__ import annotations

import asyncio
import os
import zlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.gateways.one_process import GatewayProcess
from tests.support.gateways.running import RawClient, request, until
from tests.support.socket_buffers import MIB, most_buffered
from tests.support.upstreams.recording import RawUpstream, Received, raw_upstream

SIZE = int(os.environ.get("LARGE_MIB", "256")) * MIB
GROWTH = 32 * MIB
PIECE = bytes(range(256)) * 256

pytestmark = pytest.mark.timeout(60 + SIZE // (4 * MIB))


class Source:
    """An upstream's large answers, and what it knows of content that came in."""

    def __init__(self) -> None:
        self.sent = 0
        self.received = 0
        self.checksum = 0

    async def respond(self, received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        size = int(received.target.rpartition(b"/")[2])
        if received.line.startswith(b"GET "):
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
            self.sent = 0
            while self.sent < size:
                writer.write(PIECE)
                await writer.drain()
                self.sent += len(PIECE)
            return b""
        self.received = self.checksum = 0
        if received.one(b"transfer-encoding") is not None:
            while length := int((await reader.readuntil(b"\r\n"))[:-2], 16):
                await self._take(reader, length)
                await reader.readexactly(2)
            await reader.readexactly(2)
        else:
            await self._take(reader, size)
        return b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone"

    async def _take(self, reader: asyncio.StreamReader, length: int) -> None:
        while length:
            piece = await reader.read(min(length, 1 << 18))
            if not piece:
                raise ConnectionResetError
            self.checksum = zlib.crc32(piece, self.checksum)
            self.received += len(piece)
            length -= len(piece)


@pytest.fixture
def source() -> Source:
    return Source()


@pytest.fixture
async def upstream(source: Source) -> AsyncIterator[RawUpstream]:
    async with raw_upstream(source.respond, early=True) as upstream:
        yield upstream


@pytest.fixture
async def gateway(upstream: RawUpstream, tmp_path: Path) -> AsyncIterator[GatewayProcess]:
    async with GatewayProcess(tmp_path, [upstream.url]) as gateway:
        await download(gateway, 8 * MIB)  # so that what every gateway needs is there
        await upload(gateway, 8 * MIB, chunked=False)
        await upload(gateway, 8 * MIB, chunked=True)
        yield gateway


async def connected(gateway: GatewayProcess) -> RawClient:
    return RawClient(*await asyncio.open_connection("127.0.0.1", gateway.port, limit=1 << 18))


async def download(gateway: GatewayProcess, size: int) -> int:
    """Read a response of this size; return the checksum."""
    client = await connected(gateway)
    await client.send(request(b"GET", f"/{size}"))
    await client.reader.readuntil(b"\r\n\r\n")
    checksum, left = 0, size
    while left:
        piece = await client.reader.read(min(left, 1 << 18))
        assert piece, "the response broke off"
        checksum = zlib.crc32(piece, checksum)
        left -= len(piece)
    await client.close()
    return checksum


async def upload(gateway: GatewayProcess, size: int, *, chunked: bool) -> None:
    """Send content of this size."""
    client = await connected(gateway)
    framing = (b"Transfer-Encoding", b"chunked") if chunked else (b"Content-Length", b"%d" % size)
    await client.send(request(b"POST", f"/{size}", framing))
    piece = b"%x\r\n%b\r\n" % (len(PIECE), PIECE) if chunked else PIECE
    for _ in range(size // len(PIECE)):
        await client.send(piece)
    response = await client.exchange(b"0\r\n\r\n" if chunked else b"", within=20)
    assert response.body == b"done"
    await client.close()


def expected_checksum(size: int) -> int:
    checksum = 0
    for _ in range(size // len(PIECE)):
        checksum = zlib.crc32(PIECE, checksum)
    return checksum


@pytest.mark.rule("R280", "R282", "R301")
async def test_download_of_any_size_needs_the_same_memory(gateway: GatewayProcess) -> None:
    before = gateway.memory("VmRSS")
    assert await download(gateway, SIZE) == expected_checksum(SIZE)
    assert gateway.memory("VmHWM") - before < GROWTH


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.rule("R280", "R282", "R301")
async def test_upload_of_any_size_needs_the_same_memory(gateway: GatewayProcess, source: Source, chunked: bool) -> None:
    before = gateway.memory("VmRSS")
    await upload(gateway, SIZE, chunked=chunked)
    assert (source.received, source.checksum) == (SIZE, expected_checksum(SIZE))
    assert gateway.memory("VmHWM") - before < GROWTH


@pytest.mark.rule("R282")
async def test_client_that_reads_nothing_costs_no_memory(gateway: GatewayProcess, source: Source) -> None:
    """The upstream is held back while the client sleeps, and let go when it wakes up."""
    before, sockets = gateway.memory("VmRSS"), gateway.open_sockets()
    clients = [await connected(gateway) for _ in range(4)]
    offered = most_buffered(2 * len(clients)) + 8 * MIB  # the source counts what it has sent to all of them
    for client in clients:
        await client.send(request(b"GET", f"/{offered}"))
        await client.reader.readuntil(b"\r\n\r\n")
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
    sent = -1
    while sent != source.sent:
        sent = source.sent
        await asyncio.sleep(0.2)
    assert 0 < sent < offered
    assert gateway.memory("VmHWM") - before < GROWTH
    for client in clients:
        await client.close()
    await until(lambda: gateway.open_sockets() <= sockets)
