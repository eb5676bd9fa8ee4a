"""The admin pages of a gateway of several workers.

This file has what the one admin port shows of all workers. Each page asks every
worker at once and waits for none longer than a second: one that does not answer
is shown as such.
"""

from __future__ import annotations

import asyncio
from base64 import b64encode
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from gateway import __version__
from gateway.clock import Clock
from gateway.process.merged_metrics import Merged
from gateway.process.worker_process import WorkerProcess
from gateway.server.admin.pages import Page, application


@dataclass(slots=True)
class Slot:
    """The slot of one worker, which one process after the other may have.

    Attributes:
        number: from 0; stays when a process is replaced.
        process: None while no process has the slot.
        began: when the process got the slot, in monotonic seconds.
        restarts: how many processes have been replaced.
    """

    number: int
    process: WorkerProcess | None = None
    began: float = 0.0
    restarts: int = 0

    @property
    def state(self) -> str:
        """What the slot looks like from outside."""
        if self.process is None or not self.process.alive:
            return "down"
        return "running" if self.process.listening else "starting"


@dataclass(slots=True)
class Workers:
    """All workers, and the pages about them.

    Attributes:
        issuers: names of the configured issuers.
        clock: the time, for ages.
        slots: the workers' slots.
        spare: the process that stands by to replace another.
        gone: what processes that have ended had counted.
        draining: readiness is refused from now on.
        was_ready: it was ready once.
    """

    issuers: tuple[str, ...]
    clock: Clock
    slots: list[Slot]
    spare: WorkerProcess | None = None
    gone: Merged = field(default_factory=Merged)
    draining: bool = False
    was_ready: bool = False
    _asking: asyncio.Lock = field(default_factory=asyncio.Lock)

    def application(self) -> web.Application:
        """Return the pages as an aiohttp application."""
        return application(self.health, self.readiness, self.status, self.metrics)

    async def health(self) -> Page:
        """The supervisor and at least one worker live."""
        alive = sum(slot.state != "down" for slot in self.slots)
        return 200 if alive else 503, {"status": "ok" if alive else "no_worker", "workers": alive}

    async def readiness(self) -> Page:
        """Ready once every worker is, until the drain begins or a worker hangs.

        A worker that is replaced later may not get what others have, while a provider or Redis is away. It serves what
        needs neither; and since the same may have happened to all gateways, none gives up its readiness for it (R442).
        """
        workers = []
        issuers = {name: {"ready": True, "reason": ""} for name in self.issuers}
        for slot, process, answer in await self._ask("readiness"):
            shown: dict[str, Any] = answer[1] if answer else {"ready": False, "issuers": {}}
            state = self._state(slot, process, answer)
            workers.append({"worker": slot.number, "state": state, **shown})
            for name, summary in issuers.items():
                one = shown["issuers"].get(name, {"ready": False, "reason": state})
                if summary["ready"] and not one["ready"]:
                    summary.update(one)
        self.was_ready = self.was_ready or all(worker["ready"] for worker in workers)
        states = {worker["state"] for worker in workers}
        serving = "running" in states and "no_answer" not in states
        ready = not self.draining and self.was_ready and serving
        body = {"ready": ready, "draining": self.draining, "issuers": issuers, "workers": workers}
        return 200 if ready else 503, body

    async def status(self) -> Page:
        """What each worker knows, and the sums that mean something."""
        workers = []
        cache: Counter[str] = Counter(size=0, bytes=0, hits=0, misses=0, evictions=0)
        connections = 0
        for slot, process, answer in await self._ask("status"):
            shown: dict[str, Any] = answer[1] if answer else {}
            cache.update(shown.get("token_cache", {}))
            connections += shown.get("open_connections", 0)
            workers.append(
                {
                    "worker": slot.number,
                    "state": self._state(slot, process, answer),
                    "pid": process.pid if process else None,
                    "age_seconds": round(self.clock.monotonic() - slot.began, 3) if process else None,
                    "restarts": slot.restarts,
                    **shown,
                }
            )
        return 200, {
            "version": __version__,
            "config_generation": 1,
            "draining": self.draining,
            "open_connections": connections,
            "token_cache": dict(cache),
            "stands_by": self.spare is not None and self.spare.alive and self.spare.loaded,
            "workers": workers,
        }

    async def metrics(self) -> Collector:
        """Return the sums over all workers, and how the workers themselves fare."""
        answered = {process for _, process, answer in await self._ask("metrics") if answer is not None}
        # From here on nothing waits: a process is either in its slot or among those that are gone, never both.
        merged = Merged()
        for slot in self.slots:
            if slot.process is not None:
                merged.add(slot.process.metrics, gauges=slot.process in answered)
        merged.add(self.gone.to_wire())
        up = GaugeMetricFamily("gateway_worker_up", "1 while the worker answers its supervisor.", labels=["worker"])
        restarts = CounterMetricFamily("gateway_worker_restarts", "Processes that were replaced.", labels=["worker"])
        for slot in self.slots:
            up.add_metric([str(slot.number)], float(slot.process in answered))
            restarts.add_metric([str(slot.number)], slot.restarts)
        return _Fixed([*merged.families(), up, restarts])

    async def take_revoked(self, records: bytes, epoch: bytes) -> None:
        """Give what was revoked in Redis to every worker, and return once all that answer have taken it.

        Args:
            records: one after the other.
            epoch: of the log that they are in.
        """
        await self._ask("revoked", b64encode(records).decode("ascii"), epoch.decode("ascii"))

    async def estate(self, heir: Slot) -> dict[str, Any] | None:
        """Return what the worker that has lived longest leaves to another one; None when no other can be asked."""
        async with self._asking:
            others = [slot for slot in self.slots if slot is not heir and slot.process is not None]
            for slot in sorted(others, key=lambda slot: slot.began):
                if slot.process is not None and (left := await _estate(slot.process)) is not None:
                    return left
        return None

    async def _ask(self, page: str, *given: str) -> list[tuple[Slot, WorkerProcess | None, Any]]:
        """Ask every worker at once; None for one that does not answer. ``given``: as for ``WorkerProcess.ask``."""
        processes = [slot.process for slot in self.slots]
        answers = await asyncio.gather(*(process.ask(page, *given) for process in processes if process is not None))
        answered = iter(answers)
        return [
            (slot, process, None if process is None else next(answered))
            for slot, process in zip(self.slots, processes, strict=True)
        ]

    @staticmethod
    def _state(slot: Slot, asked: WorkerProcess | None, answer: Any) -> str:
        if slot.process is not asked and slot.state == "running":
            return "starting"  # it took the slot while the others were waited for, and was not asked itself
        return "no_answer" if answer is None and slot.state == "running" else slot.state


async def _estate(process: WorkerProcess) -> dict[str, Any] | None:
    """Return all that a worker leaves; None when it does not answer, or ends meanwhile."""
    left: dict[str, Any] | None = await process.ask("estate")
    while left is not None:
        piece = await process.ask("more")
        if piece == []:
            return left
        if piece is None:
            return None
        left["records"].append(piece)
    return None


class _Fixed(Collector):
    """Metrics that are known already."""

    def __init__(self, families: list[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterator[Metric]:
        """Return them."""
        return iter(self._families)
