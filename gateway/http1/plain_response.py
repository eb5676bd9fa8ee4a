"""An upstream's plain response, read without aiohttp's parser, for both lanes.

Reads a plain response's head: a strict head, one Content-Length or chunks, nothing
about the connection. Every other response goes to aiohttp's parser, with every byte,
so that there is one judge of odd responses.

Nothing is remembered but what names and status lines mean: the heads of real services differ from
one to the next in a length, a tag or a cookie.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Protocol

from gateway.http1.date_field import DateField
from gateway.http1.fields import HOP_BY_HOP, VISIBLE, is_token, parse_fields

_STATUS_LINE = re.compile(rb"HTTP/1\.1 ([2-5][0-9][0-9]) ([ -~]*)").fullmatch

#: Digits of a length.
MAX_DIGITS = 18

#: The interim response that lets a client send its content (RFC 9110 section 15.2.1).
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

#: Bounds on a response's head: one line or field, and the number of fields.
MAX_RESPONSE_FIELD = 65536
MAX_RESPONSE_FIELDS = 1000

#: Names whose meaning is remembered besides the usual ones, and how long they may be: services choose them. The same
#: for status lines.
MAX_NAMES, MAX_NAME = 1024, 64

# What a field's name means; the first one is falsy.
_KEPT, _DROPPED, _CONTENT_LENGTH, _DATE, _CODING, _CONNECTION, _ODD = range(7)
_MEANINGS = {
    b"connection": _CONNECTION,
    b"content-length": _CONTENT_LENGTH,
    b"date": _DATE,
    b"transfer-encoding": _CODING,
}

# Names of many responses: known from the start, in their usual spellings.
_USUAL = frozenset(
    b"accept-ranges age allow cache-control connection content-disposition content-encoding content-language"
    b" content-length content-location content-range content-security-policy content-type date etag expires keep-alive"
    b" last-modified link location permissions-policy pragma referrer-policy retry-after server set-cookie"
    b" strict-transport-security transfer-encoding vary via www-authenticate x-content-type-options x-frame-options"
    b" x-powered-by x-request-id x-xss-protection".split()
)

# Fields that make a response more than plain: they speak of the framing, or of more of the
# connection than that it stays open.
_NOT_PLAIN = frozenset({b"upgrade", b"trailer"})

#: The length of content in chunks: it is known when the last one has come.
IN_CHUNKS = -1

_UNSAID = -2

_NO_TAB = VISIBLE.replace(b"\t", b"")


class Receiver(Protocol):
    """What takes the bytes of a leased connection instead of aiohttp's parser."""

    def upstream_data(self, data: bytes) -> None:
        """Take the next bytes of the response."""
        ...

    def upstream_lost(self, broken: bool) -> None:
        """The connection is gone; ``broken``: by a fault."""
        ...


@dataclass(slots=True)
class PlainHead:
    """The head of a plain response. It does not change: its types say so, which costs nothing.

    Attributes:
        status: 200 to 599, but none without content.
        phrase: printable ASCII.
        length: of the content, in bytes, or ``IN_CHUNKS``.
        start: what a client gets for it up to and with Via, without its own end.
        dated: there is a Date among the lines.
        block: as received.
    """

    status: Final[int]
    phrase: Final[bytes]
    length: Final[int]
    start: Final[bytes]
    dated: Final[bool]
    block: Final[bytes]

    @property
    def headers(self) -> tuple[tuple[bytes, bytes], ...]:
        """Its fields as received."""
        return parse_fields(self.block[self.block.index(b"\r\n") + 2 : -4])

    def end(self, date: DateField, *, keep_alive: bool = True) -> bytes:
        """Return what stands behind ``start`` for a client of HTTP/1.1, with a Date of now if one is missing."""
        end = b"\r\n" if self.dated else date.end
        if not keep_alive:
            end = b"Connection: close\r\n" + end
        return end if self.length >= 0 else b"Transfer-Encoding: chunked\r\n" + end


class PlainReader:
    """Reads the heads of plain responses, one pass over the bytes of each.

    Args:
        pseudonym: the gateway's name in Via.
    """

    def __init__(self, pseudonym: bytes) -> None:
        self._via = b"\nVia: 1.1 %b\r\n" % pseudonym
        self._usual = {
            b"\n" + spelling: _meaning(spelling) for name in _USUAL for spelling in (name, name.title(), name.upper())
        }
        self._known = self._usual.copy()  # by the name behind its LF
        self._first_lines: dict[bytes, tuple[int, bytes]] = {}

    def read(self, block: bytes) -> PlainHead | None:
        """Read a head, from the status line to the empty line; None when it is not plain."""
        if len(block) > MAX_RESPONSE_FIELD:
            return None  # one of its fields may be too long: that is the parser's to say, as all that is odd
        lines = block.split(b"\r")
        count = len(lines) - 1
        # Controls are left to the parser, and tabs. That each LF follows its CR at once is seen below: no name is known
        # without the LF before it.
        if count > MAX_RESPONSE_FIELDS + 2 or block.translate(None, _NO_TAB) != b"\r\n" * count:
            return None
        # Lines go on as they are. White space that is no part of a value (RFC 9110 section 5.5) is left to the parser,
        # which drops it: the same response must not look different when it comes in two pieces.
        if b":  " in block or block.find(b" \r", len(lines[0])) >= 0:
            return None
        first = self._first_lines.get(lines[0]) or self._first_line(lines[0])
        if first is None:
            return None
        status, phrase = first
        kept = [lines[0]]
        keep, known = kept.append, self._known.get
        length, dated = _UNSAID, False
        for line in lines[1:-2]:
            name, colon, value = line.partition(b": ")
            meaning = known(name)
            if meaning is None:
                meaning = self._learn(name)
            if not colon:
                return None
            if not meaning:
                keep(line)
            elif meaning == _DATE:
                dated = True
                keep(line)
            elif meaning == _CONTENT_LENGTH:
                if length != _UNSAID or not value.isdigit() or len(value) > MAX_DIGITS:
                    return None
                length = int(value)
                keep(line)
            elif meaning == _CODING:
                if length != _UNSAID or value.lower() != b"chunked":
                    return None
                length = IN_CHUNKS
            elif meaning == _ODD or (meaning == _CONNECTION and value.lower() != b"keep-alive"):
                return None
        if length == _UNSAID or status in (204, 304) or lines[-2] != b"\n":
            return None
        keep(self._via)
        return PlainHead(status, phrase, length, b"\r".join(kept), dated, block)

    def _first_line(self, line: bytes) -> tuple[int, bytes] | None:
        """Return status and phrase of a status line; None when it is not plain."""
        parts = _STATUS_LINE(line)
        if parts is None:
            return None
        found = int(parts[1]), parts[2]
        if len(line) <= MAX_NAME:
            if len(self._first_lines) >= MAX_NAMES:
                self._first_lines.clear()
            self._first_lines[line] = found
        return found

    def _learn(self, name: bytes) -> int:
        """Return what a name means that is not known; ``name`` stands behind the LF before it."""
        meaning = _meaning(name[1:]) if name[:1] == b"\n" else _ODD
        if len(name) <= 1 + MAX_NAME:
            if len(self._known) >= len(self._usual) + MAX_NAMES:
                self._known.clear()
                self._known.update(self._usual)
            self._known[name] = meaning
        return meaning


def _meaning(name: bytes) -> int:
    """Return what a field of this name in a response means here."""
    lower = name.lower()
    if lower in _MEANINGS:
        return _MEANINGS[lower]
    if lower in _NOT_PLAIN or is_token(name) is None:
        return _ODD
    return _DROPPED if lower in HOP_BY_HOP else _KEPT
