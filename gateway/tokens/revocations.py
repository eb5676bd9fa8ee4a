"""Whether a caller's credential is revoked, and whether anybody knows: what every verdict asks.

Only the question lives here; where entries come from is ``revocation_file.py``'s
and ``revocation_redis.py``'s. Two values are read on the hot path: the
generation, another object after each change, so that a verdict given under the
same one needs no second look; and the moment until which what is known counts
as all there is. Whoever asks compares that with the time, so that nothing that
ends or stands still can keep old knowledge alive; after it the routes' own
policies are asked.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gateway.clock import Clock
from gateway.errors import GatewayError, Reason
from gateway.identity import Identity
from gateway.settings import schema
from gateway.settings.revocation_checks import from_redis
from gateway.store.redis_link import RedisLink
from gateway.tokens.revocation_file import FileRevocations
from gateway.tokens.revocation_redis import RedisRevocations
from gateway.tokens.revocation_source import RevocationSource
from gateway.tokens.revocation_table import Mark


class Revocations:
    """All that is revoked, for one worker.

    Args:
        sources: where entries come from (``build_revocations``); none where nothing can be revoked.
        clock: the time.

    Attributes:
        sources: the same.
        generation: another object whenever entries may have changed.
        known_until: monotonic seconds from which on a source was last read too long ago, or never was; infinity where
            there is none.
        passed_unknown: requests that open routes let pass meanwhile.
    """

    def __init__(self, sources: Sequence[RevocationSource], clock: Clock) -> None:
        self.generation = object()
        self.passed_unknown = 0
        self._wall, self._monotonic = clock.wall, clock.monotonic
        self.sources = tuple(sources)
        self._moved()
        for source in sources:
            source.changed, source.moved = self._changed, self._moved

    async def start(self) -> None:
        """Read what is there to read, and keep up from then on."""
        for source in self.sources:
            await source.start()

    async def stop(self) -> None:
        """Keep up no longer."""
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

    def demand(self, identity: Identity) -> None:
        """Refuse a caller whose credential is revoked; for all but the tokens that the token cache knows.

        Raises:
            GatewayError: it is.
        """
        if self.sources and self.covers(identity):
            raise GatewayError(Reason.REVOKED)

    def demand_known(self, *, closed: bool) -> None:
        """While nobody knows what is revoked: refuse everybody, or count who passes.

        Args:
            closed: what the route says.

        Raises:
            GatewayError: 503.
        """
        if closed:
            raise GatewayError(Reason.REVOCATION_UNKNOWN)
        self.passed_unknown += 1

    def _changed(self) -> None:
        self.generation = object()

    def _moved(self) -> None:
        self.known_until = min((source.known_until for source in self.sources), default=float("inf"))

    def status(self) -> dict[str, Any]:
        """Return what ``/status`` shows."""
        return {
            "known": not self.unknown,
            "passed_unknown": self.passed_unknown,
            **{source.name: source.status() for source in self.sources},
        }


def build_revocations(settings: schema.Settings, clock: Clock, link: RedisLink | None) -> Revocations:
    """Return what a configuration lets be revoked, not yet started.

    Args:
        settings: the whole configuration.
        clock: the time.
        link: to Redis, where there is one.
    """
    table, sources = settings.revocation, list[RevocationSource]()
    if table.file:
        sources.append(FileRevocations(table.file, clock, table.max_age_seconds))
    if link is not None and from_redis(settings):
        sources.append(RedisRevocations(link, clock, table.max_age_seconds))
    return Revocations(sources, clock)
