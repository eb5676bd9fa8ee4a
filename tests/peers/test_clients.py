"""Clients of other projects: curl, aiohttp and httpx, through the gateway in each of its lanes."""

from __future__ import annotations

import asyncio
import hashlib
import io
import random
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import httpx
import pytest

from tests.peers.programs import program
from tests.support.gateways.running import LANE, RunningGateway, running_gateway
from tests.support.upstreams.recording import RawUpstream, Received, raw_upstream

CONTENT = random.Random(9).randbytes(3_000_000)


async def respond(received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    """Answer a large body, in chunks, or the digest of what came in."""
    if received.target == b"/large":
        return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(CONTENT), CONTENT)
    if received.target == b"/chunks":
        chunks = (CONTENT[start : start + 7777] for start in range(0, 500_000, 7777))
        return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%b0\r\n\r\n" % b"".join(
            b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks
        )
    digest = hashlib.sha256(received.body).hexdigest().encode()
    length = b"Content-Length: %d\r\n\r\n" % len(digest)
    return b"HTTP/1.1 200 OK\r\n" + length + (b"" if received.line.startswith(b"HEAD ") else digest)


CHUNKED_END = -(-500_000 // 7777) * 7777


@pytest.fixture(params=["express", "full"])
async def upstream(request: pytest.FixtureRequest) -> AsyncIterator[RawUpstream]:
    token = LANE.set(request.param)
    async with raw_upstream(respond) as upstream:
        yield upstream
    LANE.reset(token)


@pytest.fixture
async def gateway(upstream: RawUpstream, tmp_path: Path) -> AsyncIterator[RunningGateway]:
    async with running_gateway(upstream.url, tmp_path) as gateway:
        yield gateway


async def pieces(content: bytes) -> AsyncIterator[bytes]:
    """Yield content in pieces, so that a client cannot know its length."""
    for start in range(0, len(content), 50_000):
        yield content[start : start + 50_000]


def sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.mark.rule("R280", "R288", "R293", "R301", "R329")
async def test_aiohttp(gateway: RunningGateway, upstream: RawUpstream) -> None:
    """Content with and without length, both ways, on kept connections."""
    base = f"http://127.0.0.1:{gateway.app.port}"
    headers = {"Authorization": f"Bearer {gateway.token().decode()}"}
    async with aiohttp.ClientSession(base, headers=headers) as session:
        async with session.get("/large") as answer:
            assert await answer.read() == CONTENT
        async with session.get("/chunks") as answer:
            assert await answer.read() == CONTENT[:CHUNKED_END]
        async with session.post("/", data=io.BytesIO(CONTENT)) as answer:
            assert await answer.text() == sha(CONTENT)
        async with session.put("/", data=pieces(CONTENT), expect100=True) as answer:
            assert await answer.text() == sha(CONTENT)
        async with session.head("/") as answer:
            assert answer.headers["Content-Length"] == "64"
        async with session.get("/", headers={"Authorization": "Bearer x"}) as answer:
            assert answer.status == 401
        async with session.get("/") as answer:
            assert await answer.text() == sha(b"")
    assert len(upstream.requests) == 6


@pytest.mark.rule("R280", "R288", "R301", "R329")
async def test_httpx(gateway: RunningGateway, upstream: RawUpstream) -> None:
    """The same for a client that is written on another parser."""
    base = f"http://127.0.0.1:{gateway.app.port}"
    headers = {"Authorization": f"Bearer {gateway.token().decode()}"}
    async with httpx.AsyncClient(base_url=base, headers=headers, trust_env=False) as client:
        assert (await client.get("/large")).content == CONTENT
        assert (await client.get("/chunks")).content == CONTENT[:CHUNKED_END]
        assert (await client.post("/", content=CONTENT)).text == sha(CONTENT)
        assert (await client.put("/", content=pieces(CONTENT))).text == sha(CONTENT)
        assert (await client.head("/")).headers["content-length"] == "64"
        assert (await client.get("/", headers={"Authorization": "Bearer x"})).status_code == 401
        several = await asyncio.gather(*(client.get("/") for _ in range(20)))
        assert {answer.text for answer in several} == {sha(b"")}
    assert len(upstream.requests) == 25


async def curl(*arguments: str, content: bytes = b"") -> bytes:
    """Run curl and return what it prints; it fails on anything it takes for a fault of the server."""
    process = await asyncio.create_subprocess_exec(
        *(str(program("curl")), "--silent", "--show-error", "--noproxy", "*", "--max-time", "20", *arguments),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, errors = await process.communicate(content)
    assert process.returncode == 0, errors.decode()
    return output


@pytest.mark.rule("R280", "R288", "R293", "R301", "R328", "R329")
async def test_curl(gateway: RunningGateway, upstream: RawUpstream, tmp_path: Path) -> None:
    """Also with Expect, which it sends by itself, and as an HTTP/1.0 client."""
    base = f"http://127.0.0.1:{gateway.app.port}"
    token = ("-H", f"Authorization: Bearer {gateway.token().decode()}")
    assert await curl(*token, f"{base}/large") == CONTENT
    assert await curl(*token, "--http1.0", f"{base}/chunks") == CONTENT[:CHUNKED_END]
    # Two requests, one connection: the second transfer needs no new one.
    twice = await curl(*token, "-w", "%{num_connects}", f"{base}/", f"{base}/")
    assert twice.decode() == f"{sha(b'')}1{sha(b'')}0"
    expect = ("-H", "Expect: 100-continue", "--data-binary", "@-")
    assert (await curl(*token, *expect, f"{base}/", content=CONTENT)).decode() == sha(CONTENT)
    assert (await curl(*token, "-T", "-", f"{base}/", content=CONTENT)).decode() == sha(CONTENT)  # chunked
    assert b"Content-Length: 64\r\n" in await curl(*token, "--head", f"{base}/")
    # Refused while it waits to send: the answer is there at once, and the content is never sent.
    refused = await curl(*expect, "-w", "%{http_code} %{size_upload}", "-o", str(tmp_path / "answer"), f"{base}/")
    assert refused == b"401 0"
    assert len(upstream.requests) == 7
