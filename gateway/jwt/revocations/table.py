"""What is revoked, in memory: digests of tokens, sessions and subjects, and until when.

This file has the table; it is pure and never waits. The dangers: a pause (so
the table is many small ones, each of which grows and is cleaned in well under a
millisecond), memory (a million entries are a million digests of 15 bytes, which
Python keeps in 48, in tables of shared ends), and a wrong answer. Digests are
the first 120 bits of a SHA-256: that any of a thousand million tokens meets by
accident one of a million entries has a probability of 10^-21, and an attacker
who looks for such a token needs 2^100 tries, to have it refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import IntEnum
from hashlib import sha256
from operator import attrgetter
from struct import Struct
from typing import Any, NamedTuple

from gateway.identity import Identity

#: A record: kind, digest, end in minutes since the epoch, and the moment before which tokens are revoked, in seconds.
RECORD = Struct(">B15sId")

#: Most records of one write and of one page: a few milliseconds of a server's time and of ours.
MAX_RECORDS = 2000

#: The end of what has none, in minutes since the epoch.
NEVER = 0xFFFFFFFF

#: Tables of one kind, by the first byte of the digest.
SHARDS = 256

#: Tables that are looked at in one round of cleaning.
CLEANED = 2

# Ends that are shared; only an attacker would cause more than this many.
_MAX_ENDS = 65536

_DIGEST = 15


class EntryKind(IntEnum):
    """What an entry is about. The numbers are in Redis: they are added, never changed."""

    TOKEN = 0
    TOKEN_OF_ISSUER = 1
    SESSION = 2
    SESSION_OF_ISSUER = 3
    SUBJECT = 4
    SUBJECT_OF_ISSUER = 5
    SUBJECT_BEFORE = 6
    SUBJECT_OF_ISSUER_BEFORE = 7
    ISSUER_BEFORE = 8

    @property
    def shown(self) -> str:
        """What metrics call it."""
        return ("token", "token", "session", "session", "subject", "subject", "subject", "subject", "issuer")[self]


class _Question(NamedTuple):
    """How one kind is asked for.

    Attributes:
        start: what the hashed text begins with.
        of: the identity's own value.
        bound: only tokens of one issuer are meant.
        shards: the tables of this kind.
    """

    start: bytes
    of: Any
    bound: bool
    shards: list[dict[bytes, Any]]


_VALUES = {
    EntryKind.TOKEN: ("token_id", False),
    EntryKind.TOKEN_OF_ISSUER: ("token_id", True),
    EntryKind.SESSION: ("session_id", False),
    EntryKind.SESSION_OF_ISSUER: ("session_id", True),
    EntryKind.SUBJECT: ("subject", False),
    EntryKind.SUBJECT_OF_ISSUER: ("subject", True),
    EntryKind.SUBJECT_BEFORE: ("subject", False),
    EntryKind.SUBJECT_OF_ISSUER_BEFORE: ("subject", True),
    EntryKind.ISSUER_BEFORE: ("issuer", False),
}


def digest(kind: EntryKind, value: str, issuer: str) -> bytes:
    """Return what stands for a value of one kind, of this issuer or (empty) of any.

    The length before the issuer keeps two pairs of texts apart that look alike one behind the other.
    """
    return _digest(bytes([kind]), value, issuer)


def _digest(start: bytes, value: str, issuer: str) -> bytes:
    if not issuer:
        return sha256(start + value.encode("utf-8", "surrogatepass")).digest()[:_DIGEST]
    name = issuer.encode("utf-8", "surrogatepass")
    text = b"%b%d:%b%b" % (start, len(name), name, value.encode("utf-8", "surrogatepass"))
    return sha256(text).digest()[:_DIGEST]


class Mark(NamedTuple):
    """What is to be looked for about one caller.

    Attributes:
        asked: the table's, when this was made.
        places: tables, and the digest to look for in one of them.
    """

    asked: tuple[_Question, ...]
    places: tuple[tuple[list[dict[bytes, Any]], bytes], ...]


class RevocationTable:
    """Entries with their ends.

    Attributes:
        asked: the kinds that there are entries of; another tuple when there is one more.
    """

    def __init__(self) -> None:
        self._questions: dict[int, _Question] = {}
        self.asked: tuple[_Question, ...] = ()
        self._ends: dict[int, int] = {}
        self._cleaned = 0

    def __len__(self) -> int:
        return sum(len(shard) for question in self.asked for shard in question.shards)

    def counts(self) -> dict[str, int]:
        """Return how many entries there are of what metrics call a kind."""
        counts = dict.fromkeys((kind.shown for kind in EntryKind), 0)
        for kind, question in self._questions.items():
            counts[EntryKind(kind).shown] += sum(map(len, question.shards))
        return counts

    def covers(self, identity: Identity, now: float) -> bool:
        """Say whether a caller's credential is revoked.

        Args:
            now: seconds since the epoch.
        """
        return self.covers_marked(self.mark(identity), identity.issued_at, int(now // 60))

    def mark(self, identity: Identity) -> Mark:
        """Return what is to be looked for about a caller: the costly part of the check, the same as long as
        ``asked`` is."""
        places = []
        for start, of, bound, shards in self.asked:
            value = of(identity)
            if value and (identity.issuer or not bound):
                places.append((shards, _digest(start, value, identity.issuer if bound else "")))
        return Mark(self.asked, tuple(places))

    def covers_marked(self, mark: Mark, issued_at: float, minute: int) -> bool:
        """Say whether the credential of a caller with this mark is revoked.

        Args:
            mark: made under this ``asked``.
            issued_at: when the credential was issued, in seconds since the epoch; minus infinity for never known.
            minute: the current one since the epoch; whatever ends in it has ended.
        """
        for shards, found in mark.places:
            ends = shards[found[0]].get(found)
            if ends is None:
                continue
            if type(ends) is int:
                if ends > minute:
                    return True
            elif ends[0] > minute and issued_at < ends[1]:
                return True
        return False

    def apply(self, records: bytes, now: float) -> int:
        """Add records, but those that have ended and those of kinds that this version does not know.

        Two entries for one thing become the stronger one: the later end, and the later moment before which tokens are
        revoked.

        Returns:
            How many changed anything.
        """
        minute, changed = now / 60, 0
        for kind, found, end, before in RECORD.iter_unpack(records):
            if end <= minute or kind >= len(EntryKind):
                continue
            question = self._questions.get(kind)
            shard = (question or self._begin(EntryKind(kind))).shards[found[0]]
            old = shard.get(found)
            if kind >= EntryKind.SUBJECT_BEFORE:
                new = (end, before) if old is None else (max(end, old[0]), max(before, old[1]))
                if new != old:
                    shard[found] = new
                    changed += 1
            elif old is None or old < end:
                shard[found] = self._ends.setdefault(end, end)
                changed += 1
        if len(self._ends) > _MAX_ENDS:
            self._ends = {}
        return changed

    def clean(self, now: float) -> None:
        """Forget what has ended, in the next few tables."""
        minute = now / 60
        for _ in range(min(CLEANED, len(self.asked) * SHARDS)):
            self._cleaned = (self._cleaned + 1) % (len(self.asked) * SHARDS)
            shards = self.asked[self._cleaned // SHARDS].shards
            shard = shards[self._cleaned % SHARDS]
            left = {key: end for key, end in shard.items() if (end if type(end) is int else end[0]) > minute}
            if len(left) < len(shard):
                shards[self._cleaned % SHARDS] = left

    def records(self, most: int, now: float, but: RevocationTable | None = None) -> Iterator[bytes]:
        """Return what has not ended as records, at most so many at one time; the table may change in between.

        Some pieces are empty: each stands for a few milliseconds of work, after which others may want a turn.

        Args:
            most: in one piece.
            now: seconds since the epoch.
            but: leave out what this table has in the same strength, or a greater one.
        """
        minute = now / 60
        for kind, question in list(self._questions.items()):
            there = None if but is None else but._questions.get(kind)
            for number in range(SHARDS):
                known = {} if there is None else there.shards[number]
                items = question.shards[number].items()
                lacking = ((key, ends) for key, ends in items if _more(ends, known.get(key)))
                pairs = ((key, (ends, 0.0) if type(ends) is int else ends) for key, ends in lacking)
                packed = [RECORD.pack(kind, key, end, before) for key, (end, before) in pairs if end > minute]
                for first in range(0, len(packed), most):
                    yield b"".join(packed[first : first + most])
                yield b""

    def _begin(self, kind: EntryKind) -> _Question:
        name, bound = _VALUES[kind]
        question = _Question(bytes([kind]), attrgetter(name), bound, [{} for _ in range(SHARDS)])
        self._questions[kind] = question
        self.asked = tuple(self._questions.values())
        return question


def _more(ends: Any, known: Any) -> bool:
    """Tell whether an entry says more than another one, if there is one, about the same thing."""
    if known is None:
        return True
    if type(ends) is int:
        return bool(ends > known)
    return bool(ends[0] > known[0] or ends[1] > known[1])
