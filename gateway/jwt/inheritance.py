"""What a worker leaves to those that start after it: issuers' public keys, and what is revoked.

Collects this knowledge in one worker and takes it over in another;
``process/supervisor.py`` carries it between them, over its channels with both.
So a worker that dies while Redis or a provider cannot be reached is replaced by
one that knows what the others know. The dangers: knowledge that looks younger
than it is (so moments go along, on the monotonic clock, which all processes of
a machine share), size (so there is a bound, and pieces), and secrets: none is
in it.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from gateway.jwt.issuers.refresher import IssuerKeys, KeysLeft
from gateway.jwt.issuers.tenants import Tenants
from gateway.jwt.revocations.revocations import Revocations
from gateway.jwt.revocations.source import Inheritance, RevocationSource
from gateway.jwt.revocations.table import RECORD

#: Bounds on what is left: bytes of key sets, and of records of what is revoked (28 bytes each).
MAX_KEY_BYTES, MAX_RECORD_BYTES = 16 * 2**20, 64 * 2**20

#: Bytes of records in one piece, at most twice: a few milliseconds of work.
PIECE_BYTES = 128 * 1024


class Estate:
    """What this worker leaves: a head, and pieces after it.

    Args:
        keys: of each issuer.
        revocations: what is revoked.
    """

    def __init__(self, keys: Mapping[str, IssuerKeys | Tenants], revocations: Revocations) -> None:
        self._keys = keys
        self._revocations = revocations
        self._pieces: Iterator[tuple[str, bytes]] = iter(())

    def open(self) -> dict[str, Any]:
        """Return the head, and begin with the pieces anew."""
        left = {source.name: source.bequeath() for source in _that_fit(self._revocations.sources)}
        self._pieces = _pieces(left)
        sources = {name: {"looked_at": one.looked_at, "place": one.place} for name, one in left.items()}
        return {"keys": list(_keys(self._keys)), "sources": sources, "records": []}

    def more(self) -> list[str]:
        """Return the next records, and before them of which source they are; nothing when there are no more."""
        name, records = next(self._pieces, ("", b""))
        return [name, b64encode(records).decode("ascii")] if name else []


def _keys(of: Mapping[str, IssuerKeys | Tenants]) -> Iterator[dict[str, Any]]:
    room = MAX_KEY_BYTES
    for issuer, keys in of.items():
        tenants = keys.bequeath() if isinstance(keys, Tenants) else {"": keys.bequeath()}
        for tenant, left in tenants.items():
            if left is None or (room := room - len(left.document)) < 0:
                continue
            document = b64encode(left.document).decode("ascii")
            yield {"issuer": issuer, "tenant": tenant, "document": document, "good_at": left.good_at, "due": left.due}


def _that_fit(sources: Iterable[RevocationSource]) -> Iterator[RevocationSource]:
    """Return the sources whose entries fit into the bound, each whole: an heir reads on where this worker has come to,
    so what was missing from an inherited list it would never learn, and what is revoked would be good again."""
    room = MAX_RECORD_BYTES
    for source in sources:
        size = len(source.table) * RECORD.size
        if source.filled and size <= room:
            room -= size
            yield source


def _pieces(left: Mapping[str, Inheritance]) -> Iterator[tuple[str, bytes]]:
    for name, one in left.items():
        piece = bytearray()
        for records in one.records:
            piece += records
            if len(piece) >= PIECE_BYTES:
                yield name, bytes(piece)
                piece.clear()
        if piece:
            yield name, bytes(piece)


async def take_over(
    left: Mapping[str, Any] | None, keys: Mapping[str, IssuerKeys | Tenants], revocations: Revocations
) -> None:
    """Begin with what another worker has left, before anything here is started.

    Args:
        left: a head, with all pieces in ``records``; None when there is nothing to inherit.
        keys, revocations: what it is for.
    """
    if left is None:
        return
    for each in left["keys"]:
        heir = keys.get(each["issuer"])
        found = KeysLeft(b64decode(each["document"]), each["good_at"], each["due"])
        if isinstance(heir, Tenants):
            await heir.inherit(each["tenant"], found)
        elif heir is not None:
            await heir.inherit(found)
    for source in revocations.sources:
        if (source_left := left["sources"].get(source.name)) is not None:
            records = (b64decode(text) for name, text in left["records"] if name == source.name)
            source.inherit(Inheritance(source_left["looked_at"], source_left["place"], records))
