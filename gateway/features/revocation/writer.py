"""Revoking: an entry goes to Redis, or to the file where no Redis is configured.

Writes for the command and for the admin call. The danger is an entry that ends
before the tokens that it revokes: one without an end of its own gets an end
after which every token issued so far has expired.
"""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from gateway.clock import Clock
from gateway.features.revocation.checks import from_redis
from gateway.features.revocation.file_source import append_revocation
from gateway.features.revocation.options import RevocationTables
from gateway.features.revocation.redis_log import RevocationLog
from gateway.jwt.revocations.entry import RevocationEntry, parse_revocation
from gateway.jwt.revocations.table import MAX_RECORDS, RECORD, EntryKind
from gateway.settings.tables.root import Settings
from gateway.store.redis_link import RedisLink

#: The minimum timeout for writes to Redis, in seconds: it may be long, because no proxied request waits for them.
WRITE_SECONDS = 1.0

_MAX_BYTES = MAX_RECORDS * RECORD.size

#: Takes records that are in Redis now, and the epoch of their log.
Take = Callable[[bytes, bytes], Awaitable[None]]

_NAMES = {
    EntryKind.TOKEN: "jti",
    EntryKind.TOKEN_OF_ISSUER: "jti",
    EntryKind.SESSION: "sid",
    EntryKind.SESSION_OF_ISSUER: "sid",
    EntryKind.SUBJECT: "sub",
    EntryKind.SUBJECT_OF_ISSUER: "sub",
    EntryKind.SUBJECT_BEFORE: "sub",
    EntryKind.SUBJECT_OF_ISSUER_BEFORE: "sub",
    EntryKind.ISSUER_BEFORE: "issuer",
}


def default_expires(settings: Settings, now: float) -> float | None:
    """Return until when an entry without an end is in force: the maximum lifetime of a token, and the leeway (R129).

    None when it is unknown: some issuer's tokens have no maximum lifetime, or there is no issuer.
    """
    lives = [(issuer.max_lifetime_seconds, issuer.leeway_seconds) for issuer in settings.issuers]
    if not lives or any(lifetime == 0 for lifetime, _ in lives):
        return None
    # A token may be from the future by the leeway, and is accepted for the leeway after its end.
    return now + max(lifetime + 2 * leeway for lifetime, leeway in lives)


class RevocationWriter:
    """Writes revocations to where a configuration reads them.

    Args:
        settings: the whole configuration.
        clock: the time.
        take: called with records that were written to Redis, and the epoch of the log that they are in. If Redis loses
            them, the workers that got them write them back.

    Attributes:
        store: ``redis`` or ``file``; empty where neither is configured.
    """

    def __init__(self, settings: Settings, clock: Clock, take: Take | None = None) -> None:
        self._file = RevocationTables.of(settings).revocation.file
        self.store = "redis" if from_redis(settings) else "file" if self._file else ""
        self._settings = settings
        self._clock = clock
        self._take = take

    def read(self, text: str | bytes) -> RevocationEntry:
        """Read one entry for writing.

        Raises:
            ValueError: it is malformed, or would have no effect.
        """
        now = self._clock.wall()
        revocation = parse_revocation(text, default_expires(self._settings, now))
        if revocation.expires <= now:
            raise ValueError("has expires in the past")
        return revocation

    async def write(self, revocations: Sequence[RevocationEntry]) -> None:
        """Write entries to Redis or to the file.

        Raises:
            StoreUnavailableError: Redis is unavailable; some entries may have been written.
            OSError: the file cannot be written.
        """
        if self.store == "redis":
            await self._to_redis(b"".join(revocation.record() for revocation in revocations))
        else:
            text = "\n".join(map(line, revocations))
            await asyncio.to_thread(append_revocation, self._file, text)

    async def _to_redis(self, records: bytes) -> None:
        settings = self._settings.redis
        longer = max(settings.timeout_seconds, WRITE_SECONDS)
        link = RedisLink(settings.model_copy(update={"timeout_seconds": longer}), self._clock)
        try:
            await link.start()
            log = RevocationLog(link)
            for start in range(0, len(records), _MAX_BYTES):
                part = records[start : start + _MAX_BYTES]
                written = await log.add(part)
                if self._take is not None:
                    await self._take(part, written.epoch)
        finally:
            await link.stop()


def line(revocation: RevocationEntry) -> str:
    """Return an entry as a line of the file."""
    entry: dict[str, Any] = {_NAMES[revocation.kind]: revocation.value}
    if revocation.issuer:
        entry["issuer"] = revocation.issuer
    if revocation.before:
        entry["before"] = revocation.before
    entry["expires"] = "never" if math.isinf(revocation.expires) else math.ceil(revocation.expires)
    return json.dumps(entry)


def shown_end(revocation: RevocationEntry) -> str:
    """Return until when an entry is in force, as text for people."""
    if math.isinf(revocation.expires):
        return "indefinitely"
    return "until " + datetime.fromtimestamp(revocation.expires, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
