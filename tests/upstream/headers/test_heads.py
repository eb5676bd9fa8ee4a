"""Whole heads as bytes, request ids, and loops."""

from __future__ import annotations

import pytest

from gateway.upstream.headers.rewrite import passed_before, render_head, request_id


@pytest.mark.rule("R262")
def test_head_is_written_as_it_stands() -> None:
    """Bytes in, the same bytes out."""
    head = render_head(b"GET /a?b HTTP/1.1", [(b"Host", b"h"), (b"X-E", b""), (b"x", b"\xe9\t\xff ~")])
    assert head == b"GET /a?b HTTP/1.1\r\nHost: h\r\nX-E: \r\nx: \xe9\t\xff ~\r\n\r\n"
    assert render_head(b"HTTP/1.1 200 OK", ()) == b"HTTP/1.1 200 OK\r\n\r\n"


@pytest.mark.parametrize("byte", [bytes([code]) for code in (*range(32), 127) if code != 9] + [b"\r\n", b"\n\r\n"])
@pytest.mark.rule("R271", "R346")
def test_head_with_a_control_character_is_refused(byte: bytes) -> None:
    """In a start line, a name or a value; nothing is written."""
    for line, headers in (
        (b"GET /a" + byte + b" HTTP/1.1", [(b"A", b"1")]),
        (b"GET / HTTP/1.1", [(b"A", b"1" + byte + b"B: 2"), (b"C", b"3")]),
        (b"GET / HTTP/1.1", [(b"A", byte)]),
        (b"GET / HTTP/1.1", [(b"A" + byte, b"1")]),
        (b"GET / HTTP/1.1" + byte, []),
    ):
        with pytest.raises(ValueError, match=r"control character|not a token"):
            render_head(line, headers)


@pytest.mark.parametrize("name", [b"", b"X Y", b"X:", b"X:Y", b"X\t", b"\xe9", b"X\xa0", b"(x)", b"X,Y", b"X\n"])
@pytest.mark.rule("R277")
def test_head_with_a_name_that_is_no_token_is_refused(name: bytes) -> None:
    """And is not remembered as a good one."""
    for _ in range(2):
        with pytest.raises(ValueError, match="not a token"):
            render_head(b"GET / HTTP/1.1", [(b"Host", b"h"), (name, b"1")])


@pytest.mark.rule("R273")
def test_head_takes_any_number_of_names() -> None:
    """The memory for good names is bounded; what it forgot is looked at again."""
    headers = [(b"X-%d" % number, b"1") for number in range(3000)]
    assert render_head(b"GET / HTTP/1.1", headers).count(b"\r\n") == 3002
    assert render_head(b"GET / HTTP/1.1", iter(headers)).count(b"\r\n") == 3002


@pytest.mark.parametrize("value", [b"a", b"4bf92f3577b34da6", b"a-b_c.d~e+f/g=h:i@j", b"x" * 128])
@pytest.mark.rule("R390")
def test_sane_request_id_is_kept(value: bytes) -> None:
    assert request_id([(b"x-REQUEST-id", value)], lambda: b"new") == value


@pytest.mark.parametrize(
    "values",
    [
        *([], [b""], [b"x" * 129], [b"x" * 10_240], [b"a b"], [b"a\r\nb"], [b"a%0d%0a"], [b'a"b'], [b"<a>"], [b"\xe9"]),
        *([b"a", b"a"], [b"a", b"b"], [b"a\n"], [b"a,b"], [b"{a}"], [b"a\\"], [b"a\x00"]),
    ],
)
@pytest.mark.rule("R390")
def test_other_request_ids_are_replaced(values: list[bytes]) -> None:
    """Too long, several, or nothing that may stand in a log line."""
    assert request_id([(b"X-Request-Id", value) for value in values], lambda: b"new") == b"new"


@pytest.mark.rule("R390", "R342")
def test_other_spelling_of_request_id_is_not_read() -> None:
    assert request_id([(b"X_Request_Id", b"a")], lambda: b"new") == b"new"


@pytest.mark.parametrize(
    ("values", "seen"),
    [
        ([b"1.1 gw"], True),
        ([b"1.1 GW"], True),
        ([b"1.0 front, 1.1 gw"], True),
        ([b"1.0 front", b"HTTP/2 gw (a comment)"], True),
        ([b"1.1\tgw"], True),
        ([], False),
        ([b""], False),
        ([b"gw"], False),
        ([b"1.1 gw2"], False),
        ([b"1.1 front (gw)"], False),
        ([b",,1.1,"], False),
    ],
)
@pytest.mark.rule("R255")
def test_own_name_in_via_is_a_loop(values: list[bytes], seen: bool) -> None:
    headers = [(b"X-Via", b"1.1 gw"), *((b"VIA", value) for value in values)]
    assert passed_before(headers, b"gw") is seen
