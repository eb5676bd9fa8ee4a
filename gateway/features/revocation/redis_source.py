"""The revocations that come from Redis: read once as a whole, then from a channel, and polled four times a second.

Keeps the entries current. A poll reads what was written since the number that was read last, so it also gets what the
channel missed. The channel makes revocations fast, and the polls make them reliable. There are three dangers:

- a server that has lost entries: no known entry is dropped then; under another epoch the whole log is read anew,
  compared entry by entry, and what Redis lacks is written back;
- a server that answers nonsense or nothing: a poll that ends in any exception has failed, and the age of the entries
  grows;
- a server that is slower than requests can wait: so neither polls nor the channel depend on what requests find.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import Any

from redis.asyncio.client import PubSub
from redis.exceptions import RedisError

from gateway.clock import Clock
from gateway.features.revocation.redis_log import RevocationLog, read_message
from gateway.jwt.revocations.source import Inheritance, RevocationSource
from gateway.jwt.revocations.table import MAX_RECORDS, RECORD, RevocationTable
from gateway.store.redis_link import PATIENCE_SECONDS, START_SECONDS, RedisLink, StoreUnavailableError
from gateway.tasks import Periodic, cancelled, spawn, survivable, where

_log = logging.getLogger("gateway.revocation")

#: Seconds between two polls.
REDIS_LOOK_SECONDS = 0.25

#: After this long without a successful poll, revocations count as unknown, however long ``max_age_seconds`` is.
STALE_SECONDS = 0.6

#: After a loss, revocations count as unknown for this long, in seconds: other workers may know entries that this one
#: has never read, and need time to notice the loss (one poll) and to write them back.
SETTLING_SECONDS = 1.0

#: The minimum of seconds between two log lines about polls that failed although Redis was available.
_LOG_SECONDS = 10.0

#: Timeout for closing the channel's connection, in seconds.
_CLOSE_SECONDS = 1.0

#: A part of the log is swept once in so many polls.
SWEEP_POLLS = 8

#: Timeout for a message of the channel, after which a ping is sent, in seconds; and how many pings in a row may stay
#: without an answer before the connection is closed.
MESSAGE_SECONDS, _MAX_SILENCES = 1.0, 3

#: While Redis is unavailable, the channel is tried once in so many rounds.
_AWAY_ROUNDS = 4

#: The epoch of a log that is unknown and may have been lost.
_ANOTHER_LOG = b"?"

#: Records that are written back at one time, and the seconds between two checks whether another worker has done it.
_RESTORED, RESTORE_SECONDS = MAX_RECORDS // 4, 0.1


class RedisRevocations(RevocationSource):
    """The revocations in Redis.

    Args:
        link: to Redis.
        clock: the time.
        max_age: how long entries stay in force without a successful poll, in seconds; ``STALE_SECONDS`` at most.

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
        self._there: RevocationTable | None = None
        self._settled_at = float("-inf")
        self._rounds = 0
        self._polls = 0
        self._logged_at = self._began = float("-inf")
        self._watching = Periodic("revocations from Redis", self._watch, clock, self._pause)
        self._listening = Periodic("revocation channel", self._listen, clock, REDIS_LOOK_SECONDS)
        self._client = link.new_client(1)
        self._first: asyncio.Task[None] | None = None
        self._restoring: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Read the log if Redis is available, and keep up with it from then on in the background.

        A worker without entries waits until the first poll ends. One that has inherited entries has those of its
        siblings, and serves like them after ``START_SECONDS``, even if Redis does not answer.
        """
        first = self._first = spawn(self.look(), "first poll of revocations")
        await asyncio.wait({first}, timeout=START_SECONDS if self.filled else None)
        self._watching.start()
        self._listening.start(at_once=True)

    async def stop(self) -> None:
        """Stop keeping up."""
        await self._watching.stop()
        await self._listening.stop()
        for task in (self._first, self._restoring):
            if task is not None:
                await cancelled(task)
        # Bounded, so that a server that has stopped cannot delay this.
        with contextlib.suppress(RedisError, OSError, TimeoutError):
            async with asyncio.timeout(_CLOSE_SECONDS):
                await self._client.aclose(close_connection_pool=True)

    async def look(self) -> None:
        """Poll: read what was written since the last time. Every error is a failed poll, and is not raised."""
        async with self._looking:
            await self._look()

    async def catch_up(self, since: float) -> bool:
        async with self._looking:
            if self._looked_at < since:
                await self._look()
        return self._looked_at >= since

    async def _look(self) -> None:
        began = self._began = self._monotonic()
        try:
            while not await self._read_page():
                began = self._monotonic()  # the last page has everything that was written before it was asked for
        except BaseException as error:
            if not survivable(error):
                raise
            self._failed(error)
            self.tell()
        else:
            self.found_good(began, known=began >= self._settled_at and self._there is None)
            if self._there is not None and (self._restoring is None or self._restoring.done()):
                self._restoring = spawn(self._restore(self._there), "revocations restored")

    def _pause(self) -> float:
        """Return the pause before the next poll: it is shorter after a slow one."""
        return max(0.0, self._began + REDIS_LOOK_SECONDS - self._monotonic())

    def _failed(self, error: BaseException) -> None:
        self.failures += 1
        now = self._monotonic()
        if not isinstance(error, StoreUnavailableError) and now - self._logged_at >= _LOG_SECONDS:
            self._logged_at = now
            _log.error("reading revocations from Redis failed (%d so far): %s", self.failures, where(error))

    async def _read_page(self) -> bool:
        """Read the next page; return whether nothing is left to read."""
        after = self._read  # the channel may move it on meanwhile, beyond what this page says
        page = await self._entries.page(after)
        if self._read < after:
            return False  # meanwhile it was decided to read the whole log again
        if page.epoch != self._epoch or page.head < after:
            if self._epoch is not None:
                self._settle()
            self._epoch = page.epoch
            self._compare()
            if after:
                return False
        self.take(page.records, page.epoch)
        whole = len(page.records) < MAX_RECORDS * RECORD.size
        self._read = max(self._read, page.head if whole else page.last)
        return whole

    def _compare(self) -> None:
        """Begin to read the log from its start, and to compare it with the entries known here."""
        self._read = 0
        self._there = RevocationTable() if len(self.table) else None

    def _settle(self) -> None:
        """Count revocations as unknown after a possible loss, until other workers have written back their entries."""
        self._settled_at = self._monotonic() + SETTLING_SECONDS
        self.unknown(f"Redis may have lost some, and gets them back within {SETTLING_SECONDS:g} s")

    def take(self, records: bytes, epoch: bytes) -> None:
        """Take records that were written to Redis just now; if it loses them, they are written back.

        Args:
            records: one after the other.
            epoch: of the log that they were written to.
        """
        added = self.table.apply(records, self._wall())
        if epoch == self._epoch:
            if self._there is not None:
                self._there.apply(records, self._wall())
        elif added and self._epoch is not None:
            # The log that they are in may be lost, also if that was noticed before they came here.
            self._compare()
        if added:
            self.applied += added
            self.changed()

    async def _watch(self) -> None:
        await self.look()
        self.table.clean(self._wall())
        self._polls += 1
        if self.known and self._polls % SWEEP_POLLS == 0:
            with contextlib.suppress(StoreUnavailableError):
                await self._entries.sweep()

    # --- the channel ---

    async def _listen(self) -> None:
        """Read the channel until it fails."""
        self._rounds += 1
        if self._link.available or self._rounds % _AWAY_ROUNDS == 0:
            with contextlib.suppress(RedisError, OSError, TimeoutError):
                async with self._client.pubsub() as channel:
                    await self._follow(channel)

    async def _follow(self, channel: PubSub) -> None:
        """Read the channel until the connection ends or stays silent: then it may be dead."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            await channel.subscribe(self._entries.channel)
        silences = 0
        while silences < _MAX_SILENCES:
            message = await channel.get_message(timeout=MESSAGE_SECONDS)
            if message is None:
                silences += 1
                await channel.ping()
                continue
            silences = 0
            if message["type"] == "message":
                await self._hear(message["data"])

    async def _hear(self, message: bytes) -> None:
        found = read_message(message)
        if found is None:
            return
        self.take(found.records, found.epoch)
        if found.epoch == self._epoch and found.first <= self._read:
            self._read = max(self._read, found.head)
        elif not self._looking.locked():
            await self.look()

    # --- a server that has lost entries ---

    async def _restore(self, there: RevocationTable) -> None:
        """Write back the entries that are known here and that Redis lacks; one worker at a time does it.

        Args:
            there: the entries that Redis has. Polls and the channel keep it current.
        """
        try:
            written = 0
            while self._there is there and await self._lacking(there):
                if not await self._entries.may_restore():
                    await self._sleep(RESTORE_SECONDS)
                    continue
                for records in self.table.records(_RESTORED, self._wall(), there):
                    if records:
                        written += (await self._entries.add(records, restoring=True)).added
                        there.apply(records, self._wall())
                    await asyncio.sleep(0)
                await self._entries.restored()
            if written:
                self.restored += written
                _log.warning("Redis had lost revocations: wrote %d entries back", written)
            if self._there is there:
                self._there = None
        except BaseException as error:  # the next successful poll begins this again
            if not survivable(error):
                raise
            self._failed(error)

    async def _lacking(self, there: RevocationTable) -> bool:
        for records in self.table.records(_RESTORED, self._wall(), there):
            if records:
                return True
            await asyncio.sleep(0)
        return False

    # --- another worker's ---

    @property
    def place(self) -> str:
        # Empty while Redis may lack entries: a worker that inherits them then compares all of them.
        if self._there is not None or self._monotonic() < self._settled_at or self._epoch in (None, _ANOTHER_LOG):
            return ""
        return f"{self._epoch.decode()} {self._read}"

    def inherit(self, left: Inheritance) -> None:
        super().inherit(left)
        if left.place:
            epoch, read = left.place.split(" ")
            self._epoch, self._read = epoch.encode(), int(read)
        else:
            self._epoch = _ANOTHER_LOG
            self.unknown("another worker has not yet compared what Redis has")

    def status(self) -> dict[str, Any]:
        """Return what ``/status`` shows."""
        return {**super().status(), "restored": self.restored}
