"""What follows from a head for the request upstream: its framing, and how far it may go.

This file has pure functions of a head only.
"""

from __future__ import annotations

from gateway.errors import GatewayError, Reasons
from gateway.http1.fields import render_lines
from gateway.http1.request_head import RequestHead
from gateway.http1.websocket import UPGRADE_FIELDS

#: The highest Max-Forwards that is distinguished from higher ones, and its digits.
MAX_FORWARDS, MAX_FORWARDS_DIGITS = 999_999_999, 9

#: What asks an upstream for a WebSocket.
UPGRADE_LINES = render_lines(UPGRADE_FIELDS)


def framing(head: RequestHead) -> bytes:
    """Return the fields that frame the request's content upstream, made afresh, as lines (RFC 9112 section 6.3)."""
    if head.chunked:
        return b"Transfer-Encoding: chunked\r\n"
    if head.content_length is not None:
        return b"Content-Length: %d\r\n" % head.content_length
    return b""


def forwards_left(head: RequestHead) -> int | None:
    """Return how often an OPTIONS request may still be forwarded (RFC 9110 section 7.6.2); None for any number.

    Raises:
        GatewayError: ``MAX_FORWARDS``: that is not said by one number.
    """
    values = head.values(b"max-forwards")
    if not values:
        return None
    value = values[0]
    if len(values) > 1 or not value.isdigit():
        raise GatewayError(Reasons.MAX_FORWARDS)
    beyond = value[:-MAX_FORWARDS_DIGITS].strip(b"0")
    return MAX_FORWARDS if beyond else int(value[-MAX_FORWARDS_DIGITS:])
