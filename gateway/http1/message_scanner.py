"""Where requests begin and end in what one client sends.

Follows a client's bytes from message to message (RFC 9112 sections 2.2, 6 and
7.1): heads, content with a length, and the lines of the chunked coding. The
danger of this file is state: one byte counted wrong and content is taken for a
request.
"""

from __future__ import annotations

import math
import re
from enum import Enum

from gateway.errors import Reason, Reasons
from gateway.http1.fields import FIELD_LINE
from gateway.http1.first_bytes import MAX_LOOK_BYTES, not_http
from gateway.http1.request_head import HeadReader, MalformedError, RequestHead
from gateway.http1.websocket import asks_for_websocket

_CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})(?:;[\t -~\x80-\xff]*)?\r\n").fullmatch
_TRAILER = re.compile(rb"(?:" + FIELD_LINE + rb")?\r\n").fullmatch

# Several chunks in a row of 1 to 15 bytes each, without extensions; and the data of each.
_SIZES = [(b"[%x%X]" % (size, size) if size > 9 else b"%d" % size, size) for size in range(1, 16)]
_SMALL_CHUNKS = re.compile(
    rb"(?:0{0,14}(?:" + b"|".join(rb"%b\r\n.{%d}" % one for one in _SIZES) + rb")\r\n){2,256}+", re.DOTALL
).match
_SMALL_DATA = re.compile(
    rb"0{0,14}[1-9A-Fa-f]\r\n(" + b"|".join(rb"(?<=%b\r\n).{%d}" % one for one in _SIZES) + rb")\r\n", re.DOTALL
).findall

#: Bytes of such chunks that are as much work as one other part of a message.
SMALL_CHUNKS_PART = 16

#: Bounds on what accompanies the data of chunks, per request: size lines with their extensions, and trailers.
MAX_CHUNK_LINE = 1024
MAX_EXTENSIONS = 16384
MAX_TRAILERS = 16384

#: How much a client may send behind a handshake before that is answered.
MAX_HELD = 65536

#: Parts of messages (heads, lines, data of a chunk) that are followed at once; clients may make them of a byte each.
MAX_PARTS = 200

#: Empty lines that may stand before a request line (RFC 9112 section 2.2).
MAX_EMPTY_LINES = 2


class _At(Enum):
    """Where in a message the scanner is."""

    HEAD = 1
    LENGTH = 2
    CHUNK_SIZE = 3
    CHUNK_DATA = 4
    CHUNK_END = 5
    TRAILER = 6


class MessageScanner:
    """Follows one client's bytes from message to message.

    Bytes are let through once they are known to be sound: content as it comes,
    heads and the lines of the chunked coding when they are complete. Small
    chunks in a row become one: each costs its reader much.

    Behind the head of a request that asks for a WebSocket it stops: what follows
    has no meaning until that is decided.

    Args:
        max_head_bytes: bound on a head, request line included.
        reader: reads heads.

    Attributes:
        not_http: what stands where a request should begin, if that is why nothing more can be read.
        upgrading: such a head was let through. Set it to False to go on with requests.
        ahead: it has stopped before a request, because as many as it may were let through.
        resting: it has stopped anywhere, because it has done much. Set it to True to have it begin later.
        holds: some bytes were kept: those of a part that is not whole, or of what it stopped before.
    """

    __slots__ = (
        *("_at", "_empty_lines", "_extensions", "_from", "_instead", "_held", "_left", "_max_head"),
        *("_parts", "_reader"),
        *("_searched", "_trailers", "ahead", "holds", "not_http", "resting", "upgrading"),
    )

    def __init__(self, max_head_bytes: int, reader: HeadReader) -> None:
        self.not_http = ""
        self.upgrading = self.ahead = self.resting = self.holds = False
        self._max_head, self._reader = max_head_bytes, reader
        self._at = _At.HEAD
        self._instead: RequestHead | bytes | None = None  # what is let through in place of the part just read
        self._held = b""  # the beginning of a head or line that is not complete, or what is ahead
        self._from = 0  # where that begins; else it would be copied for each request before it
        self._searched = 0  # how much of it was searched for its end
        self._parts = 0  # how many more are followed at once
        self._left = 0
        self._extensions = 0
        self._trailers = 0
        self._empty_lines = 0

    @property
    def in_head(self) -> bool:
        """Whether some bytes of a head have come, but not all."""
        return self._at is _At.HEAD and bool(self._held) and not (self.upgrading or self.ahead)

    @property
    def at_head(self) -> bool:
        """Whether what comes next is a head, or more of one."""
        return self._at is _At.HEAD

    @property
    def at_head_request(self) -> bool:
        """Whether what is not whole or not sound begins as a HEAD request: its answer has no content."""
        return self._at is _At.HEAD and self._held.startswith(b"HEAD ", self._from)

    @property
    def in_content(self) -> bool:
        """Whether all that has come ends in the content of a request."""
        return self._at is not _At.HEAD and not self.resting

    @property
    def size_ahead(self) -> int:
        """Bytes that wait because it is ``ahead`` or ``resting``."""
        return len(self._held) - self._from if self.ahead or self.resting else 0

    def hold(self, data: bytes) -> bool:
        """Keep bytes while it is ``upgrading`` or ``resting``; return whether it has enough, ``MAX_HELD`` or more."""
        self._held, self._from, self.holds = self._held[self._from :] + data, 0, True
        return len(self._held) >= MAX_HELD

    def take_held(self) -> bytes:
        """Return the bytes that were kept, for the code that follows them from now on."""
        held, self._held, self.holds = self._held, b"", False
        return held

    def feed(self, data: bytes, most: float = math.inf) -> tuple[list[RequestHead | bytes], Reason | None]:
        """Follow the next bytes; feed it nothing to go on where it has stopped.

        Args:
            data: what has come.
            most: the sum of the heads' weights at which it stops.

        Returns:
            What is let through, heads as they were read and content as it
            came, cut where a request ends; empty lines before a request line,
            chunk extensions and trailers are left out. And, if what comes
            behind is not sound, why: then nothing more can be read.
        """
        if data:
            pending, start = (self._held[self._from :] + data if self._held else data), 0
        else:
            pending, start = self._held, self._from
        through: list[RequestHead | bytes] = []
        position = start
        reason = None
        self.ahead = self.resting = False
        self._parts = MAX_PARTS
        try:
            while position < len(pending) and not self.upgrading:
                self.ahead, self.resting = most <= 0 and self._at is _At.HEAD, self._parts <= 0
                if self.ahead or self.resting:
                    break
                self._parts -= 1
                end = self._step(pending, position)
                if end < 0:
                    break
                before, position, self._searched = position, end, 0
                if self._instead is not None:
                    most -= self._instead.weight if isinstance(self._instead, RequestHead) else 0
                    through += [piece for piece in (pending[start:before], self._instead) if piece]
                    start, self._instead = position, None
                elif self._at is _At.HEAD:
                    if self._empty_lines == 0:
                        through.append(pending[start:position])
                    start = position
        except MalformedError as error:
            reason, self.not_http = error.reason, error.not_http
        if start < position:
            through.append(pending[start:position])
        stopped = self.ahead or self.resting
        self._held, self._from = (pending, position) if stopped else (pending[position:], 0)
        self.holds = bool(self._held)
        return through, reason

    def _step(self, data: bytes, position: int) -> int:
        """Follow to the end of the current part and return it; -1 when it has not come yet."""
        match self._at:
            case _At.HEAD:
                return self._read_head(data, position)
            case _At.LENGTH | _At.CHUNK_DATA:
                return self._counted(data, position)
            case _At.CHUNK_SIZE if run := _SMALL_CHUNKS(data, position):
                content = b"".join(_SMALL_DATA(run[0]))
                self._instead = b"%x\r\n%b\r\n" % (len(content), content)
                self._parts -= len(run[0]) // SMALL_CHUNKS_PART
                return run.end()
            case _:
                return self._line(data, position)

    def _read_head(self, data: bytes, position: int) -> int:
        if data.startswith(b"\r\n", position):
            self._empty_lines += 1
            if self._empty_lines > MAX_EMPTY_LINES:
                raise MalformedError
            return position + 2
        end = data.find(b"\r\n\r\n", position + max(0, self._searched - 3))
        self._searched = len(data) - position
        size = self._searched if end < 0 else end + 4 - position
        if size > self._max_head:
            raise MalformedError(Reasons.HEAD_TOO_LARGE)
        if end < 0:
            if kind := not_http(data[position : position + MAX_LOOK_BYTES]):
                raise MalformedError(not_http=kind)
            return -1
        head = self._instead = self._reader.read(data[position : end + 4])
        self._empty_lines = 0
        self._start_content(head.content_length or 0, head.chunked)
        upgrade = head.values(b"upgrade") if head.http_11 and head.read else ()
        self.upgrading = bool(upgrade) and self._at is _At.HEAD and asks_for_websocket(upgrade)
        return end + 4

    def _start_content(self, length: int, chunked: bool) -> None:
        self._left = length
        self._extensions = self._trailers = 0
        self._at = _At.CHUNK_SIZE if chunked else _At.LENGTH if length else _At.HEAD

    def _counted(self, data: bytes, position: int) -> int:
        taken = min(self._left, len(data) - position)
        self._left -= taken
        if not self._left:
            self._at = _At.CHUNK_END if self._at is _At.CHUNK_DATA else _At.HEAD
        return position + taken

    def _line(self, data: bytes, position: int) -> int:
        """Follow one line of the chunked coding: a size, the end of data, or a trailer field."""
        end = data.find(b"\n", position) + 1
        line = data[position:end] if end else data[position:]
        if len(line) > (MAX_TRAILERS if self._at is _At.TRAILER else MAX_CHUNK_LINE):
            raise MalformedError
        if end:
            self._whole_line(line)
            return end
        if self._at is _At.CHUNK_END and line != b"\r":
            raise MalformedError  # it cannot become the end of a chunk any more
        return -1

    def _whole_line(self, line: bytes) -> None:
        if self._at is _At.CHUNK_END:
            if line != b"\r\n":
                raise MalformedError
            self._at = _At.CHUNK_SIZE
        elif self._at is _At.TRAILER:
            self._trailers += len(line)
            if self._trailers > MAX_TRAILERS or _TRAILER(line) is None:
                raise MalformedError
            if line == b"\r\n":
                self._at = _At.HEAD
            else:
                self._instead = b""
        else:
            size = _CHUNK_SIZE(line)
            self._extensions += len(line) - len(size[1]) - 2 if size else 0
            if size is None or self._extensions > MAX_EXTENSIONS:
                raise MalformedError
            self._instead = size[1] + b"\r\n" if len(line) > len(size[1]) + 2 else None
            self._left = int(size[1], 16)
            self._at = _At.CHUNK_DATA if self._left else _At.TRAILER
