"""Where requests begin and end: the strict reading, however the bytes are cut (R200-R218)."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.errors import Reason, Reasons
from gateway.http1.message_scanner import MAX_PARTS, SMALL_CHUNKS_PART, MessageScanner
from gateway.http1.request_head import MAX_FIELDS, HeadReader, RequestHead
from tests.support.wire.heads import PLAIN

SOUND = [
    b"GET / HTTP/1.1\r\nHost: h\r\n\r\n",
    b"GET / HTTP/1.0\r\n\r\n",
    b"\r\nGET /x?y HTTP/1.1\r\nHost:h\r\nX: \t a\xff\t \r\nEmpty:\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc",
    b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 003\r\n\r\nGET",
    b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: Chunked\r\n\r\n"
    b"3;a=b\r\nabc\r\n00a\r\n0123456789\r\n0\r\nX: y\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
]

MALFORMED = {
    "double space": b"GET  / HTTP/1.1\r\nHost: h\r\n\r\n",
    "tab in line": b"GET\t/ HTTP/1.1\r\nHost: h\r\n\r\n",
    "small letters": b"post / HTTP/1.1\r\nHost: h\r\n\r\n",
    "one small letter": b"GEt / HTTP/1.1\r\nHost: h\r\n\r\n",
    "small letters and another version": b"get / HTTP/2.0\r\nHost: h\r\n\r\n",
    "mark in the method": b"GE! / HTTP/1.1\r\nHost: h\r\n\r\n",
    "nul in the method": b"GE\x00T / HTTP/1.1\r\nHost: h\r\n\r\n",
    "long method": b"A" * 33 + b" / HTTP/1.1\r\nHost: h\r\n\r\n",
    "space at end of line": b"GET / HTTP/1.1 \r\nHost: h\r\n\r\n",
    "no version": b"GET /\r\nHost: h\r\n\r\n",
    "bare lf in line": b"GET / HTTP/1.1\nHost: h\r\n\r\n",
    "non-ascii target": b"GET /\xc3\xa9 HTTP/1.1\r\nHost: h\r\n\r\n",
    "leading space line": b" GET / HTTP/1.1\r\nHost: h\r\n\r\n",
    "obs-fold": b"GET / HTTP/1.1\r\nHost: h\r\nX: a\r\n b\r\n\r\n",
    "space before colon": b"GET / HTTP/1.1\r\nHost : h\r\n\r\n",
    "empty name": b"GET / HTTP/1.1\r\n: h\r\n\r\n",
    "name with a slash": b"GET / HTTP/1.1\r\nHo/st: h\r\n\r\n",
    "no colon": b"GET / HTTP/1.1\r\nHost\r\n\r\n",
    "nul in value": b"GET / HTTP/1.1\r\nHost: a\x00\r\n\r\n",
    "bare cr in value": b"GET / HTTP/1.1\r\nX: a\rb\r\n\r\n",
    "bare lf in value": b"GET / HTTP/1.1\r\nX: a\nb: c\r\n\r\n",
    "delete in value": b"GET / HTTP/1.1\r\nX: a\x7f\r\n\r\n",
    "both framings": b"POST / HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
    "same length twice": b"POST / HTTP/1.1\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\n",
    "list of lengths": b"POST / HTTP/1.1\r\nContent-Length: 3, 3\r\n\r\n",
    "plus": b"POST / HTTP/1.1\r\nContent-Length: +3\r\n\r\n",
    "minus": b"POST / HTTP/1.1\r\nContent-Length: -3\r\n\r\n",
    "hex": b"POST / HTTP/1.1\r\nContent-Length: 0x3\r\n\r\n",
    "underscore": b"POST / HTTP/1.1\r\nContent-Length: 1_0\r\n\r\n",
    "empty length": b"POST / HTTP/1.1\r\nContent-Length:\r\n\r\n",
    "superscript": b"POST / HTTP/1.1\r\nContent-Length: \xc2\xb2\r\n\r\n",
    "huge length": b"POST / HTTP/1.1\r\nContent-Length: 18446744073709551618\r\n\r\n",
    "coding twice": b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
    "coding list": b"POST / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
    "identity": b"POST / HTTP/1.1\r\nTransfer-Encoding: identity\r\n\r\n",
    "parameter": b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked;q=1\r\n\r\n",
    "quoted": b'POST / HTTP/1.1\r\nTransfer-Encoding: "chunked"\r\n\r\n',
    "coding in 1.0": b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n",
    "three empty lines": b"\r\n\r\n\r\nGET / HTTP/1.1\r\n\r\n",
}

CHUNKED = b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
BAD_CHUNKS = {
    "hex prefix": b"0x2\r\nab\r\n0\r\n\r\n",
    "plus": b"+2\r\nab\r\n0\r\n\r\n",
    "space behind": b"2 \r\nab\r\n0\r\n\r\n",
    "space before": b" 2\r\nab\r\n0\r\n\r\n",
    "underscore": b"1_0\r\n0123456789012345\r\n0\r\n\r\n",
    "seventeen digits": b"00000000000000002\r\nab\r\n0\r\n\r\n",
    "empty size": b"\r\nab\r\n0\r\n\r\n",
    "bare lf behind size": b"2\nab\r\n0\r\n\r\n",
    "lf in extension": b"2;a\nb\r\nab\r\n0\r\n\r\n",
    "cr in extension": b"2;a\rb\r\nab\r\n0\r\n\r\n",
    "no end of data": b"2\r\nabc\r\n0\r\n\r\n",
    "lf only behind data": b"2\r\nab\n0\r\n\r\n",
    "long extension": b"2;" + b"a" * 2000 + b"\r\nab\r\n0\r\n\r\n",
    "many extensions": b"1;" + b"a" * 900 + b"\r\na\r\n" + (b"1;" + b"a" * 900 + b"\r\na\r\n") * 30,
    "trailer without colon": b"0\r\nabc\r\n\r\n",
    "folded trailer": b"0\r\nX: a\r\n b\r\n\r\n",
    "trailers without end": b"0\r\n" + b"X: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n" * 500,
}


class NotingReader(HeadReader):
    """Reads heads, and keeps their bytes."""

    def __init__(self) -> None:
        super().__init__(PLAIN.meaning, PLAIN.usual)
        self.blocks: list[bytes] = []

    def read(self, block: bytes) -> RequestHead:
        head = super().read(block)
        self.blocks.append(block)
        return head


class Scanner(MessageScanner):
    """One whose reader keeps the bytes of heads."""

    def __init__(self, max_head_bytes: int) -> None:
        self.noting = NotingReader()
        super().__init__(max_head_bytes, self.noting)

    def text(self, pieces: list[RequestHead | bytes]) -> bytes:
        """Return the bytes of what was let through last."""
        return b"".join(piece if isinstance(piece, bytes) else self.noting.blocks.pop(0) for piece in pieces)


def run(data: bytes, cuts: list[int]) -> tuple[bytes, Reason | None]:
    """Feed ``data`` cut at the given places."""
    scanner = Scanner(4096)
    through = b""
    places = sorted({cut % (len(data) + 1) for cut in cuts} | {0, len(data)})
    for start, end in itertools.pairwise(places):
        piece = data[start:end]
        while piece or scanner.resting:
            released, reason = scanner.feed(piece)
            through += scanner.text(released)
            if reason is not None:
                return through, reason
            piece = b""
    return through, None


@pytest.mark.parametrize("message", SOUND)
@settings(max_examples=25)
@given(cuts=st.lists(st.integers(0, 400), max_size=12))
@pytest.mark.rule("R208", "R209", "R210", "R212", "R214")
def test_sound_messages_pass_whole_however_they_are_cut(message: bytes, cuts: list[int]) -> None:
    """One after the other; empty lines before them, extensions and trailers are left out."""
    data = message + message + SOUND[0]
    through = data.replace(b"\r\nGET /x", b"GET /x").replace(b"3;a=b\r\n", b"3\r\n").replace(b"X: y\r\n\r\n", b"\r\n")
    assert run(data, cuts) == (through, None)


@pytest.mark.parametrize("name", MALFORMED)
@settings(max_examples=25)
@given(cuts=st.lists(st.integers(0, 400), max_size=6))
@pytest.mark.rule("R200", "R201", "R202", "R203", "R204", "R205", "R206", "R207", "R218")
def test_malformed_head_is_refused_and_the_request_before_it_is_not(name: str, cuts: list[int]) -> None:
    """Nothing of the bad message is let through."""
    before = SOUND[3]
    assert run(before + MALFORMED[name] + SOUND[0], cuts) == (before, Reasons.MALFORMED_HTTP)


@pytest.mark.parametrize("name", BAD_CHUNKS)
@settings(max_examples=25)
@given(cuts=st.lists(st.integers(0, 400), max_size=6))
@pytest.mark.rule("R208", "R209")
def test_malformed_chunks_are_refused_before_the_end_of_the_message(name: str, cuts: list[int]) -> None:
    """The last chunk never gets through."""
    through, reason = run(CHUNKED + BAD_CHUNKS[name] + SOUND[0], cuts)
    assert reason is Reasons.MALFORMED_HTTP
    assert not through.endswith(b"\r\n0\r\n\r\n")
    assert b"GET" not in through


@pytest.mark.rule("R273")
def test_head_over_the_limit_is_refused_complete_or_not() -> None:
    """Exactly at the limit it passes."""
    line = b"GET / HTTP/1.1\r\n"
    fits = line + b"X: " + b"a" * (4096 - len(line) - 7) + b"\r\n\r\n"
    assert len(fits) == 4096
    assert run(fits, []) == (fits, None)
    assert run(fits.replace(b"X: ", b"X: a"), [])[1] is Reasons.HEAD_TOO_LARGE
    assert run(line + b"X: " + b"a" * 5000, [100, 4000])[1] is Reasons.HEAD_TOO_LARGE
    assert run(line + b"a:\r\n" * MAX_FIELDS + b"\r\n", [])[1] is None
    assert run(line + b"a:\r\n" * (MAX_FIELDS + 1) + b"\r\n", [])[1] is Reasons.HEAD_TOO_LARGE


@pytest.mark.rule("R214")
def test_bytes_are_cut_where_a_request_ends() -> None:
    """What reads on gets one request at a time."""
    scanner = Scanner(4096)
    pieces, reason = scanner.feed(b"".join(SOUND))
    assert reason is None
    heads = [message.removeprefix(b"\r\n").partition(b"\r\n\r\n")[0] + b"\r\n\r\n" for message in SOUND]
    assert scanner.noting.blocks == heads
    assert sum(isinstance(piece, RequestHead) for piece in pieces) == len(heads)
    contents = [message.partition(b"\r\n\r\n")[2] for message in SOUND]
    assert b"".join(piece for piece in pieces if isinstance(piece, bytes)) == b"".join(contents).replace(
        b";a=b", b""
    ).replace(b"X: y\r\n", b"")


@given(st.binary(max_size=300), st.lists(st.integers(0, 300), max_size=5))
def test_any_bytes_end_in_an_answer(data: bytes, cuts: list[int]) -> None:
    """No input raises, and what is let through is a prefix of it."""
    through, _ = run(data, cuts)
    assert data.startswith(through)


@pytest.mark.parametrize(("version", "upgrading"), [(b"1.1", True), (b"1.0", False)])
@pytest.mark.rule("R322")
def test_head_that_comes_again_asks_for_a_websocket_again(version: bytes, upgrading: bool) -> None:
    """And one behind it that does not, does not."""
    ask = b"GET / HTTP/%b\r\nHost: h\r\nUpgrade: websocket\r\n\r\n" % version
    plain = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
    scanner = Scanner(1000)
    for block, asks in ((ask, upgrading), (ask, upgrading), (plain, False), (plain, False), (ask, upgrading)):
        through, reason = scanner.feed(block)
        assert (scanner.text(through), reason) == (block, None)
        assert scanner.upgrading is asks
        scanner.upgrading = False


def all_of(scanner: Scanner, data: bytes, most: float) -> tuple[bytes, list[int]]:
    """Feed data and then nothing until all is through; return it, and how many heads came each time."""
    through, heads = b"", []
    while True:
        pieces, reason = scanner.feed(data, most)
        assert reason is None
        heads.append(sum(isinstance(piece, RequestHead) for piece in pieces))
        through += scanner.text(pieces)
        if not (scanner.ahead or scanner.resting):
            return through, heads
        assert scanner.size_ahead
        data = b""


@pytest.mark.parametrize("message", [SOUND[0], CHUNKED + b"3\r\nabc\r\n0\r\n\r\n"])
@pytest.mark.rule("R429")
def test_no_more_requests_are_read_than_may_be(message: bytes) -> None:
    """The rest stays as it came, and is not copied for each of them."""
    through, heads = all_of(Scanner(4096), message * 50, 8)
    assert (through, heads) == (message * 50, [8] * 6 + [2])
    scanner = Scanner(4096)
    scanner.feed(message * 3 + b"GET", 2)
    assert (scanner.ahead, scanner.size_ahead, scanner.in_head) == (True, len(message) + 3, False)
    assert scanner.feed(b" /", 0) == ([], None)
    scanner.feed(b"", 9)
    assert (scanner.ahead, scanner.size_ahead, scanner.in_head) == (False, 0, True)


@pytest.mark.rule("R429")
def test_fewer_requests_are_read_ahead_when_their_heads_are_long() -> None:
    """Eight of the longest would be half a megabyte, and more once they are read."""
    long = b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 58_000 + b"\r\n\r\n"
    through, heads = all_of(Scanner(65536), long * 3 + SOUND[0] * 9, 8)
    assert (through, heads) == (long * 3 + SOUND[0] * 9, [1, 1, 1, 8, 1])
    middle = b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 10_000 + b"\r\n\r\n"
    assert all_of(Scanner(65536), middle * 8, 8)[1] == [4, 4]


@pytest.mark.rule("R429")
def test_what_rests_is_looked_at_when_it_goes_on() -> None:
    """Many bytes of heads are not read where they come in."""
    scanner = Scanner(65536)
    assert scanner.at_head
    scanner.resting = True
    scanner.hold(SOUND[0] * 3)
    assert (scanner.resting, scanner.size_ahead) == (True, 3 * len(SOUND[0]))
    assert all_of(scanner, b"", 8) == (SOUND[0] * 3, [3])
    scanner.feed(CHUNKED)
    assert not scanner.at_head


def content_of(message: bytes) -> bytes:
    """Decode the content of a request in chunks, in the plainest way."""
    rest, content = message.partition(b"\r\n\r\n")[2], b""
    while True:
        line, _, rest = rest.partition(b"\r\n")
        size = int(line, 16)
        assert rest[size : size + 2] == b"\r\n"
        content += rest[:size]
        if not size:
            return content
        rest = rest[size + 2 :]


@given(
    st.lists(
        st.tuples(
            st.binary(min_size=1, max_size=18) | st.sampled_from([b"1\r\na", b"\r\n1\r\n", b"0\r\n"]),
            st.sampled_from([b"%x", b"%X", b"0%x", b"%015x"]),
        ),
        max_size=40,
    ),
    st.lists(st.integers(1, 400), max_size=4),
)
@pytest.mark.rule("R214", "R429")
def test_small_chunks_have_the_same_content_however_they_come(
    chunks: list[tuple[bytes, bytes]], cuts: list[int]
) -> None:
    """As one chunk, and whatever stands in them is not taken for their framing."""
    framed = b"".join(form % len(data) + b"\r\n" + data + b"\r\n" for data, form in chunks)
    data = CHUNKED + framed + b"0\r\n\r\n" + SOUND[0]
    scanner, through = Scanner(4096), b""
    for start, end in itertools.pairwise([0, *sorted({cut for cut in cuts if cut < len(data)}), len(data)]):
        through += all_of(scanner, data[start:end], 1e9)[0]
    assert through.endswith(SOUND[0])
    assert content_of(through[: -len(SOUND[0])]) == b"".join(data for data, _ in chunks)


@pytest.mark.parametrize(
    "bad", [b"1\r\nab\r\n", b"1\r\na\n", b"2\r\na\r\n\r\n", b"g\r\na\r\n", b"1\na\r\n", b"-1\r\na\r\n"]
)
@pytest.mark.rule("R214")
def test_what_is_wrong_behind_small_chunks_is_refused(bad: bytes) -> None:
    """The short way takes nothing that the long one does not."""
    for good in (b"", b"1\r\na\r\n", b"1\r\na\r\n" * 20):
        scanner = Scanner(4096)
        through, reason = scanner.feed(CHUNKED + good + bad + b"1\r\na\r\n" * 20)
        assert reason is Reasons.MALFORMED_HTTP
        assert bad not in b"".join(piece for piece in through if isinstance(piece, bytes))


@pytest.mark.parametrize("chunks", [b"1\r\na\r\n", b"01\r\na\r\n2\r\nbc\r\n", b"f\r\n" + b"a" * 15 + b"\r\n"])
@pytest.mark.rule("R429")
def test_small_chunks_cost_nobody_a_step_each(chunks: bytes) -> None:
    """By chunks of a byte a client made four megabytes in the kernel's buffers seconds of work."""
    data = CHUNKED + chunks * 2000 + b"0\r\n\r\n"
    through, heads = all_of(Scanner(4096), data, 8)
    assert content_of(through) == content_of(data)
    assert through.count(b"\r\n") < data.count(b"\r\n") // 50
    assert len(heads) < data.count(b"\r\n") // 200


@pytest.mark.rule("R429")
def test_chunks_of_a_byte_each_do_not_hold_all_others_up() -> None:
    """What is followed in one go has a bound, whatever it is made of."""
    data = CHUNKED + b"1\r\na\r\n" * 10_000 + b"0\r\n\r\n"
    through, heads = all_of(Scanner(4096), data, 8)
    assert content_of(through) == b"a" * 10_000
    assert len(heads) >= len(data) // (2 * SMALL_CHUNKS_PART * MAX_PARTS)
    scanner = Scanner(4096)
    scanner.feed(data[:20_000])
    assert (scanner.resting, scanner.in_content) == (True, False)  # it is not known how it ends
    assert not scanner.hold(data[20_000:30_000])
    assert scanner.hold(data[30_000:] + SOUND[0] * 1000)
    assert all_of(scanner, b"", 1e9)[0].endswith(SOUND[0])
