"""Whether a caller's credential is revoked, and whether that is known: asked for every verdict.

Checks one credential; entries come from features, such as
``features/revocation``. Two values are read on the hot path: the generation,
another object after each change, so that a verdict given under the same one
needs no second look; and the moment until which what is known may be used
without a further check. Callers compare that with the time, so that nothing
that ends or stands still can keep old knowledge alive. After it the routes' own
policies are asked; and where this process itself has stood still, requests wait
a moment until all sources have been looked at again, since no look has failed
then and the list may be as old as the standstill.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Any

from gateway.clock import Clock
from gateway.errors import GatewayError, Reasons
from gateway.identity import Identity
from gateway.jwt.revocations.source import RevocationSource
from gateway.jwt.revocations.table import Mark
from gateway.tasks import cancelled, spawn

#: A process that has not run for so long has stood still, in seconds; and how often it notes that it runs.
STILL_SECONDS, _TICK_SECONDS = 0.5, 0.1

#: How long requests wait then at most, in seconds; and the pause after a look that was in vain.
CATCH_UP_SECONDS, _CATCH_UP_PAUSE = 0.5, 0.02


class Revocations:
    """All that is revoked, for one worker.

    Args:
        sources: where entries come from; none where nothing can be revoked.
        clock: the time.

    Attributes:
        sources: all of them.
        generation: another object whenever entries may have changed.
        known_until: monotonic seconds from which on a source was last read too long ago, or never was; infinity where
            there is no source.
        settled_until: monotonic seconds from which on ``unknown`` and ``outdated`` must be asked; minus infinity while
            sources are looked at again.
        passed_unknown: requests that open routes let pass meanwhile.
    """

    def __init__(self, sources: Sequence[RevocationSource], clock: Clock) -> None:
        self.generation = object()
        self.passed_unknown = 0
        self._wall, self._monotonic = clock.wall, clock.monotonic
        self._catching: asyncio.Task[None] | None = None
        self._ticking: asyncio.TimerHandle | None = None
        self._awake_until = float("inf")
        self.sources: tuple[RevocationSource, ...] = ()
        self._moved()
        for source in sources:
            self.add_source(source)

    def add_source(self, source: RevocationSource) -> None:
        """Read entries from there, too; before ``start``."""
        self.sources = (*self.sources, source)
        source.changed, source.moved = self._changed, self._moved
        self._moved()

    async def start(self) -> None:
        """Read what is there to read, and keep up from then on."""
        for source in self.sources:
            await source.start()
        if self.sources:
            self._awake_until = self._monotonic() + STILL_SECONDS
            self._tick()

    async def stop(self) -> None:
        """Keep up no longer."""
        if self._ticking is not None:
            self._ticking.cancel()
        if self._catching is not None:
            await cancelled(self._catching)
        for source in self.sources:
            await source.stop()

    @property
    def unknown(self) -> bool:
        """Whether some source was never read, or not lately, at this moment."""
        return self._monotonic() >= self.known_until

    @property
    def complete(self) -> bool:
        """Whether every source was read once."""
        return all(source.filled for source in self.sources)

    def covers(self, identity: Identity) -> bool:
        """Say whether a caller's credential is revoked, by what is known."""
        return self.look(identity, ())[0]

    def look(self, identity: Identity, marks: Sequence[Mark]) -> tuple[bool, Sequence[Mark]]:
        """Say whether a caller's credential is revoked, and return what makes the next look at the same one cheap.

        Args:
            identity: the caller.
            marks: what the last look returned; nothing for the first one.
        """
        minute, tables = int(self._wall() // 60), [source.table for source in self.sources]
        if len(marks) != len(tables) or any(
            mark.asked is not table.asked for mark, table in zip(marks, tables, strict=True)
        ):
            marks = tuple(table.mark(identity) for table in tables)
        for mark, table in zip(marks, tables, strict=True):
            if table.covers_marked(mark, identity.issued_at, minute):
                return True, marks
        return False, marks

    def take(self, records: bytes, epoch: bytes) -> None:
        """Take records that this gateway has written to Redis just now, to the log of this epoch."""
        for source in self.sources:
            source.take(records, epoch)

    def demand(self, identity: Identity) -> None:
        """Refuse a caller whose credential is revoked; for all but the tokens that the token cache knows.

        Raises:
            GatewayError: it is.
        """
        if self.sources and self.covers(identity):
            raise GatewayError(Reasons.REVOKED)

    def demand_known(self, *, closed: bool) -> None:
        """While it is not known what is revoked: refuse every caller, or count those that pass.

        Args:
            closed: what the route says.

        Raises:
            GatewayError: 503.
        """
        if closed:
            raise GatewayError(Reasons.REVOCATION_UNKNOWN)
        self.passed_unknown += 1

    @property
    def outdated(self) -> bool:
        """Whether this process has stood still, so that what it knows is from before: then await ``catch_up``."""
        return self._catching is not None or self._monotonic() >= self._awake_until

    async def catch_up(self) -> None:
        """Wait until every source has been looked at again, but not longer than ``CATCH_UP_SECONDS``.

        What was revoked while this process stood still is known then, where whatever says so answers.
        """
        self._begin_catching_up()
        if self._catching is not None:
            await asyncio.wait({self._catching})

    def _begin_catching_up(self) -> None:
        if self._catching is None:
            self._catching = spawn(self._catch_up(self._monotonic()), "revocations looked at again")
            self._moved()

    async def _catch_up(self, since: float) -> None:
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CATCH_UP_SECONDS):
                    await asyncio.gather(*(_until_good(source, since) for source in self.sources))
        finally:
            self._catching = None
            self._awake_until = self._monotonic() + STILL_SECONDS
            self._moved()

    def _tick(self) -> None:
        """Note that this process runs, several times a second; if it did not for a while, catch up."""
        if self._catching is None:
            if self._monotonic() >= self._awake_until:
                self._begin_catching_up()
            else:
                self._awake_until = self._monotonic() + STILL_SECONDS
                self._moved()
        self._ticking = asyncio.get_running_loop().call_later(_TICK_SECONDS, self._tick)

    def _changed(self) -> None:
        self.generation = object()

    def _moved(self) -> None:
        self.known_until = min((source.known_until for source in self.sources), default=float("inf"))
        self.settled_until = min(self.known_until, self._awake_until) if self._catching is None else float("-inf")

    def status(self) -> dict[str, Any]:
        """Return what ``/status`` shows."""
        return {
            "known": not self.unknown,
            "passed_unknown": self.passed_unknown,
            **{source.name: source.status() for source in self.sources},
        }


async def _until_good(source: RevocationSource, since: float) -> None:
    while not await source.catch_up(since):  # noqa: ASYNC110 - nothing would set an event but this
        await asyncio.sleep(_CATCH_UP_PAUSE)
