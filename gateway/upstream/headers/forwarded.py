"""The forwarding headers: what the upstream learns about the client's connection, and what is believed of it.

This file has X-Forwarded-For, -Proto, -Host and -Port, Forwarded (RFC 7239),
and the client's address. A client's own statements are believed only when the
peer of the connection is a trusted proxy, and then only those of the kind that
the proxy writes (``TrustedProxies.fields``). X-Forwarded-For and Forwarded are
continued by the peer's address, and of the others the last value stands, which
is the nearest proxy's word. The service gets what the rules have seen.

A trusted proxy must itself overwrite or continue every one of the fields that
it is believed in: what it lets through from its clients is taken for its own.
"""

from __future__ import annotations

import re

from gateway.http1.fields import TOKEN, RawHeaders, is_token, list_members, render_lines, values_of
from gateway.http1.trusted_proxies import UNIX, UNIX_NODE, UNKNOWN, Peer, TrustedProxies, parse_node

_QUOTED = rb'"(?:[\t !#-\[\]-~]|\\[\t -~])*"'

# One parameter of a forwarded-element and what ends it (RFC 7239 section 4).
_PARAMETER = re.compile(rb"[ \t]*(" + TOKEN + rb")=(" + TOKEN + rb"|" + _QUOTED + rb")[ \t]*(;|,|\Z)")
_IS_NODE = re.compile(rb"[!-+\--~]+").fullmatch  # visible, and no comma
_EMPTY_ELEMENT = re.compile(rb"[ \t]*(?:,|\Z)")
_ESCAPED = re.compile(rb"\\(.)")

# What may stand in the single-valued fields; anything else is not passed on.
_SANE: dict[bytes, re.Pattern[bytes]] = {
    b"x-forwarded-proto": re.compile(rb"https?|wss?", re.IGNORECASE),
    b"x-forwarded-host": re.compile(rb"[A-Za-z0-9._:\[\]-]{1,261}"),
    b"x-forwarded-port": re.compile(rb"[0-9]{1,5}"),
}

# A WebSocket is asked for over HTTP, and services know these two schemes only (RFC 6455 section 3).
_HTTP_SCHEMES = {b"ws": b"http", b"wss": b"https"}


#: Of how many different clients it is remembered what follows from where they come from, and how long what they say of
#: it may be, in bytes, with so many for each line besides: it is theirs to choose, also in a thousand empty lines.
MAX_CLIENTS, MAX_SAID, LINE_COST = 4096, 1024, 64


class Forwarding:
    """What follows from a connection's other end and the forwarding lines of a request, remembered by their value.

    Args:
        trusted: whose fields are believed.
        pseudonym: the gateway's name in Via.
        stripped: fields in lower case that are believed and never sent on.
    """

    def __init__(self, trusted: TrustedProxies, pseudonym: bytes, stripped: frozenset[bytes] = frozenset()) -> None:
        self._trusted, self._pseudonym, self._stripped = trusted, pseudonym, stripped
        self._addresses: dict[tuple[Peer, RawHeaders], str] = {}
        self._lines: dict[tuple[Peer, RawHeaders, bytes, bool], bytes] = {}

    def client(self, peer: Peer, said: RawHeaders) -> str:
        """Return the address of the client; see ``client_address``.

        Args:
            peer: the connection's other end.
            said: the forwarding lines of the request.
        """
        if said and not self._trusted.believes(peer.address):
            said = ()
        key = (peer, said)
        found = self._addresses.get(key)
        if found is None:
            found = client_address(said, self._trusted, peer).decode("ascii")
            if len(self._addresses) >= MAX_CLIENTS:
                self._addresses.clear()
            if _cost(said) <= MAX_SAID:
                self._addresses[key] = found
        return found

    def lines(self, peer: Peer, said: RawHeaders, client_host: bytes, *, http_11: bool) -> bytes:
        """Return the forwarding fields and Via for the upstream, as lines of a head.

        Args:
            peer: the connection's other end.
            said: the forwarding lines of the request.
            client_host: the host that the client asked for, as received and checked; empty when it named none.
            http_11: the version of the request.
        """
        if said and not self._trusted.believes(peer.address):
            said = ()
        key = (peer, said, client_host, http_11)
        found = self._lines.get(key)
        if found is None:
            passing = [pair for pair in said if pair[0] not in self._stripped]
            pairs = forwarding_headers(passing, peer, client_host, trusted=self._trusted)
            pairs.append((b"Via", (b"1.1 " if http_11 else b"1.0 ") + self._pseudonym))
            found = render_lines(pairs)
            if len(self._lines) >= MAX_CLIENTS:
                self._lines.clear()
            if _cost(said) + len(client_host) <= MAX_SAID:
                self._lines[key] = found
        return found


def _cost(said: RawHeaders) -> int:
    return sum(LINE_COST + len(value) for _, value in said)


def forwarding_headers(
    received: RawHeaders, peer: Peer, client_host: bytes, *, trusted: TrustedProxies
) -> list[tuple[bytes, bytes]]:
    """Return the forwarding fields for the upstream, one line each.

    Args:
        received: the client's fields of these names.
        peer: the connection's other end.
        client_host: the host that the client asked for, as received; empty when it named none.
        trusted: whose fields are believed; those of others are not looked at.
    """
    proto = b"https" if peer.secure else b"http"
    port = b"%d" % peer.port if peer.port else b""
    forwarded = b""
    chain = peer.address
    if received and trusted.believes(peer.address):
        received = [pair for pair in received if pair[0].lower() in trusted.fields]
        chain = b", ".join([*_nodes(received), peer.address])
        forwarded = _continue_forwarded(_values(received, b"forwarded", split=False), peer, client_host, proto)
        scheme, client_host = external_origin(received, trusted, peer, client_host)
        proto = http_scheme(scheme)
        port = _last_word(received, b"x-forwarded-port", port)
    headers = [(b"X-Forwarded-For", chain), (b"X-Forwarded-Proto", proto)]
    if client_host:
        headers.append((b"X-Forwarded-Host", client_host))
    if port:
        headers.append((b"X-Forwarded-Port", port))
    if forwarded:
        headers.append((b"Forwarded", forwarded))
    return headers


def client_address(received: RawHeaders, trusted: TrustedProxies, peer: Peer) -> bytes:
    """Return the address of the client as far as it can be known.

    The peer's own, unless that is a trusted proxy. Then X-Forwarded-For, or
    else Forwarded, is read from the right past all trusted proxies: the first
    other address is the client's. What stands left of it is the client's own
    story. An entry that is no address ends the walk at the last proxy known.
    """
    if not received or not trusted.believes(peer.address):
        return peer.address
    received = [pair for pair in received if pair[0].lower() in trusted.fields]
    nearest = peer.address
    for node in reversed(_nodes(received)):
        address = _address(node)
        if address is None:
            return nearest
        nearest = address
        if not trusted.believes(nearest):
            return nearest
    return nearest


def external_origin(
    headers: RawHeaders, trusted: TrustedProxies, peer: Peer, client_host: bytes
) -> tuple[bytes, bytes]:
    """Return scheme and ``host[:port]`` of the address that the client used, as far as they can be known.

    The connection's and the request's own, unless the peer is a trusted proxy.
    Then X-Forwarded-Proto and X-Forwarded-Host count, or else the element of
    Forwarded that the proxy nearest to the client wrote. The scheme may be
    ``ws`` or ``wss``, as some proxies write it for WebSockets; see ``http_scheme``.
    """
    scheme = b"https" if peer.secure else b"http"
    if not trusted.believes(peer.address):
        return scheme, client_host
    received = [pair for pair in headers if pair[0].lower() in trusted.fields]
    seen = _first_hop(received, trusted)
    for name, key in ((b"x-forwarded-proto", b"proto"), (b"x-forwarded-host", b"host")):
        if key in seen and not _SANE[name].fullmatch(seen[key]):
            del seen[key]
    scheme = _last_word(received, b"x-forwarded-proto", seen.get(b"proto", scheme))
    return scheme.lower(), _last_word(received, b"x-forwarded-host", seen.get(b"host", client_host))


def http_scheme(scheme: bytes) -> bytes:
    """Return the scheme of HTTP that a scheme of WebSockets stands for; any other as it is (RFC 6455 section 3)."""
    return _HTTP_SCHEMES.get(scheme, scheme)


def _first_hop(received: RawHeaders, trusted: TrustedProxies) -> dict[bytes, bytes]:
    """Return the element of Forwarded that the trusted proxy nearest to the client wrote; empty without one."""
    found: dict[bytes, bytes] = {}
    for element in reversed(parse_forwarded(b", ".join(_values(received, b"forwarded", split=False))) or []):
        found = element
        node = _address(element.get(b"for", UNKNOWN))
        if node is None or not trusted.believes(node):
            break
    return found


def _nodes(received: RawHeaders) -> list[bytes]:
    """Return the addresses that the forwarding fields name, the client's first."""
    chain = _values(received, b"x-forwarded-for")
    if chain:
        return chain
    elements = parse_forwarded(b", ".join(_values(received, b"forwarded", split=False)))
    return [] if elements is None else [_node_text(element.get(b"for", UNKNOWN)) for element in elements]


def _address(node: bytes) -> bytes | None:
    """Return the address that a proxy names, in the form of ``Peer.address``; None for anything else."""
    if node in (UNIX, UNIX_NODE):
        return UNIX
    address = parse_node(node)
    return None if address is None else str(address).encode("ascii")


def _node_text(node: bytes) -> bytes:
    """Return a node of Forwarded as it stands in X-Forwarded-For: an address alone, or what may stand for one."""
    return _address(node) or (node if _IS_NODE(node) else UNKNOWN)


def _values(received: RawHeaders, name: bytes, *, split: bool = True) -> list[bytes]:
    """Return the members of all lines of one list field; with ``split`` off, the lines that are not empty."""
    lines = values_of(received, name)
    if split:
        return [member for line in lines for member in list_members(line)]
    return [stripped for line in lines if (stripped := line.strip(b" \t"))]


def _last_word(received: RawHeaders, name: bytes, otherwise: bytes) -> bytes:
    values = _values(received, name)
    return values[-1] if values and _SANE[name].fullmatch(values[-1]) else otherwise


def parse_forwarded(value: bytes) -> list[dict[bytes, bytes]] | None:
    """Read a Forwarded field (RFC 7239 section 4): lower-case parameters per element, or None when it is malformed."""
    elements: list[dict[bytes, bytes]] = []
    element: dict[bytes, bytes] = {}
    position = 0
    while position < len(value):
        parameter = _PARAMETER.match(value, position)
        if parameter is None:
            empty = None if element else _EMPTY_ELEMENT.match(value, position)
            if empty is None:
                return None
            position = empty.end()
            continue
        name, text, end = parameter.groups()
        if name.lower() in element:  # at most once in an element
            return None
        element[name.lower()] = _ESCAPED.sub(rb"\1", text[1:-1]) if text.startswith(b'"') else text
        position = parameter.end()
        if end != b";":
            elements.append(element)
            element = {}
    return None if element else elements  # a dangling ";" is malformed


def _continue_forwarded(lines: list[bytes], peer: Peer, client_host: bytes, proto: bytes) -> bytes:
    """Return the trusted peer's Forwarded with the peer's own element added; empty when there was none."""
    if not lines:
        return b""
    received = b", ".join(lines)
    own = b"for=" + _quote(_node_identifier(peer.address))
    if client_host and _SANE[b"x-forwarded-host"].fullmatch(client_host):
        own += b";host=" + _quote(client_host)
    own += b";proto=" + proto
    return received + b", " + own if parse_forwarded(received) is not None else own


def _node_identifier(address: bytes) -> bytes:
    if address == UNIX:
        return UNIX_NODE
    return b"[" + address + b"]" if b":" in address else address


def _quote(value: bytes) -> bytes:
    return value if is_token(value) else b'"' + value + b'"'
