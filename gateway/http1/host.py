"""The host that a request is for, in one canonical spelling.

This file has the grammar and the canonical form of ``host[:port]`` (RFC 9110
section 7.2, RFC 9112 section 3.2). The result chooses a route; it never chooses
where a request is sent.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from ipaddress import AddressValueError, IPv6Address

from gateway.errors import GatewayError, Reasons

# DNS names and IPv4 addresses, or an IPv6 address in brackets, and a port. Stricter than
# RFC 3986's reg-name, which admits percent-encoding and sub-delims that no host has.
_HOST_AND_PORT = re.compile(
    rb"(?:([A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*)\.?|\[([0-9A-Fa-f:.]+)\])(?::([0-9]{0,5}))?"
).fullmatch

#: Longest name (RFC 1035 section 2.3.4) with a port, in bytes.
_MAX_BYTES = 261


@lru_cache(maxsize=1024)  # the names of a site are few, and a refusal is not remembered
def canonical_host(value: bytes) -> str:
    """Return the host of ``host[:port]``: lower case, no port, no final dot, IPv6 in brackets.

    Raises:
        GatewayError: ``BAD_HOST`` when ``value`` is not a host with an optional port.
    """
    parts = _HOST_AND_PORT(value) if len(value) <= _MAX_BYTES else None
    if parts is None:
        raise GatewayError(Reasons.BAD_HOST)
    name, v6, port = parts.groups()
    if port and int(port) > 65535:
        raise GatewayError(Reasons.BAD_HOST)
    if v6 is None:
        return str(name, "ascii").lower()
    try:
        return f"[{IPv6Address(v6.decode('ascii')).compressed}]"
    except AddressValueError:
        raise GatewayError(Reasons.BAD_HOST) from None


def parse_host(values: Sequence[bytes], authority: bytes | None, http_11: bool) -> str:
    """Return the canonical host that a request is for; empty for HTTP/1.0 without Host.

    Args:
        values: the values of all Host fields as received.
        authority: of a target in absolute form. It wins over the Host field,
            which must be there and well-formed all the same (RFC 9112 section 3.2.2).
        http_11: the request is HTTP/1.1, which requires a Host field.

    Raises:
        GatewayError: ``BAD_HOST`` for no Host field in HTTP/1.1, for several, and
            for a value that is not a host.
    """
    host = ""
    if len(values) == 1:
        host = canonical_host(values[0])
    elif values or http_11:
        raise GatewayError(Reasons.BAD_HOST)
    return host if authority is None else canonical_host(authority)
