"""One request's head, read strictly; how its bytes may be cut is ``test_message_scanner.py``'s (R200-R218)."""

from __future__ import annotations

from dataclasses import asdict, replace

import pytest

from gateway.errors import Reasons
from gateway.http1.fields import options_of
from gateway.http1.request_head import (
    MAX_LEARNED,
    MAX_LEARNED_NAME,
    SMALL_HEAD,
    HeadReader,
    MalformedError,
    Meaning,
    RequestHead,
)
from tests.support.wire.heads import PLAIN, block_of, head_of, reader_of

Pair = tuple[bytes, bytes]


def read(block: bytes) -> RequestHead:
    return reader_of(PLAIN).read(block)


@pytest.mark.parametrize("version", [b"HTTP/2.0", b"HTTP/1.2", b"HTTP/0.9", b"HTTP/3"])
@pytest.mark.parametrize("line", [b"Host: h", b"Host : h", b"X: \x00", b"no colon"])
@pytest.mark.rule("R217")
def test_other_versions_have_their_own_reason(version: bytes, line: bytes) -> None:
    """Whatever stands behind the request line: it may have another form in another version."""
    with pytest.raises(MalformedError) as refused:
        read(b"GET / " + version + b"\r\n" + line + b"\r\n\r\n")
    assert refused.value.reason is Reasons.HTTP_VERSION


@pytest.mark.rule("R262", "R264")
def test_head_is_read_as_it_stands() -> None:
    """Lines byte for byte, order and repetition kept."""
    head = read(b"GET /a?b HTTP/1.1\r\nHost: h\r\nX-a:  1\t\r\nx-A: \xff\r\nEmpty:\r\nX-A:1\r\n\r\n")
    assert (head.method, head.target, head.http_11) == ("GET", b"/a?b", True)
    assert head.kept == [b"\nX-a:  1\t", b"\nx-A: \xff", b"\nEmpty:", b"\nX-A:1"]
    assert (head.hosts, head.host) == ((b"h",), b"h")


@pytest.mark.rule("R262")
def test_head_without_fields_says_nothing() -> None:
    head = read(b"M-SEARCH * HTTP/1.0\r\n\r\n")
    plain = RequestHead(
        b"M-SEARCH * HTTP/1.0",
        "M-SEARCH",
        b"*",
        False,
        [],
        (),
        (),
        (),
        (),
        (),
        frozenset(),
        None,
        False,
        None,
        weight=1,
    )
    assert head == plain
    assert (head.host, head.has_content, head.weight) == (b"", False, 1)


@pytest.mark.parametrize(
    "headers",
    [
        [(b"Content-Length", b"1"), (b"content-length", b"1")],
        [(b"Content-Length", b"1"), (b"Transfer-Encoding", b"chunked")],
        [(b"TRANSFER-ENCODING", b"chunked"), (b"cOnTeNt-lEnGtH", b"0")],
        [(b"Content-Length", b"+1")],
        [(b"Content-Length", b"0"), (b"Content-Length", b"0")],
        [(b"Transfer-Encoding", b"gzip, chunked")],
        [(b"Transfer-Encoding", b"chunked"), (b"transfer-encoding", b"chunked")],
        [(b"Content-Length", b"1" * 19)],
    ],
)
@pytest.mark.rule("R203", "R204", "R205", "R206")
def test_framing_with_two_readings_is_refused(headers: list[Pair]) -> None:
    with pytest.raises(MalformedError) as refused:
        head_of(*headers)
    assert refused.value.reason is Reasons.MALFORMED_HTTP


@pytest.mark.parametrize(
    ("headers", "length", "chunked", "announced"),
    [
        ((), None, False, False),
        (((b"Content-Length", b"0"),), 0, False, False),
        (((b"content-length", b"000"),), 0, False, False),
        (((b"Content-LENGTH", b"1"),), 1, False, True),
        (((b"Content-Length", b"9" * 18),), 999_999_999_999_999_999, False, True),
        (((b"Transfer-Encoding", b"chunked"),), None, True, True),
        (((b"TRANSFER-encoding", b"Chunked"),), None, True, True),
        (((b"Expect", b"100-continue"),), None, False, False),
        (((b"Content_Length", b"5"), (b"Transfer_Encoding", b"chunked")), None, False, False),
    ],
)
@pytest.mark.rule("R300", "R342")
def test_content_is_announced_by_length_or_coding_alone(
    headers: tuple[Pair, ...], length: int | None, chunked: bool, announced: bool
) -> None:
    """RFC 9112 section 6.3; a length of zero is no content, and other spellings say nothing."""
    head = head_of(*headers)
    assert (head.content_length, head.chunked, head.has_content) == (length, chunked, announced)
    assert head.kept == []


@pytest.mark.rule("R102", "R220")
def test_every_value_of_the_fields_that_matter_is_read_in_order_whatever_their_case() -> None:
    """Two of a kind must be seen as two."""
    read_ones = (b"expect", b"upgrade", b"sec-websocket-protocol", b"max-forwards", b"origin", b"via", b"x-api-key")
    names = (b"authorization", b"host", *read_ones)
    pairs: list[Pair] = [(b"X-Other", b"z")]
    for name in names:
        pairs += [(name.upper(), b"1"), (b"Y-" + name, b"0"), (name.title(), b"2")]
        pairs += [(name[:3] + name[3:].upper(), b"3")]
    head = head_of(*pairs)
    assert (head.authorization, head.hosts) == ((b"1", b"2", b"3"), (b"1", b"2", b"3"))
    for name in read_ones:
        assert head.values(name) == [b"1", b"2", b"3"]
    assert head.read == tuple((name, value) for name in read_ones for value in (b"1", b"2", b"3"))


@pytest.mark.rule("R102")
def test_fields_of_keys_are_read_with_their_names() -> None:
    """Of all routes; which of them counts is for the request's route to say."""
    pairs = [(b"X-Api-Key", b"1"), (b"other", b"2"), (b"PARTNER-KEY", b"3"), (b"x-api-key", b"4"), (b"X_Api_Key", b"5")]
    head = head_of(*pairs)
    assert head.read == ((b"x-api-key", b"1"), (b"partner-key", b"3"), (b"x-api-key", b"4"))
    assert head.kept == [b"\nX-Api-Key: 1", b"\nother: 2", b"\nPARTNER-KEY: 3", b"\nx-api-key: 4"]


@pytest.mark.rule("R251", "R315")
def test_options_of_all_connection_lines_count() -> None:
    head = head_of((b"Connection", b"Close, X-Foo"), (b"CONNECTION", b"x-bar,,keep-alive"), (b"Keep-Alive", b"y"))
    assert head.options == {b"close", b"x-foo", b"x-bar", b"keep-alive"}
    assert head_of((b"X-Connection", b"x")).options == frozenset()


@pytest.mark.rule("R334")
def test_many_connection_lines_are_read_in_one_go(monkeypatch: pytest.MonkeyPatch) -> None:
    """CWE-407: a set that grew with each of a thousand lines took 0.2 s for one head, of anybody."""
    taken = []

    def counting(value: bytes) -> frozenset[bytes]:
        taken.append(value)
        return options_of(value)

    monkeypatch.setattr("gateway.http1.request_head.options_of", counting)
    lines = [(b"Connection", b"x-%d" % number) for number in range(900)]
    assert head_of((b"Connection", b"close, y"), *lines).options == {b"close", b"y", *(value for _, value in lines)}
    assert len(taken) == 1


@pytest.mark.parametrize("value", [b"a", b"4bf92f3577b34da6", b"a-b_c.d~e+f/g=h:i@j", b"x" * 128])
@pytest.mark.rule("R390")
def test_sane_request_id_is_kept(value: bytes) -> None:
    assert head_of((b"x-REQUEST-id", value)).request_id == value


@pytest.mark.parametrize(
    "values",
    [
        *([], [b""], [b"x" * 129], [b"x" * 10_240], [b"a b"], [b"a%0d%0a"], [b'a"b'], [b"<a>"], [b"\xe9"], [b"a", b""]),
        *([b"a", b"a"], [b"a", b"b"], [b"", b"a"], [b"a", b"b", b"a"], [b"a,b"], [b"{a}"], [b"a\\"]),
    ],
)
@pytest.mark.rule("R390")
def test_other_request_ids_are_replaced(values: list[bytes]) -> None:
    """Too long, several, or nothing that may stand in a log line."""
    assert head_of(*((b"X-Request-Id", value) for value in values)).request_id is None


@pytest.mark.rule("R390", "R342")
def test_other_spelling_of_request_id_is_not_read() -> None:
    assert head_of((b"X_Request_Id", b"a")).request_id is None


@pytest.mark.rule("R429")
def test_long_heads_weigh_more() -> None:
    for size in (100, SMALL_HEAD - 1, SMALL_HEAD, 5 * SMALL_HEAD + 7):
        head = read(b"GET / HTTP/1.1\r\nX: " + b"a" * (size - 23) + b"\r\n\r\n")
        assert head.weight == 1 + size // SMALL_HEAD


@pytest.mark.rule("R191")
def test_names_of_clients_are_remembered_within_bounds_and_known_ones_for_good() -> None:
    """CWE-770: clients choose them, in number and in length."""
    asked: list[bytes] = []

    def meaning(name: bytes) -> Meaning:
        asked.append(name)
        return PLAIN.meaning(name)

    reader = HeadReader(meaning, PLAIN.usual)
    usual = len(asked)
    names = [b"X-%d" % number for number in range(3 * MAX_LEARNED)]
    for name in names:
        reader.read(block_of([(name, b"1")]))
    assert asked[usual:] == names
    asked.clear()
    for name in reversed(names):  # the last ones may still be known
        reader.read(block_of([(name, b"1")]))
    assert 0 < len(names) - len(asked) <= MAX_LEARNED
    asked.clear()
    for name in sorted(PLAIN.usual):
        block = block_of([(spelling, b"1") for spelling in (name, name.title(), name.upper())])
        if name == b"content-length" or name == b"transfer-encoding":
            with pytest.raises(MalformedError):
                reader.read(block)
        else:
            reader.read(block)
    assert asked == [], "what many requests have is never asked again"
    for _ in range(2):
        reader.read(block_of([(b"X-Twice", b"1"), (b"L" * (MAX_LEARNED_NAME + 1), b"1"), (b"L" * 64, b"1")]))
    assert asked == [b"X-Twice", b"L" * 65, b"L" * 64, b"L" * 65]


@pytest.mark.parametrize("name", [b"", b"X Y", b"\xe9", b"(x)", b"X,Y", b" X", b"X ", b"X\t", b"X/", b'"X"', b"X\xa0Y"])
@pytest.mark.rule("R200", "R201")
def test_what_is_no_name_is_refused_each_time(name: bytes) -> None:
    """Nothing bad is remembered as good, in whatever order heads come."""
    reader = HeadReader(PLAIN.meaning, PLAIN.usual)
    for _ in range(3):
        with pytest.raises(MalformedError):
            reader.read(block_of([(name, b"1")]))
        reader.read(block_of([(b"X", b"1")]))


@pytest.mark.parametrize("name", [b"Host", b"Cookie", b"X-User-Id", b"Content-Length", b"X-New", b"Authorization"])
@pytest.mark.rule("R200", "R201")
def test_line_without_a_colon_is_refused_whatever_its_name_is_known_for(name: bytes) -> None:
    """Known from the start, learned a moment ago, or new; dropped or kept."""
    reader = HeadReader(PLAIN.meaning, PLAIN.usual)
    bad = b"GET / HTTP/1.1\r\nHost: h\r\n" + name + b"\r\n\r\n"
    for _ in range(2):
        with pytest.raises(MalformedError):
            reader.read(bad)
    reader.read(block_of([(name, b"1")]))
    with pytest.raises(MalformedError):
        reader.read(bad)


LINES = (
    b"Host: api.test",
    b"Authorization: Bearer abc",
    b"X-Trace: 1",
    b"X-Request-Id: mine-1",
    b"Content-Length: 3",
    b"Via: 1.1 other",
    b"X-User-Id: eve",
    b"X-Odd:no-space",
    b"X-Empty: ",
)


def changed(line: bytes, number: int) -> bytes:
    """Return a head in which one line is another one."""
    return b"\r\n".join([b"POST / HTTP/1.1", *LINES[:number], line, *LINES[number + 1 :], b"", b""])


@pytest.mark.parametrize(
    "line",
    [b"X-Trace:2", b"X-Trace:  2", b"X-Trace: 2 ", b"X-Trace: ", b"X-Trace: a b\tc: \xff", b"x-trace: 2", b"X-Trac: 2"],
)
@pytest.mark.rule("R262", "R264", "R268")
def test_line_without_a_meaning_is_kept_as_it_is(line: bytes) -> None:
    """And everything else in the head is what it was."""
    usual, head = read(changed(LINES[2], 2)), read(changed(line, 2))
    assert head.kept == [b"\n" + line, *usual.kept[1:]]
    assert replace(head, kept=usual.kept, weight=usual.weight) == usual


@pytest.mark.parametrize(
    "line",
    [
        *(b"X-Trace: a\x01b", b"X-Trace: a\nb", b"X-Trace: a\rb", b"X-Trace: a\x00", b"X-Trace: a\x7f", b"X-Trace : 2"),
        *(b" X-Trace: 2", b"X-Trace", b": 2", b"X-Trace: a\nHost: b", b"X-Trace: a\r\n b", b"\tX-Trace: a"),
    ],
)
@pytest.mark.rule("R200", "R201", "R202", "R207")
def test_line_that_is_not_plainly_one_field_is_refused(line: bytes) -> None:
    """Behind a head that was read a moment ago, and differs in nothing else."""
    read(changed(LINES[2], 2))
    with pytest.raises(MalformedError) as refused:
        read(changed(line, 2))
    assert refused.value.reason is Reasons.MALFORMED_HTTP


@pytest.mark.parametrize(
    ("number", "line", "different"),
    [
        (0, b"Host: other.test", {"hosts": (b"other.test",)}),
        (1, b"Authorization: Bearer a b", {"authorization": (b"Bearer a b",)}),
        (1, b"authorization:Basic abc\t", {"authorization": (b"Basic abc",)}),
        (1, b"Authorization: ", {"authorization": (b"",)}),
        (3, b"X-Request-Id: mine 2", {"request_id": None}),
        (3, b"X-Request-Id: " + b"x" * 129, {"request_id": None}),
        (3, b"x-request-ID:mine-2", {"request_id": b"mine-2"}),
        (4, b"Content-Length: 0", {"content_length": 0}),
        (4, b"Content-Length: 03", {}),
        (4, b"Content-Length: 101", {"content_length": 101}),
        (4, b"transfer-encoding: chunked", {"content_length": None, "chunked": True}),
        (5, b"Via: 1.1 gw-1", {"read": ((b"via", b"1.1 gw-1"),)}),
        (6, b"X-User-Id: mallory", {}),
        (6, b"x_user_id: mallory", {}),
        (6, b"Connection: close, X-Trace", {"options": frozenset({b"close", b"x-trace"})}),
    ],
)
@pytest.mark.rule("R262", "R340", "R390")
def test_line_with_a_meaning_changes_what_it_means_and_nothing_else(
    number: int, line: bytes, different: dict[str, object]
) -> None:
    usual, head = read(changed(LINES[number], number)), read(changed(line, number))
    found = {
        name: value
        for name, value in asdict(head).items()
        if value != getattr(usual, name) and name not in ("size", "kept", "withheld")
    }
    assert found == different
    names = [kept.partition(b":")[0].lower() for kept in head.kept]
    assert names == [b"\nx-trace", b"\nvia", b"\nx-odd", b"\nx-empty"]


@pytest.mark.parametrize("line", [b"+3", b"3, 3", b"-3", b"0x3", b"1_0", b"", b"9" * 20, b"3 3", b"\xb2"])
@pytest.mark.rule("R203", "R204")
def test_length_that_is_not_one_plain_number_is_refused(line: bytes) -> None:
    with pytest.raises(MalformedError):
        read(changed(b"Content-Length: " + line, 4))
