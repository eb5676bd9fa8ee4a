"""Which response heads are plain, and how many of them are remembered."""

from __future__ import annotations

from email.utils import formatdate

import pytest

from gateway.http1.date_field import DateField
from gateway.http1.plain_response import (
    MAX_REMEMBERED_HEAD,
    MAX_REMEMBERED_HEADS,
    MAX_RESPONSE_FIELD,
    MAX_RESPONSE_FIELDS,
    HeadMemory,
    PlainHead,
    read_plain_head,
)

PLAIN = [
    pytest.param(
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
        PlainHead(200, b"OK", ((b"Content-Length", b"5"),), 5),
        id="usual",
    ),
    pytest.param(
        b"HTTP/1.1 404 \r\nX-Odd: \t\xff \t\r\ncontent-LENGTH:0\r\n\r\n",
        PlainHead(404, b"", ((b"X-Odd", b"\xff"), (b"content-LENGTH", b"0")), 0),
        id="no phrase, odd value, other case",
    ),
    pytest.param(
        b"HTTP/1.1 599 x y\r\nConnection: Keep-Alive\r\nContent-Length: 007\r\nA:\r\nA: b\r\n\r\n",
        PlainHead(
            599, b"x y", ((b"Connection", b"Keep-Alive"), (b"Content-Length", b"007"), (b"A", b""), (b"A", b"b")), 7
        ),
        id="kept, leading zeros, empty value, two of a kind",
    ),
    pytest.param(
        b"HTTP/1.1 200 OK\r\nContent-Length: " + b"9" * 18 + b"\r\n\r\n",
        PlainHead(200, b"OK", ((b"Content-Length", b"9" * 18),), 10**18 - 1),
        id="longest length",
    ),
]

NOT_PLAIN = {
    "interim": b"HTTP/1.1 103 Early Hints\r\nContent-Length: 2\r\n\r\n",
    "switching": b"HTTP/1.1 101 Switching Protocols\r\nContent-Length: 0\r\n\r\n",
    "no content": b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n",
    "not modified": b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n",
    "no such class": b"HTTP/1.1 600 x\r\nContent-Length: 0\r\n\r\n",
    "no length": b"HTTP/1.1 200 OK\r\nX: y\r\n\r\n",
    "no field": b"HTTP/1.1 200 OK\r\n\r\n",
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\n",
    "list of lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\n",
    "signed length": b"HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\n",
    "negative length": b"HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\n",
    "empty length": b"HTTP/1.1 200 OK\r\nContent-Length: \r\n\r\n",
    "hexadecimal length": b"HTTP/1.1 200 OK\r\nContent-Length: 0x2\r\n\r\n",
    "length with separators": b"HTTP/1.1 200 OK\r\nContent-Length: 1_0\r\n\r\n",
    "endless length": b"HTTP/1.1 200 OK\r\nContent-Length: " + b"1" * 19 + b"\r\n\r\n",
    "chunked": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
    "chunked and length": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\ntransfer-encoding: chunked\r\n\r\n",
    "trailer": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTrailer: X\r\n\r\n",
    "upgrade": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nUpgrade: h2c\r\n\r\n",
    "closing": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n",
    "nominating": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: keep-alive, X-A\r\n\r\n",
    "old": b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\n",
    "no phrase and no space": b"HTTP/1.1 200\r\nContent-Length: 2\r\n\r\n",
    "phrase that is not ASCII": b"HTTP/1.1 200 \xc3\xa9\r\nContent-Length: 2\r\n\r\n",
    "bare line feeds": b"HTTP/1.1 200 OK\nContent-Length: 2\n\n",
    "bare carriage return": b"HTTP/1.1 200 OK\r\nX: a\rb\r\nContent-Length: 2\r\n\r\n",
    "NUL": b"HTTP/1.1 200 OK\r\nX: a\x00b\r\nContent-Length: 2\r\n\r\n",
    "folded": b"HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 2\r\n\r\n",
    "space before the colon": b"HTTP/1.1 200 OK\r\nContent-Length : 2\r\n\r\n",
    "no colon": b"HTTP/1.1 200 OK\r\nContent-Length\r\n\r\n",
    "no name": b"HTTP/1.1 200 OK\r\n: 2\r\nContent-Length: 2\r\n\r\n",
    "no end": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n",
    "more behind the end": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    "bytes before": b"\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n",
    "a field of any size": b"HTTP/1.1 200 OK\r\nX: " + b"x" * MAX_RESPONSE_FIELD + b"\r\nContent-Length: 2\r\n\r\n",
    "any number of fields": b"HTTP/1.1 200 OK\r\n" + b"X:\r\n" * MAX_RESPONSE_FIELDS + b"Content-Length: 2\r\n\r\n",
    "nothing": b"",
}


@pytest.mark.parametrize(("block", "head"), PLAIN)
def test_plain_head_is_read_as_it_came(block: bytes, head: PlainHead) -> None:
    """Order, case and number of the fields are the upstream's; only white space around values goes."""
    assert read_plain_head(block) == head


@pytest.mark.parametrize("block", [pytest.param(block, id=name) for name, block in NOT_PLAIN.items()])
def test_whatever_is_not_plain_is_left_to_the_parser(block: bytes) -> None:
    """Odd framing, odd syntax, and more of the connection than that it stays open: there is one judge of those."""
    assert read_plain_head(block) is None
    assert HeadMemory(lambda head: b"\r\n\r\n").read(block) is None


class Translations:
    """Counts what was asked of it."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def __call__(self, head: PlainHead) -> bytes:
        if head.status == 500:
            raise ValueError("a value that no client can be given")
        self.asked.append(head.length)
        return b"for the client: %d\r\n\r\n" % head.length


def block(length: int, *, padding: int = 0, status: int = 200) -> bytes:
    return b"HTTP/1.1 %d OK\r\nContent-Length: %d\r\nX: %b\r\n\r\n" % (status, length, b"p" * padding)


def test_head_is_translated_once() -> None:
    translations = Translations()
    memory = HeadMemory(translations)
    first = memory.read(block(7))
    assert first == (200, 7, b"for the client: 7\r\n", False, read_plain_head(block(7)))
    assert memory.read(block(7)) is first
    assert translations.asked == [7]


@pytest.mark.parametrize("name", [b"Date", b"date", b"DATE"])
@pytest.mark.rule("R413", "C101")
def test_the_moment_is_no_part_of_what_is_remembered(name: bytes) -> None:
    """A service's own Date stays the only one; another head gets that of the second in which it is sent."""
    now = [1_000_000_000.0]
    date, memory = DateField(lambda: now[0]), HeadMemory(Translations())
    for _ in range(2):
        known = memory.read(block(7))
        assert known is not None
        assert known.end(date) == b"Date: %b\r\n\r\n" % formatdate(now[0], usegmt=True).encode()
        now[0] += 1
    dated = memory.read(b"HTTP/1.1 200 OK\r\n%b: whenever\r\nContent-Length: 7\r\n\r\n" % name)
    assert dated is not None
    assert dated.end(date) == b"\r\n"


def test_memory_is_bounded_in_heads() -> None:
    """An upstream that varies its heads (each has a Date, say) costs no memory."""
    translations = Translations()
    memory = HeadMemory(translations)
    for length in range(3 * MAX_REMEMBERED_HEADS):
        memory.read(block(length))
        assert memory.remembered <= MAX_REMEMBERED_HEADS
    memory.read(block(0))
    assert translations.asked.count(0) == 2


@pytest.mark.parametrize(("over", "asked"), [(0, 1), (1, 2)])
def test_large_head_is_understood_but_not_remembered(over: int, asked: int) -> None:
    translations = Translations()
    memory = HeadMemory(translations)
    large = block(1, padding=MAX_REMEMBERED_HEAD + over - len(block(1)))
    assert len(large) == MAX_REMEMBERED_HEAD + over
    assert memory.read(large) == memory.read(large) == (200, 1, b"for the client: 1\r\n", False, read_plain_head(large))
    assert len(translations.asked) == asked


def test_head_that_no_client_can_be_given_is_not_plain() -> None:
    memory = HeadMemory(Translations())
    assert memory.read(block(1, status=500)) is None
    assert memory.remembered == 0
