"""Which response heads are plain, and what clients get for them."""

from __future__ import annotations

import re
from email.utils import formatdate

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.http1.date_field import DateField
from gateway.http1.plain_response import (
    IN_CHUNKS,
    MAX_NAME,
    MAX_NAMES,
    MAX_RESPONSE_FIELD,
    MAX_RESPONSE_FIELDS,
    PlainReader,
)
from gateway.server.request.response_head import client_head
from tests.support.kept_memory import kept_memory

READER = PlainReader(b"gw")

PLAIN = [
    pytest.param(
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
        (200, b"OK", 5, [b"Content-Length: 5"]),
        id="usual",
    ),
    pytest.param(
        b"HTTP/1.1 404 \r\nX-Odd: \xff : x\r\ncontent-LENGTH: 0\r\n\r\n",
        (404, b"", 0, [b"X-Odd: \xff : x", b"content-LENGTH: 0"]),
        id="no phrase, odd value, other case",
    ),
    pytest.param(
        b"HTTP/1.1 599 x y\r\nConnection: Keep-Alive\r\nKeep-Alive: timeout=5\r\n"
        b"Content-Length: 007\r\nA: a\r\nA: b\r\n\r\n",
        (599, b"x y", 7, [b"Content-Length: 007", b"A: a", b"A: b"]),
        id="kept, leading zeros, two of a kind",
    ),
    pytest.param(
        b"HTTP/1.1 200 OK\r\nContent-Length: " + b"9" * 18 + b"\r\n\r\n",
        (200, b"OK", 10**18 - 1, [b"Content-Length: " + b"9" * 18]),
        id="longest length",
    ),
    pytest.param(
        b"HTTP/1.1 200 OK\r\nSet-Cookie: a\r\nset-cookie: b\r\nVia: 1.1 inner\r\nContent-Length: 1\r\nTE: x\r\n\r\n",
        (200, b"OK", 1, [b"Set-Cookie: a", b"set-cookie: b", b"Via: 1.1 inner", b"Content-Length: 1"]),
        id="cookies, others before it",
    ),
    pytest.param(
        b"HTTP/1.1 200 OK\r\ntransfer-ENCODING: Chunked\r\nA: b\r\n\r\n",
        (200, b"OK", IN_CHUNKS, [b"A: b"]),
        id="in chunks",
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
    "length and chunked": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\ntransfer-encoding: chunked\r\n\r\n",
    "chunked and length": b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\nContent-Length: 2\r\n\r\n",
    "chunked twice": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
    "chunked twice in a list": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, chunked\r\n\r\n",
    "compressed in chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
    "chunked with a parameter": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked;q=1\r\n\r\n",
    "another coding": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\n\r\n",
    "no coding": b"HTTP/1.1 200 OK\r\nTransfer-Encoding:\r\n\r\n",
    "chunked with VT": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: \x0bchunked\r\n\r\n",
    "chunked and old": b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
    "chunked and no content": b"HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n",
    "chunked and not modified": b"HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n",
    "chunked and trailer": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X\r\n\r\n",
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
    "no space behind the colon": b"HTTP/1.1 200 OK\r\nX:a\r\nContent-Length: 2\r\n\r\n",
    "two spaces behind the colon": b"HTTP/1.1 200 OK\r\nX:  a\r\nContent-Length: 2\r\n\r\n",
    "tab behind the colon": b"HTTP/1.1 200 OK\r\nX:\ta\r\nContent-Length: 2\r\n\r\n",
    "space behind the value": b"HTTP/1.1 200 OK\r\nX: a \r\nContent-Length: 2\r\n\r\n",
    "tab behind the value": b"HTTP/1.1 200 OK\r\nX: a\t\r\nContent-Length: 2\r\n\r\n",
    "no value": b"HTTP/1.1 200 OK\r\nX:\r\nContent-Length: 2\r\n\r\n",
    "bytes before": b"\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n",
    "a field of any size": b"HTTP/1.1 200 OK\r\nX: " + b"x" * MAX_RESPONSE_FIELD + b"\r\nContent-Length: 2\r\n\r\n",
    "any number of fields": b"HTTP/1.1 200 OK\r\n" + b"X: 1\r\n" * MAX_RESPONSE_FIELDS + b"Content-Length: 2\r\n\r\n",
    "nothing": b"",
}


@pytest.mark.parametrize(("block", "parts"), PLAIN)
@pytest.mark.rule("R250", "R254", "R263", "R266")
def test_plain_head_is_read_as_it_came(block: bytes, parts: tuple[int, bytes, int, list[bytes]]) -> None:
    """Order, case and number of the lines are the upstream's; what is between two neighbours goes."""
    head = READER.read(block)
    assert head is not None
    status, phrase, length, lines = parts
    assert (head.status, head.phrase, head.length, head.block) == (status, phrase, length, block)
    first = block.partition(b"\r\n")[0]
    assert head.start == b"\r\n".join([first, *lines, b"Via: 1.1 gw", b""])


@pytest.mark.parametrize("block", [pytest.param(block, id=name) for name, block in NOT_PLAIN.items()])
def test_whatever_is_not_plain_is_left_to_the_parser(block: bytes) -> None:
    """Odd framing, odd syntax, and more of the connection than that it stays open: there is one judge of those."""
    assert READER.read(block) is None


def dated_by(name: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\n%b: whenever\r\nContent-Length: 7\r\n\r\n" % name


@pytest.mark.parametrize("name", [b"Date", b"date", b"DATE", b"dAtE"])
@pytest.mark.rule("R413", "C101")
def test_the_moment_is_no_part_of_what_is_read(name: bytes) -> None:
    """A service's own Date stays the only one; another head gets that of the second in which it is sent."""
    now = [1_000_000_000.0]
    date = DateField(lambda: now[0])
    for _ in range(2):
        head = READER.read(b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n")
        assert head is not None
        field = b"Date: %b\r\n\r\n" % formatdate(now[0], usegmt=True).encode()
        assert head.end(date) == field
        assert head.end(date, keep_alive=False) == b"Connection: close\r\n" + field
        now[0] += 1
    dated = READER.read(dated_by(name))
    assert dated is not None
    assert dated.end(date) == b"\r\n"
    assert dated.end(date, keep_alive=False) == b"Connection: close\r\n\r\n"
    other = READER.read(dated_by(b"X-" + name))
    assert other is not None
    assert not other.dated


@pytest.mark.parametrize(("heads", "names", "length"), [(40, 500, 20), (300, 6, 10_000)], ids=["many", "long"])
def test_names_of_services_take_bounded_memory(heads: int, names: int, length: int) -> None:
    """CWE-770: in number and in length; services choose them."""
    reader = PlainReader(b"gw")
    with kept_memory() as kept:
        for head in range(heads):
            lines = b"".join((b"X-%d-%d" % (head, number)).ljust(length, b"x") + b": 1\r\n" for number in range(names))
            assert reader.read(b"HTTP/1.1 200 OK\r\n" + lines + b"Content-Length: 2\r\n\r\n") is not None
    assert kept.size < MAX_NAMES * (MAX_NAME + 200)


def test_names_of_services_mean_the_same_each_time() -> None:
    """Before and after they are remembered, and where they are too long for that."""
    reader = PlainReader(b"gw")
    for name in (b"L" * (MAX_NAME + 1), b"tRansfer-encoding", b"upGrade", b"X Y", b"", b"\xe9", b"keeP-alive"):
        verdicts = [reader.read(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n%b: 1\r\n\r\n" % name) for _ in range(3)]
        assert verdicts[0] == verdicts[1] == verdicts[2]
        assert (verdicts[0] is None) is (name not in (b"L" * (MAX_NAME + 1), b"keeP-alive"))


# --- beside a parser that is plain, slow, and obviously strict ---

STATUS_LINE = re.compile(rb"HTTP/1\.1 ([2-5][0-9][0-9]) ([ -~]*)\r\n")
LINE = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+): ((?! )[ -~\x80-\xff]*(?<! ))\r\n")  # no other white space


def plainly(block: bytes) -> tuple[int, bytes, int, list[tuple[bytes, bytes]]] | None:
    """Return status, phrase, length and fields of a plain head; None for any other."""
    line = STATUS_LINE.match(block)
    if line is None or b":  " in block:
        return None
    rest, fields = block[line.end() :], []
    while rest != b"\r\n":
        field = LINE.match(rest)
        if field is None:
            return None
        fields.append((field[1], field[2]))
        rest = rest[field.end() :]
    lengths = [value for name, value in fields if name.lower() == b"content-length"]
    codings = [value for name, value in fields if name.lower() == b"transfer-encoding"]
    if len(lengths) + len(codings) != 1 or line[1] in (b"204", b"304"):
        return None
    if not (codings[0].lower() == b"chunked" if codings else re.fullmatch(rb"[0-9]{1,18}", lengths[0])):
        return None
    for name, value in fields:
        if name.lower() in (b"upgrade", b"trailer"):
            return None
        if name.lower() == b"connection" and value.lower() != b"keep-alive":
            return None
    return int(line[1]), line[2], IN_CHUNKS if codings else int(lengths[0]), fields


_NAMES = st.sampled_from(
    b"Content-Length content-length Connection CONNECTION Keep-Alive Transfer-Encoding Upgrade Trailer TE Date dAte "
    b"Via Set-Cookie set-cookie ETag X-A x_a Content_Length Proxy-Authenticate Server".split()
) | st.sampled_from([b"", b"X Y", b"X ", b" X", b"\xe9", b"X" * 64, b"X" * 65])
_VALUES = st.sampled_from(
    [
        *(
            b"",
            b"2",
            b"02",
            b" 2\t",
            b"2, 2",
            b"+2",
            b"keep-alive",
            b"Keep-Alive ",
            b"close",
            b"x",
            b"\xff",
            b"chunked",
        ),
        *(b"a\x00", b"a\rb", b"a\nb", b"a\x7f", b"9" * 18, b"9" * 19),
    ]
)
_LINES = st.builds(
    lambda name, colon, value: name + colon + value, _NAMES, st.sampled_from([b": ", b":", b""]), _VALUES
)
_STATUS_LINES = st.sampled_from(
    [
        *(b"HTTP/1.1 200 OK", b"HTTP/1.1 404 ", b"HTTP/1.1 503 a b", b"HTTP/1.1 204 x", b"HTTP/1.1 304 x"),
        *(b"HTTP/1.1 200", b"HTTP/1.0 200 OK", b"HTTP/1.1 199 x", b"HTTP/1.1 600 x", b"HTTP/1.1 200 \xe9"),
        *(b"HTTP/1.1 200 \t", b"HTTP/1.1  200 "),
    ]
)
_HEADS = st.builds(
    lambda first, lines, length: (
        b"\r\n".join([first, *lines, *length, b"", b""]).partition(b"\r\n\r\n")[0] + b"\r\n\r\n"
    ),
    _STATUS_LINES,
    st.lists(_LINES, max_size=6),
    st.sampled_from([[], [b"Content-Length: 5"], [b"Transfer-Encoding: Chunked"]]),
)


@settings(max_examples=500)
@given(_HEADS)
@pytest.mark.rule("R250", "R254", "R263", "R266", "R271", "R413")
def test_reader_and_plain_parser_agree_and_clients_get_what_the_parsers_way_gives_them(block: bytes) -> None:
    """Whichever way a head goes, the client sees the same bytes."""
    head, expected = READER.read(block), plainly(block)
    if expected is None or head is None:
        assert (head, expected) == (None, None)
        return
    status, phrase, length, fields = expected
    assert (head.status, head.phrase, head.length) == (status, phrase, length)
    assert head.headers == tuple(fields)
    date = DateField(lambda: 1_000_000_000.0)
    for keep_alive in (True, False):
        whole = client_head(
            *(status, phrase, tuple(fields), b"gw"),
            http_11=True,
            keep_alive=keep_alive,
            chunked=length == IN_CHUNKS,
            date=date.value,
        )
        shown = head.start + head.end(date, keep_alive=keep_alive)
        assert shown == whole
