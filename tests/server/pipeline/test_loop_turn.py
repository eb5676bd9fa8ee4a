"""Who was refused a moment ago stands behind those who are served, and is turned to all the same."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.jwt.cache import TokenCache
from gateway.server.pipeline.loop_turn import (
    IDLE_TURNS,
    MAX_DEFERRED_SECONDS,
    MAX_TURN_REQUESTS,
    MAX_WAIT_SECONDS,
    SHARE,
    TASK_SECONDS,
    Deferred,
    DeferredRequest,
)
from gateway.tasks import failures, spawn
from gateway.telemetry.access_log import AccessLog
from gateway.telemetry.counters import Telemetry
from tests.support.clock import FakeClock
from tests.support.gateways.running import RawClient, RunningGateway, request, running_gateway, until
from tests.support.loop_side import standing_still
from tests.support.upstreams.recording import OK, Received, raw_upstream

#: What it takes to turn to one request, and the length of a turn of a busy loop, in seconds.
COST, BUSY_TURN = 0.00005, 0.001

OPTIONS: dict[str, Any] = {"server": {"express": True, "access_log": "off"}}


class Client:
    """The connection of a deferred request, as the loop's turn sees it."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self.fault: Exception | None = None
        self.cut = False
        self.in_task = False  # it goes on in one
        self.ahead = 0  # requests that it has sent behind the one that waits

    def abort(self) -> None:
        self.cut = True

    def resume(self) -> bool:
        if self.fault is not None:
            raise self.fault
        self._bench.resumed.append((self, self._bench.clock.monotonic()))
        self._bench.clock.jump(self._bench.cost)
        if self.ahead:
            self.ahead -= 1
            self._bench.deferred.add(DeferredRequest(self))
        return self.in_task


class Bench:
    """A queue, and a loop whose turns a test makes."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.cache = TokenCache(10, 60, self.clock)
        self.telemetry = Telemetry(AccessLog("off", io.StringIO(), self.clock))
        self.deferred = Deferred(self.cache, self.telemetry, self.clock)
        self.resumed: list[tuple[Client, float]] = []
        self.cost = COST

    def add(self, count: int = 1) -> list[Client]:
        clients = [Client(self) for _ in range(count)]
        for client in clients:
            self.deferred.add(DeferredRequest(client))
        return clients

    async def turn(self, *, served: int = 0, seconds: float = 0.0) -> None:
        """Let the loop turn once, in which callers were found in the cache and so much time went by."""
        self.cache.hits += served
        self.clock.jump(seconds)
        await asyncio.sleep(0)


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    yield made
    assert made.telemetry.deferred == 0, "no request may wait at the end of a test"


async def until_free(bench: Bench) -> None:
    while bench.telemetry.deferred:
        await bench.turn()


async def test_a_gateway_with_nothing_else_to_do_turns_to_them_within_a_few_turns(bench: Bench) -> None:
    bench.add()
    for _ in range(IDLE_TURNS + 1):
        await bench.turn()
    assert len(bench.resumed) == 1


@pytest.mark.rule("R429")
async def test_a_client_that_pipelines_has_one_request_in_a_turn_of_the_loop(bench: Bench) -> None:
    """What comes again while the queue is empty asks for no second turn, or each turn would make two of it."""
    [client] = bench.add()
    client.ahead = 2000
    in_each = []
    while bench.telemetry.deferred:
        before = len(bench.resumed)
        await bench.turn()
        in_each.append(len(bench.resumed) - before)
    assert len(bench.resumed) == 2001
    assert max(in_each) == 1


async def test_they_are_turned_to_in_their_order(bench: Bench) -> None:
    clients = bench.add(5)
    await until_free(bench)
    assert [client for client, _ in bench.resumed] == clients


async def test_time_without_other_work_is_theirs(bench: Bench) -> None:
    """A flood of refusals and nothing else: many in a turn, but no turn without a bound on its time."""
    bench.cost = MAX_DEFERRED_SECONDS / 9.5
    for _ in range(500):
        await bench.turn()
        bench.add()
    bench.add(100)
    before = len(bench.resumed)
    await bench.turn()
    assert len(bench.resumed) - before == 10
    await until_free(bench)


async def test_no_turn_is_longer_than_so_many_requests(bench: Bench) -> None:
    bench.cost = 0.0
    bench.add(2 * MAX_TURN_REQUESTS)
    counts = []
    while bench.telemetry.deferred:
        before = len(bench.resumed)
        await bench.turn()
        counts.append(len(bench.resumed) - before)
    assert max(counts) == MAX_TURN_REQUESTS


@pytest.mark.parametrize("kind", ["callers", "responses"])
async def test_while_requests_are_served_they_get_a_share_of_the_time(kind: str, bench: Bench) -> None:
    """Whether it is callers that are known, or responses that come, which is all there is of public routes."""
    began = bench.clock.monotonic()
    bench.add(MAX_TURN_REQUESTS)
    while bench.clock.monotonic() - began < 0.9 * MAX_WAIT_SECONDS:
        if kind == "responses":
            bench.telemetry.upstream.observe(0.001)
        await bench.turn(served=kind == "callers", seconds=BUSY_TURN)
        bench.add(MAX_TURN_REQUESTS - bench.telemetry.deferred)
    assert len(bench.resumed) * COST == pytest.approx(SHARE * 0.9 * MAX_WAIT_SECONDS, rel=0.15)
    await until_free(bench)


@pytest.mark.rule("R404")
async def test_work_that_goes_on_in_a_task_counts_as_well(bench: Bench) -> None:
    """It is done in later turns, so nothing of it is seen in this one; the full lane's requests are all like that."""
    bench.cost = 0.0
    began = bench.clock.monotonic()
    while bench.clock.monotonic() - began < 0.9 * MAX_WAIT_SECONDS:
        for client in bench.add(MAX_TURN_REQUESTS - bench.telemetry.deferred):
            client.in_task = True
        await bench.turn(served=1, seconds=BUSY_TURN)
    assert len(bench.resumed) * TASK_SECONDS == pytest.approx(SHARE * 0.9 * MAX_WAIT_SECONDS, rel=0.15)
    await until_free(bench)


async def test_nobody_waits_longer_than_a_second(bench: Bench) -> None:
    """Also where each of them takes so long that their share is used up."""
    bench.cost = 0.1
    began = bench.clock.monotonic()
    bench.add(20)
    while bench.telemetry.deferred:
        await bench.turn(served=1, seconds=BUSY_TURN)
    waits = [at - began for _, at in bench.resumed]
    own = 20 * bench.cost  # what the others took while the last one waited
    assert max(waits) <= MAX_WAIT_SECONDS + own
    assert min(waits) < MAX_WAIT_SECONDS / 2


async def test_time_that_nobody_used_is_not_saved_for_a_burst(bench: Bench) -> None:
    """A gateway that served for an hour and refused no request owes no hour's share."""
    bench.cost = MAX_DEFERRED_SECONDS / 2
    await bench.turn(served=1, seconds=3600)
    bench.add(50)
    await bench.turn(served=1)
    assert len(bench.resumed) == 2
    await until_free(bench)


@pytest.mark.rule("R406")
async def test_a_fault_with_one_gives_up_that_one_and_no_other(bench: Bench) -> None:
    """Or the queue would stand still from then on, and the client wait for good."""
    before, first = failures["deferred requests"], Client(bench)
    first.fault = RuntimeError("secret")
    bench.deferred.add(DeferredRequest(first))
    others = bench.add(3)
    for _ in range(IDLE_TURNS + 10):
        await bench.turn()
    assert [client for client, _ in bench.resumed] == others
    assert (first.cut, [client.cut for client in others]) == (True, [False] * 3)
    assert failures["deferred requests"] == before + 1
    later = bench.add()
    for _ in range(IDLE_TURNS + 10):
        await bench.turn()
    assert bench.resumed[-1][0] is later[0]


# --- the connections of a gateway ---


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> list[DeferredRequest]:
    """The requests that were deferred, of both lanes."""
    noted: list[DeferredRequest] = []
    whole = Deferred.add

    def noting(self: Deferred, request: DeferredRequest) -> None:
        noted.append(request)
        whole(self, request)

    monkeypatch.setattr(Deferred, "add", noting)
    return noted


@pytest.mark.parametrize("express", [True, False], ids=["express", "full"])
@pytest.mark.parametrize("access_log", ["off", "json"])
@pytest.mark.rule("R405")
async def test_only_what_follows_a_refusal_and_is_not_known_to_be_good_waits(
    express: bool, access_log: str, held: list[DeferredRequest], tmp_path: Path
) -> None:
    """In both lanes, with and without log lines; a known token does not wait, whatever its path."""
    server = {"express": express, "access_log": access_log}
    async with raw_upstream() as upstream, running_gateway(upstream.url, tmp_path, server=server) as gateway:
        good, other, third = (gateway.token(sub=name) for name in ("ann", "bob", "eve"))
        client = await gateway.client()
        waits = []
        for data, status in (
            (request(b"GET", "/", token=good), 200),
            (request(b"GET", "/", token=b"junk"), 401),
            (request(b"GET", "/", token=good), 200),  # known
            (request(b"GET", "/", token=other), 200),  # new, but the last one was served
            (request(b"GET", "/", token=b"junk"), 401),
            (request(b"GET", "/", token=third), 200),  # new, behind a refusal
            (request(b"GET", "/elsewhere", token=b"junk"), 401),
            (request(b"GET", "/anew", (b"X-A", b"1"), token=third), 200),  # known, whatever else it says
            (request(b"GET", "/", token=b"junk"), 401),
            (request(b"GET", "/"), 401),  # without a token
            (request(b"GET", "/a/../b", token=b"junk"), 400),  # whatever it is refused for
            (request(b"GET", "/", token=good[:-8] + b"AAAAAAAA"), 401),
            (request(b"GET", "/", (b"X-Request-Id", b"x"), (b"Connection", b"x-a"), token=good), 200),
        ):
            before = len(held)
            assert (await client.exchange(data)).status == status
            waits.append(len(held) - before)
    assert waits == [0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 1, 1, 0]
    assert len(upstream.requests) == 6


@pytest.mark.parametrize("express", [True, False], ids=["express", "full"])
@pytest.mark.parametrize(
    "refused",
    [
        pytest.param(request(b"GET", "/", (b"Connection", b"keep-alive, x"), token=b"junk"), id="nominated field"),
        pytest.param(
            request(b"GET", "/", (b"Connection", b"keep-alive"), (b"X", b"y" * 4000), token=b"junk"), id="big"
        ),
        pytest.param(request(b"GET", "/"), id="no token"),
        pytest.param(request(b"GET", "/a/../b", token=b"junk"), id="bad path"),
        pytest.param(request(b"GET", "/", (b"X-Forwarded-For", b"1.2.3.4"), token=b"junk"), id="forwarded"),
        pytest.param(request(b"GET", "/?access_token=x", token=b"junk"), id="two tokens"),
        pytest.param(request(b"OPTIONS", "/", (b"Max-Forwards", b"0"), token=b"junk"), id="last recipient"),
        pytest.param(request(b"POST", "/", (b"Content-Length", b"1"), token=b"junk") + b"x", id="content"),
    ],
)
@pytest.mark.rule("R404")
async def test_nothing_in_a_head_takes_a_request_out_of_the_order(
    express: bool, refused: bytes, held: list[DeferredRequest], tmp_path: Path
) -> None:
    """Each refused request behind a refused one waits, on this connection and on new ones, and a known caller never."""
    server = {"express": express}
    async with raw_upstream() as upstream, running_gateway(upstream.url, tmp_path, server=server) as gateway:
        client, good = await gateway.client(), gateway.token()
        assert (await gateway.get("/", token=good)).status == 200
        for number in range(4):
            assert (await client.exchange(refused)).status in (400, 401)
            assert len(held) == number
        fresh = await gateway.client()
        assert (await fresh.exchange(refused)).status in (400, 401)
        assert len(held) == 4
        assert (await gateway.get("/new/path", token=good)).status == 200
        assert len(held) == 4


@pytest.mark.parametrize("express", [True, False], ids=["express", "full"])
@pytest.mark.parametrize(
    "refused",
    [
        pytest.param(b"GET / HTTP/1.1\r\nHost: h\r\nX : y\r\n\r\n", id="malformed"),
        pytest.param(b"GET / HTTP/2.0\r\n\r\n", id="version"),
        pytest.param(b"GET /" + b"x" * 70000, id="too long"),
        pytest.param(b"\r\n\r\n\r\n\r\n", id="empty lines"),
        pytest.param(b"*1\r\n$4\r\nPING\r\n", id="not HTTP"),
    ],
)
@pytest.mark.rule("R404")
async def test_what_is_no_request_is_in_the_order_too(
    express: bool, refused: bytes, held: list[DeferredRequest], tmp_path: Path
) -> None:
    """Each costs a connection; else a client that writes nonsense would be served before all who write requests."""
    server = {"express": express}
    async with raw_upstream() as upstream, running_gateway(upstream.url, tmp_path, server=server) as gateway:
        good = gateway.token()
        assert (await gateway.get("/", token=good)).status == 200
        for number in range(3):
            client = await gateway.client()
            assert (await client.exchange(refused)).status in (400, 431, 505)
            assert await client.at_end()
            assert len(held) == number
        assert (await gateway.get("/", token=b"junk")).status == 401
        assert len(held) == 3, "its address is known for refusals"
        assert (await gateway.get("/", token=good)).status == 200
        assert len(held) == 3


@pytest.mark.parametrize("express", [True, False], ids=["express", "full"])
@pytest.mark.rule("R404")
async def test_bad_tokens_between_do_not_excuse_refusals_of_a_known_one(
    express: bool, held: list[DeferredRequest], tmp_path: Path
) -> None:
    """Else two in three of a flood would never wait: one bad token, two good ones where they may not, and again."""
    routes = ({"path": "/"}, {"path": "/admin", "scopes": ["admin"]})
    server = {"express": express}
    async with (
        raw_upstream() as upstream,
        running_gateway(upstream.url, tmp_path, server=server, routes=routes) as gateway,
    ):
        client, good = await gateway.client(), gateway.token()
        assert (await client.exchange(request(b"GET", "/", token=good))).status == 200
        waits = []
        for token in (b"junk", good, good, b"junk", good, good, b"junk", good, good):
            before = len(held)
            assert (await client.exchange(request(b"GET", "/admin", token=token))).status in (401, 403)
            waits.append(len(held) - before)
    assert waits == [0, 0, 0, 1, 1, 1, 1, 1, 1]


@pytest.mark.rule("R404")
async def test_a_connection_that_returns_to_the_express_lane_keeps_its_place_in_the_order(
    held: list[DeferredRequest], tmp_path: Path
) -> None:
    """Whatever was served meanwhile to other connections of its address."""
    async with raw_upstream() as upstream, running_gateway(upstream.url, tmp_path, **OPTIONS) as gateway:
        client, other, good = await gateway.client(), await gateway.client(), gateway.token()
        express = gateway.app.express.connections
        chunked = request(b"POST", "/", (b"Transfer-Encoding", b"chunked"), token=b"junk") + b"0\r\n\r\n"
        assert (await client.exchange(chunked)).status == 401
        await until(lambda: len(express) == 2)
        for number in range(3):
            assert (await other.exchange(request(b"GET", "/", token=good))).status == 200
            assert len(held) == number
            assert (await client.exchange(chunked)).status == 401
            await until(lambda: len(express) == 2)
            assert len(held) == number + 1


async def test_requests_sent_at_once_are_answered_in_their_order(held: list[DeferredRequest], tmp_path: Path) -> None:
    async with raw_upstream() as upstream, running_gateway(upstream.url, tmp_path, **OPTIONS) as gateway:
        good = gateway.token()
        client = await gateway.client()
        tokens = (b"junk", b"junk", good, b"junk", good)
        await client.send(b"".join(request(b"GET", "/", token=token) for token in tokens))
        answers = [(await client.response()).status for _ in tokens]
    assert answers == [401, 401, 200, 401, 200]
    assert len(held) == 2, "the second, and the third, whose token was new; the last one was known by then"


async def nothing(*_: object) -> None:
    """Close the connection without an answer."""


@pytest.mark.parametrize("method", [b"GET", b"POST"])
async def test_a_failure_of_the_upstream_puts_nobody_behind(
    method: bytes, held: list[DeferredRequest], tmp_path: Path
) -> None:
    """It is not the client's; whether it is answered at once or after a second try."""
    async with raw_upstream() as upstream, running_gateway(upstream.url, tmp_path, **OPTIONS) as gateway:
        client = await gateway.client()
        good, new = gateway.token(), gateway.token(sub="new")
        assert (await client.exchange(request(method, "/", token=good))).status == 200
        upstream.respond = nothing
        assert (await client.exchange(request(method, "/", token=good))).status == 502
        assert (await client.exchange(request(method, "/x", token=new))).status == 502
    assert held == []


@pytest.mark.parametrize("express", [True, False], ids=["express", "full"])
@pytest.mark.rule("R404")
async def test_what_the_gateway_cannot_do_now_waits_as_well(
    express: bool, held: list[DeferredRequest], tmp_path: Path
) -> None:
    """503 without an upstream, in either lane; else tokens of an issuer whose keys are away would be before all."""
    answer = asyncio.Event()

    async def respond(received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        await answer.wait()
        return OK

    server = {"express": express, "max_concurrent_requests": 1}
    async with raw_upstream(respond) as upstream, running_gateway(upstream.url, tmp_path, server=server) as gateway:
        first, client = await gateway.client(), await gateway.client()
        await first.send(request(b"GET", "/", token=gateway.token()))
        await upstream.got_request.wait()
        for number, name in enumerate(("ann", "bob")):
            assert (await client.exchange(request(b"GET", "/", token=gateway.token(sub=name)))).status == 503
            assert len(held) == number
        answer.set()
        assert (await first.response()).status == 200


async def test_who_is_refused_in_a_task_is_put_behind(held: list[DeferredRequest], tmp_path: Path) -> None:
    """Routes whose steps may wait refuse by the shared run."""
    routes = ({"path": "/", "end_at_expiry": True},)
    async with raw_upstream() as upstream, running_gateway(upstream.url, tmp_path, **OPTIONS, routes=routes) as gateway:
        client = await gateway.client()
        statuses = [
            (await client.exchange(request(b"GET", "/", token=token))).status
            for token in (gateway.token(), b"junk", gateway.token(sub="bob"), gateway.token(sub="eve"))
        ]
    assert statuses == [200, 401, 200, 200]
    assert len(held) == 1


async def test_a_request_whose_client_left_while_it_waited_goes_nowhere(
    tmp_path: Path,
) -> None:
    """Also one that would have been served."""
    async with raw_upstream() as upstream, running_gateway(upstream.url, tmp_path, **OPTIONS) as gateway:
        assert (await gateway.get("/", token=gateway.token(sub="first"))).status == 200  # a connection is kept
        queue = gateway.app.express.serving.deferred
        client = await gateway.client()
        assert (await client.exchange(request(b"GET", "/", token=b"junk"))).status == 401
        with standing_still(queue):
            await client.send(request(b"GET", "/", token=gateway.token()))
            await until(lambda: gateway.app.telemetry.deferred == 1)
            client.writer.transport.abort()
            await until(lambda: gateway.app.telemetry.connections == 1)
        await until(lambda: gateway.app.telemetry.deferred == 0)
        assert (await gateway.get("/", token=gateway.token(sub="last"))).status == 200
    assert [received.one(b"x-user-id") for received in upstream.requests] == [b"first", b"last"]


REFUSED = (request(b"GET", "/", token=b"junk"), request(b"GET", "/"))


async def refused_clients(gateway: RunningGateway) -> list[RawClient]:
    """Return a client for each of ``REFUSED``, to whom it was said once."""
    clients = [await gateway.client() for _ in REFUSED]
    for client, data in zip(clients, REFUSED, strict=True):
        assert (await client.exchange(data)).status == 401
    return clients


async def test_a_client_that_leaves_while_it_waits_leaves_nothing(held: list[DeferredRequest], tmp_path: Path) -> None:
    async with raw_upstream() as upstream, running_gateway(upstream.url, tmp_path, **OPTIONS) as gateway:
        queue, clients = gateway.app.express.serving.deferred, await refused_clients(gateway)
        held.clear()
        with standing_still(queue):
            for number, (client, data) in enumerate(zip(clients, REFUSED, strict=True), 1):
                await client.send(data)
                await until(lambda number=number: gateway.app.telemetry.deferred == number)  # type: ignore[misc]
            for client in clients:
                client.writer.transport.abort()
            await until(lambda: gateway.app.telemetry.connections == 0)
        assert gateway.app.telemetry.deferred == len(held) == 2
        await until(lambda: gateway.app.telemetry.deferred == 0)
        assert (await gateway.get("/", token=gateway.token())).status == 200
    assert len(upstream.requests) == 1


async def test_one_who_waits_while_the_gateway_drains_is_answered_for_the_last_time(tmp_path: Path) -> None:
    async with raw_upstream() as upstream, running_gateway(upstream.url, tmp_path, **OPTIONS) as gateway:
        queue, clients = gateway.app.express.serving.deferred, await refused_clients(gateway)
        with standing_still(queue):
            for client, data in zip(clients, REFUSED, strict=True):
                await client.send(data)
            await until(lambda: gateway.app.telemetry.deferred == 2)
            draining = spawn(gateway.app.drain(), "drain", awaited=True)
            await until(lambda: gateway.app.listener.draining)
        for client in clients:
            answer = await client.response()
            assert (answer.status, answer.one(b"connection")) == (401, b"close")
        await draining
