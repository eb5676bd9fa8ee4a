"""Whether Redis is set up for what is kept in it: what it may forget by itself, and what it keeps over a restart.

Looks at the server's settings. It decides nothing: what it finds is logged and
shown. The danger is silence: a server that evicts, or that keeps nothing on its
disk, works like any other until it has forgotten something.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from typing import Any

from gateway.clock import Clock
from gateway.settings.feature_faults import Hook
from gateway.settings.tables.root import Kept, Settings
from gateway.store.answers import OddAnswerError, items, read_info, text
from gateway.store.redis_link import RedisLink, StoreUnavailableError
from gateway.tasks import Periodic

_log = logging.getLogger("gateway.redis")

#: Seconds between two looks; what an operator changes is seen after so many.
CONDITIONS_LOOK_SECONDS = 60.0

#: Before the first look that Redis has answered, and after it was away, seconds between two.
SOON_SECONDS = 1.0


class Conditions:
    """What is doubtful about the server's own settings.

    Args:
        link: to Redis.
        settings: the whole configuration.
        clock: the time.

    Attributes:
        problems: what was found at the last look that Redis answered, each a sentence.
    """

    def __init__(self, link: RedisLink, settings: Settings, clock: Clock) -> None:
        self.problems: tuple[str, ...] = ()
        self._link = link
        kept: list[Kept] = []
        for feature in settings.features:
            with Hook(feature.name, "kept_in_redis"):
                kept += feature.kept_in_redis(settings)
        self._kept = [one.what for one in kept if one.durable]
        self._counted = [one.what for one in kept if not one.durable]
        self._outages = -1
        self._watching = Periodic("Redis settings", self.look, clock, self._pause)

    def start(self) -> None:
        """Look, and go on looking in the background; no request waits for it."""
        self._watching.start(at_once=True)

    async def stop(self) -> None:
        """Look no longer."""
        await self._watching.stop()

    async def look(self) -> None:
        """Look once, and log what is new."""
        outages = self._link.outages
        try:
            found = tuple([problem async for problem in self._problems()])
        except StoreUnavailableError:
            if not self._link.available:
                return
            found = (
                "Redis settings cannot be checked: this Redis user may not run INFO; allow it, or check "
                "maxmemory-policy and appendonly yourself",
            )
        for problem in found:
            if problem not in self.problems:
                _log.warning("%s", problem)
        self.problems, self._outages = found, outages

    def _pause(self) -> float:
        """After an outage it may be another server."""
        return CONDITIONS_LOOK_SECONDS if self._outages == self._link.outages else SOON_SECONDS

    async def _problems(self) -> AsyncIterator[str]:
        at_risk = " and ".join(self._kept)
        if at_risk or self._counted:
            memory = await self._facts("memory")
            policy = memory.get("maxmemory_policy", "unknown")
            if memory.get("maxmemory", "0") != "0" and policy != "noeviction":
                lost = " and ".join([*self._kept, *self._counted])
                yield f"Redis may evict {lost}: its maxmemory-policy is {policy}; set noeviction"
        if at_risk and (problem := await self._persistence(at_risk)):
            yield problem
        if (await self._facts("cluster")).get("cluster_enabled") == "1":
            yield "Redis is part of a cluster, which is not supported: redis.url must name one server, or sentinels"

    async def _persistence(self, at_risk: str) -> str:
        if (await self._facts("persistence")).get("aof_enabled") != "0":
            return ""
        advice = "set appendonly yes"
        try:
            saved = await self._link.command("CONFIG", "GET", "save", read=_save)
        except StoreUnavailableError:
            hidden = "whether it takes snapshots is unknown: this Redis user may not run CONFIG GET save"
            return f"Redis does not log writes (appendonly no): {at_risk} can be lost at a restart; {hidden}; {advice}"
        if saved:
            return f"Redis loses the last {at_risk} at a restart (appendonly no, snapshots only); {advice}"
        return f"Redis loses all {at_risk} at a restart (appendonly no, no snapshots); {advice}"

    async def _facts(self, section: str) -> dict[str, str]:
        facts: dict[str, str] = await self._link.command("INFO", section, read=read_info)
        return facts


def _save(answer: Any) -> str:
    pair = items(answer, 2)
    if text(pair[0]) != b"save":
        raise OddAnswerError
    return text(pair[1]).decode("ascii", "replace")
