"""The certificate that a client presented, as its thumbprint: from the connection, or from a trusted proxy's header.

Reads one certificate in its several encodings; which proxies are trusted is
decided elsewhere. The danger of this file is a value with two readings: a value
that is not exactly one certificate counts as no certificate.
"""

from __future__ import annotations

import binascii
import re
from base64 import urlsafe_b64encode
from hashlib import sha256
from urllib.parse import unquote_to_bytes

#: The longest header value that is read, in bytes.
MAX_VALUE = 65536

# A structured-fields byte sequence (RFC 8941 section 3.3.5), which RFC 9440 section 2.2 makes of Client-Cert.
_BYTE_SEQUENCE = re.compile(rb":([A-Za-z0-9+/=]*):").fullmatch
_PEM = re.compile(rb"-----BEGIN CERTIFICATE-----([A-Za-z0-9+/=\s]*)-----END CERTIFICATE-----\s*").fullmatch
_BASE64 = re.compile(rb"[A-Za-z0-9+/]+={0,2}").fullmatch
# One pair of Envoy's x-forwarded-client-cert, and what ends it: ";" the next pair, "," the next certificate.
_PAIR = re.compile(rb'([A-Za-z]+)=("(?:[^"\\]|\\.)*"|[^",;]*)(;|,|\Z)', re.DOTALL)
_HEX_HASH = re.compile(rb"[0-9A-Fa-f]{64}").fullmatch


def thumbprint(certificate: bytes) -> str:
    """Return ``x5t#S256`` of a certificate in DER (RFC 8705 section 3.1)."""
    return _coded(sha256(certificate).digest())


def forwarded_thumbprint(value: bytes) -> str | None:
    """Return the thumbprint of the certificate in a proxy's field; None when it is not exactly one.

    Understood are a byte sequence (RFC 9440), PEM with percent-encoding (nginx,
    AWS), DER in plain base64 (Traefik, Caddy, HAProxy), and one element of
    Envoy's x-forwarded-client-cert, of which ``Cert`` counts, or else ``Hash``.
    """
    value = value.strip(b" \t")
    if not value or len(value) > MAX_VALUE:
        return None
    if value.startswith(b":"):
        sequence = _BYTE_SEQUENCE(value)
        return _of_base64(sequence[1]) if sequence else None
    if _PAIR.match(value) and not _BASE64(value):
        return _of_element(value)
    if value.startswith((b"-", b"%")):
        return _of_pem(value)
    return _of_base64(value)


def _of_element(value: bytes) -> str | None:
    pairs: dict[bytes, bytes] = {}
    position = 0
    while position < len(value):
        pair = _PAIR.match(value, position)
        if pair is None or pair[3] == b",":  # malformed, or the certificates of two hops
            return None
        name, text = pair[1].lower(), pair[2]
        if name in (b"cert", b"hash") and name in pairs:
            return None
        pairs[name] = text[1:-1] if text.startswith(b'"') else text
        position = pair.end()
    if b"cert" in pairs:
        return _of_pem(pairs[b"cert"])
    digest = _HEX_HASH(pairs.get(b"hash", b""))
    return _coded(bytes.fromhex(digest[0].decode("ascii"))) if digest else None


def _of_pem(text: bytes) -> str | None:
    found = _PEM(unquote_to_bytes(text))
    return _of_base64(b"".join(found[1].split())) if found else None


def _of_base64(text: bytes) -> str | None:
    if not text:
        return None
    try:
        return thumbprint(binascii.a2b_base64(text + b"=" * (-len(text) % 4), strict_mode=True))
    except binascii.Error:
        return None


def _coded(digest: bytes) -> str:
    return urlsafe_b64encode(digest).rstrip(b"=").decode("ascii")
