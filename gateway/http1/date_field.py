"""The Date of responses: the second in which they are sent, rendered once for all of that second.

This file has that one field (RFC 9110 section 6.6.1). It is asked for with each
response, and must never be kept with anything that is remembered of one.
"""

from __future__ import annotations

from collections.abc import Callable
from email.utils import formatdate


class DateField:
    """The field as of now.

    Args:
        wall: the time in seconds since the epoch.
    """

    __slots__ = ("_end", "_second", "_value", "_wall")

    def __init__(self, wall: Callable[[], float]) -> None:
        self._wall = wall
        self._second = -1
        self._value = self._end = b""

    @property
    def value(self) -> bytes:
        """The field's value, an IMF-fixdate (RFC 9110 section 5.6.7)."""
        second = int(self._wall())
        if second != self._second:
            self._render(second)
        return self._value

    @property
    def end(self) -> bytes:
        """The field's line and the empty line behind it: the end of a head that has no Date yet."""
        second = int(self._wall())
        if second != self._second:
            self._render(second)
        return self._end

    def _render(self, second: int) -> None:
        self._second = second
        self._value = formatdate(second, usegmt=True).encode("ascii")
        self._end = b"Date: %b\r\n\r\n" % self._value
