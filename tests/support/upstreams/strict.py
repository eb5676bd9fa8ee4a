"""A parser of HTTP/1.1 requests that forgives nothing, and an upstream that reads with it.

It is written step by step, without regular expressions and without a look at
the gateway's own: the other opinion on where a request begins and ends
(RFC 9112 sections 2 to 7).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import NamedTuple

TCHAR = frozenset(b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")
DIGITS, HEX = frozenset(b"0123456789"), frozenset(b"0123456789abcdefABCDEF")
METHOD = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_")
VISIBLE = frozenset(range(0x21, 0x7F))
FIELD_TEXT = frozenset((0x09, *range(0x20, 0x7F), *range(0x80, 0x100)))

#: Bounds that both sides know: characters of a method, digits of a length and of a chunk size, a chunk's line, empty
#: lines before a request.
METHOD_LENGTH, LENGTH_DIGITS, SIZE_DIGITS, SIZE_LINE, EMPTY_LINES = 32, 18, 15, 1024, 2

Fields = list[tuple[bytes, bytes]]


class Message(NamedTuple):
    """One request, whole."""

    method: bytes
    target: bytes
    http_11: bool
    fields: Fields
    body: bytes

    def all(self, name: bytes) -> list[bytes]:
        return [value for key, value in self.fields if key.lower() == name]


class Unsound(Exception):
    """The bytes are not what RFC 9112 lets a client send."""


class Unfinished(Exception):
    """The bytes end before the message does."""


class Bytes:
    """A place in the bytes of a connection."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.position = 0

    @property
    def at_end(self) -> bool:
        return self.position == len(self._data)

    def take(self, count: int) -> bytes:
        taken = self._data[self.position : self.position + count]
        if len(taken) < count:
            raise Unfinished
        self.position += count
        return taken

    def line(self) -> bytes:
        """Take a line; its end must be CR LF, and neither may stand alone."""
        end = self._data.find(b"\n", self.position)
        line = self._data[self.position : end if end >= 0 else len(self._data)]
        if end < 0:
            if b"\r" in line[:-1]:
                raise Unsound("bare CR")
            raise Unfinished
        if not line.endswith(b"\r") or b"\r" in line[:-1]:
            raise Unsound("line end")
        self.position = end + 1
        return line[:-1]


def read_messages(data: bytes) -> tuple[list[Message], type[Exception] | None]:
    """Read every request of a connection.

    Returns:
        The requests that are whole and sound, and what stopped the reading: ``Unsound``, ``Unfinished``, or None at
        the end of a request.
    """
    at = Bytes(data)
    messages: list[Message] = []
    while not at.at_end:
        try:
            messages.append(_message(at))
        except (Unsound, Unfinished) as stop:
            return messages, type(stop)
    return messages, None


def _message(at: Bytes) -> Message:
    empty = 0
    while not (line := at.line()):
        empty += 1
        if empty > EMPTY_LINES:
            raise Unsound("empty lines")
    words = line.split(b" ")
    if len(words) != 3 or not words[0] or not words[1] or words[2] not in (b"HTTP/1.1", b"HTTP/1.0"):
        raise Unsound("request line")
    if not METHOD.issuperset(words[0]) or len(words[0]) > METHOD_LENGTH or not VISIBLE.issuperset(words[1]):
        raise Unsound("request line")
    fields = _fields(at)
    http_11 = words[2] == b"HTTP/1.1"
    return Message(words[0], words[1], http_11, fields, _content(at, fields, http_11=http_11))


def _fields(at: Bytes) -> Fields:
    fields = []
    while line := at.line():
        name, colon, value = line.partition(b":")
        if not colon or not name or not TCHAR.issuperset(name) or not FIELD_TEXT.issuperset(value):
            raise Unsound("field line")
        fields.append((name, value.strip(b" \t")))
    return fields


def _content(at: Bytes, fields: Fields, *, http_11: bool) -> bytes:
    lengths = [value for name, value in fields if name.lower() == b"content-length"]
    codings = [value for name, value in fields if name.lower() == b"transfer-encoding"]
    if len(lengths) + len(codings) > 1:
        raise Unsound("two framings")
    if codings:
        if codings[0].lower() != b"chunked" or not http_11:
            raise Unsound("coding")
        return _chunks(at)
    if not lengths:
        return b""
    if not 0 < len(lengths[0]) <= LENGTH_DIGITS or not DIGITS.issuperset(lengths[0]):
        raise Unsound("length")
    return at.take(int(lengths[0]))


def _chunks(at: Bytes) -> bytes:
    body = b""
    while True:
        line = at.line()
        size, _, extension = line.partition(b";")
        if not 0 < len(size) <= SIZE_DIGITS or not HEX.issuperset(size) or len(line) > SIZE_LINE - 2:
            raise Unsound("chunk size")
        if not FIELD_TEXT.issuperset(extension):
            raise Unsound("chunk extension")
        if int(size, 16) == 0:
            _fields(at)
            return body
        body += at.take(int(size, 16))
        if at.take(2) != b"\r\n":
            raise Unsound("end of chunk")


@dataclass
class StrictUpstream:
    """Answers every request that is sound with 200; keeps them, and the bytes of connections that were unsound.

    A request that breaks off is no request.
    """

    messages: list[Message] = field(default_factory=list)
    unsound: list[bytes] = field(default_factory=list)
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        data = b""
        with contextlib.suppress(ConnectionError):
            while piece := await reader.read(65536):
                data += piece
                messages, stop = read_messages(data)
                if stop is Unsound:
                    self.unsound.append(data)
                    break
                if stop is Unfinished:
                    continue
                self.messages += messages
                data = b""
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok" * len(messages))
        writer.close()


@contextlib.asynccontextmanager
async def strict_upstream() -> AsyncIterator[StrictUpstream]:
    """Run a strict upstream on loopback."""
    upstream = StrictUpstream()
    server = await asyncio.start_server(upstream.serve, "127.0.0.1", 0)
    upstream.port = server.sockets[0].getsockname()[1]
    try:
        yield upstream
    finally:
        server.close()
