"""The pages about several workers, in states that real processes are seldom in. Real ones: test_workers_running."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from gateway.process.merged_metrics import Wire
from gateway.process.worker_pages import Slot, Workers
from gateway.process.worker_process import WorkerProcess
from tests.support.clock import FakeClock

READY = {"ready": True, "draining": False, "issuers": {"main": {"ready": True, "reason": ""}}}
STALE = {"ready": False, "draining": False, "issuers": {"main": {"ready": False, "reason": "stale_keys"}}}


def counted(number: int, connections: int = 0) -> Wire:
    samples = [["gateway_requests_total", {"route": "/"}, number]]
    gauge = [["gateway_open_connections", {}, connections]]
    return [
        {"name": "gateway_requests", "type": "counter", "help": "Requests.", "merge": "sum", "samples": samples},
        {"name": "gateway_open_connections", "type": "gauge", "help": "Open.", "merge": "sum", "samples": gauge},
    ]


@dataclass(eq=False)
class Process:
    """A worker in a state of the test's choice."""

    answers: dict[str, Any] = field(default_factory=dict)
    alive: bool = True
    listening: bool = True
    metrics: Wire = field(default_factory=list)
    pid: int = 1
    loaded: bool = True
    gate: asyncio.Event | None = None
    pieces: list[Any] = field(default_factory=list)
    given: list[tuple[str, ...]] = field(default_factory=list)

    async def ask(self, page: str, *given: str) -> Any:
        self.given.append((page, *given))
        if page == "more":
            return self.pieces.pop(0) if self.pieces else None
        if self.gate is not None:
            await self.gate.wait()
        return self.answers.get(page) if self.listening else None


def fleet(*processes: Process | None) -> Workers:
    slots = [Slot(number, cast(WorkerProcess, one) if one else None, 1000.0) for number, one in enumerate(processes)]
    return Workers(("main",), FakeClock(), slots)


async def samples(of: Workers) -> dict[tuple[str, str], float]:
    collector = await of.metrics()
    return {
        (sample.name, sample.labels.get("worker", "")): sample.value
        for family in collector.collect()
        for sample in family.samples
    }


async def test_health_needs_one_living_worker() -> None:
    assert await fleet(None, Process(listening=False)).health() == (200, {"status": "ok", "workers": 1})
    assert await fleet(None, Process(alive=False)).health() == (503, {"status": "no_worker", "workers": 0})


@pytest.mark.rule("R378")
async def test_readiness_names_each_worker_and_why_an_issuer_is_not_usable() -> None:
    """The first worker that is not ready gives the reason."""
    status, body = await fleet(
        Process({"readiness": [200, READY]}),
        Process({"readiness": [503, STALE]}),
        None,
        Process(listening=False),
        Process(),
    ).readiness()
    assert (status, body["ready"]) == (503, False)
    assert body["issuers"] == {"main": {"ready": False, "reason": "stale_keys"}}
    assert [worker["state"] for worker in body["workers"]] == ["running", "running", "down", "starting", "no_answer"]
    assert [worker["ready"] for worker in body["workers"]] == [True, False, False, False, False]
    _, body = await fleet(Process({"readiness": [200, READY]}), None).readiness()
    assert body["issuers"] == {"main": {"ready": False, "reason": "down"}}


@pytest.mark.rule("R442")
async def test_a_gateway_that_was_ready_stays_so_without_what_others_have() -> None:
    """Workers that are replaced may have no keys while the provider is away; all gateways are in that place."""
    one = fleet(*(Process({"readiness": [200, READY]}) for _ in range(2)))
    assert (await one.readiness())[0] == 200
    lacking = Process({"readiness": [503, STALE]})
    for others, status in (
        ([Process({"readiness": [200, READY]}), lacking], 200),
        ([lacking, lacking], 200),
        ([None, lacking], 200),
        ([Process(listening=False), lacking], 200),
        ([None, Process(listening=False)], 503),  # no worker serves
        ([lacking, Process()], 503),  # one hangs, and with it the clients that got its connections
    ):
        for slot, process in zip(one.slots, others, strict=True):
            slot.process = cast(WorkerProcess, process) if process else None
        assert (await one.readiness())[0] == status, others


@pytest.mark.rule("R442")
async def test_a_worker_that_takes_a_place_during_a_question_does_not_hang() -> None:
    """It was not asked yet; the answer that is missing was another one's."""
    one = fleet(*(Process({"readiness": [200, READY]}) for _ in range(2)))
    await one.readiness()
    waiting = one.slots[0].process = cast(WorkerProcess, Process({"readiness": [200, READY]}, gate=asyncio.Event()))
    one.slots[1].process = None
    asking = asyncio.ensure_future(one.readiness())
    await asyncio.sleep(0)
    one.slots[1].process = cast(WorkerProcess, Process({"readiness": [200, READY]}))
    cast(Process, waiting).gate.set()  # type: ignore[union-attr]
    status, body = await asking
    assert (status, [worker["state"] for worker in body["workers"]]) == (200, ["running", "starting"])


@pytest.mark.rule("R442")
async def test_the_eldest_that_answers_leaves_what_it_has() -> None:
    """All pieces, or it is the next one's turn; no worker inherits from itself."""
    whole = Process({"estate": {"keys": [], "sources": {"redis": {}}, "records": []}}, pieces=[["redis", "a"], []])
    dies = Process({"estate": {"keys": [], "sources": {}, "records": []}}, pieces=[["redis", "b"], None])
    one = fleet(whole, dies, None, Process())
    for number, slot in enumerate(one.slots):
        slot.began = -number
    assert await one.estate(one.slots[2]) == {"keys": [], "sources": {"redis": {}}, "records": [["redis", "a"]]}
    assert await one.estate(one.slots[0]) is None


@pytest.mark.rule("R438")
async def test_every_worker_takes_what_was_revoked_before_it_is_answered() -> None:
    """One that does not answer holds nothing up for longer than its own time."""
    processes, gate = [Process({"revoked": None}), Process()], asyncio.Event()
    processes[1].gate = gate
    taking = asyncio.ensure_future(fleet(processes[0], None, processes[1]).take_revoked(b"\0\xff", b"0123456789abcdef"))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not taking.done()
    gate.set()
    await taking
    assert [process.given for process in processes] == [[("revoked", "AP8=", "0123456789abcdef")]] * 2


@pytest.mark.rule("R370")
async def test_readiness_ends_with_the_drain_whatever_workers_say() -> None:
    """No worker needs to have heard of it yet."""
    ready = fleet(*(Process({"readiness": [200, READY]}) for _ in range(2)))
    assert (await ready.readiness())[0] == 200
    ready.draining = True
    status, body = await ready.readiness()
    assert (status, body["ready"], body["draining"]) == (503, False, True)


async def test_status_adds_what_can_be_added_and_shows_what_is_there() -> None:
    cache = {"size": 2, "bytes": 100, "hits": 5, "misses": 1, "evictions": 0}
    told = {"open_connections": 3, "token_cache": cache, "draining": False}
    one = fleet(Process({"status": [200, told]}, pid=7), Process({"status": [200, told]}), Process(), None)
    one.slots[3].restarts = 4
    _, body = await one.status()
    assert body["open_connections"] == 6
    assert body["token_cache"] == {"size": 4, "bytes": 200, "hits": 10, "misses": 2, "evictions": 0}
    assert [worker["state"] for worker in body["workers"]] == ["running", "running", "no_answer", "down"]
    assert (body["workers"][0]["pid"], body["workers"][3]["pid"], body["workers"][3]["restarts"]) == (7, None, 4)
    assert body["stands_by"] is False
    one.spare = cast(WorkerProcess, Process())
    assert (await one.status())[1]["stands_by"] is True


async def test_counts_of_a_silent_worker_stay_and_its_state_does_not() -> None:
    found = await samples(
        fleet(
            Process({"metrics": True}, metrics=counted(5, connections=2)),
            Process(metrics=counted(7, connections=9)),
            None,
        )
    )
    assert found[("gateway_requests_total", "")] == 12
    assert found[("gateway_open_connections", "")] == 2
    assert [found[("gateway_worker_up", number)] for number in "012"] == [1, 0, 0]


async def test_worker_that_ends_during_a_scrape_is_counted_once() -> None:
    """Its numbers move to those of the dead while other answers are awaited: not twice, and not never."""
    gate = asyncio.Event()
    dying, other = Process({"metrics": True}, metrics=counted(5)), Process({"metrics": True}, metrics=counted(7))
    other.gate = gate
    one = fleet(dying, other)
    scrape = asyncio.ensure_future(samples(one))
    await asyncio.sleep(0)
    one.slots[0].process = None
    one.gone.add(dying.metrics, gauges=False)
    one.slots[0].restarts += 1
    one.slots[0].process = cast(WorkerProcess, Process(listening=False))
    gate.set()
    found = await scrape
    assert found[("gateway_requests_total", "")] == 12
    assert found[("gateway_worker_restarts_total", "0")] == 1
    assert found[("gateway_worker_up", "0")] == 0
    assert (await samples(one))[("gateway_requests_total", "")] == 12
