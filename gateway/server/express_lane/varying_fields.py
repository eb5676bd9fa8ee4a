"""Header sections that differ from one that was read, but only where it makes no difference.

Only the comparison of a section with the last one lives here, line by line,
and the change of an upstream's head where the client's section has changed.
Traced requests carry a field that is new each time. Such a line may differ:
of a field that the gateway sends on and does not read, and with a value that
needs no reading either. So may the token, the request's id and the length of
its content, which are told apart. The danger of this file is a line that means
something to the gateway: which do not is for ``headers/header_policy.py`` to say.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from enum import Enum
from typing import NamedTuple

from gateway.server.express_lane.section import Section, is_token, no_id
from gateway.upstream.headers.rewrite import request_id

#: A value as it may stand behind a colon and a space: visible at both ends, no control inside.
_VALUE = re.compile(rb"[!-~\x80-\xff](?:[\t -~\x80-\xff]*[!-~\x80-\xff])?").fullmatch
_LENGTH = re.compile(rb"[1-9][0-9]{0,8}").fullmatch


class Kind(Enum):
    """What may differ in a line."""

    VALUE = 1
    TOKEN = 2
    REQUEST_ID = 3
    LENGTH = 4


class Variation(NamedTuple):
    """What is different in a section, and what the section says now.

    Attributes:
        block: the section.
        token, request_id, length: its own; see ``Section``.
        lines: by the number of the line, what stands there now and is sent on.
    """

    block: bytes
    token: bytes
    request_id: bytes | None
    length: int
    lines: tuple[tuple[int, bytes], ...]


class Shape:
    """The lines of a section, and what in them may differ.

    Args:
        section: the section that was read.
        blind_to: says of a field's name whether its value means nothing to the gateway.
        most_content: longest content that the lane takes.
    """

    def __init__(self, section: Section, blind_to: Callable[[bytes], bool], most_content: int) -> None:
        self._section = section
        self._most_content = most_content
        self.lines: list[bytes] = (section.before + section.after).split(b"\r\n")
        self.kinds: dict[int, tuple[Kind, bytes]] = {}
        token_line = section.before.count(b"\r\n") if section.after else -1
        for number, line in enumerate(self.lines):
            name, _, value = line.partition(b": ")
            if number == token_line:
                self.kinds[number] = Kind.TOKEN, line
            elif b":" not in name and _VALUE(value) and (kind := self._kind(name.lower(), blind_to)):
                self.kinds[number] = kind, name + b": "

    def _kind(self, name: bytes, blind_to: Callable[[bytes], bool]) -> Kind | None:
        section = self._section
        if name == b"content-length":
            return Kind.LENGTH if section.length else None
        if name == b"x-request-id":
            return Kind.REQUEST_ID if section.request_id else None
        return Kind.VALUE if blind_to(name) else None

    def compare(self, block: bytes) -> Variation | None:
        """Return how a section differs from this one; None when it means something else, or may do so."""
        lines = block.split(b"\r\n")
        if len(lines) != len(self.lines):
            return None
        token, given, length = b"", self._section.request_id, self._section.length
        changed: list[tuple[int, bytes]] = []
        number = -1
        for line, before in zip(lines, self.lines, strict=True):
            number += 1
            if line == before:
                continue
            kind, start = self.kinds.get(number, (None, b""))
            if kind is None or not line.startswith(start):
                return None
            value = line[len(start) :]
            if kind is Kind.VALUE:
                if _VALUE(value) is None:
                    return None
                changed.append((number, line))
            elif kind is Kind.TOKEN:
                if not is_token(value):
                    return None
                token = value
            elif kind is Kind.REQUEST_ID:
                given = request_id(((b"x-request-id", value),), no_id)
                if not given:
                    return None
            else:
                if _LENGTH(value) is None or int(value) > self._most_content:
                    return None
                length = int(value)
                changed.append((number, b"Content-Length: " + value))
        if self._section.after and not token:
            return None
        return Variation(block, token, given, length, tuple(changed))


class Template:
    """A head for an upstream, in which lines of the client's section can be exchanged.

    Args:
        common: the head for the section that was read, up to the identity.
        shape: that section's.
        length: of that section's content.
    """

    def __init__(self, common: bytes, shape: Shape, length: int) -> None:
        self._lines = common.split(b"\r\n")
        self._places: dict[int, int] = {}
        for number, (kind, _) in shape.kinds.items():
            line = b"Content-Length: %d" % length if kind is Kind.LENGTH else shape.lines[number]
            # Only a line that was sent on, and can be told from all others.
            if kind in (Kind.VALUE, Kind.LENGTH) and self._lines.count(line) == 1:
                self._places[number] = self._lines.index(line)

    def head(self, changed: Sequence[tuple[int, bytes]]) -> bytes | None:
        """Return the head with these lines of the section in their places; None when one has no place."""
        lines = self._lines.copy()
        for number, line in changed:
            place = self._places.get(number)
            if place is None:
                return None
            lines[place] = line
        return b"\r\n".join(lines)
