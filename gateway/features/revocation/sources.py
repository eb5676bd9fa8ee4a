"""The sources that a configuration reads revocations from."""

from __future__ import annotations

from gateway.clock import Clock
from gateway.features.revocation.checks import from_redis
from gateway.features.revocation.file_source import FileRevocations
from gateway.features.revocation.options import RevocationTables
from gateway.features.revocation.redis_source import RedisRevocations
from gateway.jwt.revocations.source import RevocationSource
from gateway.settings.tables.root import Settings
from gateway.store.redis_link import RedisLink


def build_sources(settings: Settings, clock: Clock, link: RedisLink | None) -> list[RevocationSource]:
    """Return the sources, not yet started; none where nothing can be revoked.

    Args:
        settings: the whole configuration.
        clock: the time.
        link: to Redis, where there is one.
    """
    table, sources = RevocationTables.of(settings).revocation, list[RevocationSource]()
    if table.file:
        sources.append(FileRevocations(table.file, clock, table.max_age_seconds))
    if link is not None and from_redis(settings):
        sources.append(RedisRevocations(link, clock, table.max_age_seconds))
    return sources
