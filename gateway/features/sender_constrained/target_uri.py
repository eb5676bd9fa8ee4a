"""The URI that a proof names, in one spelling (RFC 9449 section 4.3, RFC 3986 section 6.2).

Makes the normal form of an http(s) or ws(s) URI, without its query and fragment. Two URIs
are the same exactly when their normal forms are equal; a text without one equals no URI.
"""

from __future__ import annotations

import re
from ipaddress import AddressValueError, IPv6Address

_URI = re.compile(
    r"(https?|wss?)://(?:([A-Za-z0-9._~-]+)|\[([0-9A-Fa-f:.]+)\])(?::([0-9]{0,5}))?(/[!-~]*)?", re.IGNORECASE | re.ASCII
).fullmatch

_ESCAPE = re.compile(r"%(..?)?", re.DOTALL)
_HEX_PAIR = re.compile(r"[0-9A-Fa-f]{2}", re.ASCII).fullmatch
_UNRESERVED = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
_DEFAULT_PORTS = {"http": "80", "https": "443", "ws": "80", "wss": "443"}


def normal_uri(uri: str) -> str | None:
    """Return the normal form of a URI without query and fragment; None for what is no such URI.

    Scheme and host in lower case, no default port, escapes of unreserved
    characters undone and others in upper case, no dot segments, an empty path
    as ``/``. A URI with user information has no normal form.
    """
    parts = _URI(re.split("[?#]", uri, maxsplit=1)[0])
    if parts is None:
        return None
    scheme, name, v6, port, path = parts.groups()
    scheme = scheme.lower()
    try:
        host = name.lower() if v6 is None else f"[{IPv6Address(v6).compressed}]"
    except AddressValueError:
        return None
    port = "" if port is None else port.lstrip("0") or ("0" if port else "")
    authority = host if port in ("", _DEFAULT_PORTS[scheme]) else f"{host}:{port}"
    try:
        normal_path = _without_dots(_ESCAPE.sub(_normal_escape, path or "/"))
    except ValueError:
        return None
    return f"{scheme}://{authority}{normal_path}"


def _normal_escape(found: re.Match[str]) -> str:
    digits = found[1]
    if digits is None or _HEX_PAIR(digits) is None:
        raise ValueError("no percent-encoding")
    character = chr(int(digits, 16))
    return character if character in _UNRESERVED else f"%{digits.upper()}"


def _without_dots(path: str) -> str:
    """Resolve ``.`` and ``..`` (RFC 3986 section 5.2.4)."""
    kept: list[str] = []
    segments = path.split("/")[1:]
    for segment in segments:
        if segment == "..":
            del kept[-1:]
        elif segment != ".":
            kept.append(segment)
    if segments[-1] in (".", ".."):
        kept.append("")
    return "/" + "/".join(kept)
