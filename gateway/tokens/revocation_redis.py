"""The revocations that come from Redis: filled once, told of each new one, and looked after four times a second.

Only this keeping up lives here. A look compares the number of the last write
with the one that was read: whatever was missed, for whatever reason, is read
then. So the channel makes revocations quick, and the look makes them certain.
The danger is a server that has lost what it had: nothing known is forgotten
then, and what it lost is written back to it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import Any

from redis.asyncio.client import PubSub
from redis.exceptions import RedisError

from gateway.clock import Clock
from gateway.store.redis_link import RedisLink, StoreUnavailableError
from gateway.store.revocation_log import MOST_RECORDS, RECORD, Page, RevocationLog, told
from gateway.tasks import cancelled, spawn
from gateway.tokens.revocation_table import RevocationTable

_log = logging.getLogger("gateway.revocation")

#: Seconds between two looks.
LOOK_SECONDS = 0.25

#: Without a good look for this long, what is revoked now is not known.
STALE_SECONDS = 0.6

#: Every so many looks a part of the log is swept.
_SWEEP_LOOKS = 8

#: The wait for a message of the channel, after which the connection is looked at, in seconds.
_MESSAGE_SECONDS = 1.0

#: Records that are written back at one time, and the seconds between two looks whether somebody else has done it.
_RESTORED, _RESTORE_SECONDS = MOST_RECORDS // 4, 1.0


class RedisRevocations:
    """What Redis says is revoked.

    Args:
        link: to Redis.
        clock: the time.

    Attributes:
        changed: called when there are other entries, and when ``known`` is another.
        table: the entries.
        filled: all that Redis had was read once.
        known: filled, and up to date a moment ago.
        failures: looks that Redis did not answer.
        applied: entries that changed something, those of the start included.
        restored: records that were written back to Redis.
    """

    name = "redis"

    def __init__(self, link: RedisLink, clock: Clock) -> None:
        self.table = RevocationTable()
        self.filled = False
        self.known = False
        self.failures = 0
        self.applied = 0
        self.restored = 0
        self._link = link
        self._entries = RevocationLog(link)
        self._wall, self._monotonic, self._sleep = clock.wall, clock.monotonic, clock.sleep
        self.changed: Callable[[], None] = _nobody
        self._looked_at = float("-inf")
        self._looking = asyncio.Lock()
        self._epoch: bytes | None = None
        self._read = 0
        self._server = b""
        self._doubtful = True
        self._lost = False
        self._tasks: list[asyncio.Task[None]] = []
        self._restoring: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Read what is there, if Redis is, and keep up from then on in the background."""
        await self.look()
        self._tasks = [spawn(self._watch(), "revocations"), spawn(self._listen(), "revocations told")]

    async def stop(self) -> None:
        """Keep up no longer."""
        for task in (*self._tasks, self._restoring):
            if task is not None:
                await cancelled(task)

    @property
    def age(self) -> float:
        """Seconds since the last good look; infinity before the first one."""
        return self._monotonic() - self._looked_at

    async def look(self) -> None:
        """Read what was written since the last look, and note whether what is revoked is known."""
        async with self._looking:
            try:
                await self._read_on()
            except StoreUnavailableError:
                self.failures += 1
            else:
                self.filled, self._looked_at = True, self._monotonic()
        known = self.filled and self.age <= STALE_SECONDS
        if known is not self.known:
            self.known = known
            say = _log.info if known else _log.warning
            say("what is revoked is %s", f"known: {len(self.table)} entries" if known else "not known: Redis is away")
            self.changed()

    async def _read_on(self) -> None:
        if self._doubtful:
            # A server of another name may be one that came back without its last writes, behind the same number.
            server = await self._entries.server()
            self._lost |= self._server not in (b"", server)
            self._server, self._doubtful = server, False
        if (self._epoch, self._read) != await self._entries.state():
            while not self._take(await self._entries.page(self._read)):
                pass
        if self._lost and (self._restoring is None or self._restoring.done()):
            self._lost = False
            self._restoring = spawn(self._restore(), "revocations restored")

    def _take(self, page: Page) -> bool:
        """Take what a page says; return whether nothing is left to read."""
        if page.epoch != self._epoch or page.head < self._read:
            self._lost |= bool(self._epoch)
            begun, self._epoch, self._read = self._read, page.epoch, 0
            if begun:
                return False
        self._apply(page.records)
        whole = len(page.records) < MOST_RECORDS * RECORD.size
        self._read = max(self._read, page.head if whole else page.last)
        return whole

    def _apply(self, records: bytes) -> None:
        if added := self.table.apply(records, self._wall()):
            self.applied += added
            self.changed()

    async def _watch(self) -> None:
        looks = 0
        while True:
            await self._sleep(LOOK_SECONDS)
            await self.look()
            self.table.clean(self._wall())
            looks += 1
            if self.known and looks % _SWEEP_LOOKS == 0:
                with contextlib.suppress(StoreUnavailableError):
                    await self._entries.sweep()

    # --- the channel ---

    async def _listen(self) -> None:
        client = self._link.new_client(1)
        try:
            while True:
                if self._link.available:
                    with contextlib.suppress(RedisError, OSError, TimeoutError):
                        async with client.pubsub() as channel:
                            await self._follow(channel)
                self._doubtful = True
                await self._sleep(LOOK_SECONDS)
        finally:
            await client.aclose(close_connection_pool=True)

    async def _follow(self, channel: PubSub) -> None:
        """Hear the channel until Redis has been away; a connection that has gone silent may be none."""
        outages = self._link.outages
        async with asyncio.timeout(_MESSAGE_SECONDS):
            await channel.subscribe(self._entries.channel)
        while self._link.outages == outages:
            message = await channel.get_message(ignore_subscribe_messages=True, timeout=_MESSAGE_SECONDS)
            if message is not None:
                await self._hear(message["data"])

    async def _hear(self, message: bytes) -> None:
        found = told(message)
        if found is None:
            return
        self._apply(found.records)
        if found.epoch == self._epoch and found.first <= self._read:
            self._read = max(self._read, found.head)
        elif not self._looking.locked():
            await self.look()

    # --- a server that has lost something ---

    async def _restore(self) -> None:
        """Read everything once more, and write back what Redis does not have; one worker of all does it."""
        try:
            after, whole = 0, False
            while not whole:
                page = await self._entries.page(after)
                self._apply(page.records)
                after, whole = page.last, len(page.records) < MOST_RECORDS * RECORD.size
                await asyncio.sleep(0)
            while len(self.table) > await self._entries.size():
                if await self._entries.may_restore():
                    for records in self.table.records(_RESTORED, self._wall()):
                        self.restored += await self._entries.add(records)
                    _log.warning("Redis had lost revocations: %d were written back", self.restored)
                    return
                await self._sleep(_RESTORE_SECONDS)
        except StoreUnavailableError:
            self._lost = True

    def status(self) -> dict[str, Any]:
        """Return what ``/status`` shows."""
        return {
            "known": self.known,
            "entries": len(self.table),
            "age_seconds": round(self.age, 3) if self.filled else None,
            "failures": self.failures,
            "applied": self.applied,
            "restored": self.restored,
        }


def _nobody() -> None:
    """Nobody wants to know yet."""
