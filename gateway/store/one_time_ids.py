"""What was used once and must not be used again: DPoP proofs, and tokens for one request.

Remembers them, in this process's memory or in Redis, for both alike. Whatever a
client can choose is hashed before it is remembered. The dangers: memory that
grows with what clients send (so it has a bound, and a full one decides
nothing), a store that cannot be asked, and one that has lost what it had. None
of them may admit anything that was used (RFC 9449 section 11.1): so each worker
asks its own ids first, and an id that may have been used before the store began
to remember is not admitted either, unless its route says so.
"""

from __future__ import annotations

import heapq
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import suppress
from hashlib import sha256
from typing import Any, NamedTuple

from gateway.clock import Clock
from gateway.errors import GatewayError, Reasons
from gateway.settings.tables.root import Settings
from gateway.store.redis_link import RedisLink, StoreUnavailableError
from gateway.store.used_ids import DIGEST_BYTES, PASSED, UNDECIDED, USED, UsedIds
from gateway.tasks import Periodic

_log = logging.getLogger("gateway.replay")

#: Longest time for which something is remembered, in seconds: ten years.
MAX_SECONDS = 315_360_000.0

#: Seconds between two checks since when Redis remembers, once an id was used here.
USED_IDS_LOOK_SECONDS = 0.25

#: Before that, every so many times only: a worker that uses nothing loses little.
_IDLE_CHECK_INTERVAL = 20


def digest_of(*parts: str) -> bytes:
    """Return what stands for an id, which these parts make unique; no two lists of parts have the same bytes."""
    coded = [part.encode("utf-8", "surrogatepass") for part in parts]
    return sha256(b"".join(len(part).to_bytes(4, "big") + part for part in coded)).digest()[:DIGEST_BYTES]


class Once(NamedTuple):
    """An id that may be used once. Moments are seconds since the epoch.

    Attributes:
        digest: see ``digest_of``.
        earliest: before this it cannot have been used, by what its issuer or sender has signed.
        here: so long this gateway would accept it.
        anywhere: so long any gateway might, but for the store's own window.
    """

    digest: bytes
    earliest: float
    here: float
    anywhere: float


class ReplayStore(ABC):
    """Remembers ids until they cannot be used any more.

    Attributes:
        kind: ``memory`` or ``redis``.
        replays: how often an id was there already.
        undecided: how often it could not be decided whether it was.
        passed: ids that were let pass all the same.
    """

    kind: str

    def __init__(self) -> None:
        self.replays = 0
        self.undecided = 0
        self.passed = 0

    @abstractmethod
    async def start(self) -> None:
        """Begin to keep up with the store, if there is one; this waits for one exchange at most."""

    @abstractmethod
    async def stop(self) -> None:
        """Keep up no longer."""

    @abstractmethod
    async def _add(self, once: Once, undecided_passes: bool) -> bool:
        """Remember an id; return whether it is new.

        Raises:
            GatewayError: ``REPLAY_STORE`` or ``REPLAY_UNDECIDED``.
        """

    async def use(self, once: Once, *, undecided_passes: bool = False) -> bool:
        """Use an id up; return whether it was unused. Of any number of callers at a time, one gets True.

        Args:
            once: the id, and its times.
            undecided_passes: where it cannot be decided, it counts as unused.

        Raises:
            GatewayError: ``REPLAY_STORE`` or ``REPLAY_UNDECIDED``: it cannot be decided, so what the id is for is not
                admitted.
        """
        try:
            new = await self._add(once, undecided_passes)
        except GatewayError:
            self.undecided += 1
            if not undecided_passes:
                raise
            self.passed += 1
            return True
        self.replays += not new
        return new

    @property
    def entries(self) -> int:
        """How many ids this process remembers."""
        return 0

    def status(self) -> dict[str, Any]:
        """Return what ``/status`` shows."""
        return {"store": self.kind, "entries": self.entries, "replays": self.replays, "failures": self.undecided}


class UsedHere:
    """Ids that were used in this process.

    Args:
        size: most ids.
        monotonic: the time.
    """

    def __init__(self, size: int, monotonic: Callable[[], float]) -> None:
        self._size = size
        self._monotonic = monotonic
        self._known: set[bytes] = set()
        self._ends: list[tuple[float, bytes]] = []

    def __len__(self) -> int:
        return len(self._known)

    def has(self, digest: bytes) -> bool:
        """Return whether an id is among them, after those whose time is over are gone."""
        now = self._monotonic()
        while self._ends and self._ends[0][0] <= now:
            self._forget_first()
        return digest in self._known

    @property
    def wait(self) -> float | None:
        """Seconds until there is room for another one; None when there is."""
        return None if len(self._known) < self._size else self._ends[0][0] - self._monotonic()

    def add(self, digest: bytes, seconds: float) -> None:
        """Remember an id that is not there; when there are too many, the one whose time is over first makes room."""
        self._known.add(digest)
        heapq.heappush(self._ends, (self._monotonic() + min(seconds, MAX_SECONDS), digest))
        if len(self._known) > self._size:
            self._forget_first()

    def _forget_first(self) -> None:
        self._known.discard(heapq.heappop(self._ends)[1])


class ReplayMemory(ReplayStore):
    """Ids in the memory of one process.

    Args:
        size: most ids. When there are as many, nothing is forgotten to make room: that would admit replays.
        clock: the time. What was used is remembered by its monotonic one: a step of the other admits nothing.
    """

    kind = "memory"

    def __init__(self, size: int, clock: Clock) -> None:
        super().__init__()
        self._wall = clock.wall
        self._size = size
        self._used = UsedHere(size, clock.monotonic)

    @property
    def entries(self) -> int:
        return len(self._used)

    async def start(self) -> None:
        """Do nothing: there is no store to keep up with."""

    async def stop(self) -> None:
        """Do nothing."""

    async def _add(self, once: Once, undecided_passes: bool) -> bool:
        # Without a pause between look and entry: of two requests at a time, one is the first.
        if self._used.has(once.digest):
            return False
        if (wait := self._used.wait) is not None:
            raise GatewayError(
                Reasons.REPLAY_STORE,
                detail=f"tokens.replay_size ({self._size}) used ids are in memory",
                retry_after=min(int(wait) + 1, 60),
            )
        self._used.add(once.digest, once.here - self._wall())
        return True


class ReplayRedis(ReplayStore):
    """Ids in Redis, for all workers and gateways that share it; and beside it, those that were used here.

    Args:
        link: to Redis.
        purpose: tells these ids from others.
        size: most ids that are remembered beside Redis.
        clock: the time.
        window: see ``UsedIds``.
    """

    kind = "redis"

    def __init__(self, link: RedisLink, purpose: str, size: int, clock: Clock, window: float = 0.0) -> None:
        super().__init__()
        self._link = link
        self._purpose = purpose
        self._wall = clock.wall
        self._own = UsedHere(size, clock.monotonic)
        self._let_pass = UsedHere(size, clock.monotonic)
        self._shared = UsedIds(link, purpose, window)
        self._since: int | None = None
        self._busy = False
        self._looks, self._outages = 0, link.outages
        self._watching = Periodic("used ids", self._watch, clock, USED_IDS_LOOK_SECONDS, about=f"{purpose}s")

    @property
    def entries(self) -> int:
        return len(self._own)

    async def start(self) -> None:
        await self._look()
        self._outages = self._link.outages
        self._watching.start()

    async def stop(self) -> None:
        await self._watching.stop()

    def status(self) -> dict[str, Any]:
        since = self._shared.since
        remembers_since = None if since is None else since / 1000
        return {**super().status(), "passed_undecided": self.passed, "remembers_since": remembers_since}

    async def _add(self, once: Once, undecided_passes: bool) -> bool:
        if self._own.has(once.digest):
            return False
        self._busy = True
        try:
            outcome = await self._ask(once, undecided_passes)
        except GatewayError:
            # Of several at a time, the first one passes.
            if undecided_passes and self._own.has(once.digest):
                return False
            if undecided_passes:
                self._remember(once)
                self._let_pass.add(once.digest, once.here - self._wall())
            raise
        # Redis answers one of several that it is the first, whichever hears it first; but it does not know what passed
        # here while it gave no answer.
        self._remember(once)
        new = outcome != USED and not self._let_pass.has(once.digest)
        if outcome == PASSED:
            self.undecided += 1
            self.passed += new
        return new

    async def _ask(self, once: Once, undecided_passes: bool) -> bytes:
        until = min(once.anywhere, self._wall() + MAX_SECONDS)
        try:
            outcome = await self._shared.use(once.digest, once.earliest, until, undecided_passes=undecided_passes)
        except StoreUnavailableError as error:
            raise GatewayError(Reasons.REPLAY_STORE, detail=str(error)) from None
        self._note_loss()
        if outcome == UNDECIDED:
            raise GatewayError(Reasons.REPLAY_UNDECIDED, detail="issued before the record of used ids in Redis begins")
        return outcome

    def _remember(self, once: Once) -> None:
        if not self._own.has(once.digest):
            self._own.add(once.digest, once.here - self._wall())

    async def _look(self) -> None:
        with suppress(StoreUnavailableError):
            await self._shared.look()
            self._note_loss()

    def _note_loss(self) -> None:
        """Tell of a loss, once."""
        before, self._since = self._since, self._shared.since
        if before not in (None, self._since):
            _log.warning(
                "Redis lost used %ss: %ss issued before now get 503 (replay_undecided)", self._purpose, self._purpose
            )

    async def _watch(self) -> None:
        self._looks += 1
        changed = self._outages != self._link.outages or self._shared.since is None
        if self._link.available and (self._busy or changed or self._looks % _IDLE_CHECK_INTERVAL == 0):
            self._outages = self._link.outages
            await self._look()


def make_store(
    settings: Settings, clock: Clock, redis: RedisLink | None, purpose: str, window: float = 0.0
) -> ReplayStore:
    """Return what remembers the ids of one purpose: Redis where there is one, else this process."""
    size = settings.tokens.replay_size
    if redis is not None:
        return ReplayRedis(redis, purpose, size, clock, window)
    return ReplayMemory(size, clock)
