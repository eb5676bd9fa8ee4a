"""The supervisor in this process, with real workers: how many, when one is started anew, and what they share."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from gateway.process import supervisor as workers
from gateway.process.merged_metrics import Wire
from gateway.process.supervisor import Supervisor, worker_count
from gateway.process.worker_pages import Slot
from gateway.process.worker_process import WorkerProcess
from gateway.server.sockets.listen import SharedAddress
from gateway.tasks import failures
from tests.support.composed import Settings
from tests.support.gateways.running import RawClient, configuration, request, until
from tests.support.gateways.workers import PATIENCE
from tests.support.upstreams.recording import Received, raw_upstream

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
PUBLIC: tuple[dict[str, Any], ...] = ({"path": "/", "auth": "public"},)


def _settings(tmp_path: Path, workers: Any) -> Settings:
    return Settings.model_validate(configuration("http://a.test", tmp_path, server={"workers": workers}))


async def _supervised(settings: Settings, count: int = 2) -> Supervisor:
    supervisor = Supervisor(settings, count)
    await supervisor.start()
    assert await asyncio.wait_for(supervisor.up, PATIENCE)
    return supervisor


def _kill(slot: Slot, number: signal.Signals) -> None:
    assert slot.process is not None
    slot.process.signal(number)


async def _replaced(slot: Slot, times: int) -> None:
    await until(lambda: slot.restarts == times and slot.state == "running", within=PATIENCE)


class Pretended(WorkerProcess):
    """Stands for a process: it lives until it is asked to end, or has ended before it began.

    Args:
        end: its exit code, or what its supervisor gets instead of one; None while it lives.
    """

    def __init__(self, end: int | BaseException | None = None) -> None:
        self.pid = 0
        self.loaded = self.listening = self.served = False
        self.metrics: Wire = []
        self.plan: dict[str, Any] = {}
        self.heard: list[signal.Signals] = []
        self.end: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        if isinstance(end, int):
            self.end.set_result(end)
        self._fault = end if isinstance(end, BaseException) else None

    @property
    def alive(self) -> bool:
        return not self.end.done()

    def begin(self, plan: dict[str, Any], on_listening: Callable[[], None]) -> None:
        self.plan = plan

    async def ended(self) -> int:
        if self._fault is not None:
            raise self._fault
        return await self.end

    def signal(self, number: signal.Signals) -> None:
        self.heard.append(number)
        if self.alive:
            self.end.set_result(0)


class Pretending:
    """Starts processes that are none.

    Args:
        ends: of the first processes, in order; the others live until they are told to end.
    """

    def __init__(self, *ends: int | BaseException) -> None:
        self._ends = iter(ends)
        self.made: list[Pretended] = []
        self.began: list[float] = []

    async def start(self, shared: Sequence[SharedAddress], listed: str) -> WorkerProcess:
        self.began.append(time.monotonic())
        self.made.append(Pretended(next(self._ends, None)))
        return self.made[-1]

    def have_begun(self, count: int) -> bool:
        """Return whether so many were made, and all were told what to be."""
        return len(self.made) == count and all(one.plan for one in self.made)


@pytest.mark.usefixtures("loading")
async def test_workers_accept_from_one_unix_socket(tmp_path: Path) -> None:
    """A killed worker leaves it as it is; after the drain nothing answers there."""
    path = tmp_path / "gateway.sock"
    async with raw_upstream() as upstream:
        server = {"listen": f"unix:{path}", "workers": 2, "access_log": "off"}
        settings = configuration(upstream.url, tmp_path, routes=PUBLIC, server=server)
        settings["issuers"] = []
        supervisor = await _supervised(Settings.model_validate(settings))
        try:
            slot = supervisor.fleet.slots[0]
            _kill(slot, signal.SIGKILL)
            for _ in range(10):
                client = RawClient(*await asyncio.open_unix_connection(path))
                assert (await client.exchange(request(b"GET", "/"))).body == b"ok"
                await client.close()
            await _replaced(slot, 1)
            assert await supervisor.drain(5) == 0
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_unix_connection(path)
        finally:
            await supervisor.stop()


@pytest.mark.usefixtures("loading")
async def test_worker_that_is_told_to_go_drains_and_is_replaced(tmp_path: Path) -> None:
    """One worker's SIGTERM ends no request and loses no count: at its end it reports what had not been asked for."""
    release = asyncio.Event()

    async def respond(received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        await release.wait()
        return OK

    async with raw_upstream(respond) as upstream:
        settings = configuration(upstream.url, tmp_path, routes=PUBLIC, server={"access_log": "off"})
        settings["issuers"] = []
        supervisor = await _supervised(Settings.model_validate(settings))
        try:
            clients = [RawClient(*await asyncio.open_connection("127.0.0.1", supervisor.ports[0])) for _ in range(12)]
            for client in clients:
                await client.send(request(b"GET", "/"))
            await until(lambda: len(upstream.requests) == 12)
            slot = supervisor.fleet.slots[0]
            _kill(slot, signal.SIGTERM)
            await asyncio.sleep(0.1)
            release.set()
            assert [(await client.response()).body for client in clients] == [b"ok"] * 12
            for client in clients:
                await client.close()
            await _replaced(slot, 1)
            samples = [one for family in (await supervisor.fleet.metrics()).collect() for one in family.samples]
            assert [one.value for one in samples if one.name == "gateway_requests_total"] == [12]
        finally:
            await supervisor.stop()


@pytest.mark.parametrize("name", ["listen", "admin_listen"])
async def test_taken_address_is_found_before_any_worker_is_started(name: str, tmp_path: Path) -> None:
    """Contract: as with one process; and what was opened before is closed."""
    async with raw_upstream() as upstream:
        server = {name: f"127.0.0.1:{upstream.port}"}
        settings = configuration(upstream.url, tmp_path, routes=PUBLIC, server=server)
        supervisor = Supervisor(Settings.model_validate(settings), 2)
        with pytest.raises(OSError, match="in use"):
            await supervisor.start()
        assert [slot.state for slot in supervisor.fleet.slots] == ["down", "down"]
        await supervisor.stop()


@pytest.mark.usefixtures("loading")
@pytest.mark.rule("R215")
async def test_worker_that_cannot_start_ends_the_gateway(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """What a single process answers with exit code 1 is not tried indefinitely."""
    monkeypatch.setenv("AIOHTTP_NO_EXTENSIONS", "1")
    settings = configuration("http://127.0.0.1:1", tmp_path, routes=PUBLIC)
    settings["issuers"] = []
    supervisor = Supervisor(Settings.model_validate(settings), 2)
    try:
        await supervisor.start()
        assert await asyncio.wait_for(supervisor.up, PATIENCE) is False
    finally:
        await supervisor.stop()
    assert "C parser is not available" in capfd.readouterr().err


def test_auto_is_one_worker_for_each_core_of_the_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Contract: what the process may use, not what the machine has."""
    assert worker_count(_settings(tmp_path, "auto")) == len(os.sched_getaffinity(0))
    assert worker_count(_settings(tmp_path, 3)) == 3
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(1000)))
    assert worker_count(_settings(tmp_path, "auto")) == 256
    monkeypatch.delattr(os, "sched_getaffinity")
    assert worker_count(_settings(tmp_path, "auto")) == os.cpu_count()


def test_one_worker_is_the_single_process_without_a_supervisor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The default has nothing of all this."""
    monkeypatch.setattr("gateway.process.foreground.run_alone", lambda settings: settings.server.workers + 41)
    assert workers.run_gateway(_settings(tmp_path, 1)) == 42


@pytest.mark.rule("R174")
async def test_first_fetches_of_workers_are_spread_and_later_ones_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first worker asks at once, the others at moments of their own within two seconds."""
    monkeypatch.setattr(workers, "FIRST_WAIT", 0.01)
    settings = _settings(tmp_path, 8)
    for _ in range(50):
        processes = Pretending()
        supervisor = Supervisor(settings, 8, processes.start)
        try:
            await supervisor.start()
            await until(partial(processes.have_begun, 8))
            waits = {one.plan["worker"]: one.plan["first_wait"] for one in processes.made}
            assert waits[0] == 0
            assert len(set(waits.values())) == 8
            assert all(0 <= wait <= min(2.0, 0.3 * number) for number, wait in waits.items())
            (last,) = (one for one in processes.made if one.plan["worker"] == 7)
            last.end.set_result(-9)
            await until(partial(processes.have_begun, 9))
            assert (processes.made[8].plan["worker"], processes.made[8].plan["first_wait"]) == (7, 0)
        finally:
            await supervisor.stop()


async def test_workers_that_die_early_come_back_ever_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The delay doubles from a tenth of a second up to its limit, so that a poisoned start does not eat the machine."""
    processes = Pretending(*[-9] * 5)
    monkeypatch.setattr(workers, "FIRST_WAIT", 0.02)
    monkeypatch.setattr(workers, "LAST_WAIT", 0.1)
    supervisor = Supervisor(_settings(tmp_path, 2), 1, processes.start)
    await supervisor.start()
    await until(lambda: len(processes.began) == 6)
    await supervisor.stop()
    waits = [later - earlier for earlier, later in itertools.pairwise(processes.began)]
    assert all(wait > least - 0.005 for wait, least in zip(waits, (0.02, 0.04, 0.08, 0.1, 0.1), strict=True))
    assert supervisor.fleet.slots[0].restarts == 5


@pytest.mark.rule("R406")
async def test_a_fault_in_keeping_a_worker_is_the_end_of_that_worker_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The place is filled again."""
    before = failures["worker"]
    processes = Pretending(RuntimeError(), asyncio.CancelledError(), MemoryError())
    supervisor = Supervisor(_settings(tmp_path, 2), 1, processes.start)
    supervisor.up.set_result(True)
    monkeypatch.setattr(workers, "FIRST_WAIT", 0.01)
    await supervisor.start()
    await until(lambda: processes.have_begun(4))
    assert await supervisor.drain(5) == 0
    await supervisor.stop()
    assert (supervisor.fleet.slots[0].restarts, failures["worker"]) == (3, before + 3)
    assert [one.heard[:1] for one in processes.made] == [[signal.SIGKILL]] * 3 + [[signal.SIGTERM]]
