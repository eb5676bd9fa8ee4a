"""Clients that send ahead as fast as it goes: they fill no memory, and hold no other client up (R429, C119)."""

from __future__ import annotations

import asyncio
import ssl
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from gateway import turns
from gateway.server.request.in_progress import Run
from gateway.server.request.outcome import Outcomes
from tests.support.certificates import Authority, authority
from tests.support.clients.pipelining import KINDS
from tests.support.gateways.one_process import GatewayProcess
from tests.support.gateways.running import RawClient, request, running_gateway
from tests.support.pace import paced
from tests.support.upstreams.recording import raw_upstream

MIB = 1 << 20

#: How long others pipeline, in seconds; how much the gateway may grow by it (the rule's 100 MiB are for a minute of it,
#: and a gateway that reads without bound would not get so far here); and how long a good client may wait.
SECONDS, GROWTH, WAIT = 0.8, 16 * MIB, 0.1

#: What is sent, over how many connections, and whether the answers are read.
FLOODS = [("refused", 2, False), ("different", 10, False), ("alike", 1, True)]


async def waits_of(client: RawClient, over: asyncio.Event) -> list[float]:
    """Send a request every few milliseconds over one connection; return how long each answer took."""
    waits = []
    while not over.is_set():
        began = time.monotonic()
        assert (await client.exchange(request(b"GET", "/good"), within=20)).status == 200
        waits.append(time.monotonic() - began)
        await asyncio.sleep(0.005)
    return waits


async def flood(port: int, kind: str, count: int, *, read: bool, ca: Path | None = None) -> int:
    """Have others pipeline for a while; return how much they sent."""
    options = [*(["--read"] if read else []), *(["--tls", str(ca)] if ca else []), "--seconds", str(SECONDS)]
    command = [sys.executable, "-m", "tests.support.clients.pipelining", str(port), str(count), kind, *options]
    child = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    said, _ = await child.communicate()
    assert child.returncode == 0
    return int(said)


async def assert_bounded(gateway: GatewayProcess, client: RawClient, kind: str, count: int, **options: Any) -> None:
    """Let others pipeline: the gateway stays small, and a good client is served."""
    before, over = gateway.memory("VmRSS"), asyncio.Event()
    waiting = asyncio.ensure_future(waits_of(client, over))
    sent = await flood(gateway.port, kind, count, **options)
    over.set()
    waits = await waiting
    peak = gateway.memory("VmHWM") - before
    assert sent > MIB, "they were not read at all"
    assert peak < GROWTH, f"{kind}: {peak >> 20} MiB more, after {sent >> 20} MiB"
    assert max(waits) < paced(WAIT), f"{kind}: {max(waits):.3f} s"
    for _ in range(40):
        if gateway.memory("VmRSS") - before < GROWTH // 2:
            return
        await asyncio.sleep(0.05)
    raise AssertionError(f"{kind}: it keeps {(gateway.memory('VmRSS') - before) >> 20} MiB")


@pytest.mark.rule("R429", "C119")
async def test_clients_that_pipeline_fill_no_memory_and_hold_no_other_up(tmp_path: Path) -> None:
    """Without a credential or on a public route, answers read or not."""
    async with raw_upstream() as upstream, GatewayProcess(tmp_path, [upstream.url]) as gateway:
        client = RawClient(*await asyncio.open_connection("127.0.0.1", gateway.port))
        for _ in range(20):
            await client.exchange(request(b"GET", "/good"))
        for kind, count, read in FLOODS:
            await assert_bounded(gateway, client, kind, count, read=read)
        await client.close()


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return authority(tmp_path_factory.mktemp("ca"))


@pytest.mark.rule("R429", "C119")
async def test_clients_that_pipeline_over_tls_fill_no_memory_and_hold_no_other_up(
    ca: Authority, tmp_path: Path
) -> None:
    """The same where the kernel's bytes stand in OpenSSL's buffers first."""
    own = ca.sign("gateway", "localhost", "127.0.0.1")
    server = {"tls_cert": str(own.cert), "tls_key": str(own.key), "access_log": "off"}
    async with raw_upstream() as upstream, GatewayProcess(tmp_path, [upstream.url], server=server) as gateway:
        context = ssl.create_default_context(cafile=str(ca.bundle))
        client = RawClient(
            *await asyncio.open_connection("127.0.0.1", gateway.port, ssl=context, server_hostname="localhost")
        )
        for _ in range(20):
            await client.exchange(request(b"GET", "/good"))
        await assert_bounded(gateway, client, "refused", 4, read=False, ca=ca.bundle)
        await client.close()


class LoopTurns:
    """Counts the turns of the running loop, and of the requests that begin, how many do in each of them.

    Args:
        first: the target of those that are not counted.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, first: bytes) -> None:
        self._loop, self._first = asyncio.get_running_loop(), first
        self._turn = 0
        self._ended = False
        self.begun: Counter[int] = Counter()
        enter = Outcomes.enter

        def counting(outcomes: Outcomes, run: Run) -> None:
            self.begun[self._turn] += run.head.target != self._first
            enter(outcomes, run)

        monkeypatch.setattr(Outcomes, "enter", counting)
        self._next()

    def _next(self) -> None:
        self._turn += 1
        if not self._ended:
            self._loop.call_soon(self._next)

    def end(self) -> None:
        self._ended = True


@pytest.mark.rule("R429")
async def test_all_that_pipeline_have_one_request_in_a_turn_of_the_loop(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Or fifty of them make each turn fifty requests long, and others wait for several turns."""
    monkeypatch.setattr(turns, "MAX_TURN_SECONDS", 0.0)
    routes = ({"path": "/", "auth": "public"},)
    async with raw_upstream() as upstream, running_gateway(upstream.url, tmp_path, routes=routes) as gateway:
        clients = [await gateway.client() for _ in range(10)]
        counting = LoopTurns(monkeypatch, b"/0")
        for client in clients:
            client.writer.write(b"".join(request(b"GET", f"/{number}") for number in range(10)))
        for client in clients:
            for _ in range(10):
                assert (await client.response(within=20)).status == 200
        counting.end()
    assert counting.begun.total() == 90
    assert max(counting.begun.values()) == 1


@pytest.mark.rule("R429")
async def test_long_heads_are_read_in_turns_of_the_loop(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Also of clients that wait for their answers."""
    monkeypatch.setattr(turns, "MAX_TURN_SECONDS", 0.0)
    routes = ({"path": "/", "auth": "public"},)
    data = request(b"GET", "/", *((b"X-%d" % number, b"a" * 1000) for number in range(30)))
    async with raw_upstream() as upstream, running_gateway(upstream.url, tmp_path, routes=routes) as gateway:
        clients = [await gateway.client() for _ in range(10)]
        counting = LoopTurns(monkeypatch, b"")
        for client in clients:
            client.writer.write(data)
        for client in clients:
            assert (await client.response(within=20)).status == 200
        counting.end()
    assert counting.begun.total() == 10
    assert max(counting.begun.values()) == 1


@pytest.mark.every_log
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.rule("R214", "R429")
async def test_everything_that_was_sent_ahead_is_answered_in_its_order(kind: str, tmp_path: Path) -> None:
    """Whatever is held back is neither lost nor mixed up."""
    data = KINDS[kind] if kind != "one upload" else KINDS[kind] + b"0\r\n\r\n"
    count = min(data.count(b" HTTP/1.1\r\n"), 600)
    routes = ({"path": "/", "auth": "public"},)
    async with raw_upstream() as upstream, running_gateway(upstream.url, tmp_path, routes=routes) as gateway:
        client = await gateway.client()
        client.writer.write(data)
        for _ in range(count):
            response = await client.response(within=20)
            assert (response.status, response.complete) == (400 if kind == "refused" else 200, True)
        seen = [one.target for one in upstream.requests][:count]
        if kind == "different":
            assert seen == [b"/%d" % number for number in range(count)]
        if kind == "one upload":
            assert upstream.requests[0].body == b"a" * 50_000
