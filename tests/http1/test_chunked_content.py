"""Content taken out of chunks, beside a decoder that is plain, slow, and obviously strict."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.http1.chunked_content import MAX_CHUNKS, ChunkedContent

WHOLE = b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n"

#: Sizes of five bytes of content that are plain, and those that are left to the parser.
PLAIN_SIZES = (b"5", b"05", b"0" * 14 + b"5")
ODD_SIZES = {
    "prefix": b"0x5",
    "octal": b"0o5",
    "plus": b"+5",
    "minus": b"-5",
    "space behind": b"5 ",
    "space before": b" 5",
    "tab behind": b"5\t",
    "twenty-three digits": b"0" * 22 + b"5",
    "seventeen digits": b"1" + b"0" * 15 + b"5",
    "sixteen digits": b"1" * 16,
    "underscore": b"0_5",
    "extension": b"5;ext",
    "extension with a value": b'5;a="b"',
    "empty extension": b"5;",
    "bare LF": b"5\nx",
    "bare CR": b"5\rx",
    "nothing": b"",
    "no digit": b"g",
    "full-width digit": b"\xef\xbc\x95",
    "NUL": b"5\0",
}


def fed(pieces: Iterable[bytes]) -> tuple[bytes, bool, bytes]:
    """Return content, whether it ended, and what was left, of bytes that come in these pieces."""
    chunks, content, left = ChunkedContent(), b"", b""
    for piece in pieces:
        if chunks.ended or chunks.rest:
            left += piece
        else:
            content += chunks.feed(piece)
    return content, chunks.ended, chunks.rest + left


def singly(data: bytes) -> list[bytes]:
    return [data[at : at + 1] for at in range(len(data))]


def size_of(line: bytes) -> int | None:
    """Return the size that digits say, if they are plain."""
    if not line or line.strip(b"0123456789abcdefABCDEF"):
        return None
    digits = line.lstrip(b"0")
    zeros = len(line) - len(digits)
    return int(line, 16) if len(digits) <= 15 and zeros <= (14 if digits else 15) else None


def may_become_plain(rest: bytes) -> bool:
    """Return whether bytes that are no plain line yet would be one with others behind them."""
    ends = (b"\r\n0\r\n\r\n", b"\n0\r\n\r\n", b"0\r\n\r\n", b"\r\n\r\n", b"\n\r\n", b"\r\n", b"\n", b"1\r\n")
    return any(plainly_line(rest + end) is not None for end in ends)


def plainly_line(rest: bytes) -> tuple[int, int] | None:
    """Return the size that stands at the beginning, and where its line ends."""
    line, end, behind = rest[2:].partition(b"\r\n")
    size = size_of(line)
    if not rest.startswith(b"\r\n") or not end or size is None or (not size and not behind.startswith(b"\r\n")):
        return None
    return size, len(line) + (4 if size else 6)


def plainly(data: bytes) -> tuple[bytes, bool, bytes]:
    """Return of bytes that came at once what ``fed`` does."""
    content, rest = b"", b"\r\n" + data
    while (line := plainly_line(rest)) is not None:
        size, end = line
        rest = rest[end:]
        if not size:
            return content, True, rest
        content += rest[:size]
        if len(rest) < size:
            return content, False, b""
        rest = rest[size:]
    return content, False, b"" if may_become_plain(rest) else rest


@pytest.mark.parametrize("cut", range(len(WHOLE) + 1))
def test_content_is_the_same_wherever_it_is_cut(cut: int) -> None:
    for second in range(cut, len(WHOLE) + 1):
        pieces = (WHOLE[:cut], WHOLE[cut:second], WHOLE[second:])
        assert fed(pieces) == (b"hello world", True, b"")
    assert fed((WHOLE + b"HTTP/1.1 200 OK\r\n",)) == (b"hello world", True, b"HTTP/1.1 200 OK\r\n")


def test_content_comes_as_soon_as_its_bytes_do() -> None:
    """Nothing is collected: a chunk may be as long as a film."""
    chunks = ChunkedContent()
    assert chunks.feed(b"fffffffffffffff\r\n") == b""
    for _ in range(3):
        assert chunks.feed(b"x" * 70_000) == b"x" * 70_000
    assert (chunks.ended, chunks.rest) == (False, b"")


@pytest.mark.parametrize("size", PLAIN_SIZES)
def test_sizes_may_have_zeros_before_them(size: bytes) -> None:
    data = size + b"\r\nhello\r\n" + b"0" * len(size) + b"\r\n\r\n"
    assert fed([data]) == fed(singly(data)) == (b"hello", True, b"")


@pytest.mark.parametrize("size", [pytest.param(size, id=name) for name, size in ODD_SIZES.items()])
@pytest.mark.rule("R302")
def test_odd_sizes_are_left_from_the_end_of_the_data_before_them(size: bytes) -> None:
    """First or later, at once or byte by byte; none of the bytes behind is taken for content."""
    odd = size + b"\r\nhello\r\n0\r\n\r\n"
    assert fed([odd]) == fed(singly(odd)) == (b"", False, b"\r\n" + odd)
    later = b"3\r\nabc\r\n" + odd
    assert fed([later]) == fed(singly(later)) == (b"abc", False, b"\r\n" + odd)


@pytest.mark.parametrize("end", [b"\n", b"", b"\r", b"\n\r", b"\r\r\n", b" \r\n", b"x\r\n", b"\0\r\n"])
def test_odd_ends_of_data_are_left(end: bytes) -> None:
    behind = end + b"1\r\nx\r\n0\r\n\r\n"
    data = b"5\r\nhello" + behind
    assert fed([data]) == fed(singly(data)) == (b"hello", False, behind)


@pytest.mark.parametrize(
    "last", [b"0\r\nX-A: b\r\n\r\n", b"0;a\r\n\r\n", b"0\n\n", b"0\r\n\n", b"0\r\n\rx", b"0 \r\n\r\n"]
)
def test_trailers_and_odd_ends_are_left_with_their_last_chunk(last: bytes) -> None:
    data = b"5\r\nhello\r\n" + last
    assert fed([data]) == fed(singly(data)) == (b"hello", False, b"\r\n" + last)


def test_many_chunks_at_once_are_left_and_the_same_ones_apart_are_not() -> None:
    """A service can make them of a byte each, and a read full of them would be much work (CWE-400)."""
    chunk = b"1\r\nx\r\n"
    data = chunk * (MAX_CHUNKS + 1) + b"0\r\n\r\n"
    assert fed([data]) == (b"x" * MAX_CHUNKS, False, b"\r\n" + chunk + b"0\r\n\r\n")
    assert fed([chunk * MAX_CHUNKS, b"0\r\n\r\n"]) == (b"x" * MAX_CHUNKS, True, b"")
    exactly = chunk * MAX_CHUNKS
    assert fed([exactly[:-2], b"\r\n0\r\n\r\n"]) == (b"x" * MAX_CHUNKS, True, b"")
    assert fed(singly(data)) == (b"x" * (MAX_CHUNKS + 1), True, b"")
    large = b"1\r\nx\r\n" * (MAX_CHUNKS - 1) + b"5\r\nhel"
    assert fed([large, b"lo\r\n0\r\n\r\n"]) == (b"x" * (MAX_CHUNKS - 1) + b"hello", True, b"")


_PIECES = st.one_of(
    st.binary(min_size=1, max_size=20).map(lambda data: b"%x\r\n%b\r\n" % (len(data), data)),
    st.binary(min_size=1, max_size=20).map(lambda data: b"%016X\r\n%b\r\n" % (len(data), data)),
    st.sampled_from([b"0\r\n\r\n", b"0\r\n", b"\r\n", b"\n", b"\r", b"5", b"a;b\r\n", b"0", b"X: y\r\n", b" ", b"0x1"]),
)


@settings(max_examples=500)
@given(st.lists(_PIECES, max_size=8), st.lists(st.integers(0, 200), max_size=6))
@pytest.mark.rule("R302")
def test_decoder_and_plain_decoder_agree_however_it_is_cut(parts: list[bytes], cuts: list[int]) -> None:
    data = b"".join(parts)
    places = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    expected = plainly(data)
    for pieces in (
        [data],
        singly(data),
        [data[begin:end] for begin, end in pairwise(places)],
    ):
        assert fed(pieces) == expected
