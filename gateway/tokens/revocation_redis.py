"""The revocations that come from Redis: filled once, told of each new one, and looked after four times a second.

Only this keeping up lives here. A look compares the number of the last write
with the one that was read: whatever was missed, for whatever reason, is read
then. So the channel makes revocations quick, and the look makes them certain.
The dangers: a server that has lost what it had (nothing known is forgotten
then, and what it lost is written back to it), and one that answers nonsense or
nothing (a look that ends in any exception is a failed look, and what is known
grows old).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import Any

from redis.asyncio.client import PubSub
from redis.exceptions import RedisError

from gateway.clock import Clock
from gateway.store.redis_link import RedisLink, StoreUnavailableError
from gateway.store.revocation_log import MOST_RECORDS, RECORD, Page, RevocationLog, told
from gateway.tasks import Periodic, cancelled, spawn, survivable, where
from gateway.tokens.revocation_source import RevocationSource

_log = logging.getLogger("gateway.revocation")

#: Seconds between two looks.
LOOK_SECONDS = 0.25

#: Without a good look for this long, what is revoked now is not known, however long ``max_age_seconds`` is.
STALE_SECONDS = 0.6

#: Least seconds between two log lines about looks that failed otherwise than by Redis' being unavailable.
_LOG_SECONDS = 10.0

#: The wait for the channel's connection to close, in seconds.
_CLOSE_SECONDS = 1.0

#: Every so many looks a part of the log is swept.
_SWEEP_LOOKS = 8

#: The wait for a message of the channel, after which the connection is looked at, in seconds.
_MESSAGE_SECONDS = 1.0

#: Records that are written back at one time, and the seconds between two looks whether somebody else has done it.
_RESTORED, _RESTORE_SECONDS = MOST_RECORDS // 4, 1.0


class RedisRevocations(RevocationSource):
    """What Redis says is revoked.

    Args:
        link: to Redis.
        clock: the time.
        max_age: how long entries are believed without a good look, in seconds; ``STALE_SECONDS`` at most.

    Attributes:
        restored: records that were written back to Redis.
    """

    name = "redis"

    def __init__(self, link: RedisLink, clock: Clock, max_age: float = STALE_SECONDS) -> None:
        super().__init__(clock, min(max_age, STALE_SECONDS))
        self.restored = 0
        self._link = link
        self._entries = RevocationLog(link)
        self._sleep = clock.sleep
        self._looking = asyncio.Lock()
        self._epoch: bytes | None = None
        self._read = 0
        self._server = b""
        self._doubtful = True
        self._lost = False
        self._looks = 0
        self._logged_at = float("-inf")
        self._watching = Periodic("revocations from Redis", self._watch, clock, LOOK_SECONDS)
        self._listening = Periodic("revocation channel", self._listen, clock, LOOK_SECONDS)
        self._client = link.new_client(1)
        self._restoring: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Read what is there, if Redis is, and keep up from then on in the background."""
        await self.look()
        self._watching.start()
        self._listening.start(at_once=True)

    async def stop(self) -> None:
        """Keep up no longer."""
        await self._watching.stop()
        await self._listening.stop()
        if self._restoring is not None:
            await cancelled(self._restoring)
        # A server that is stopped cannot hold this up.
        with contextlib.suppress(RedisError, OSError, TimeoutError):
            async with asyncio.timeout(_CLOSE_SECONDS):
                await self._client.aclose(close_connection_pool=True)

    async def look(self) -> None:
        """Read what was written since the last look. Whatever goes wrong is a failed look: nothing is raised for it."""
        async with self._looking:
            began = self._monotonic()
            try:
                await self._read_on()
            except BaseException as error:
                if not survivable(error):
                    raise
                self._failed(error)
                self.tell()
            else:
                self.found_good(began)

    def _failed(self, error: BaseException) -> None:
        self.failures += 1
        now = self._monotonic()
        if not isinstance(error, StoreUnavailableError) and now - self._logged_at >= _LOG_SECONDS:
            self._logged_at = now
            _log.error("revocations were not read from Redis (%d so far): %s", self.failures, where(error))

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
        await self.look()
        self.table.clean(self._wall())
        self._looks += 1
        if self.known and self._looks % _SWEEP_LOOKS == 0:
            with contextlib.suppress(StoreUnavailableError):
                await self._entries.sweep()

    # --- the channel ---

    async def _listen(self) -> None:
        """Hear the channel for as long as that goes well."""
        try:
            if self._link.available:
                with contextlib.suppress(RedisError, OSError, TimeoutError):
                    async with self._client.pubsub() as channel:
                        await self._follow(channel)
        finally:
            self._doubtful = True

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
        except BaseException as error:
            self._lost = True
            if not survivable(error):
                raise
            self._failed(error)

    def status(self) -> dict[str, Any]:
        """Return what ``/status`` shows."""
        return {**super().status(), "restored": self.restored}
