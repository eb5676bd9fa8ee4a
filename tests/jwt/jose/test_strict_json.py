"""gateway/jwt/jose/strict_json.py: what is one JSON object, and nothing else is."""

from __future__ import annotations

import contextlib
import json
import math
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.jwt.jose.strict_json import MAX_DEPTH, StrictJsonError, parse_object

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def nested(depth: int, compact: bool = True) -> bytes:
    """Return an object whose innermost array is the ``depth``-th container."""
    space = b"" if compact else b" "
    return b'{"a":' + space + b"[" * (depth - 1) + b"]" * (depth - 1) + b"}"


@settings(deadline=None)
@given(st.dictionaries(st.text(), VALUES, max_size=5), st.booleans(), st.booleans())
@pytest.mark.rule("R070", "R351")
def test_every_object_is_read_as_the_standard_reader_reads_it(
    value: dict[str, Any], compact: bool, ascii_only: bool
) -> None:
    """Values arrive exactly, by the fast and by the thorough way."""
    data = json.dumps(value, separators=(",", ":") if compact else None, ensure_ascii=ascii_only).encode()
    parsed = parse_object(data)
    assert parsed == value
    assert json.dumps(parsed) == json.dumps(value)


@settings(deadline=None)
@given(st.binary(max_size=200))
@pytest.mark.rule("R094")
def test_arbitrary_bytes_give_an_object_or_the_one_error(data: bytes) -> None:
    """No other exception leaves the reader."""
    with contextlib.suppress(StrictJsonError):
        assert isinstance(parse_object(data), dict)


@settings(deadline=None)
@given(st.dictionaries(st.text(), VALUES, max_size=4), st.data())
@pytest.mark.rule("R094")
def test_damaged_objects_give_an_object_or_the_one_error(value: dict[str, Any], data: st.DataObject) -> None:
    """Neither do near misses."""
    text = bytearray(json.dumps(value).encode())
    text[data.draw(st.integers(0, len(text) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(StrictJsonError):
        assert isinstance(parse_object(bytes(text)), dict)


@pytest.mark.parametrize(
    "data",
    [
        b'{"a":1,"a":1}',
        b'{"a":1, "b":2, "a":3}',
        b'{"x":{"a":1,"a":2}}',
        b'{"x":[{"a":1,"a":2}]}',
        b'{"alg":1,"\\u0061lg":2}',
        b'{"":1,"":2}',
    ],
)
@pytest.mark.rule("R046", "R071")
def test_a_member_name_that_appears_twice_is_told_apart(data: bytes) -> None:
    """Also deep inside, and also when spelled by an escape."""
    with pytest.raises(StrictJsonError) as caught:
        parse_object(data)
    assert caught.value.duplicate


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"[]", id="array"),
        pytest.param(b'"x"', id="string"),
        pytest.param(b"1", id="number"),
        pytest.param(b"null", id="null"),
        pytest.param(b"{}x", id="something behind"),
        pytest.param(b"{} {}", id="two objects"),
        pytest.param(b"\xef\xbb\xbf{}", id="byte order mark"),
        pytest.param('{"a":"é"}'.encode("utf-16-le"), id="UTF-16LE"),
        pytest.param('{"a":"é"}'.encode("utf-16"), id="UTF-16 with mark"),
        pytest.param(b"{}".decode().encode("utf-32"), id="UTF-32"),
        pytest.param(b'{"a":"\xff"}', id="invalid UTF-8"),
        pytest.param(b'{"a":"\xc0\xaf"}', id="overlong UTF-8"),
        pytest.param(b'{"a":"\xed\xa0\x80"}', id="surrogate as UTF-8"),
        pytest.param(b'{"a":"\\ud800"}', id="half a surrogate pair"),
        pytest.param(b'{"a":["\\udfff"]}', id="the other half, in an array"),
        pytest.param(b'{"\\ud800":1}', id="half a pair as a name"),
        pytest.param(b'{ "a" : {"b\\ud834":1}}', id="half a pair as an inner name"),
        pytest.param(b'{"a":NaN}', id="NaN"),
        pytest.param(b'{"a":-Infinity}', id="Infinity"),
        pytest.param(b'{"a":1e999}', id="beyond the largest float"),
        pytest.param(b'{"a":-1e400 }', id="beyond the smallest float"),
        pytest.param(b'{"a":' + b"1" * 5000 + b"}", id="5000 digits"),
        pytest.param(b'{"a":01}', id="leading zero"),
        pytest.param(b"{'a':1}", id="single quotes"),
        pytest.param(b'{"a":1,}', id="trailing comma"),
        pytest.param(b'{"a":"\n"}', id="raw line break in a string"),
        pytest.param(b'{"a":1}\x00', id="NUL behind"),
    ],
)
@pytest.mark.rule("R047", "R053", "R054", "R070", "R072", "R073", "C12")
def test_everything_but_one_strict_object_is_refused(data: bytes) -> None:
    with pytest.raises(StrictJsonError) as caught:
        parse_object(data)
    assert not caught.value.duplicate


@pytest.mark.parametrize("compact", [True, False])
@pytest.mark.rule("R053", "R074")
def test_depth_is_bounded_whatever_the_spelling(compact: bool) -> None:
    """The bound is the same on the fast and the thorough way."""
    assert parse_object(nested(MAX_DEPTH, compact))
    with pytest.raises(StrictJsonError):
        parse_object(nested(MAX_DEPTH + 1, compact))


@pytest.mark.rule("R053")
def test_many_flat_containers_are_not_deep() -> None:
    """The bound is on nesting, not on number."""
    assert len(parse_object(json.dumps({"a": [[]] * 500}, separators=(",", ":")).encode())["a"]) == 500


@pytest.mark.parametrize(
    "data", [b"[" * 100_000, b'{"a":' * 5000, b'{"a":' * 5000 + b"1" + b"}" * 5000, b'[{"":' * 9000]
)
@pytest.mark.rule("R053", "R074")
def test_abysses_are_refused_at_once(data: bytes) -> None:
    """No RecursionError, no crash."""
    started = time.perf_counter()
    with pytest.raises(StrictJsonError):
        parse_object(data)
    assert time.perf_counter() - started < 1


@pytest.mark.rule("R351", "R079")
def test_numbers_are_exact_and_whole_pairs_are_characters() -> None:
    """Integers beyond 64 bits are not rounded."""
    parsed = parse_object(b'{"a":9007199254740993,"b":1' + b"0" * 400 + b',"c":"\\ud83d\\ude00","d":1.5,"e":-0}')
    assert parsed == {"a": 2**53 + 1, "b": 10**400, "c": "\U0001f600", "d": 1.5, "e": 0}
    assert type(parsed["b"]) is int
    assert math.isfinite(parsed["d"])
