"""What was used once and must not be used again: DPoP proofs, and tokens for one request.

Only the remembering lives here, in this process's memory or in Redis, for both
alike. Whatever a client can choose is hashed before it is remembered. The
dangers: memory that grows with what clients send (so it has a bound, and a full
one decides nothing), and a store that cannot be asked, which must not admit
anything (RFC 9449 section 11.1).
"""

from __future__ import annotations

import heapq
from abc import ABC, abstractmethod
from collections.abc import Callable
from hashlib import sha256
from typing import Any

from gateway.clock import Clock
from gateway.errors import GatewayError, Reason
from gateway.settings.schema import Settings
from gateway.store.answers import done_or_not
from gateway.store.redis_link import KEY_PREFIX, RedisLink, StoreUnavailableError

#: What is remembered of an id, in bytes: enough that nobody finds two ids with the same.
DIGEST_BYTES = 16

#: Longest time for which something is remembered, in seconds: ten years.
MAX_SECONDS = 315_360_000.0


def digest_of(*parts: str) -> bytes:
    """Return what stands for an id, which these parts make unique; no two lists of parts have the same bytes."""
    coded = [part.encode("utf-8", "surrogatepass") for part in parts]
    return sha256(b"".join(len(part).to_bytes(4, "big") + part for part in coded)).digest()[:DIGEST_BYTES]


class ReplayStore(ABC):
    """Remembers ids until they cannot be used any more.

    Attributes:
        kind: ``memory`` or ``redis``.
        replays: how often an id was there already.
        undecided: how often nothing could be remembered.
    """

    kind: str

    def __init__(self) -> None:
        self.replays = 0
        self.undecided = 0

    @abstractmethod
    async def _add(self, digest: bytes, seconds: float) -> bool:
        """Remember an id; return whether it is new.

        Raises:
            GatewayError: ``REPLAY_STORE``.
        """

    async def use(self, digest: bytes, seconds: float) -> bool:
        """Use an id up; return whether it was unused. Of any number at a time, one is told so.

        Args:
            digest: see ``digest_of``.
            seconds: for so long it is remembered.

        Raises:
            GatewayError: ``REPLAY_STORE``: it cannot be told, so whatever the id is for is not admitted.
        """
        try:
            new = await self._add(digest, min(seconds, MAX_SECONDS))
        except GatewayError:
            self.undecided += 1
            raise
        self.replays += not new
        return new

    @property
    def entries(self) -> int:
        """How many ids this process remembers."""
        return 0

    def status(self) -> dict[str, Any]:
        """Return what ``/status`` shows."""
        return {"store": self.kind, "entries": self.entries, "replays": self.replays, "failures": self.undecided}


class ReplayMemory(ReplayStore):
    """Ids in the memory of one process.

    Args:
        size: most ids. When there are as many, nothing is forgotten to make room: that would admit replays.
        monotonic: the time.
    """

    kind = "memory"

    def __init__(self, size: int, monotonic: Callable[[], float]) -> None:
        super().__init__()
        self._size = size
        self._monotonic = monotonic
        self._known: set[bytes] = set()
        self._ends: list[tuple[float, bytes]] = []

    @property
    def entries(self) -> int:
        return len(self._known)

    async def _add(self, digest: bytes, seconds: float) -> bool:
        # Without a pause between look and entry: of two requests at a time, one is the first.
        now = self._monotonic()
        while self._ends and self._ends[0][0] <= now:
            self._known.remove(heapq.heappop(self._ends)[1])
        if digest in self._known:
            return False
        if len(self._known) >= self._size:
            wait = int(self._ends[0][0] - now) + 1
            raise GatewayError(Reason.REPLAY_STORE, detail="the memory is full", retry_after=min(wait, 60))
        self._known.add(digest)
        heapq.heappush(self._ends, (now + seconds, digest))
        return True


class ReplayRedis(ReplayStore):
    """Ids in Redis, for all workers and gateways that share it.

    Args:
        link: to Redis.
        purpose: tells these ids from others.
    """

    kind = "redis"

    def __init__(self, link: RedisLink, purpose: str) -> None:
        super().__init__()
        self._link = link
        self._start = f"{KEY_PREFIX}{purpose}:"

    async def _add(self, digest: bytes, seconds: float) -> bool:
        key, milliseconds = self._start + digest.hex(), max(1, round(seconds * 1000))
        try:
            new: bool = await self._link.command("SET", key, "1", "NX", "PX", milliseconds, read=done_or_not)
        except StoreUnavailableError as error:
            raise GatewayError(Reason.REPLAY_STORE, detail=str(error)) from None
        return new


def make_store(settings: Settings, clock: Clock, redis: RedisLink | None, purpose: str) -> ReplayStore:
    """Return what remembers the ids of one purpose: Redis where there is one, else this process."""
    if redis is not None:
        return ReplayRedis(redis, purpose)
    return ReplayMemory(settings.tokens.replay_size, clock.monotonic)
