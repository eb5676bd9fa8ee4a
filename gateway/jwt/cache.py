"""Verified tokens, remembered for a while: a bounded map from a token's hash to its identity.

This file keeps and looks up; it is pure and never waits. The danger of this file is an entry that lives longer than
what it stands for: so on every hit the token's own times, the entry's age, the key that verified it and what is
revoked are looked at, and nothing that depends on a route is kept. The key is the SHA-256 of the whole token: no
token text is in memory, and no two tokens share an entry.

Tokens found bad are remembered apart, few and briefly, so that garbage cannot
push out good entries.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence

from gateway.clock import Clock
from gateway.errors import Reason, Reasons
from gateway.identity import ALWAYS, Identity, identity_cost
from gateway.jwt.claims.issuer_policy import IssuerPolicy
from gateway.jwt.claims.rules import is_current
from gateway.jwt.issuers.refresher import IssuerKeys
from gateway.jwt.jose.keys import KeySet, VerifyingKey
from gateway.jwt.revocations.revocations import Revocations
from gateway.jwt.revocations.table import Mark

#: Memory granted per configured entry, and the bounds on the sum, in bytes.
BYTES_PER_ENTRY, MIN_MEMORY_BYTES, MAX_MEMORY_BYTES = 4096, 1 << 20, 1 << 30

#: How many bad tokens are remembered, and for how many seconds.
BAD_SIZE, BAD_SECONDS = 1000, 10.0

#: Verdicts that neither time nor a later fetch can change: what is wrong with the token's form alone.
_PERMANENT = frozenset(
    {
        Reasons.NOT_A_JWS,
        Reasons.ENCRYPTED_TOKEN,
        Reasons.BAD_ENCODING,
        Reasons.BAD_HEADER,
        Reasons.BAD_PAYLOAD,
        Reasons.DUPLICATE_MEMBER,
        Reasons.CRITICAL_HEADER,
        Reasons.UNENCODED_PAYLOAD,
        Reasons.ALGORITHM_REFUSED,
        Reasons.TYPE_REFUSED,
    }
)

#: Verdicts that hold as long as the issuer's keys stay what they are.
_PERMANENT_FOR_KEYS = frozenset({Reasons.BAD_SIGNATURE, Reasons.UNSAFE_CLAIM})

# The entry itself, the identity, its digest and its place in the map, measured; what it may remember of a revocation.
_FIXED_COST, _MARKS_COST = 780, 300

# Memory is counted in blocks of so many bytes: of usual tokens it is a number that Python has once, not for each entry.
_BLOCK = 64


def _blocks(size: int) -> int:
    return -(-size // _BLOCK)


class CachedToken:
    """A verified token, and what its verdict rests on.

    Attributes:
        identity: the caller.
        key: the key that verified the token.
        issuer: whose keys these are; asked on every hit whether ``key`` is still trusted.
        policy: what its times are judged by.
        ends: monotonic seconds when it is too old, once it is in a cache; until then, when it was verified.
        blocks: estimated memory.
        keyset: the set in which ``key`` was last seen, to look again only after a change.
        generation: of what is revoked, when the token was last found not to be.
        marks: what to look for in there.
        fresh_until: monotonic seconds until which neither its age nor that of the issuer's keys
            needs another look. Keys only ever get a later end than they had.
        not_before, expires_at: the identity's, a step nearer: they are read on every hit.
    """

    __slots__ = (
        "blocks",
        "ends",
        "expires_at",
        "fresh_until",
        "generation",
        "identity",
        "issuer",
        "key",
        "keyset",
        "marks",
        "not_before",
        "policy",
    )

    def __init__(
        self, identity: Identity, key: VerifyingKey, issuer: IssuerKeys, policy: IssuerPolicy, stored_at: float
    ) -> None:
        self.identity = identity
        self.not_before = identity.not_before
        self.expires_at = identity.expires_at
        self.key = key
        self.issuer = issuer
        self.policy = policy
        self.ends = stored_at
        self.blocks = _blocks(_FIXED_COST + identity_cost(identity))
        # Not the current set: whether it holds the key is for the first hit to find out.
        self.keyset: KeySet | None = None
        self.generation: object = None
        self.marks: Sequence[Mark] = ()
        self.fresh_until = ALWAYS


class TokenCache:
    """The verified tokens of one worker, least recently used out first.

    A new configuration gets a new cache: nothing judged by old rules survives.

    Args:
        size: most entries; 0 switches the cache off.
        seconds: an entry is dropped after this, whatever its token's ``exp``.
        clock: the time.
        max_total_bytes: most memory of all entries, as estimated; by default
            ``BYTES_PER_ENTRY`` for each entry, within ``MIN_MEMORY_BYTES`` and ``MAX_MEMORY_BYTES``.
        revoked: what is revoked; None where nothing can be, which then costs nothing.

    Attributes:
        hits, bad_hits: look-ups that found something.
        misses: look-ups that found nothing, counted by who goes on to verify.
        evictions: entries dropped for want of room.
        get: return the identity of the token with this SHA-256 if everything that its entry
            rests on still holds; else drop the entry and return None. None without a drop is the answer while the
            issuer's keys are too old to be believed: they decide nothing now, and may be good again. It is also the
            answer for a revoked token, which is good again when its revocation entry is removed.
    """

    def __init__(
        self,
        size: int,
        seconds: float,
        clock: Clock,
        max_total_bytes: int | None = None,
        revoked: Revocations | None = None,
    ) -> None:
        self.hits = 0
        self.misses = 0
        self.bad_hits = 0
        self.evictions = 0
        self._blocks_used = 0
        self._size = size
        self._seconds = seconds
        self._wall, self._monotonic = clock.wall, clock.monotonic
        granted = min(MAX_MEMORY_BYTES, max(MIN_MEMORY_BYTES, size * BYTES_PER_ENTRY))
        self._most_blocks = (granted if max_total_bytes is None else max_total_bytes) // _BLOCK
        self._revoked, self._marks_blocks = revoked, 0 if revoked is None else _blocks(_MARKS_COST)
        self._entries: OrderedDict[bytes, CachedToken] = OrderedDict()
        self._bad: OrderedDict[bytes, tuple[Reason, float, IssuerKeys | None, KeySet | None]] = OrderedDict()
        self.get = self._compile_get() if revoked is None else self._compile_watchful_get(revoked)

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def bytes_used(self) -> int:
        """Estimated memory of the entries."""
        return self._blocks_used * _BLOCK

    def _compile_get(self) -> Callable[[bytes], Identity | None]:
        """Return ``get``: a closure, for it runs on every request and reads its own names faster than attributes."""
        find, move_to_end, look_again = self._entries.get, self._entries.move_to_end, self._look_again
        wall, monotonic = self._wall, self._monotonic

        def get(digest: bytes) -> Identity | None:
            entry = find(digest)
            if entry is None:
                return None
            # Between nbf and exp a token is current whatever the leeway; only at the edges the rule itself is asked.
            if (
                entry.keyset is entry.issuer.keys
                and monotonic() < entry.fresh_until
                and entry.not_before <= wall() < entry.expires_at
            ) or look_again(digest, entry):
                move_to_end(digest)
                self.hits += 1
                return entry.identity
            return None

        return get

    def _compile_watchful_get(self, revoked: Revocations) -> Callable[[bytes], Identity | None]:
        """Return the same ``get`` with one more look: whether anything was revoked since the entry's last one."""
        find, move_to_end, look_again = self._entries.get, self._entries.move_to_end, self._look_again
        wall, monotonic = self._wall, self._monotonic

        def get(digest: bytes) -> Identity | None:
            entry = find(digest)
            if entry is None:
                return None
            if (
                entry.keyset is entry.issuer.keys
                and entry.generation is revoked.generation
                and monotonic() < entry.fresh_until
                and entry.not_before <= wall() < entry.expires_at
            ) or look_again(digest, entry):
                move_to_end(digest)
                self.hits += 1
                return entry.identity
            return None

        return get

    def _look_again(self, digest: bytes, entry: CachedToken) -> bool:
        """Say whether all that an entry rests on holds, the long way round, and keep the outcome for the short one."""
        issuer, ends, monotonic = entry.issuer, entry.ends, self._monotonic()
        if monotonic > issuer.stale_at:
            return False
        if (
            monotonic < ends
            and issuer.keys.trusts(entry.key)
            and is_current(entry.expires_at, entry.not_before, entry.policy.leeway, self._wall()) is None
        ):
            entry.keyset, entry.fresh_until = issuer.keys, min(ends, issuer.stale_at)
            return not self.revokes(entry)
        self._drop(digest)
        return False

    def revokes(self, entry: CachedToken) -> bool:
        """Say whether a verified token is revoked, and remember if not, until anything else is revoked."""
        if self._revoked is None or entry.generation is (generation := self._revoked.generation):
            return False
        revoked, entry.marks = self._revoked.look(entry.identity, entry.marks)
        if revoked:
            return True
        entry.generation = generation
        return False

    def peek(self, digest: bytes) -> CachedToken | None:
        """Return the entry of a token, whether it still holds or not."""
        return self._entries.get(digest)

    def put(self, digest: bytes, entry: CachedToken) -> None:
        """Remember a verified token, making room first. One that would not fit at all is not kept."""
        if digest in self._entries:
            self._drop(digest)
        entry.blocks += self._marks_blocks
        if self._size == 0 or entry.blocks > self._most_blocks:
            return
        entry.ends += self._seconds
        self._entries[digest] = entry
        self._blocks_used += entry.blocks
        while len(self._entries) > self._size or self._blocks_used > self._most_blocks:
            self._drop(next(iter(self._entries)))
            self.evictions += 1

    def bad(self, digest: bytes) -> Reason | None:
        """Return why a token was found bad a moment ago, if that still holds."""
        found = self._bad.get(digest)
        if found is None:
            return None
        reason, stored_at, issuer, keyset = found
        if self._monotonic() - stored_at >= BAD_SECONDS or (issuer is not None and issuer.keys is not keyset):
            del self._bad[digest]
            return None
        self.bad_hits += 1
        return reason

    def put_bad(self, digest: bytes, reason: Reason, issuer: IssuerKeys | None = None) -> None:
        """Remember a verdict, if it is a lasting one; the oldest goes first.

        Args:
            digest: SHA-256 of the token as received.
            reason: the verdict.
            issuer: for a verdict by this issuer's keys: it holds only while they stay.
        """
        if self._size == 0 or reason not in (_PERMANENT if issuer is None else _PERMANENT_FOR_KEYS):
            return
        self._bad[digest] = (reason, self._monotonic(), issuer, issuer.keys if issuer is not None else None)
        self._bad.move_to_end(digest)
        if len(self._bad) > BAD_SIZE:
            self._bad.popitem(last=False)

    def _drop(self, digest: bytes) -> None:
        self._blocks_used -= self._entries.pop(digest).blocks
