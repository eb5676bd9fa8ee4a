"""Verdicts on introspected tokens, remembered for a while in one worker.

Remembers verdicts; it is pure and never waits. The dangers of this file are a
verdict that lives longer than it may, and memory that clients can fill: so
every hit checks the verdict's end and the token's own times, and both maps are
bounded. The key is the SHA-256 of the token: no token is kept.

A good verdict that is too old stays until it is pushed out. It lets no request
pass; it distinguishes a token that was good from one that was made up.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from gateway.clock import Clock
from gateway.errors import Reason
from gateway.identity import Identity, identity_cost
from gateway.jwt.cache import BYTES_PER_ENTRY, MAX_MEMORY_BYTES, MIN_MEMORY_BYTES
from gateway.jwt.claims.rules import is_current

# The memory of a verdict, its digest and its entry in the map in bytes, measured.
_FIXED_COST = 700


@dataclass(frozen=True, slots=True)
class Verdict:
    """The result of introspecting a token.

    Attributes:
        identity: the caller's; None when the token is refused.
        reason: why it is refused.
        detail: more about the reason, for the operator's log.
        fresh_until: monotonic seconds after which the token is introspected again.
    """

    identity: Identity | None
    reason: Reason | None
    detail: str
    fresh_until: float


class VerdictMemory:
    """The verdicts of one issuer's tokens, least recently used out first.

    Args:
        size: how many good verdicts are kept, and as many bad ones.
        leeway: seconds of clock difference.
        clock: the time.

    Attributes:
        hits: look-ups that found a good verdict.
        bad_hits: look-ups that found a bad one.
        evictions: good verdicts dropped for want of room.
        bytes_used: estimated memory of the good verdicts.
    """

    def __init__(self, size: int, leeway: float, clock: Clock) -> None:
        self.hits = 0
        self.bad_hits = 0
        self.evictions = 0
        self.bytes_used = 0
        self._size = size
        self._max_bytes = min(MAX_MEMORY_BYTES, max(MIN_MEMORY_BYTES, size * BYTES_PER_ENTRY))
        self._leeway = leeway
        self._wall, self._monotonic = clock.wall, clock.monotonic
        self._good: OrderedDict[bytes, tuple[Verdict, int]] = OrderedDict()
        self._bad: OrderedDict[bytes, Verdict] = OrderedDict()

    def __len__(self) -> int:
        return len(self._good)

    def __contains__(self, digest: bytes) -> bool:
        """Return whether any verdict on a token is remembered, valid or not."""
        return digest in self._good or digest in self._bad

    def find(self, digest: bytes) -> Verdict | None:
        """Return the verdict on the token with this SHA-256, while it is valid."""
        kept = self._good.get(digest)
        if kept is not None:
            verdict = kept[0]
            identity = verdict.identity
            assert identity is not None
            if (
                self._monotonic() < verdict.fresh_until
                and is_current(identity.expires_at, identity.not_before, self._leeway, self._wall()) is None
            ):
                self._good.move_to_end(digest)
                self.hits += 1
                return verdict
            return None
        refused = self._bad.get(digest)
        if refused is None:
            return None
        if self._monotonic() >= refused.fresh_until:
            del self._bad[digest]
            return None
        self.bad_hits += 1
        return refused

    def last(self, digest: bytes) -> Verdict | None:
        """Return the last verdict that is remembered, valid or not."""
        kept = self._good.get(digest)
        return self._bad.get(digest) if kept is None else kept[0]

    def was_good(self, digest: bytes) -> bool:
        """Return whether the token was good when it was last introspected, as far as that is remembered."""
        return digest in self._good

    def put(self, digest: bytes, verdict: Verdict) -> None:
        """Remember a verdict instead of any before, making room first."""
        kept = self._good.pop(digest, None)
        if kept is not None:
            self.bytes_used -= kept[1]
        self._bad.pop(digest, None)
        if verdict.identity is None:
            self._bad[digest] = verdict
            if len(self._bad) > self._size:
                self._bad.popitem(last=False)
            return
        cost = _FIXED_COST + identity_cost(verdict.identity)
        if cost > self._max_bytes:
            return
        self._good[digest] = verdict, cost
        self.bytes_used += cost
        while len(self._good) > self._size or self.bytes_used > self._max_bytes:
            self.bytes_used -= self._good.popitem(last=False)[1][1]
            self.evictions += 1
