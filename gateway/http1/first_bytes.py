"""What stands where a request should begin, and cannot become one.

Judges the first bytes of an unfinished head, as pure code. A request that is whole is read by ``request_head.py``;
what can still become one is waited for. Everything else is reported at once, by its kind and never by its bytes:
another protocol on this port waits for an answer that would not come.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from gateway.http1.fields import METHOD

#: How many bytes of a head are looked at. Other protocols show themselves in their first line.
MAX_LOOK_BYTES = 1024

#: The kinds that ``not_http`` returns.
KINDS = ("tls", "ssh", "redis", "proxy_protocol", "bare_lf", "other")


def _nested(parts: Iterator[str]) -> str:
    """Return a pattern for every beginning of the parts in a row."""
    part = next(parts, None)
    return "" if part is None else f"(?:{part}{_nested(parts)})?"


# Up to two empty lines (RFC 9112 section 2.2), then a method of the gateway's own grammar, a target, a version.
# A version that is not served is refused when the head is whole.
_LINE = ("[!-~]+", " ", *"HTTP/", "[0-9]", r"(?:\.(?:[0-9])?)?", "\r", "\n", ".*")
_BEGINNING = re.compile(
    rb"(?:\r\n){0,2}(?:\r|" + METHOD + rb"(?: " + _nested(iter(_LINE)).encode("ascii") + rb")?)?", re.DOTALL
).fullmatch
_BARE_LF = re.compile(rb"(?:^|[^\r])\n").search
_PROXY_V2 = b"\r\n\r\n\0\r\nQUIT\n"  # HAProxy's PROXY protocol, version 2


def not_http(data: bytes) -> str:
    """Say what the bytes are where a request should begin; empty while they can still become one.

    Args:
        data: from where the head begins, not whole yet.

    Returns:
        One of ``KINDS``, or the empty text.
    """
    data = data[:MAX_LOOK_BYTES]
    if _BEGINNING(data) is not None:
        return "bare_lf" if _BARE_LF(data) is not None else ""
    for kind, beginning in (("tls", b"\x16"), ("ssh", b"SSH-"), ("redis", b"*"), ("proxy_protocol", b"PROXY ")):
        if data.startswith(beginning):
            return kind
    if data.startswith(_PROXY_V2):
        return "proxy_protocol"
    return "bare_lf" if _bare_request(data) else "other"


# A request line, or an empty line, that ends with LF alone: RFC 9112 section 2.2 lets a server accept it; this one
# does not, because two servers in a row may see two requests.
_bare_request = re.compile(rb"(?:\r\n){0,2}(?:" + METHOD + rb" [!-~]+ HTTP/[0-9](?:\.[0-9])?)?\n", re.DOTALL).match
