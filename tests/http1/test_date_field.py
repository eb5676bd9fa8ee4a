"""The Date of responses."""

from __future__ import annotations

from email.utils import formatdate, parsedate_to_datetime

import pytest

from gateway.http1.date_field import DateField


class Watched:
    """A clock that a test moves, and how often a second was rendered for it."""

    def __init__(self) -> None:
        self.now = 784111777.0

    def wall(self) -> float:
        return self.now


@pytest.mark.rule("R413")
def test_the_field_is_that_of_the_second() -> None:
    """An IMF-fixdate (RFC 9110 section 5.6.7), as a value and as the end of a head."""
    clock = Watched()
    date = DateField(clock.wall)
    assert date.value == b"Sun, 06 Nov 1994 08:49:37 GMT"
    assert date.end == b"Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n\r\n"
    clock.now += 0.999
    assert date.value == b"Sun, 06 Nov 1994 08:49:37 GMT"
    clock.now += 0.001
    assert date.end == b"Date: Sun, 06 Nov 1994 08:49:38 GMT\r\n\r\n"


def test_a_second_is_rendered_once() -> None:
    clock = Watched()
    date = DateField(clock.wall)
    first = date.value
    clock.now += 0.5
    assert date.value is first
    clock.now -= 100  # a clock that was set back
    assert date.value == formatdate(clock.now, usegmt=True).encode()
    assert parsedate_to_datetime(date.value.decode()).timestamp() == int(clock.now)
