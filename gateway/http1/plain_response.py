"""An upstream's plain response, read without aiohttp's parser, for both lanes.

Reads a plain response's head: a strict head, one Content-Length, nothing about
the connection. Every other response goes to aiohttp's parser, with every byte,
so that there is one judge of odd responses.

A head's meaning depends on nothing but its bytes, so the last few heads are
remembered with what the client gets for them: services repeat theirs. The one
field that depends on the moment, a Date that the service did not send, is left
out of what is remembered.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple, Protocol

from gateway.http1.date_field import DateField
from gateway.http1.fields import has_field, is_section, parse_fields

_STATUS_LINE = re.compile(rb"HTTP/1\.1 ([2-5][0-9][0-9]) ([ -~]*)\r\n").match
_LENGTH = re.compile(rb"[0-9]{1,18}").fullmatch

#: The interim response that lets a client send its content (RFC 9110 section 15.2.1).
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

#: Bounds on a response's head: one line or field, and the number of fields.
MAX_RESPONSE_FIELD = 65536
MAX_RESPONSE_FIELDS = 1000

#: Bounds on what is remembered: heads, and the size of one, in bytes.
MAX_REMEMBERED_HEADS = 256
MAX_REMEMBERED_HEAD = 2048

# Fields that make a response more than plain: they speak of the framing, or of more of the
# connection than that it stays open.
_NOT_PLAIN = frozenset({b"transfer-encoding", b"upgrade", b"trailer"})


class Receiver(Protocol):
    """What takes the bytes of a leased connection instead of aiohttp's parser."""

    def upstream_data(self, data: bytes) -> None:
        """Take the next bytes of the response."""
        ...

    def upstream_lost(self, broken: bool) -> None:
        """The connection is gone; ``broken``: by a fault."""
        ...


class PlainHead(NamedTuple):
    """The head of a plain response.

    Attributes:
        status: 200 to 599, but none without content.
        phrase: printable ASCII.
        headers: as received.
        length: of the content, in bytes.
    """

    status: int
    phrase: bytes
    headers: tuple[tuple[bytes, bytes], ...]
    length: int


def read_plain_head(block: bytes) -> PlainHead | None:
    """Read a response's head, from the status line to the empty line; None when it is not plain."""
    if len(block) > MAX_RESPONSE_FIELD:
        return None  # one of its fields may be too long: that is the parser's to say, as all that is odd
    line = _STATUS_LINE(block)
    if line is None or is_section(block, line.end()) is None:
        return None
    status = int(line[1])
    length: bytes | None = None
    headers = parse_fields(block[line.end() : -4])
    for name, value in headers:
        lower = name.lower()
        if lower == b"content-length":
            if length is not None or _LENGTH(value) is None:
                return None
            length = value
        elif lower in _NOT_PLAIN or (lower == b"connection" and value.lower() != b"keep-alive"):
            return None
    if length is None or status in (204, 304) or len(headers) > MAX_RESPONSE_FIELDS:
        return None
    return PlainHead(status, line[2], headers, int(length))


class KnownHead(NamedTuple):
    """A remembered head.

    Attributes:
        status, length: as of ``head``.
        fields: what a client of HTTP/1.1 gets for it whose connection stays open, without the empty line.
        dated: there is a Date among them.
        head: as it was read.
    """

    status: int
    length: int
    fields: bytes
    dated: bool
    head: PlainHead

    def end(self, date: DateField) -> bytes:
        """Return what comes behind ``fields``: a Date of now if it is missing, and the empty line."""
        return b"\r\n" if self.dated else date.end


class HeadMemory:
    """The last few plain heads.

    Args:
        translate: returns what the client gets for a head, without a Date of the gateway's; see ``KnownHead.fields``.
    """

    def __init__(self, translate: Callable[[PlainHead], bytes]) -> None:
        self._translate = translate
        self._known: dict[bytes, KnownHead] = {}

    @property
    def remembered(self) -> int:
        """How many heads it holds."""
        return len(self._known)

    def read(self, block: bytes) -> KnownHead | None:
        """Return what a head means; None when it is not plain."""
        known = self._known.get(block)
        if known is None:
            head = read_plain_head(block)
            if head is None:
                return None
            try:
                fields = self._translate(head)[:-2]
            except ValueError:  # the client cannot be given this head
                return None
            dated = has_field(head.headers, b"date")
            known = KnownHead(head.status, head.length, fields, dated, head)
            if len(block) <= MAX_REMEMBERED_HEAD:
                if len(self._known) >= MAX_REMEMBERED_HEADS:
                    self._known.clear()
                self._known[block] = known
        return known
