"""Revocations under random orders of failures, compared with a model: what any living worker knows, all know again."""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import random
import time
from collections.abc import AsyncIterator, Coroutine
from pathlib import Path
from typing import Any

import pytest

from gateway.clock import SystemClock
from gateway.features.revocation.redis_log import RevocationLog
from gateway.features.revocation.redis_source import SETTLING_SECONDS, RedisRevocations
from gateway.jwt.revocations.table import EntryKind, RevocationTable
from gateway.settings.tables.redis import Redis
from gateway.store.answers import StoreUnavailableError
from gateway.store.redis_link import RedisLink
from tests.support.clock import eventually
from tests.support.gateways.fleet import Relay
from tests.support.gateways.revoking import LOG, caller, revoked
from tests.support.pace import paced
from tests.support.stores.redis import RedisServer

#: Orders of events that are tried, and how many at the same time. By hand: ``STORE_ORDERS=300``.
ORDERS, TOGETHER = int(os.environ.get("STORE_ORDERS", "8")), 4

#: Events in one order, and the longest pause between two, in seconds.
EVENTS, PAUSE = 7, 0.3


class Worker:
    """What a worker has of revocations."""

    def __init__(self, url: str) -> None:
        self._link = RedisLink(Redis(url=url, timeout_seconds=1), SystemClock())
        self.source = RedisRevocations(self._link, SystemClock())

    async def start(self, elder: Worker | None) -> None:
        if elder is not None:
            self.source.inherit(elder.source.bequeath())
        await self._link.start()
        await self.source.start()

    async def stop(self) -> None:
        await self.source.stop()
        await self._link.stop()

    def knows(self, names: set[str]) -> set[str]:
        return {name for name in names if self.source.table.covers(caller(token=name), time.time())}


class Model:
    """Two gateways of two workers, each with a way to Redis of its own, and every name that was revoked."""

    def __init__(self, relays: list[Relay], servers: list[RedisServer], chance: random.Random) -> None:
        self.relays = relays
        self.servers = servers
        self.chance = chance
        self.gateways: list[list[Worker]] = [[] for _ in relays]
        self.names: set[str] = set()
        self.written: dict[str, float] = {}
        self.lost = -math.inf  # when Redis may have lost something last
        self.tasks: set[asyncio.Task[None]] = set()

    @property
    def workers(self) -> list[Worker]:
        return [worker for gateway in self.gateways for worker in gateway]

    def known(self) -> set[str]:
        """Return every name that some living worker knows."""
        return set[str]().union(*(worker.knows(self.names) for worker in self.workers))

    async def start_worker(self, gateway: int) -> None:
        workers = self.gateways[gateway]
        worker = Worker(self.url(gateway))
        await worker.start(workers[0] if workers else None)
        workers.append(worker)

    def url(self, gateway: int) -> str:
        return f"redis://127.0.0.1:{self.relays[gateway].port}"

    def any(self) -> int:
        """Return the number of any gateway."""
        return self.chance.randrange(len(self.gateways))

    def stored(self) -> set[str]:
        """Return every name that Redis has, for a gateway that starts now."""
        table = RevocationTable()
        for record in self.servers[0].run("ZRANGEBYSCORE", LOG, "(0", "+inf"):
            table.apply(record, time.time())
        return {name for name in self.names if table.covers(caller(token=name), time.time())}

    # --- events ---

    async def revoke(self) -> None:
        """As ``POST /revoke`` at any gateway."""
        name = f"name-{len(self.names)}"
        self.names.add(name)
        self._spawn(self._revoke(self.any(), name))

    async def _revoke(self, gateway: int, name: str) -> None:
        record = revoked(EntryKind.TOKEN, name, expires=time.time() + 600)
        link = RedisLink(Redis(url=self.url(gateway), timeout_seconds=1), SystemClock())
        with contextlib.suppress(StoreUnavailableError):
            try:
                written = await RevocationLog(link).add(record)
                for worker in self.gateways[gateway]:
                    worker.source.take(record, written.epoch)
                self.written[name] = time.monotonic()
            finally:
                await link.stop()

    async def silence(self) -> None:
        self.relays[self.any()].silent = True

    async def cut(self) -> None:
        relay = self.relays[self.any()]
        relay.closed = True
        relay.cut()

    async def mend(self) -> None:
        relay = self.relays[self.any()]
        relay.silent = relay.closed = False

    async def restart(self) -> None:
        self.lost = time.monotonic()
        await self.servers[0].restart()

    async def flush(self) -> None:
        self.lost = time.monotonic()
        self.servers[0].run("FLUSHALL")

    async def copy(self) -> None:
        """The replica gets what there is, and nothing from then on."""
        master, replica = self.servers
        replica.run("REPLICAOF", "127.0.0.1", master.port)
        await eventually(lambda: replica.run("INFO", "replication")["master_link_status"] == "up")
        replica.run("REPLICAOF", "127.0.0.1", 1)

    async def promote(self) -> None:
        """The replica takes over with what it has; a former master does not until it is a replica again."""
        if self.servers[1].run("INFO", "replication")["role"] != "slave":
            return
        self.lost = time.monotonic()
        self.servers[1].run("REPLICAOF", "NO", "ONE")
        for relay in self.relays:
            relay.to = self.servers[1].port
            relay.cut()
        self.servers.reverse()

    async def kill_worker(self) -> None:
        workers = self.gateways[self.any()]
        if len(workers) > 1:
            await workers.pop(self.chance.randrange(len(workers))).stop()

    async def new_worker(self) -> None:
        gateway = self.any()
        if len(self.gateways[gateway]) < 3:
            self._spawn(self.start_worker(gateway))

    async def heal(self) -> None:
        for relay in self.relays:
            relay.silent = relay.closed = False

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        self.tasks.add(asyncio.ensure_future(work))

    def lacking(self, known: set[str]) -> list[tuple[Worker, set[str]]]:
        """Return the workers that do not know all of these names, and which they lack."""
        found = [(worker, known - worker.knows(known)) for worker in self.workers]
        return [(worker, names) for worker, names in found if names]

    def pretends(self, worker: Worker, names: set[str]) -> bool:
        """Return whether a worker says that it knows all there is, and has looked since one of these was written.

        What Redis lost longer ago than a loss leaves its readers undecided does not count: the gateway that alone
        knows of it may have been cut off since then.
        """
        now = time.monotonic()
        since = self.lost if now - self.lost > SETTLING_SECONDS else -math.inf
        written = [self.written.get(name, math.inf) for name in names]
        return worker.source.known and any(since < moment < now - worker.source.age for moment in written)


@contextlib.asynccontextmanager
async def modelled(folder: Path, seed: int) -> AsyncIterator[Model]:
    async with (
        RedisServer(folder / "one") as one,
        RedisServer(folder / "two") as two,
        Relay(one.port) as first,
        Relay(one.port) as second,
    ):
        model = Model([first, second], [one, two], random.Random(seed))
        try:
            for gateway in (0, 0, 1, 1):
                await model.start_worker(gateway)
            yield model
        finally:
            await model.heal()
            await asyncio.gather(*model.tasks, return_exceptions=True)
            for worker in model.workers:
                await worker.stop()


#: The names of events, the frequent ones several times.
NAMES = [
    *("revoke", "revoke", "revoke", "silence", "cut", "cut", "mend", "restart", "flush", "copy", "promote"),
    *("kill_worker", "new_worker"),
]


@pytest.mark.parametrize("first", range(0, ORDERS, TOGETHER))
@pytest.mark.rule("R438", "R442")
async def test_whatever_the_order_of_events_all_workers_know_again_what_any_of_them_knew(
    first: int, tmp_path: Path
) -> None:
    """Within a second after the end of the outage; no worker claims to know all before that."""
    async with asyncio.TaskGroup() as group:
        for seed in range(first, min(first + TOGETHER, ORDERS)):
            group.create_task(one_order(seed, tmp_path / str(seed)))


async def one_order(seed: int, folder: Path) -> None:
    async with modelled(folder, seed) as model:
        order = ["revoke", "copy", *model.chance.choices(NAMES, k=EVENTS)]
        for event in order:
            await getattr(model, event)()
            await asyncio.sleep(model.chance.random() * PAUSE)
        await model.heal()
        known, healed = model.known(), time.monotonic()
        while (lacking := model.lacking(known)) or known - model.stored():
            for worker, names in lacking:
                assert not model.pretends(worker, names), (seed, order, names)
            assert time.monotonic() - healed < paced(1), (seed, order, lacking, known - model.stored())
            await asyncio.sleep(0.01)
        print(f"order {seed}: {time.monotonic() - healed:.2f} s")
        await eventually(lambda: all(worker.source.known for worker in model.workers))
