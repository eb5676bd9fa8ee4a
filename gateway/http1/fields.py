"""What every head is made of: tokens, methods, field lines, lists of members, connection options.

This file has the grammar that requests and responses share (RFC 9110 section 5,
RFC 9112 section 5), as pure code over bytes. What a field means is for its
reader to say. The danger of this file is a second spelling of it elsewhere: two
readers of one grammar soon read two different messages.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
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

#: What may stand in a line, apart from its end (RFC 9110 section 5.5; obs-text included).
VISIBLE = bytes((0x09, *range(0x20, 0x7F), *range(0x80, 0x100)))

#: Fields between two neighbours (RFC 9110 section 7.6.1), and those that went with older ones.
HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"http2-settings",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authentication-info",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)

# Controls that no part of a head may hold, apart from its line ends (RFC 9110 section 5.5).
_CONTROLS = bytes(code for code in (*range(0x20), 0x7F) if code != ord("\t"))

# Names seen that are tokens, and how long they may be; emptied when full.
_token_names: set[bytes] = set()
_MAX_NAMES, _MAX_NAME = 1024, 64

_NO_OPTIONS: frozenset[bytes] = frozenset()


def parse_fields(block: bytes) -> tuple[tuple[bytes, bytes], ...]:
    """Split field lines that were checked; ``block`` is without the last line's end."""
    headers = []
    for line in block.split(b"\r\n"):
        name, _, value = line.partition(b":")
        headers.append((name, value.strip(b" \t")))
    return tuple(headers)


def has_control(text: bytes) -> bool:
    """Return whether a control stands in bytes that are to be a part of a head."""
    return len(text.translate(None, _CONTROLS)) != len(text)


def render_lines(pairs: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Return the bytes of fields, each with the end of its line.

    Raises:
        ValueError: when anything would not arrive as the field that it is: a name that
            is no token, or a control character anywhere (RFC 9110 section 5.5).
    """
    pairs = pairs if isinstance(pairs, list) else list(pairs)
    if not _token_names.issuperset([name for name, _ in pairs]):
        _check_names(pairs)
    lines = b"\r\n".join([*map(b": ".join, pairs), b""])
    # One CR and one LF for each line: whatever is more came with a name or a value.
    if len(lines) - len(lines.translate(None, _CONTROLS)) != 2 * len(pairs):
        raise ValueError("a control character in a header")
    return lines


def _check_names(pairs: Iterable[tuple[bytes, bytes]]) -> None:
    for name, _ in pairs:
        if is_token(name) is None:
            raise ValueError("a header name is not a token")
        if len(name) <= _MAX_NAME:
            if len(_token_names) >= _MAX_NAMES:
                _token_names.clear()
            _token_names.add(name)


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
    lines = [value for name, value in headers if len(name) == 10 and name.lower() == b"connection"]
    return options_of(b",".join(lines)) if lines else _NO_OPTIONS


def options_of(value: bytes) -> frozenset[bytes]:
    """Return the lower-case options of one Connection line, or of several that are joined by commas."""
    # Long values are rare: not worth remembering.
    return _few_options(value) if len(value) <= 64 else _few_options.__wrapped__(value)


@lru_cache(maxsize=256)
def _few_options(value: bytes) -> frozenset[bytes]:
    return frozenset(list_members(value.lower()))
