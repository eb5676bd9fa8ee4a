"""What a token is bound to, read from its claims (RFC 7800).

Reads ``cnf``, for every kind of token. The danger of this file is the binding
that is not understood: a token whose proof the gateway cannot check must never
pass for a plain bearer token.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gateway.errors import GatewayError, Reasons
from gateway.identity import Confirmation
from gateway.jwt.jose.base64url import decode_segment

#: Where the thumbprints stand: RFC 9449 section 6.1, RFC 8705 section 3.1. Both are SHA-256.
JWK_THUMBPRINT, CERTIFICATE_THUMBPRINT = "jkt", "x5t#S256"

_THUMBPRINT_BYTES = 32


def read_confirmation(claims: Mapping[str, Any]) -> Confirmation | None:
    """Return what a token is bound to; None for a bearer token.

    Where both a key and a certificate are named, both must be proved. Other
    members of ``cnf`` are ignored beside one that is understood (RFC 7800 section 3.1).

    Args:
        claims: a token's, or those of an introspection's answer (RFC 9449 section 6.2, RFC 8705 section 3.2).

    Raises:
        GatewayError: ``SENDER_CONSTRAINED`` when it is bound to something that cannot be checked here.
    """
    confirmation = claims.get("cnf")
    if confirmation is None:
        return None
    if not isinstance(confirmation, Mapping):
        raise GatewayError(Reasons.SENDER_CONSTRAINED, detail="'cnf' is not an object")
    found = Confirmation(_thumbprint(confirmation, JWK_THUMBPRINT), _thumbprint(confirmation, CERTIFICATE_THUMBPRINT))
    if found == (None, None):
        raise GatewayError(Reasons.SENDER_CONSTRAINED, detail="'cnf' has neither 'jkt' nor 'x5t#S256'")
    return found


def _thumbprint(confirmation: Mapping[str, Any], name: str) -> str | None:
    if name not in confirmation:
        return None
    value = confirmation[name]
    if isinstance(value, str) and value.isascii():
        try:
            if len(decode_segment(value.encode("ascii"))) == _THUMBPRINT_BYTES:
                return value
        except GatewayError:
            pass  # reported below, as the same fault
    raise GatewayError(Reasons.SENDER_CONSTRAINED, detail=f"'{name}' is not a SHA-256 thumbprint")
