"""What a token is by its shape alone: whether it is a signed JWT, well formed or not.

Looks at the shape only; nothing is verified, and nothing that a token says is believed.
"""

from __future__ import annotations

import binascii

#: How many characters of a token's first segment tell whether it is a header.
_HEADER_PREVIEW_CHARS = 16

_TO_BASE64 = bytes.maketrans(b"-_", b"+/")


def is_jws(token: bytes) -> bool:
    """Return whether a token is a signed JWT, well formed or not (RFC 7515 section 7.1).

    Three segments, of which the first is base64url of something that begins
    as a JSON object does. A token that only its issuer can read may hold dots.
    """
    if token.count(b".") != 2:
        return False
    header, payload, signature = token.split(b".")
    if not (header and payload and signature):
        return False
    start = header[:_HEADER_PREVIEW_CHARS].translate(_TO_BASE64)
    try:
        decoded = binascii.a2b_base64(start + b"=" * (-len(start) % 4), strict_mode=True)
    except binascii.Error:
        return False
    return decoded.lstrip(b" \t\r\n")[:1] in (b"{", b"")
