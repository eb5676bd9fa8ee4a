"""Several gateways that share one Redis, each with a clock and settings of its own."""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections.abc import AsyncIterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from tests.support.clock import OffsetClock
from tests.support.composed import Settings
from tests.support.gateways.running import RunningGateway, configuration, running
from tests.support.stores.redis import RedisServer
from tests.support.tokens.minting import SigningKey, jwks

KEY = SigningKey.rsa("a")


class Member(NamedTuple):
    """What one gateway of a fleet has of its own.

    Attributes:
        ahead: seconds by which its clock is ahead.
        sections: tables of its configuration that differ.
    """

    ahead: float = 0.0
    sections: Mapping[str, Any] = {}


class Relay:
    """A place in front of servers that leads to one of them, like the address of a service.

    Attributes:
        to: the port that new connections lead to.
        delay: seconds that each piece of data takes, in each direction.
        closed: new connections end at once.
        silent: nothing comes through for as long as it is set; connections stay.
    """

    def __init__(self, to: int) -> None:
        self.to = to
        self.delay = 0.0
        self.closed = False
        self.silent = False
        self.port = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._held = 0

    async def __aenter__(self) -> Relay:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        self.cut()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def cut(self) -> None:
        """End every connection."""
        for task in self._tasks:
            task.cancel()

    def hold(self) -> None:
        """Let nothing through any more on the connections that there are; new ones are not concerned."""
        self._held += 1

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if self.closed:
                raise ConnectionRefusedError
            there, here = await asyncio.open_connection("127.0.0.1", self.to)
        except OSError:
            writer.close()
            return
        for source, target in ((reader, here), (there, writer)):
            task = asyncio.ensure_future(self._pump(source, target, self._held))
            self._tasks.add(task)
            # A task that is cancelled before its first step closes nothing itself.
            task.add_done_callback(partial(_close, target))
            task.add_done_callback(self._tasks.discard)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, born: int) -> None:
        try:
            while data := await reader.read(65536):
                await asyncio.sleep(self.delay)
                while self.silent or born < self._held:  # noqa: ASYNC110
                    await asyncio.sleep(0.005)
                writer.write(data)
                await writer.drain()
        except OSError:
            pass


def _close(writer: asyncio.StreamWriter, _: object) -> None:
    writer.close()


@contextlib.asynccontextmanager
async def fleet(
    folder: Path, upstream_url: str, redis_url: str, *members: Member, **sections: Any
) -> AsyncIterator[list[RunningGateway]]:
    """Run a gateway for each member, with the tables that all of them have."""
    file = folder / "jwks.json"
    file.write_bytes(jwks(KEY))
    async with contextlib.AsyncExitStack() as stack:
        started = []
        for member in members:
            tables = {**sections, **member.sections}
            # Long, for a machine that is busy with other tests.
            tables["redis"] = {"url": redis_url, "timeout_seconds": 2, **tables.get("redis", {})}
            settings = Settings.model_validate(configuration(upstream_url, file, **tables))
            started.append(await stack.enter_async_context(running(settings, KEY, clock=OffsetClock(member.ahead))))
        yield started


@contextlib.asynccontextmanager
async def remembering_server(folder: Path, *, keep: bool = False) -> AsyncIterator[RedisServer]:
    """Run a Redis that has remembered for an hour, so that a token which is made now need not wait a second."""
    async with RedisServer(folder, keep=keep) as server:
        remembering(server, 3600)
        yield server


def remembering(server: RedisServer, seconds: float) -> None:
    """Let a store that is empty say that it has remembered what was used for so long."""
    found = re.search(r"run_id:(\w+)", str(server.run("INFO", "server")).replace("'", "").replace(" ", ""))
    assert found is not None
    since = (int(time.time()) - int(seconds)) * 1000
    for purpose in ("token", "proof"):
        server.run("ZADD", f"gateway:2:used:{purpose}", -since, f"server:{found[1]}")
