"""What the gateway must know of the WebSocket protocol (RFC 6455), as pure code over bytes.

This file has the checks of the opening handshake, the bearer token that may
stand among the offered subprotocols, and where a frame begins and ends.
Payloads are never looked at: compression, masking, pings and close codes are
the business of the two ends. The danger of this file is the length of a frame:
counted wrong, the gateway's own close frame would land in the middle of a
message.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
from collections.abc import Sequence

from gateway.errors import GatewayError, Reasons
from gateway.http1.fields import RawHeaders, connection_options, list_members, values_of

#: What both heads of a handshake say between two neighbours (RFC 6455 sections 4.1 and 4.2.2), made anew.
UPGRADE_FIELDS = ((b"Upgrade", b"websocket"), (b"Connection", b"Upgrade"))

#: The only version that there is (RFC 6455 section 4.1).
WEBSOCKET_VERSION = b"13"

#: The subprotocol name that says that the next one offered is a bearer token.
TOKEN_PROTOCOL = b"bearer"

#: Status codes of close frames (RFC 6455 section 7.4.1).
GOING_AWAY, PROTOCOL_ERROR, MESSAGE_TOO_BIG = 1001, 1002, 1009

#: Most payload of a control frame (RFC 6455 section 5.5).
MAX_CONTROL = 125

#: Frames that are followed in one go; a peer can send many of no content.
MAX_FRAMES_PER_TURN = 1000

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_FINAL, _OPCODE, _MASKED, _LENGTH = 0x80, 0x0F, 0x80, 0x7F
_FIRST_CONTROL, _CLOSE = 0x8, 0x8


def asks_for_websocket(upgrade: Sequence[bytes]) -> bool:
    """Return whether one of a request's Upgrade fields names the WebSocket protocol (RFC 9110 section 7.8)."""
    return any(b"websocket" in list_members(value.lower()) for value in upgrade)


def check_request(method: str, http_11: bool, headers: RawHeaders) -> bytes:
    """Check a client's opening handshake (RFC 6455 section 4.2.1) and return its key.

    Raises:
        GatewayError: ``WEBSOCKET_HANDSHAKE`` (400), or ``WEBSOCKET_VERSION`` (426) for another version than 13.
    """
    if method != "GET" or not http_11:
        raise GatewayError(Reasons.WEBSOCKET_HANDSHAKE, detail="not a GET of HTTP/1.1")
    if b"upgrade" not in connection_options(headers):
        raise GatewayError(Reasons.WEBSOCKET_HANDSHAKE, detail="Connection does not list upgrade")
    if values_of(headers, b"sec-websocket-version") != [WEBSOCKET_VERSION]:
        raise GatewayError(Reasons.WEBSOCKET_VERSION)
    keys = values_of(headers, b"sec-websocket-key")
    if len(keys) != 1 or not _is_key(keys[0]):
        raise GatewayError(Reasons.WEBSOCKET_HANDSHAKE, detail="Sec-WebSocket-Key")
    return keys[0]


def check_response(headers: RawHeaders, key: bytes) -> None:
    """Check an upstream's 101 to the handshake with ``key`` (RFC 6455 section 4.1).

    What was negotiated is not looked at: that is the client's business.

    Raises:
        GatewayError: ``UPSTREAM_PROTOCOL``: it is not an answer to this handshake.
    """
    agreed = (
        asks_for_websocket(values_of(headers, b"upgrade"))
        and b"upgrade" in connection_options(headers)
        and values_of(headers, b"sec-websocket-accept") == [accept_value(key)]
    )
    if not agreed:
        raise GatewayError(Reasons.UPSTREAM_PROTOCOL, detail="websocket handshake")


def accept_value(key: bytes) -> bytes:
    """Return the Sec-WebSocket-Accept for a key (RFC 6455 section 4.2.2)."""
    return base64.b64encode(hashlib.sha1(key + _GUID, usedforsecurity=False).digest())


def offered_token(protocols: Sequence[bytes]) -> bytes | None:
    """Return the bearer token among the offered subprotocols: the one behind ``bearer``; None without one.

    Args:
        protocols: the values of all Sec-WebSocket-Protocol fields.

    Raises:
        GatewayError: ``bearer`` is the last one, or stands there twice.
    """
    tokens, _ = _split(protocols)
    if len(tokens) > 1:
        raise GatewayError(Reasons.SEVERAL_CREDENTIALS)
    if tokens and not tokens[0]:
        raise GatewayError(Reasons.MALFORMED_AUTHORIZATION)
    return tokens[0] if tokens else None


def token_protocol(protocols: Sequence[bytes]) -> bytes | None:
    """Return ``bearer`` as the client spells it, if it is among the offered subprotocols."""
    elements = [element for value in protocols for element in list_members(value)]
    return next((element for element in elements if element.lower() == TOKEN_PROTOCOL), None)


def without_token(headers: RawHeaders) -> RawHeaders:
    """Return a request's fields without the token among its subprotocols, and without the ``bearer`` before it."""
    tokens, others = _split(values_of(headers, b"sec-websocket-protocol"))
    if not tokens:
        return headers
    kept = [pair for pair in headers if pair[0].lower() != b"sec-websocket-protocol"]
    if others:
        kept.append((b"Sec-WebSocket-Protocol", b", ".join(others)))
    return kept


def _split(protocols: Sequence[bytes]) -> tuple[list[bytes], list[bytes]]:
    """Return what stands behind each ``bearer``, empty for nothing, and the other subprotocols."""
    tokens, others = [], []
    elements = iter([element for value in protocols for element in list_members(value)])
    for element in elements:
        if element.lower() == TOKEN_PROTOCOL:
            tokens.append(next(elements, b""))
        else:
            others.append(element)
    return tokens, others


def _is_key(value: bytes) -> bool:
    """Return whether a value is 16 bytes in base64."""
    try:
        return len(base64.b64decode(value, validate=True)) == 16
    except binascii.Error:
        return False


def close_frame(code: int, text: bytes, *, masked: bool) -> bytes:
    """Return a close frame (RFC 6455 section 5.5.1).

    Args:
        code: the status code.
        text: for people; at most 123 bytes of UTF-8.
        masked: it goes to a server (RFC 6455 section 5.3).
    """
    payload = code.to_bytes(2) + text
    if not masked:
        return bytes((_FINAL | _CLOSE, len(payload))) + payload
    mask = os.urandom(4)
    covered = bytes(byte ^ mask[place & 3] for place, byte in enumerate(payload))
    return bytes((_FINAL | _CLOSE, _MASKED | len(payload))) + mask + covered


class FrameTracker:
    """Follows the frames of one direction, by their headers alone.

    Args:
        max_message: most payload of a message, all its frames together, as it is on the wire; 0 for no limit.

    Attributes:
        left: bytes of the frame under way that have not come yet.
        closed: a whole close frame has passed.
        fault: the status code that the direction's end deserves, once a frame has come that may not pass; else 0.
        rest: bytes that were not followed, because it had followed ``MAX_FRAMES_PER_TURN``: feed them again.
    """

    __slots__ = ("_closing", "_held", "_limit", "_message", "closed", "fault", "left", "rest")

    def __init__(self, max_message: int) -> None:
        self._limit = max_message
        self._held = b""  # the beginning of a frame's header
        self._message = 0  # payload so far of the message under way
        self._closing = False  # the frame under way is a close frame
        self.left = 0
        self.closed = False
        self.fault = 0
        self.rest = b""

    def feed(self, data: bytes) -> bytes:
        """Follow the next bytes and return those that may pass.

        The beginning of a frame's header is held back until the header is
        whole, so that what has passed ends between two frames or in the
        payload of one (``left``). From a fault on nothing passes; frames are
        still followed, to see a close frame.
        """
        if self._held:
            data, self._held = self._held + data, b""
        faulty, position, end = self.fault, 0, len(data)
        passed, frames = 0, MAX_FRAMES_PER_TURN
        self.rest = b""
        while position < end:
            if not self.left:
                if not frames:
                    self.rest = data[position:]
                    break
                frames -= 1
                begun = self._begin(data, position)
                if not begun:
                    self._held = data[position:]
                    break
                position += begun
            step = min(self.left, end - position)
            position += step
            self.left -= step
            if not self.left and self._closing:
                self.closed = True
            if not self.fault:
                passed = position
        return b"" if faulty else data[:passed] if passed < len(data) else data

    def _begin(self, data: bytes, position: int) -> int:
        """Read a frame's header (RFC 6455 section 5.2) and return its length up to the mask; 0 if it is not whole."""
        if len(data) - position < 2:
            return 0
        first, second = data[position], data[position + 1]
        length, size = second & _LENGTH, 2
        if length > MAX_CONTROL:
            size = 4 if length == 126 else 10
            if len(data) - position < size:
                return 0
            length = int.from_bytes(data[position + 2 : position + size])
        self._judge(first, length)
        self._closing = first & _OPCODE == _CLOSE
        self.left = length + (4 if second & _MASKED else 0)
        return size

    def _judge(self, first: int, length: int) -> None:
        """Count a frame's payload and note what is wrong with it, unless something was wrong before."""
        if first & _OPCODE >= _FIRST_CONTROL:
            self.fault = self.fault or (PROTOCOL_ERROR if length > MAX_CONTROL else 0)
            return
        # Whatever the opcode: only a final frame ends a message, so that no sequence of frames evades the limit.
        self._message += length
        if self._limit and self._message > self._limit:
            self.fault = self.fault or MESSAGE_TOO_BIG
        if first & _FINAL:
            self._message = 0
