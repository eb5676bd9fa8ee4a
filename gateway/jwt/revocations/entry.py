"""One revocation as people and programs write it: a JSON object, checked, and the record that it becomes.

Reads entries; it is pure. The danger is an entry that means less than its
writer thinks, so what is not understood is refused, never left out. No fault
repeats a value.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from typing import Any, NamedTuple

from gateway.jwt.revocations.table import NEVER, RECORD, EntryKind, digest
from gateway.settings import values
from gateway.settings.loading.literals import place_of

#: The names that an entry may have; exactly one of the first three, or ``issuer`` with ``before``.
NAMES = ("jti", "sub", "sid", "issuer", "before", "expires")

# The year 10000: what is later was meant as something else, such as milliseconds.
_LATEST = 253_402_300_800

_KINDS = {"jti": EntryKind.TOKEN, "sid": EntryKind.SESSION, "sub": EntryKind.SUBJECT}


class RevocationEntry(NamedTuple):
    """What is revoked.

    Attributes:
        kind: of what.
        value: the ``jti``, ``sid``, ``sub`` or ``iss``.
        issuer: only tokens with this ``iss``; empty for any.
        before: only tokens issued before this moment, in seconds since the epoch.
        expires: until when, in seconds since the epoch; infinity when it has no end.
    """

    kind: EntryKind
    value: str
    issuer: str
    before: float
    expires: float

    def record(self) -> bytes:
        """Return it as it is stored: no value of it can be found in there. Its end is the next full minute."""
        end = NEVER if math.isinf(self.expires) else min(math.ceil(self.expires / 60), NEVER)
        return RECORD.pack(self.kind, digest(self.kind, self.value, self.issuer), end, self.before)


def parse_revocation(text: str | bytes, expires: float | None) -> RevocationEntry:
    """Read one JSON object.

    Args:
        text: the object (RFC 8259).
        expires: the end of an entry that names none, in seconds since the epoch; None: it must name one.

    Raises:
        ValueError: what is wrong with it.
    """
    try:
        pairs = json.loads(text, object_pairs_hook=tuple)
    except UnicodeDecodeError:
        raise ValueError("is not UTF-8 text") from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"is not JSON: {place_of(error)}") from None
    if type(pairs) is not tuple:
        raise ValueError(f"must be an object with {', '.join(NAMES)}")
    return make_revocation(pairs, expires)


def make_revocation(pairs: Iterable[tuple[str, Any]], expires: float | None) -> RevocationEntry:
    """Make a revocation of names and values; see ``parse_revocation``."""
    given: dict[str, Any] = {}
    for name, value in pairs:
        if name not in NAMES:
            raise ValueError(f"has an unknown name; the names are {', '.join(NAMES)}")
        if name in given:
            raise ValueError(f"has {name} twice")
        given[name] = value
    for name in ("jti", "sub", "sid", "issuer"):
        if name in given and (type(given[name]) is not str or not given[name]):
            raise ValueError(f"{name} must be a non-empty string")
    named = [name for name in _KINDS if name in given]
    if len(named) > 1:
        raise ValueError(f"has {named[0]} and {named[1]}: an entry is about one thing")
    before = _seconds("before", given["before"]) if "before" in given else None
    if given.get("expires") == "never":
        expires = math.inf
    elif "expires" in given:
        expires = _seconds("expires", given["expires"])
    if expires is None:
        raise ValueError('must have expires, or "expires": "never": tokens here may have no longest lifetime')
    issuer = given.get("issuer", "")
    if not named:
        if not issuer or before is None:
            raise ValueError("must have jti, sub or sid, or issuer and before")
        return RevocationEntry(EntryKind.ISSUER_BEFORE, issuer, "", before, expires)
    kind = _KINDS[named[0]]
    if before is not None:
        if kind is not EntryKind.SUBJECT:
            raise ValueError(f"before has no meaning with {named[0]}")
        kind = EntryKind.SUBJECT_BEFORE
    return RevocationEntry(EntryKind(kind + 1) if issuer else kind, given[named[0]], issuer, before or 0.0, expires)


def _seconds(name: str, value: object) -> float:
    """Return a moment that is written as seconds or as RFC 3339 text."""
    if type(value) is str:
        try:
            return values.moment(value)
        except ValueError as error:
            raise ValueError(f"{name} {error}, or seconds since the epoch") from None
    if type(value) not in (int, float) or not 0 <= value <= _LATEST:  # type: ignore[operator]
        raise ValueError(f"{name} must be seconds since the epoch, or a date-time with its offset (RFC 3339)")
    return float(value)  # type: ignore[arg-type]
