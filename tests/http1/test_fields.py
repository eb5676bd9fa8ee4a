"""The grammar that requests and responses share (RFC 9110 section 5, RFC 9112 section 5)."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.http1.fields import (
    connection_options,
    has_field,
    is_token,
    list_members,
    options_of,
    parse_fields,
    values_of,
)
from gateway.http1.request_head import MalformedError
from tests.support.calls import recorded_calls
from tests.support.wire.heads import PLAIN, reader_of

GATEWAY = Path(__file__).parents[2] / "gateway"

#: RFC 9110 section 5.6.2, spelled as there.
TOKEN_CHARACTERS = b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def test_token_is_made_of_the_standards_characters() -> None:
    assert bytes(code for code in range(256) if is_token(bytes([code]))) == bytes(sorted(TOKEN_CHARACTERS))
    assert not is_token(b"")
    assert not is_token(b"a b")


def test_characters_of_a_token_are_spelled_in_one_place() -> None:
    spelled = re.compile(r"!#\$%&'\*\+")
    found = [file.name for file in GATEWAY.rglob("*.py") if spelled.search(file.read_text(encoding="utf-8"))]
    assert found == ["fields.py"]


@pytest.mark.parametrize(
    ("block", "sound"),
    [
        (b"\r\n", True),
        (b"A:\r\n\r\n", True),
        (b"A: b\t\xff\r\nC:d\r\n\r\n", True),
        (b"A : b\r\n\r\n", False),
        (b"A: b\n\r\n", False),
        (b"A: b\r\n c\r\n\r\n", False),
        (b"A: \x00\r\n\r\n", False),
        (b": b\r\n\r\n", False),
    ],
)
@pytest.mark.rule("R200", "R201", "R202")
def test_section_is_field_lines_and_an_empty_line(block: bytes, sound: bool) -> None:
    with contextlib.nullcontext() if sound else pytest.raises(MalformedError):
        reader_of(PLAIN).read(b"GET / HTTP/1.1\r\n" + block)


def test_fields_are_split_as_they_stand() -> None:
    headers = parse_fields(b"A:  1\t\r\na:b:c\r\nEmpty:")
    assert headers == ((b"A", b"1"), (b"a", b"b:c"), (b"Empty", b""))
    assert values_of(headers, b"a") == [b"1", b"b:c"]
    assert has_field(headers, b"empty")
    assert not has_field(headers, b"date")


def test_members_of_a_list_are_those_that_are_not_empty() -> None:
    assert list_members(b" a ,, b\t,c d,\t") == [b"a", b"b", b"c d"]
    assert list_members(b"") == []


def test_options_of_all_connection_lines_count() -> None:
    headers = [(b"Connection", b"Close, X-Foo"), (b"CONNECTION", b"x-bar,,keep-alive"), (b"Keep-Alive", b"y")]
    assert connection_options(headers) == {b"close", b"x-foo", b"x-bar", b"keep-alive"}
    assert connection_options([(b"X-Connection", b"x")]) == frozenset()


@pytest.mark.rule("R334")
def test_many_connection_lines_are_read_in_one_go(monkeypatch: pytest.MonkeyPatch) -> None:
    """CWE-407: a set that grew with each of a thousand lines took 0.15 s for one head."""
    readings = recorded_calls(monkeypatch, "gateway.http1.fields.options_of")
    names = [b"x-%d" % number for number in range(900)]
    assert connection_options([(b"Connection", name) for name in names]) == set(names)
    assert len(readings) == 1


@given(members=st.lists(st.sampled_from([b"close", b"Keep-Alive", b"x", b"", b"a" * 70])))
def test_options_are_the_same_whether_they_are_remembered_or_not(members: list[bytes]) -> None:
    assert options_of(b", ".join(members)) == {member.lower() for member in members if member}
