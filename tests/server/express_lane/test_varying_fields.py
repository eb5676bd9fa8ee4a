"""Which lines of a header section may differ, and what becomes of an upstream's head where they do."""

from __future__ import annotations

import pytest

from gateway.server.express_lane.varying_fields import Kind, Shape, Template, Variation
from tests.support.gateways.sections import PIPELINE, known, section_of

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


def shape_of(*lines: bytes, most_content: int = 100) -> Shape:
    section, _ = known(*lines)
    return Shape(section, PIPELINE.header_policy.blind_to, most_content)


def compared(*lines: bytes, shape: Shape | None = None) -> Variation | None:
    return (shape or shape_of(*LINES)).compare(section_of(*lines))


def changed(number: int, line: bytes) -> tuple[bytes, ...]:
    return (*LINES[:number], line, *LINES[number + 1 :])


def test_only_lines_without_a_meaning_may_differ() -> None:
    assert {number: kind for number, (kind, _) in shape_of(*LINES).kinds.items()} == {
        1: Kind.TOKEN,
        2: Kind.VALUE,
        3: Kind.REQUEST_ID,
        4: Kind.LENGTH,
    }


def test_same_section_with_another_token_varies_in_nothing_else() -> None:
    varied = compared(*changed(1, b"Authorization: Bearer other"))
    assert varied is not None
    assert (varied.token, varied.request_id, varied.length, varied.lines) == (b"other", b"mine-1", 3, ())


def test_what_differs_is_told_by_its_kind() -> None:
    lines = (*LINES[:2], b"X-Trace: a b\tc: \xff", b"X-Request-Id: mine-2", b"Content-Length: 42", *LINES[5:])
    varied = compared(*lines)
    assert varied == Variation(
        section_of(*lines),
        b"abc",
        b"mine-2",
        42,
        ((2, b"X-Trace: a b\tc: \xff"), (4, b"Content-Length: 42")),
    )


@pytest.mark.parametrize(
    "line",
    [
        b"X-Trace:2",
        b"X-Trace:  2",
        b"X-Trace: 2 ",
        b"X-Trace: ",
        b"X-Trace: a\x01b",
        b"X-Trace: a\nb",
        b"X-Trace: a\rb",
        b"X-Trace: a\x00",
        b"X-Trace: a\x7f",
        b"x-trace: 2",
        b"X-Trac: 2",
        b"X-Traces: 2",
        b"X-Trace : 2",
        b" X-Trace: 2",
        b"",
    ],
)
@pytest.mark.rule("R207", "R208")
def test_value_of_another_form_is_read_anew(line: bytes) -> None:
    """Whatever is not plainly one field with one visible value."""
    assert compared(*changed(2, line)) is None


@pytest.mark.parametrize(
    ("number", "line"),
    [
        (0, b"Host: other.test"),
        (1, b"Authorization: Bearer a b"),
        (1, b"Authorization: Bearer a,b"),
        (1, b"Authorization: Bearer "),
        (1, b"authorization: Bearer abc"),
        (1, b"Authorization: Basic abc"),
        (3, b"X-Request-Id: mine 2"),
        (3, b"X-Request-Id: " + b"x" * 129),
        (4, b"Content-Length: 0"),
        (4, b"Content-Length: 03"),
        (4, b"Content-Length: +3"),
        (4, b"Content-Length: 3, 3"),
        (4, b"Content-Length: 101"),
        (4, b"Content-Length: 99999999999999999999"),
        (5, b"Via: 1.1 gw-1"),
        (6, b"X-User-Id: mallory"),
        (7, b"X-Odd:other"),
        (8, b"X-Empty: full"),
    ],
)
def test_line_with_a_meaning_is_read_anew(number: int, line: bytes) -> None:
    assert compared(*changed(number, line)) is None


def test_line_too_many_or_too_few_is_read_anew() -> None:
    assert compared(*LINES, b"X-More: 1") is None
    assert compared(*LINES[:-1]) is None
    assert shape_of(*LINES).compare(section_of(*LINES)[:-2]) is None


def test_without_a_token_nothing_is_taken_for_one() -> None:
    shape = shape_of(b"Host: api.test", b"X-Trace: 1")
    varied = compared(b"Host: api.test", b"X-Trace: 2", shape=shape)
    assert varied is not None
    assert (varied.token, varied.length, varied.request_id) == (b"", 0, None)
    assert compared(b"Host: api.test", b"Authorization: Bearer abc", shape=shape) is None


def test_length_and_id_that_were_not_there_stay_away() -> None:
    """A section without content cannot get some by a change of its one line."""
    shape = shape_of(b"Host: api.test", b"Content-Length: 0", b"X-Request-Id: odd one")
    assert shape.kinds == {}


def test_token_line_without_a_token_is_another_section() -> None:
    assert compared(*changed(1, b"Authorization: Bearer")) is None


COMMON = b"GET / HTTP/1.1\r\nHost: up\r\nX-Trace: 1\r\nContent-Length: 3\r\nVia: 1.1 gw-1\r\n"


def test_changed_lines_stand_where_the_old_ones_stood() -> None:
    template = Template(COMMON, shape_of(*LINES), 3)
    assert template.head(()) == COMMON
    assert template.head(((2, b"X-Trace: 2"), (4, b"Content-Length: 42"))) == (
        COMMON.replace(b"X-Trace: 1", b"X-Trace: 2").replace(b": 3", b": 42")
    )
    assert template.head(((2, b"X-Trace: 3"),)) == COMMON.replace(b"Trace: 1", b"Trace: 3")


@pytest.mark.parametrize(
    "common",
    [
        pytest.param(COMMON.replace(b"X-Trace: 1\r\n", b""), id="not sent on"),
        pytest.param(COMMON.replace(b"X-Trace: 1\r\n", b"X-Trace: 1\r\nX-Trace: 1\r\n"), id="there twice"),
    ],
)
def test_line_without_one_place_has_no_head(common: bytes) -> None:
    assert Template(common, shape_of(*LINES), 3).head(((2, b"X-Trace: 2"),)) is None
