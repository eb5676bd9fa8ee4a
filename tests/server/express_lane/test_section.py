"""What is read of a header section, and what of it may be remembered."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.server.express_lane.section import MAX_FIELDS
from tests.support.gateways.sections import known, read, section_of

USUAL = (b"Host: api.test", b"Authorization: Bearer abc.DEF-123_~+/=", b"X-Request-Id: mine-1", b"Content-Length: 3")


def test_section_is_split_around_its_token() -> None:
    section, token = known(*USUAL)
    assert token == b"abc.DEF-123_~+/="
    assert section.before + token + section.after == section_of(*USUAL)
    assert (section.length, section.request_id, section.scheme) == (3, b"mine-1", b"Bearer ")
    assert section.facts.authorization == [b"Bearer " + token]


@pytest.mark.parametrize("place", [0, 1, 2, 3])
def test_token_is_found_wherever_its_line_stands(place: int) -> None:
    lines = [line for line in USUAL if not line.startswith(b"Authorization")]
    lines.insert(place, b"authorization: bearer abc")
    section, token = known(*lines)
    assert (token, section.scheme) == (b"abc", b"bearer ")
    assert section.token(section_of(*lines).replace(b"abc", b"other")) == b"other"


def test_other_token_is_put_into_facts_and_pairs_and_nothing_else_changes() -> None:
    section, _ = known(*USUAL)
    assert section.headers_with(b"new")[1] == (b"Authorization", b"Bearer new")
    assert [pair for pair in section.headers_with(b"new") if pair not in section.headers] == [
        (b"Authorization", b"Bearer new")
    ]
    assert section.facts_with(b"new") == section.facts._replace(authorization=[b"Bearer new"])
    assert section.facts.authorization == [b"Bearer abc.DEF-123_~+/="]


@pytest.mark.parametrize(
    "credential",
    [
        pytest.param(b"Authorization: Bearer a b", id="space"),
        pytest.param(b"Authorization: Bearer a, Bearer b", id="list"),
        pytest.param(b"Authorization: Bearer  a", id="two spaces"),
        pytest.param(b"Authorization: Bearer a ", id="space behind"),
        pytest.param(b"Authorization: Bearer\ta", id="tab"),
        pytest.param(b"Authorization:Bearer a", id="no space"),
        pytest.param(b"Authorization: Basic a", id="other scheme"),
        pytest.param(b"Authorization: Bearer ", id="nothing"),
        pytest.param(b"X-Authorization: Bearer a", id="other field"),
        pytest.param(b"Accept: */*", id="none"),
    ],
)
def test_credential_of_another_form_is_read_anew_each_time(credential: bytes) -> None:
    """Such a section matches no other by its token."""
    section, token = known(b"Host: a", credential)
    assert (token, section.after) == (None, b"")
    assert section.token(section_of(b"Host: a", credential)) is None


@pytest.mark.rule("R104")
def test_two_credentials_are_no_token() -> None:
    section, token = known(b"Host: a", b"Authorization: Bearer a", b"Authorization: Bearer b")
    assert (token, section.after) == (None, b"")


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(b"b\r\nX-Role: admin", id="a line more"),
        pytest.param(b"b, Bearer c", id="list"),
        pytest.param(b"b ", id="space behind"),
        pytest.param(b"b\x00", id="NUL"),
        pytest.param(b"b\xff", id="not ASCII"),
        pytest.param(b"", id="nothing"),
    ],
)
def test_what_is_more_than_a_token_is_not_taken_for_one(other: bytes) -> None:
    """Nothing rides in where the token was."""
    section, token = known(b"Host: a", b"Authorization: Bearer TOKEN", b"Accept: x")
    assert token == b"TOKEN"
    assert section.token(section_of(b"Host: a", b"Authorization: Bearer " + other, b"Accept: x")) is None


PARTS = st.sampled_from(
    [
        *(b"\r\n", b"\r", b"\n", b" ", b"\t", b",", b":", b"\x00", b"\xff", b"a", b"Bearer ", b"b.c-d"),
        *(b"Host: a\r\n", b"Authorization: Bearer ", b"Authorization: Bearer x\r\n", b"X-Request-Id: q\r\n"),
        *(b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n", b"Connection: close\r\n", b"\r\n\r\n"),
    ]
)


@given(
    first=st.permutations([b"Host: a", b"Authorization: Bearer TOKEN", b"X-Request-Id: q", b"Content-Length: 5"]),
    inside=st.lists(PARTS, max_size=6).map(b"".join) | st.binary(max_size=12),
    cut=st.tuples(st.integers(0, 90), st.integers(0, 6)),
    put=st.lists(PARTS, max_size=2).map(b"".join),
)
def test_block_with_a_token_is_what_reading_it_anew_would_have_given(
    first: list[bytes], inside: bytes, cut: tuple[int, int], put: bytes
) -> None:
    """A section stands for another only if that one has the same meaning but for the token."""
    section, _ = known(*first)
    whole = section_of(*first)
    place, gone = cut
    for block in (
        whole.replace(b"TOKEN", inside),
        whole[:place] + put + whole[place + gone :],
        whole.replace(b"TOKEN", b"x")[: place + 1] + put + whole[place + 1 :],
    ):
        token = section.token(block)
        if token is None:
            continue
        anew = read(block)
        assert anew is not None
        assert anew[1] == token
        assert anew[0].headers == section.headers_with(token)
        assert anew[0].facts == section.facts_with(token)
        assert (anew[0].length, anew[0].request_id) == (section.length, section.request_id)


@given(st.text(alphabet=[chr(number) for number in range(0x21, 0x7F) if number != 0x2C], min_size=1))
def test_every_token_of_the_alphabet_is_accepted(text: str) -> None:
    """The property above would hold for a section that accepts nothing."""
    token = text.encode()
    section, _ = known(b"Host: a", b"Authorization: Bearer TOKEN")
    assert section.token(section_of(b"Host: a", b"Authorization: Bearer " + token)) == token


@pytest.mark.parametrize(
    "lines",
    [
        pytest.param((), id="no Host"),
        pytest.param((b"Host: a", b"Host: a"), id="two Hosts"),
        pytest.param((b"Host: a", b"Transfer-Encoding: chunked"), id="chunked"),
        pytest.param((b"Host: a", b"Expect: 100-continue"), id="expectation"),
        pytest.param((b"Host: a", b"Upgrade: websocket"), id="upgrade"),
        pytest.param((b"Host: a", b"Connection: close, X-A"), id="close and nominated"),
        pytest.param((b"Host: a", b"Connection: keep-alive, X-A"), id="nominated"),
        pytest.param((b"Host: a", b"Content-Length: 1", b"Content-Length: 2"), id="two lengths"),
        pytest.param((b"Host: a", b"Content-Length: +1"), id="bad length"),
        pytest.param((b"Host: a", b"Bad Name: x"), id="bad name"),
        pytest.param((b"Host: a", b" folded: x"), id="folded"),
        pytest.param((b"Host: a", b"X: a\x00b"), id="NUL"),
        pytest.param((b"Host: a", b"X: a\nY: b"), id="bare line feed"),
        pytest.param((b"Host: a", *[b"X: y"] * MAX_FIELDS), id="many fields"),
    ],
)
def test_what_is_more_than_the_lane_takes_is_not_read(lines: tuple[bytes, ...]) -> None:
    """The full lane's parser is the one judge of odd requests."""
    assert read(section_of(*lines)) is None


@pytest.mark.parametrize(
    ("lines", "persistent"),
    [
        ((b"Host: a",), True),
        ((b"Host: a", b"Connection: Keep-Alive"), True),
        ((b"Host: a", b"Connection: Close"), False),
        ((b"Host: a", b"Connection: close", b"connection: keep-alive"), False),
        ((b"Host: a", b"connection: keep-alive", b"Connection: close"), False),
    ],
)
def test_section_says_whether_its_request_is_the_last(lines: tuple[bytes, ...], persistent: bool) -> None:
    """RFC 9112 section 9.3: "close" outdoes "keep-alive"."""
    section, _ = known(*lines)
    assert section.persistent is persistent
