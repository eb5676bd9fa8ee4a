"""A header section of the express lane: what it says, read once.

Only the reading of a section lives here. A section that is byte for byte the
one just read means the same; so does one in which nothing but the bearer token
differs.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from gateway.http1.fields import is_section, parse_fields
from gateway.http1.request_head import MalformedError, request_framing
from gateway.server.pipeline.judge_steps import Pipeline
from gateway.server.request.facts import Facts
from gateway.server.request.request import RequestHead
from gateway.upstream.headers.rewrite import request_id

#: Fields of a section that the express lane takes.
MAX_FIELDS = 200

_BEARER = re.compile(rb"\r\n([Aa]uthorization: [Bb]earer )([!-+\--~]+)\r\n").search

# What the one token of a bearer credential is made of: no white space, no comma, no control. Not a pattern: every new
# token is looked at, and to take these bytes away is four times faster.
_TOKEN = bytes(code for code in range(0x21, 0x7F) if code != 0x2C)

# Fields that make a request more than the express lane takes.
_UNUSUAL = frozenset({b"transfer-encoding", b"expect", b"upgrade"})


class Section(NamedTuple):
    """A header section that was read.

    Attributes:
        before, after: its bytes around the bearer token; ``after`` is empty without one.
        scheme: what stands before the token in the Authorization value.
        headers: its pairs; the Authorization value in them is the token of the moment.
        facts: what it says to the gateway itself; the same holds for its ``authorization``.
        length: of the request's content.
        persistent: the client keeps its connection open (RFC 9112 section 9.3).
        request_id: the client's, if it gave a sane one.
    """

    before: bytes
    after: bytes
    scheme: bytes
    headers: tuple[tuple[bytes, bytes], ...]
    facts: Facts
    length: int
    persistent: bool
    request_id: bytes | None

    def headers_with(self, token: bytes) -> tuple[tuple[bytes, bytes], ...]:
        """Return the pairs with another token in them."""
        value = self.scheme + token
        return tuple((name, value if name.lower() == b"authorization" else old) for name, old in self.headers)

    def facts_with(self, token: bytes) -> Facts:
        """Return the facts with another token in them."""
        return self.facts._replace(authorization=[self.scheme + token])

    def token(self, block: bytes) -> bytes | None:
        """Return the bearer token of ``block`` if nothing else in it differs from this section; else None."""
        start, stop = len(self.before), len(block) - len(self.after)
        if not self.after or start >= stop or block[:start] != self.before or block[stop:] != self.after:
            return None
        token = block[start:stop]
        return token if is_token(token) else None


def read_section(block: bytes, pipeline: Pipeline, head: RequestHead) -> tuple[Section, bytes | None] | None:
    """Read a header section, from behind the request line to the empty line.

    Args:
        block: the section.
        pipeline: judges what it says to the gateway.
        head: everything of the request's head but its header pairs.

    Returns:
        The section and its bearer token, if its form can be remembered; None
        for a section that is malformed or more than the express lane takes.
    """
    if is_section(block) is None:
        return None
    headers = parse_fields(block[:-4]) if len(block) > 2 else ()
    if len(headers) > MAX_FIELDS:
        return None
    persistent = True
    for name, value in headers:
        name = name.lower()
        if name == b"connection":
            option = value.lower()
            if option == b"close":
                persistent = False
            elif option != b"keep-alive":
                return None
        elif name in _UNUSUAL:
            return None
    try:
        length, _ = request_framing(headers, http_11=True)
    except MalformedError:
        return None
    facts = pipeline.read(head._replace(headers=headers))
    if len(facts.host) != 1:
        return None
    given = request_id(headers, no_id) or None
    before, token, after, scheme = block, None, b"", b""
    # Behind a line end that is put in front, so that the first line counts too.
    if len(facts.authorization) == 1 and (found := _BEARER(b"\r\n" + block)):
        before, token, after = block[: found.start(2) - 2], found[2], block[found.end(2) - 2 :]
        scheme = found[1][-len(b"Bearer ") :]
    return Section(before, after, scheme, headers, facts, length, persistent, given), token


def is_token(text: bytes) -> bool:
    """Return whether bytes may be the one token of a bearer credential."""
    return bool(text) and not text.translate(None, _TOKEN)


def no_id() -> bytes:
    """Stand for the id of a request whose client gave none."""
    return b""
