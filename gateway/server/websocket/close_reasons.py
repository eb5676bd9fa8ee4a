"""Why the gateway itself ends a WebSocket, and what it then says to both sides.

Only the list lives here, with the causes that logs and metrics show.
"""

from __future__ import annotations

from typing import NamedTuple

from gateway.errors import Reason
from gateway.http1.websocket import GOING_AWAY, MESSAGE_TOO_BIG, POLICY_VIOLATION, PROTOCOL_ERROR, TRY_AGAIN_LATER


class Ending(NamedTuple):
    """Why the gateway itself ends a tunnel.

    Attributes:
        cause: for the log.
        code: of the close frames (RFC 6455 section 7.4.1).
        text: for people, in the close frames.
    """

    cause: str
    code: int
    text: bytes


DRAINED = Ending("drained", GOING_AWAY, b"the gateway is stopping")
TOO_LARGE = Ending("too_large", MESSAGE_TOO_BIG, b"message too large")
BAD_FRAME = Ending("bad_frame", PROTOCOL_ERROR, b"control frame too large")


def token_ending(reason: Reason) -> Ending:
    """Return the end of a tunnel whose token or API key is no longer good."""
    if reason is Reason.EXPIRED:
        return Ending("expired", POLICY_VIOLATION, b"token expired")
    if reason is Reason.EXPIRED_API_KEY:
        return Ending("expired", POLICY_VIOLATION, b"API key expired")
    if reason is Reason.UNKNOWN_API_KEY:
        return Ending("withdrawn", POLICY_VIOLATION, b"API key withdrawn")
    if reason is Reason.REVOKED:
        return Ending("revoked", POLICY_VIOLATION, b"token or API key revoked")
    if reason is Reason.STALE_KEYS:
        return Ending("stale_keys", TRY_AGAIN_LATER, b"token cannot be checked")
    if reason is Reason.INTROSPECTION_FAILED:
        return Ending("introspection_failed", TRY_AGAIN_LATER, b"token cannot be checked")
    return Ending("withdrawn", POLICY_VIOLATION, b"token withdrawn")
