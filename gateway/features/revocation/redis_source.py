"""The revocations that come from Redis: filled once, told of each new one, and looked after four times a second.

Only this keeping up lives here. A look reads what was written since the number
that was read last: whatever was missed, for whatever reason, is read then. So
the channel makes revocations quick, and the look makes them certain. The
dangers: a server that has lost what it had (nothing known is forgotten then:
under another epoch all of it is read anew, compared entry by entry, and what
is lacking there is written back), one that answers nonsense or nothing (a look
that ends in any exception is a failed look, and what is known grows old), and
one that is slower than requests can wait (so neither looks nor the channel
depend on what requests find).
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
from gateway.store.answers import StoreUnavailableError
from gateway.store.redis_link import PATIENCE_SECONDS, START_SECONDS, RedisLink
from gateway.tasks import Periodic, cancelled, spawn, survivable, where

_log = logging.getLogger("gateway.revocation")

#: Seconds between two looks.
REDIS_LOOK_SECONDS = 0.25

#: Without a good look for this long, what is revoked now is not known, however long ``max_age_seconds`` is.
STALE_SECONDS = 0.6

#: After a loss, what is revoked counts as unknown for this long, in seconds: other workers may know revocations that
#: this one has never read, and need time to notice the loss (one look) and to write them back.
SETTLING_SECONDS = 1.0

#: Least seconds between two log lines about looks that failed otherwise than by Redis' being unavailable.
_LOG_SECONDS = 10.0

#: The wait for the channel's connection to close, in seconds.
_CLOSE_SECONDS = 1.0

#: Every so many looks a part of the log is swept.
SWEEP_LOOKS = 8

#: The wait for a message of the channel, after which the server is asked whether it is there, in seconds; and how many
#: such questions in a row may stay without an answer before the connection is given up.
MESSAGE_SECONDS, _MAX_SILENCES = 1.0, 3

#: While Redis is away, the channel is tried with every so many rounds only.
_AWAY_ROUNDS = 4

#: The epoch of a log that is not known, and was perhaps lost.
_ANOTHER_LOG = b"?"

#: Records that are written back at one time, and the seconds between two looks whether another worker has done it.
_RESTORED, RESTORE_SECONDS = MAX_RECORDS // 4, 0.1


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
        self._there: RevocationTable | None = None
        self._settled_at = float("-inf")
        self._rounds = 0
        self._looks = 0
        self._logged_at = self._began = float("-inf")
        self._watching = Periodic("revocations from Redis", self._watch, clock, self._pause)
        self._listening = Periodic("revocation channel", self._listen, clock, REDIS_LOOK_SECONDS)
        self._client = link.new_client(1)
        self._first: asyncio.Task[None] | None = None
        self._restoring: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Read what is there, if Redis is, and keep up from then on in the background.

        A worker that knows nothing waits for as long as the first look takes. One that has inherited knows what its
        siblings know, and serves like them after ``START_SECONDS``, even if Redis is silent.
        """
        first = self._first = spawn(self.look(), "first look at revocations")
        await asyncio.wait({first}, timeout=START_SECONDS if self.filled else None)
        self._watching.start()
        self._listening.start(at_once=True)

    async def stop(self) -> None:
        """Keep up no longer."""
        await self._watching.stop()
        await self._listening.stop()
        for task in (self._first, self._restoring):
            if task is not None:
                await cancelled(task)
        # A server that is stopped cannot hold this up.
        with contextlib.suppress(RedisError, OSError, TimeoutError):
            async with asyncio.timeout(_CLOSE_SECONDS):
                await self._client.aclose(close_connection_pool=True)

    async def look(self) -> None:
        """Read what was written since the last look. Whatever goes wrong is a failed look: nothing is raised for it."""
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
        """Return the wait before the next look: the slower Redis is, the sooner it is asked again."""
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
            return False  # meanwhile all of it must be read again
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
        """Read the log from its start, and hold what it has against what is known here."""
        self._read = 0
        self._there = RevocationTable() if len(self.table) else None

    def _settle(self) -> None:
        """Redis has lost revocations, or may have: until others have written back theirs, not all are known here."""
        self._settled_at = self._monotonic() + SETTLING_SECONDS
        self.unknown(f"Redis may have lost some, and gets them back within {SETTLING_SECONDS:g} s")

    def take(self, records: bytes, epoch: bytes) -> None:
        """Take records that were written to Redis just now; should it lose them, they are written back.

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
        self._looks += 1
        if self.known and self._looks % SWEEP_LOOKS == 0:
            with contextlib.suppress(StoreUnavailableError):
                await self._entries.sweep()

    # --- the channel ---

    async def _listen(self) -> None:
        """Hear the channel for as long as that goes well."""
        self._rounds += 1
        if self._link.available or self._rounds % _AWAY_ROUNDS == 0:
            with contextlib.suppress(RedisError, OSError, TimeoutError):
                async with self._client.pubsub() as channel:
                    await self._follow(channel)

    async def _follow(self, channel: PubSub) -> None:
        """Hear the channel until the connection ends, or is silent: then it may be none."""
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

    # --- a server that has lost something ---

    async def _restore(self, there: RevocationTable) -> None:
        """Write back what is known here and lacking there; one worker at a time does it.

        Args:
            there: what Redis has. Looks and the channel keep it up to date.
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
        except BaseException as error:  # the next good look begins this again
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
        # A worker that begins with entries that Redis may lack compares all of them.
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
