"""A corpus of requests that two parsers may read differently, each with a canary behind and, often, one inside.

The usual mutations of the two framing fields, of line ends and of the chunked
coding. Nothing here says what becomes of them: that is ``strict_http``'s word.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial

from tests.support.wire.smuggling_parts import (
    CHUNKED,
    DATA_ENDS,
    LAST_CHUNKS,
    LENGTHS,
    LINE_ENDS,
    ODD_BYTES,
    SIZES,
    SPELLINGS,
    VERSIONS,
)


def canary(number: int) -> bytes:
    """Return the request that hides inside content; its chunk size has two digits."""
    return b"GET /canary/%04d HTTP/1.1\r\nHost: h\r\n\r\n" % number


def after(number: int) -> bytes:
    """Return the request behind."""
    return b"GET /after/%04d HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n" % number


# --- how the parts of a request are put together: the doubtful part, and the request's number -------------------------


def _head(number: int, lines: bytes, version: bytes = b"HTTP/1.1") -> bytes:
    return b"POST /first/%04d %b\r\nHost: h\r\n%b\r\n\r\n" % (number, version, lines)


def _coded(number: int) -> bytes:
    """Return the canary as the data of a chunk."""
    return b"%x\r\n%b\r\n0\r\n\r\n" % (len(canary(number)), canary(number))


def _filled(form: bytes, number: int) -> bytes:
    """Put the canary's size into a form that has a place for one."""
    return form % len(canary(number)) if b"%d" in form or b"%x" in form else form


def _alone(line: bytes, number: int) -> bytes:
    """Only the line frames the content."""
    return _head(number, line) + _coded(number)


def _behind_length(line: bytes, number: int) -> bytes:
    """A length first: a reader that believes the line instead sees the canary as a request (CL.TE)."""
    content = b"0\r\n\r\n" + canary(number)
    return _head(number, b"Content-Length: %d\r\n%b" % (len(content), line)) + content


def _before_length(line: bytes, number: int) -> bytes:
    """A length behind: a reader that believes it instead of the line sees the canary as a request (TE.CL)."""
    return _head(number, line + b"\r\nContent-Length: 4") + _coded(number)


def _old(line: bytes, number: int) -> bytes:
    """HTTP/1.0 has no codings."""
    return _head(number, line, b"HTTP/1.0") + _coded(number)


def _length(value: bytes, number: int) -> bytes:
    """A length of a doubtful form over a canary."""
    return _head(number, b"Content-Length: " + _filled(value, number)) + canary(number)


def _second_length(value: bytes, number: int) -> bytes:
    """A plain length over a canary, and another one."""
    lines = b"Content-Length: %d\r\nContent-Length: %b" % (len(canary(number)), _filled(value, number))
    return _head(number, lines) + canary(number)


def _length_line(line: bytes, number: int) -> bytes:
    """A line that may be a length, over a canary."""
    return _head(number, line.replace(b"LENGTH", b"%d" % len(canary(number)))) + canary(number)


def _size(value: bytes, number: int) -> bytes:
    """A chunk size of a doubtful form."""
    return _head(number, CHUNKED) + _filled(value, number) + b"\r\n" + canary(number) + b"\r\n0\r\n\r\n"


def _data_end(end: bytes, number: int) -> bytes:
    """Something else behind the data of a chunk."""
    return _head(number, CHUNKED) + b"3\r\nabc" + end + _coded(number)


def _last_chunk(last: bytes, number: int) -> bytes:
    """Another end of the content."""
    return _head(number, CHUNKED) + b"3\r\nabc\r\n" + last


def _line_end(end: bytes, number: int, place: int) -> bytes:
    """Another line end at one place of a head; the content is a canary."""
    lines = [b"POST /first/%04d HTTP/1.1" % number, b"Content-Length: %d" % len(canary(number)), b"X: y", b""]
    ends = [b"\r\n"] * len(lines)
    ends[place] = end
    ends[0] += b"Host: h\r\n"  # its own grammar is another matter
    return b"".join(map(bytes.__add__, lines, ends)) + canary(number)


def _version(version: bytes, number: int) -> bytes:
    """Another version of the protocol."""
    return _head(number, b"Content-Length: %d" % len(canary(number)), version) + canary(number)


def _in_line(odd: bytes, number: int, place: int) -> bytes:
    """An odd byte at one place of the request line."""
    parts = [b"", b"POST", b" ", b"/first/%04d" % number, b" ", b"HTTP/1.1", b""]
    parts.insert(place, odd)
    return b"".join(parts) + b"\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc"


def _before(odd: bytes, number: int) -> bytes:
    """Something before the request line."""
    return odd + _version(b"HTTP/1.1", number)


def _odd_lines(name: bytes, value: bytes) -> Iterator[bytes]:
    """Yield a field line with each odd byte at each place."""
    for odd in ODD_BYTES:
        yield name + b":" + odd + value
        yield name + odd + b":" + value
        yield odd + name + b": " + value
        yield name + b": " + value + odd
        yield b"X: X" + odd + name + b": " + value


def corpus() -> Iterator[bytes]:
    """Yield what is sent over one connection each; the targets are ``/first/N``, ``/canary/N`` and ``/after/N``."""
    odd_codings = [*SPELLINGS, *_odd_lines(b"Transfer-Encoding", b"chunked")]
    shapes: list[tuple[Callable[[bytes, int], bytes], Iterable[bytes]]] = [
        (_alone, odd_codings),
        (_behind_length, odd_codings),
        (_before_length, odd_codings),
        (_old, SPELLINGS),
        (_length, LENGTHS),
        (_second_length, LENGTHS),
        (_length_line, _odd_lines(b"Content-Length", b"LENGTH")),
        (_size, [*SIZES, *(b"%x" + odd for odd in ODD_BYTES), *(odd + b"%x" for odd in ODD_BYTES)]),
        (_data_end, [*DATA_ENDS, *ODD_BYTES]),
        (_last_chunk, LAST_CHUNKS),
        *((partial(_line_end, place=place), LINE_ENDS) for place in range(4)),
        (_version, VERSIONS),
        *(
            (partial(_in_line, place=place), [b" ", b"\t", b"\r", b"\n", b"\x00", b"\x0b", b"\xa0"])
            for place in range(8)
        ),
        (
            _before,
            [
                b"\r\n",
                b"\r\n\r\n",
                b"\r\n\r\n\r\n",
                b"\n",
                b"\r",
                b" ",
                b"\x00",
                b" \r\n",
                b"\xef\xbb\xbf",
                b"0\r\n\r\n",
            ],
        ),
    ]
    pairs = ((shape, part) for shape, parts in shapes for part in parts)
    for number, (shape, part) in enumerate(pairs):
        yield shape(part, number) + after(number)
