"""Where a credential may stand: exactly one, a token in ``Authorization`` or one in a field that its kind has.

Finds the credential; it is pure and knows no kind. The danger of this file is a
second credential: whatever is overlooked here is read by the service behind the
gateway, which then acts for a caller that was not verified. So two credentials
are refused, wherever the second one stands, instead of choosing one (RFC 6750
section 2, RFC 9110 section 11.6.2).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from urllib.parse import unquote_to_bytes

from gateway.errors import GatewayError, Reason, Reasons
from gateway.http1.fields import TOKEN
from gateway.server.seam.credential import Shown

#: The schemes of tokens, compared without regard to case (RFC 9110 section 11.1): RFC 6750, RFC 9449.
_BEARER, _DPOP = b"bearer ", b"dpop "
_SCHEMES = frozenset({b"bearer", b"dpop"})

#: What a scheme may consist of: a token in HTTP's own sense (RFC 9110 section 5.6.2).
_SCHEME_NAME = re.compile(TOKEN)

#: A token as a later element of a list. Blanks only: the scan stays linear.
_LISTED_TOKEN = re.compile(rb",[ \t]*(?:bearer|dpop)(?:[ \t]|$)", re.IGNORECASE)

#: Upstreams split a query on "&"; some on ";" as well, so both count.
_PARAMETERS = re.compile(rb"[&;]")


def field_credential(
    field: bytes, values: Sequence[bytes], authorization: Sequence[bytes], query: bytes, malformed: Reason
) -> Shown:
    """Return the one credential of a request that shows it in a field of its own, and nothing else.

    Args:
        field: its name, in lower case.
        values: of all fields that may hold one on this route, as received; at least one.
        authorization: the values of all ``Authorization`` fields. Whatever they hold, beside it
            they are a second credential.
        query: as for ``bearer_token``.
        malformed: why an empty field is refused.

    Raises:
        GatewayError: ``SEVERAL_CREDENTIALS`` (400); for an empty field, ``malformed``.
    """
    if len(values) > 1 or authorization or (query and _has_token_parameter(query)):
        raise GatewayError(Reasons.SEVERAL_CREDENTIALS)
    value = values[0].strip(b" \t")
    if not value:
        raise GatewayError(malformed)
    return Shown(value, "", field)


def bearer_token(authorization: Sequence[bytes], query: bytes) -> Shown:
    """Return the one token of a request.

    What the token looks like is not judged here: a token of odd characters is
    for the verifier to refuse as an invalid token, not a malformed request.

    Args:
        authorization: the values of all ``Authorization`` fields, as received.
        query: the raw query, without its "?". A token in it is never used
            (RFC 6750 section 2.3 is off): alone it is no credential, beside a
            bearer header it is a second one.

    Raises:
        GatewayError: ``NO_CREDENTIAL`` and ``OTHER_SCHEME`` (401 without error
            code), ``SEVERAL_CREDENTIALS`` and ``MALFORMED_AUTHORIZATION`` (400).
    """
    if len(authorization) != 1:
        raise GatewayError(Reasons.SEVERAL_CREDENTIALS if authorization else Reasons.NO_CREDENTIAL)
    value = authorization[0].strip(b" \t")
    start = len(_BEARER)
    bound = value[:start].lower() != _BEARER
    if bound:
        start = len(_DPOP)
        if value[:start].lower() != _DPOP:
            raise GatewayError(_other_form(value))
    token = value[start:].lstrip(b" ")
    if b"," in token:
        raise GatewayError(Reasons.SEVERAL_CREDENTIALS)
    if b" " in token or b"\t" in token:
        raise GatewayError(Reasons.MALFORMED_AUTHORIZATION)
    if query and _has_token_parameter(query):
        raise GatewayError(Reasons.SEVERAL_CREDENTIALS)
    return Shown(token, "DPoP" if bound else "Bearer")


def sent_as_dpop(authorization: Sequence[bytes]) -> bool:
    """Whether a request names the scheme ``DPoP`` for its token.

    Args:
        authorization: the values of all ``Authorization`` fields.
    """
    return any(value.lstrip(b" \t")[: len(_DPOP)].lower() == _DPOP for value in authorization)


def _other_form(value: bytes) -> Reason:
    """Say what a field value is that does not begin with a token's scheme and a space."""
    if _LISTED_TOKEN.search(value):
        return Reasons.SEVERAL_CREDENTIALS
    scheme = _SCHEME_NAME.match(value)
    if scheme is None or scheme.group().lower() in _SCHEMES:
        # "Bearer" alone, "Bearer=x", TAB instead of a space, an empty field.
        return Reasons.MALFORMED_AUTHORIZATION
    return Reasons.OTHER_SCHEME


def _has_token_parameter(query: bytes) -> bool:
    """Return whether an upstream could read an ``access_token`` in the query, however its name is encoded."""
    if b"access" not in query and b"%" not in query:
        return False
    return any(
        unquote_to_bytes(parameter.partition(b"=")[0].replace(b"+", b" ")) == b"access_token"
        for parameter in _PARAMETERS.split(query)
    )
