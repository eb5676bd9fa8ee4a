"""Few fetches go to one provider at a time, in order, and a silent one keeps no issuer waiting for long."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest
from yarl import URL

from gateway.clock import SystemClock
from gateway.jwt.issuers.registry import build_issuers
from gateway.outbound.origin_turns import MAX_FETCHES, MAX_TURN_WAIT_SECONDS, OriginTurns
from gateway.tasks import cancelled, spawn
from tests.support.clock import FakeClock, settle
from tests.support.composed import Issuer, Route, Settings
from tests.support.gateways.running import until
from tests.support.kept_memory import kept_memory
from tests.support.tokens.minting import AUDIENCE, SigningKey, jwks

HERE, THERE = URL("https://idp.test/realms/a?x=1"), URL("https://other.test/")
KEY = SigningKey.ec("one")


class Bench:
    """Fetches that end when a test says so."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.turns = OriginTurns(self.clock)
        self.running: list[int] = []
        self._ends: dict[int, asyncio.Event] = {}
        self._tasks: dict[int, asyncio.Task[None]] = {}

    async def begin(self, *numbers: int, url: URL = HERE) -> None:
        for number in numbers:
            self._ends[number] = asyncio.Event()
            self._tasks[number] = spawn(self._fetch(number, url), f"fetch {number}")
        await settle()

    async def end(self, *numbers: int) -> None:
        for number in numbers:
            self._ends[number].set()
        await settle()

    async def cancel(self, number: int) -> None:
        await cancelled(self._tasks[number])

    async def _fetch(self, number: int, url: URL) -> None:
        async with self.turns.at(url):
            self.running.append(number)
            try:
                await self._ends[number].wait()
            finally:
                self.running.remove(number)


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    made = Bench()
    yield made
    for number in list(made._tasks):
        await made.cancel(number)


async def test_so_many_run_and_the_others_follow_in_their_order(bench: Bench) -> None:
    await bench.begin(*range(MAX_FETCHES + 3))
    assert bench.running == list(range(MAX_FETCHES))
    await bench.end(5, 0)
    assert sorted(bench.running)[-2:] == [MAX_FETCHES, MAX_FETCHES + 1]
    assert len(bench.running) == MAX_FETCHES


@pytest.mark.rule("R172")
async def test_origins_do_not_wait_for_each_other(bench: Bench) -> None:
    """What counts is scheme, host and port."""
    await bench.begin(*range(MAX_FETCHES), url=HERE)
    await bench.begin(100, url=URL("https://IDP.test:443/other"))
    await bench.begin(101, url=THERE)
    await bench.begin(102, url=URL("https://idp.test:8443/"))
    assert bench.running[MAX_FETCHES:] == [101, 102]


@pytest.mark.rule("R172")
async def test_a_provider_that_is_silent_for_some_keeps_the_others_waiting_briefly(bench: Bench) -> None:
    await bench.begin(*range(MAX_FETCHES + 2))
    await bench.clock.advance(MAX_TURN_WAIT_SECONDS - 0.01)
    assert len(bench.running) == MAX_FETCHES
    await bench.clock.advance(0.02)
    assert len(bench.running) == MAX_FETCHES + 2
    await bench.begin(200)
    await bench.end(0)
    assert 200 not in bench.running, "there are still more than there should be"
    await bench.end(1, 2)
    assert 200 in bench.running


async def test_who_leaves_takes_no_turn_along(bench: Bench) -> None:
    await bench.begin(*range(MAX_FETCHES + 3))
    await bench.cancel(MAX_FETCHES)  # while it waits
    bench._ends[0].set()  # its turn goes to the next one, which leaves in the same moment
    bench._tasks[MAX_FETCHES + 1].cancel()
    await settle()
    await bench.cancel(3)  # while it runs
    await bench.begin(300)
    assert {MAX_FETCHES + 2, 300} <= set(bench.running)
    assert len(bench.running) == MAX_FETCHES


class StoppedClock(FakeClock):
    """Nothing that sleeps wakes, and nothing is kept of it."""

    async def sleep(self, seconds: float) -> None:
        await asyncio.Event().wait()


async def test_nothing_is_kept_of_origins_without_fetches() -> None:
    urls = [URL(f"https://{number}.idp.test/") for number in range(200)]

    async def fetch(turns: OriginTurns, url: URL) -> None:
        async with turns.at(url):
            await asyncio.sleep(0)

    async def fetch_from_all(turns: OriginTurns) -> None:
        for url in urls:
            await asyncio.gather(*(fetch(turns, url) for _ in range(MAX_FETCHES + 3)))

    await fetch_from_all(OriginTurns(StoppedClock()))  # what the addresses themselves keep is there by then
    turns = OriginTurns(StoppedClock())
    with kept_memory() as kept:
        await fetch_from_all(turns)
    assert kept.size < 60_000


@pytest.mark.rule("R174")
async def test_many_issuers_at_one_provider_have_their_keys_at_once() -> None:
    """A listening socket whose queue is shorter than the number of issuers loses none of them."""
    open_now, most = 0, 0

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal open_now, most
        open_now += 1
        most = max(most, open_now)
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            body = jwks(KEY)
            writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
            await writer.drain()
        writer.close()
        open_now -= 1

    server = await asyncio.start_server(answer, "127.0.0.1", 0, backlog=MAX_FETCHES)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    issuers = [
        Issuer(name=f"i{n}", issuer=f"https://i{n}.test/", audience=[AUDIENCE], jwks_url=f"{url}/{n}")
        for n in range(200)
    ]
    upstream = {"name": "main", "urls": ["http://127.0.0.1:9"]}
    settings = Settings.model_validate(
        {"issuers": issuers, "upstreams": [upstream], "routes": [Route(path="/", upstream="main")]}
    )
    built = build_issuers(settings, SystemClock())
    async with server:
        try:
            for keys in built.values():
                keys.start()
            await until(lambda: all(keys.loaded for keys in built.values()), 20)
        finally:
            for keys in built.values():
                await keys.stop()
    assert {keys.failures for keys in built.values()} == {0}
    assert most <= MAX_FETCHES
