"""What every head is made of: tokens, methods, field lines, lists of members, connection options.

This file has the grammar that requests and responses share (RFC 9110 section 5,
RFC 9112 section 5), as pure code over bytes. What a field means is for its
reader to say. The danger of this file is a second spelling of it elsewhere: two
readers of one grammar soon read two different messages.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

#: Name and value of each field line, in order, spelled as received, without outer white space.
RawHeaders = Sequence[tuple[bytes, bytes]]

#: A token, as a pattern (RFC 9110 section 5.6.2).
TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"

#: A request method, as a pattern. RFC 9110 section 9.1 lets any token be one; many services turn ``post`` into
#: ``POST`` behind rules that have seen another method.
METHOD = rb"[A-Z0-9_-]{1,32}"

#: A field line without its end, as a pattern (RFC 9112 section 5).
FIELD_LINE = TOKEN + rb":[\t -~\x80-\xff]*"

#: Tells whether bytes are one token.
is_token = re.compile(TOKEN).fullmatch

#: Tells whether bytes are field lines up to and with the empty line; may be given where they begin.
is_section = re.compile(rb"(?:" + FIELD_LINE + rb"\r\n)*+\r\n").fullmatch

_NO_OPTIONS: frozenset[bytes] = frozenset()


def parse_fields(block: bytes) -> tuple[tuple[bytes, bytes], ...]:
    """Split field lines that were checked; ``block`` is without the last line's end."""
    headers = []
    for line in block.split(b"\r\n"):
        name, _, value = line.partition(b":")
        headers.append((name, value.strip(b" \t")))
    return tuple(headers)


def values_of(headers: RawHeaders, name: bytes) -> list[bytes]:
    """Return every value of a field; ``name`` in lower case."""
    return [value for key, value in headers if key.lower() == name]


def has_field(headers: RawHeaders, name: bytes) -> bool:
    """Return whether there is such a field; ``name`` in lower case."""
    length = len(name)
    return any(len(key) == length and key.lower() == name for key, _ in headers)


def list_members(value: bytes) -> list[bytes]:
    """Return the members of a list field's value, empty ones ignored (RFC 9110 section 5.6.1)."""
    return [member for part in value.split(b",") if (member := part.strip(b" \t"))]


def connection_options(headers: RawHeaders) -> frozenset[bytes]:
    """Return the lower-case options of all Connection lines (RFC 9110 section 7.6.1)."""
    # All lines at once: sets that grow line by line cost the square of what a client writes (CWE-407).
    lines = [value for name, value in headers if len(name) == 10 and name.lower() == b"connection"]
    return options_of(b",".join(lines)) if lines else _NO_OPTIONS


def options_of(value: bytes) -> frozenset[bytes]:
    """Return the lower-case options of one Connection line, or of several that are joined by commas."""
    # Long values are rare: not worth remembering.
    return _few_options(value) if len(value) <= 64 else _few_options.__wrapped__(value)


@lru_cache(maxsize=256)
def _few_options(value: bytes) -> frozenset[bytes]:
    return frozenset(list_members(value.lower()))
