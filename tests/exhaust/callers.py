"""Good callers and health checks beside an attack: how long each waits for its answers, and which are wrong.

A wait is counted without the time in which the callers could have run and others had the cores, since that is not the
gateway's.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Sequence
from dataclasses import dataclass, field

from tests.support.gateways.running import RawClient, request
from tests.support.pace import own_time

#: Seconds between an answer and the next request of a caller.
INTERVAL = 0.05

#: Seconds after which a caller gives up.
PATIENCE = 15.0


@dataclass(frozen=True)
class Spread:
    """Waits in seconds, and the way of the attack in which the longest one was."""

    median: float
    p95: float
    worst: float
    during: str = ""

    @classmethod
    def of(cls, waits: Sequence[tuple[float, str]]) -> Spread:
        """Sum up waits and the ways in which they were."""
        ordered = sorted(waits)
        at = [ordered[min(len(ordered) - 1, int(len(ordered) * share))] for share in (0.5, 0.95, 1)]
        return cls(at[0][0], at[1][0], *at[2])


@dataclass
class Callers:
    """Two callers on kept connections, one that connects each time, and one that asks ``/healthz``.

    Attributes:
        during: the way of the attack that goes on now.
        waits: in seconds, each with the way in which it was; by kind of caller.
        failures: answers that were wrong or did not come.
        stopped: set to let each caller end with the answer that it waits for.
    """

    port: int
    admin_port: int
    token: bytes
    tls: ssl.SSLContext | None
    during: str = ""
    waits: dict[str, list[tuple[float, str]]] = field(default_factory=lambda: {"kept": [], "new": [], "healthz": []})
    failures: list[str] = field(default_factory=list)
    stopped: bool = False

    async def call(self) -> None:
        """Call until stopped."""
        good = request(b"GET", "/good", token=self.token)
        health = request(b"GET", "/healthz", (b"Host", b"localhost"))
        async with asyncio.TaskGroup() as group:
            for _ in range(2):
                group.create_task(self._caller("kept", self.port, self.tls, good, keeps=True))
            group.create_task(self._caller("new", self.port, self.tls, good, keeps=False))
            group.create_task(self._caller("healthz", self.admin_port, None, health, keeps=False))

    def forget(self) -> None:
        """Forget the waits so far."""
        for waits in self.waits.values():
            waits.clear()

    async def _caller(self, name: str, port: int, tls: ssl.SSLContext | None, data: bytes, *, keeps: bool) -> None:
        client: RawClient | None = None
        try:
            while not self.stopped:
                during, began, failure = self.during, own_time(), ""
                try:
                    if client is None:
                        client = await self._connected(port, tls)
                    response = await client.exchange(data, within=PATIENCE)
                    if response.status != 200:
                        failure = str(response.status)
                except (OSError, asyncio.IncompleteReadError) as error:  # a timeout is one of the former
                    failure = type(error).__name__
                self.waits[name].append((own_time() - began, during))
                if failure:
                    self.failures.append(f"{name}: {failure} ({during})")
                if client is not None and (failure or not keeps):
                    client.writer.close()
                    client = None
                await asyncio.sleep(INTERVAL)
        finally:
            if client is not None:
                client.writer.close()

    async def _connected(self, port: int, tls: ssl.SSLContext | None) -> RawClient:
        async with asyncio.timeout(PATIENCE):
            name = "localhost" if tls else None
            return RawClient(*await asyncio.open_connection("127.0.0.1", port, ssl=tls, server_hostname=name))
