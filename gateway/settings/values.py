"""Checks of one value, used by the declarations of options.

Each function takes the text as configured and returns the one form that the
rest of the gateway sees, or raises ``ValueError`` with a sentence for the
person who wrote the configuration. Nothing here looks at a second option
(``settings/checks`` does), at the network or at a file. No message repeats a value
that may hold a password.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Any
from urllib.parse import SplitResult, urlsplit

from pydantic import AwareDatetime, TypeAdapter

from gateway.http1.fields import METHOD, TOKEN
from gateway.http1.trusted_proxies import plain_network
from gateway.identity import OWN_NAMES

_METHOD = re.compile(METHOD.decode("ascii"))
_TOKEN = re.compile(TOKEN.decode("ascii"))
_SCOPE = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+")  # RFC 6749 section 3.3
_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_DNS_NAME = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_PORT = re.compile(r"[0-9]{1,5}")
_ORIGIN = re.compile(r"([a-z][a-z0-9+.-]*)://([^/?#@:]+|\[[0-9a-f:.]+\])(?::([0-9]{1,5}))?")
_SOCKET_LENGTH = 107  # what fits into sockaddr_un on Linux

#: Fields that an upstream or a hop reads for framing, routing or credentials, or that the gateway writes itself.
#: One of these as an identity header would corrupt requests (rather than name a caller).
# fmt: off
_RESERVED_HEADERS = frozenset({
    "accept", "accept-encoding", "authorization", "cache-control", "connection", "content-encoding", "content-length",
    "content-range", "content-type", "cookie", "date", "dpop", "expect", "forwarded", "from", "host", "http2-settings",
    "if-match", "if-modified-since", "if-none-match", "if-range", "if-unmodified-since", "keep-alive", "max-forwards",
    "origin", "proxy-authenticate", "proxy-authentication-info", "proxy-authorization", "proxy-connection", "range",
    "referer", "set-cookie", "te", "trailer", "transfer-encoding", "upgrade", "user-agent", "via", "www-authenticate",
    "x-forwarded-by", "x-forwarded-for", "x-forwarded-host", "x-forwarded-port", "x-forwarded-prefix",
    "x-forwarded-proto", "x-request-id",
})

#: Fields that the gateway makes or removes itself, or cannot work without: to strip them means something else than it
#: says.
_NEVER_STRIPPED = frozenset({
    "authorization", "connection", "content-length", "dpop", "host", "transfer-encoding", "upgrade", "via",
    "x-request-id",
})
# fmt: on


#: Fields with a meaning of their own that an identity header may have and a credential may not: who reads, changes or
#: removes them on the way does not know that they hold a secret. Those of ``_RESERVED_HEADERS`` come on top.
# fmt: off
_OTHER_MEANINGS = frozenset({
    "allow", "cf-connecting-ip", "cf-connecting-ipv6", "client-cert", "client-cert-chain", "early-data",
    "fastly-client-ip", "front-end-https", "priority", "proxy", "save-data", "traceparent", "tracestate",
    "true-client-ip", "x-client-ip", "x-cluster-client-ip", "x-http-method", "x-http-method-override",
    "x-method-override", "x-real-ip", "x-rewrite-url", "x-url-scheme",
})
# fmt: on
_OTHER_FAMILIES = (
    *("accept-", "access-control-", "content-", "if-", "proxy-", "ssl-client"),
    *("x-client-cert", "x-forwarded", "x-original-", "x-ssl-client"),
)

# RFC 3339 section 5.6, with the space that its note allows.
_MOMENT = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)", re.ASCII)
_DATE_TIME: TypeAdapter[Any] = TypeAdapter(AwareDatetime)


def listen_address(text: str) -> str:
    """Check where to listen: ``host:port``, ``[v6]:port`` or ``unix:/path``."""
    if text.startswith("unix:"):
        if not text.startswith("unix:/") or text.endswith("/") or "\0" in text:
            raise ValueError("a socket is written unix:/absolute/path")
        return text
    if text.startswith(":"):
        raise ValueError(f"the host is missing: write 0.0.0.0{text} for every IPv4 address, or [::]{text}")
    name, colon, port = text.rpartition(":")
    if not colon or not _PORT.fullmatch(port) or int(port) > 65535:
        raise ValueError("must be host:port, [v6]:port or unix:/path, with a port up to 65535")
    return f"{host(name)}:{int(port)}"


def listen_addresses(given: str | list[str]) -> str | list[str]:
    """Write one address as text, however it was given: variables and flags know lists only."""
    return given[0] if isinstance(given, list) and len(given) == 1 else given


def split_address(text: str) -> tuple[str, int]:
    """Return host (v6 without brackets) and port of a checked address that is no ``unix:`` one."""
    name, _, port = text.rpartition(":")
    return name.strip("[]"), int(port)


def network(text: str) -> str:
    """Check an address or CIDR block of proxies (RFC 4632) and return it as the addresses of peers are compared.

    A block of IPv4-mapped IPv6 addresses (RFC 4291 section 2.5.5.2) is returned as the IPv4 block: a peer that is
    connected over an IPv6 socket is known by its IPv4 address.
    """
    try:
        block = ipaddress.ip_network(text, strict=False)
    except ValueError:
        block = None
    if block is None or "%" in text:
        raise ValueError("must be an IP address or a CIDR block, e.g. 10.0.0.0/8")
    plain = plain_network(block)
    if ipaddress.ip_address(text.partition("/")[0]) != block.network_address:
        raise ValueError(f"bits are set behind the mask; the block is {plain}")
    return str(plain)


def proxies(text: str) -> str:
    """Check an address or CIDR block of proxies, or ``unix``: every client of a Unix socket."""
    return text if text == "unix" else network(text)


def fold_header_name(name: str) -> str:
    """Return the one name of all spellings that a service may take for the same field.

    Lower case, everything but letters and digits as ``-``, without the
    ``http-`` that CGI and WSGI put in front.
    """
    return re.sub(r"[^a-z0-9]", "-", name.lower()).removeprefix("http-")


def identity_header_name(text: str) -> str:
    """Check a header's name and return it in lower case (RFC 9110 section 5.1)."""
    if not _TOKEN.fullmatch(text):
        raise ValueError("is not a header name: letters, digits and hyphens")
    folded = fold_header_name(text)
    if folded in _RESERVED_HEADERS or folded.startswith("sec-"):
        raise ValueError(
            "HTTP or the gateway itself gives this header another meaning; choose a name such as x-user-id"
        )
    if not folded.strip("-"):
        raise ValueError("is not a header name: letters, digits and hyphens")
    return text.lower()


def credential_header_name(text: str) -> str:
    """Check the name of the field that holds a credential and return it in lower case."""
    folded = fold_header_name(name := identity_header_name(text))
    if folded in _OTHER_MEANINGS or folded.startswith(_OTHER_FAMILIES):
        raise ValueError("this header has another meaning on its way; choose a name such as x-api-key")
    return name


def stripped_header(text: str) -> str:
    """Check the name of a request header that is never sent on, and return it in lower case."""
    folded = fold_header_name(text)
    if not _TOKEN.fullmatch(text) or not folded.strip("-") or "*" in text:
        raise ValueError("is not a header name: letters, digits and hyphens, and no wildcards")
    if folded in _NEVER_STRIPPED or folded.startswith("sec-websocket-"):
        raise ValueError("the gateway itself reads this header and makes or removes it: leave it out of the list")
    return text.lower()


def claim_source(source: str | list[str]) -> str | list[str]:
    """Check what fills an identity header: a claim, a path into claims, or a ``$`` name."""
    if isinstance(source, str):
        if not source:
            raise ValueError("is empty; name a claim")
        if source.startswith("$") and source not in OWN_NAMES:
            raise ValueError(
                f"{_quoted(sorted(OWN_NAMES))} are the gateway's own names;"
                ' a claim that begins with "$" is written as a list of one'
            )
        return source
    if not source:
        raise ValueError("is empty; name a claim")
    if len(source) == 1 and source[0] in OWN_NAMES:
        raise ValueError("the gateway's own names stand alone, not in a list")
    return source


def scope(text: str) -> str:
    """Check one scope (RFC 6749 section 3.3)."""
    if not _SCOPE.fullmatch(text):
        raise ValueError(
            'is not a scope: printable ASCII without spaces, quotes and backslashes; write several as ["a", "b"]'
        )
    return text


def quoted_text(text: str) -> str:
    """Check text that is sent as a quoted-string without escapes (RFC 9110 section 5.6.4)."""
    if not text.isascii() or not text.isprintable() or '"' in text or "\\" in text or len(text) > 200:
        raise ValueError("must be printable ASCII without quotes and backslashes, up to 200 characters")
    return text


def optional_http_url(text: str) -> str:
    """Check an absolute ``http`` or ``https`` URL; empty is "not given"."""
    if text:
        http_url(text)
    return text


def upstream_url(text: str) -> str:
    """Check the base URL of a service: scheme, host, port and path only, or a Unix socket and a path.

    The scheme is returned in lower case, so that nothing depends on its spelling.
    """
    path = _socket_url(text) if text.startswith("unix:") else http_url(text).path
    if "?" in text:
        raise ValueError("has a query; a base URL is scheme, host, port and path")
    if any(segment in (".", "..") for segment in path.lower().replace("%2e", ".").split("/")):
        raise ValueError("has dot segments in its path")
    if "//" in path:
        raise ValueError("has an empty segment in its path")
    scheme, _, rest = text.partition(":")
    return f"{scheme.lower()}:{rest}"


def split_socket_url(text: str) -> tuple[str, str]:
    """Return the socket's file and the base path (or nothing) of a checked ``unix:`` URL."""
    socket, _, base = text.removeprefix("unix:").partition(":")
    return socket, base


def _socket_url(text: str) -> str:
    """Check ``unix:/path/to.sock`` or ``unix:/path/to.sock:/base`` and return the base path."""
    if not text.isascii() or not text.isprintable() or " " in text or "\\" in text:
        raise ValueError("is not a socket: printable ASCII without spaces and backslashes")
    socket, base = split_socket_url(text)
    if not socket.startswith("/") or socket.endswith("/"):
        raise ValueError("a socket is written unix:/absolute/path, with a base path unix:/absolute/path:/base")
    if len(socket) > _SOCKET_LENGTH:
        raise ValueError(f"the path of a socket has at most {_SOCKET_LENGTH} characters")
    if text.count(":") > 1 and not base.startswith("/"):
        raise ValueError('the base path behind a socket begins with "/"')
    if "#" in base:
        raise ValueError("has a fragment")
    return base


def url_key(text: str) -> tuple[object, ...]:
    """Return what two spellings of one checked base URL have in common."""
    if text.startswith("unix:"):
        socket, base = split_socket_url(text)
        return "unix", socket, base.rstrip("/")
    parts = urlsplit(text)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return parts.scheme, parts.hostname, port, parts.path.rstrip("/")


def health_path(text: str) -> str:
    """Check the path, and the query if any, of a health check; empty is "not asked"."""
    if text and (not text.startswith("/") or text.startswith("//")):
        raise ValueError('must begin with one "/"')
    if not text.isascii() or not text.isprintable() or " " in text or "#" in text or "\\" in text:
        raise ValueError("is not a path: printable ASCII without spaces, backslashes and #")
    return text


def tls_name(text: str) -> str:
    """Check a name to find in a certificate: a host name or an address; empty is "not given"."""
    return host(f"[{text}]" if ":" in text else text).strip("[]") if text else text


def http_url(text: str) -> SplitResult:
    """Return the parts of an absolute ``http`` or ``https`` URL (RFC 9110 section 4.2), or raise ``ValueError``."""
    if not text.isascii() or not text.isprintable() or " " in text or "\\" in text:
        raise ValueError("is not a URL: printable ASCII without spaces and backslashes")
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise ValueError("is not a URL: its host or port is malformed") from None
    if parts.scheme not in ("http", "https"):
        raise ValueError("must begin with http:// or https://")
    if "@" in parts.netloc:
        raise ValueError("has a user or password in it; credentials do not belong in URLs")
    if "#" in text:
        raise ValueError("has a fragment")
    if not parts.hostname or parts.netloc.endswith(":") or port == 0:
        raise ValueError("is not a URL: its host or port is missing")
    host(f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname)
    return parts


def ip_version(host: str) -> int:
    """Return the version of an IP address; 0 for a name."""
    try:
        return ipaddress.ip_address(host).version
    except ValueError:
        return 0


def is_loopback(name: str) -> bool:
    """Tell whether a host of a URL is this machine by its name alone (RFC 6761 section 6.3)."""
    name = name.lower().rstrip(".")
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return False
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback


def host(text: str) -> str:
    """Check a host without port and return it in lower case, without a trailing dot; IPv6 in brackets."""
    name = text.lower().removesuffix(".")
    if name.startswith("[") and name.endswith("]") and "%" not in name:
        try:
            return f"[{ipaddress.IPv6Address(name[1:-1])}]"
        except ValueError:
            raise ValueError("is not an IPv6 address in brackets") from None
    if ":" in name:
        raise ValueError("a host is written without port, an IPv6 address in brackets")
    if not name.isascii():
        raise ValueError("must be ASCII: write an international name as xn--...")
    if "*" in name:
        raise ValueError("wildcards are not supported: list each host")
    if not _DNS_NAME.fullmatch(name) or len(name) > 253:
        raise ValueError("is not a host name or IP address")
    return name


def field_name(text: str) -> str:
    """Check the name of a header field and return it in lower case (RFC 9110 section 5.1)."""
    if text == "*":
        raise ValueError("wildcards are not supported: leave the list empty for any field")
    if not _TOKEN.fullmatch(text):
        raise ValueError("is not a header name: letters, digits and hyphens")
    return text.lower()


def web_origin(text: str) -> str:
    """Check the origin of a page and return it as browsers write it (RFC 6454 section 6.2); ``*`` is any."""
    if text == "*":
        return text
    if text == "null":
        raise ValueError('any page can make its origin "null"; name the origins that are meant')
    parts = _ORIGIN.fullmatch(text.lower())
    if parts is None or int(parts[3] or 0) > 65535:
        raise ValueError("is not an origin: scheme://host or scheme://host:port, without a path or a final slash")
    scheme, name, port = parts.groups()
    if port and int(port) == {"http": 80, "https": 443}.get(scheme):
        port = None
    return f"{scheme}://{host(name)}" + (f":{int(port)}" if port else "")


def method(text: str) -> str:
    """Check a request method (RFC 9110 section 9.1): case counts."""
    if not _TOKEN.fullmatch(text):
        raise ValueError("is not a method, e.g. GET")
    if text != text.upper():
        raise ValueError(f"methods are upper case: write {text.upper()}")
    if not _METHOD.fullmatch(text):
        raise ValueError('is not a method: 1 to 32 of A-Z, 0-9, "-" and "_"')
    if text in ("CONNECT", "TRACE"):
        raise ValueError("CONNECT and TRACE are never served")
    return text


def moment_text(text: str) -> str:
    """Check a moment in time (RFC 3339 section 5.6); empty is "never"."""
    if text:
        moment(text)
    return text


def moment(text: str) -> float:
    """Return the seconds since the epoch of an RFC 3339 date-time.

    Raises:
        ValueError: it is not a date-time, or has no offset.
    """
    problem = "must be a date-time with its offset (RFC 3339), such as 2027-01-31T00:00:00Z"
    if not _MOMENT.fullmatch(text):
        raise ValueError(problem)
    try:
        return float(_DATE_TIME.validate_python(text.upper()).timestamp())
    except ValueError:
        raise ValueError(problem) from None


def _quoted(names: list[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)
