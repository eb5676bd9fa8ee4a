"""The one reading of base64url, for tokens, proofs and thumbprints.

Decodes strictly. The danger of this file is a second spelling of the same
bytes: what is one value to a verifier would be two to caches, replay memories
and revocation lists.
"""

from __future__ import annotations

import binascii

from gateway.errors import GatewayError, Reasons

# Every byte that base64url does not use becomes one that base64 does not use.
_TO_BASE64 = bytes(
    byte if chr(byte).isalnum() and byte < 128 else {ord("-"): ord("+"), ord("_"): ord("/")}.get(byte, ord("!"))
    for byte in range(256)
)
# By length modulo 4: the padding, and the last characters whose unused bits are
# zero (RFC 4648 section 3.5). No text has the remainder 1.
_PADDING = (b"", b"", b"==", b"=")
_LAST = (b"", b"", b"AQgw", b"AEIMQUYcgkosw048")


def decode_segment(segment: bytes) -> bytes:
    """Decode base64url without padding, in its one canonical spelling (RFC 7515 section 2).

    Two spellings of one token would be two tokens to caches and revocation lists.

    Raises:
        GatewayError: ``BAD_ENCODING`` for every other spelling.
    """
    remainder = len(segment) % 4
    if remainder and segment[-1] not in _LAST[remainder]:
        raise GatewayError(Reasons.BAD_ENCODING)
    try:
        return binascii.a2b_base64(segment.translate(_TO_BASE64) + _PADDING[remainder], strict_mode=True)
    except binascii.Error:
        raise GatewayError(Reasons.BAD_ENCODING) from None
