"""The supervisor in this process, with real workers: how many, when one is started anew, and what they share."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from gateway.process import supervisor as workers
from gateway.process.supervisor import Supervisor, worker_count
from gateway.process.worker_pages import Slot
from gateway.server.sockets.listen import Reservation
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
async def test_first_fetches_of_workers_are_spread_and_later_ones_are_not(tmp_path: Path) -> None:
    """The first worker asks at once, the others at moments of their own within two seconds."""
    supervisor = Supervisor(_settings(tmp_path, 8), 8)
    supervisor._reservation = await Reservation.make(["127.0.0.1:0"])
    try:
        for _ in range(50):
            waits = [supervisor._plan(slot)["first_wait"] for slot in supervisor.fleet.slots]
            assert waits[0] == 0
            assert len(set(waits)) == 8
            assert all(0 <= wait <= min(2.0, 0.3 * number) for number, wait in enumerate(waits))
        supervisor.fleet.slots[7].restarts = 1
        assert supervisor._plan(supervisor.fleet.slots[7])["first_wait"] == 0
    finally:
        supervisor._reservation.close()


async def test_workers_that_die_early_come_back_ever_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The delay doubles from a tenth of a second up to its limit, so that a poisoned start does not eat the machine."""
    began: list[float] = []

    async def dies(supervisor: Supervisor, slot: Any) -> tuple[int, bool]:
        began.append(time.monotonic())
        if len(began) == 6:
            supervisor._end(signal.SIGTERM)
        return -9, False

    monkeypatch.setattr(Supervisor, "_live", dies)
    monkeypatch.setattr(workers, "FIRST_WAIT", 0.02)
    monkeypatch.setattr(workers, "LAST_WAIT", 0.1)
    supervisor = Supervisor(_settings(tmp_path, 2), 1)
    await supervisor._keep(supervisor.fleet.slots[0])
    waits = [later - earlier for earlier, later in itertools.pairwise(began)]
    assert all(wait > least - 0.005 for wait, least in zip(waits, (0.02, 0.04, 0.08, 0.1, 0.1), strict=True))
    assert supervisor.fleet.slots[0].restarts == 5


@pytest.mark.rule("R406")
async def test_a_fault_in_keeping_a_worker_is_the_end_of_that_worker_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The place is filled again."""
    before, lives = failures["worker"], iter([RuntimeError(), asyncio.CancelledError(), MemoryError()])
    supervisor = Supervisor(_settings(tmp_path, 2), 1)
    supervisor.up.set_result(True)

    async def broken(supervisor: Supervisor, slot: Any) -> tuple[int, bool]:
        fault = next(lives, None)
        if fault is None:
            supervisor._end(signal.SIGTERM)
            return 0, True
        raise fault

    monkeypatch.setattr(Supervisor, "_live", broken)
    monkeypatch.setattr(workers, "FIRST_WAIT", 0.01)
    assert await supervisor._keep(supervisor.fleet.slots[0])
    assert (supervisor.fleet.slots[0].restarts, failures["worker"]) == (3, before + 3)
