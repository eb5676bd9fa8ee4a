"""The header section of the request for the upstream, and of its response for the client.

This file has functions over raw header pairs. A section is always built new:
first everything that must not pass goes, then what the gateway itself says is
added. So no field of a client, and no name that it nominates in Connection, can
remove or add anything that the gateway says. Values are bytes from end to end
and never decoded.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence

from gateway.http1.fields import TOKEN, RawHeaders, is_token, options_of
from gateway.http1.trusted_proxies import Peer
from gateway.upstream.headers.forwarded import forwarding_headers
from gateway.upstream.headers.header_policy import HOP_BY_HOP, Action, HeaderPolicy, fold

# Looked up once, not for each field.
_DROP, _CONNECTION, _FORWARDING = Action.DROP, Action.CONNECTION, Action.FORWARDING

# Connection options that name no field to remove, or one that goes anyway.
_USUAL_OPTIONS = HOP_BY_HOP | {b"close"}

# Meant for all recipients of a request: nominating them is a sender's error (RFC 9110
# section 7.6.1). Authorization passes only where the route asks for it.
_NOT_NOMINABLE = frozenset({b"host", b"authorization", b"via"})

# The same for responses.
_NOT_NOMINABLE_BY_UPSTREAM = frozenset({b"content-length", b"via"})

# Schemes whose credentials are those of a connection and not of a request.
_FOR_A_CONNECTION = re.compile(rb"(?:negotiate|ntlm)(?!" + TOKEN + rb")", re.IGNORECASE).match

_SANE_REQUEST_ID = re.compile(rb"[A-Za-z0-9._~+/=:@-]{1,128}").fullmatch

# Controls that no part of a head may hold, apart from its line ends (RFC 9110 section 5.5).
_CONTROLS = bytes(code for code in (*range(0x20), 0x7F) if code != ord("\t"))

# Header names seen that are tokens; emptied when full.
_token_names: set[bytes] = set()
_MAX_REMEMBERED = 1024
_MAX_REMEMBERED_NAME = 64


def request_headers(
    headers: RawHeaders,
    *,
    policy: HeaderPolicy,
    peer: Peer,
    identity: Sequence[tuple[bytes, bytes]],
    request_id: bytes | None,
    host: bytes,
    client_host: bytes,
    forward_authorization: bool,
    framing: Sequence[tuple[bytes, bytes]],
    http_version: bytes = b"1.1",
) -> list[tuple[bytes, bytes]]:
    """Return the header section for the upstream.

    Host first; then the client's fields that may pass, in order and as spelled;
    then what the gateway says: framing, forwarding, Via, identity, request id.

    Args:
        headers: the client's raw pairs, in order.
        policy: the compiled header rules.
        peer: the connection's other end.
        identity: the identity headers of the verified token; empty without one.
        request_id: see ``request_id``; None for a section that is completed for each request.
        host: the Host to send.
        client_host: the host that the client asked for, as received; may be empty.
        forward_authorization: the route sends the Authorization field on; never one that would
            authenticate the connection, which serves many clients (RFC 4559 section 6).
        framing: Content-Length or Transfer-Encoding as the sender of the body made it.
        http_version: of the received request, for Via.
    """
    kept = [(b"Host", host)]
    connection: list[bytes] = []
    forwarding: list[tuple[bytes, bytes]] = []
    known = policy.actions.get
    for pair in headers:
        action = known(pair[0])
        if action is None:
            action = policy.learn(pair[0])
        if not action:
            kept.append(pair)
        elif action is _DROP:
            continue
        elif action is _CONNECTION:
            connection.append(pair[1])
        elif action is _FORWARDING:
            forwarding.append(pair)
        elif forward_authorization and _FOR_A_CONNECTION(pair[1]) is None:
            kept.append(pair)
    if connection:
        kept = _without_nominated(kept, connection, _NOT_NOMINABLE)
    kept.extend(framing)
    kept.extend(forwarding_headers(forwarding, peer, client_host, trusted=policy.trusted))
    kept.append((b"Via", http_version + b" " + policy.pseudonym))
    kept.extend(identity)
    # Last, so that what stays the same from request to request stands in one piece.
    if request_id is not None:
        kept.append((b"X-Request-Id", request_id))
    return kept


def without_key(headers: RawHeaders, name: bytes) -> list[tuple[bytes, bytes]]:
    """Return a client's fields without those that an upstream may read as the field called ``name``."""
    folded = fold(name)
    return [pair for pair in headers if fold(pair[0]) != folded]


def response_headers(headers: RawHeaders, pseudonym: bytes, http_version: bytes = b"1.1") -> list[tuple[bytes, bytes]]:
    """Return the upstream's header section for the client: hop-by-hop and nominated fields out, Via added.

    Everything else passes in order and as spelled. Content-Length stays, even
    when nominated: the caller decides about framing.

    Args:
        headers: the upstream's raw pairs, in order.
        pseudonym: the gateway's name in Via.
        http_version: of the received response, for Via.
    """
    kept = []
    connection = []
    for pair in headers:
        name = pair[0].lower()
        if name not in HOP_BY_HOP:
            kept.append(pair)
        elif name == b"connection":
            connection.append(pair[1])
    if connection:
        kept = _without_nominated(kept, connection, _NOT_NOMINABLE_BY_UPSTREAM)
    kept.append((b"Via", http_version + b" " + pseudonym))
    return kept


def render_head(start_line: bytes, headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Return the bytes of a head, up to and with the empty line.

    Raises:
        ValueError: when anything would not arrive as the field that it is: a name that
            is no token, or a control character anywhere (RFC 9110 section 5.5).
    """
    pairs = headers if isinstance(headers, list) else list(headers)
    if not _token_names.issuperset([name for name, _ in pairs]):
        _check_names(pairs)
    head = b"\r\n".join([start_line, *map(b": ".join, pairs)]) + b"\r\n\r\n"
    # One CR and one LF for each line and the empty one: whatever is more came with a name or a value.
    if len(head) - len(head.translate(None, _CONTROLS)) != 2 * (len(pairs) + 2):
        raise ValueError("a control character in a start line or header value")
    return head


def request_id(headers: RawHeaders, new: Callable[[], bytes]) -> bytes:
    """Return the client's X-Request-Id if it sent exactly one of a sane form, else ``new()``.

    Sane: 1 to 128 letters, digits and ``._~+/=:@-``, so that it can stand in
    logs, headers and JSON as it is.
    """
    found = [value for name, value in headers if len(name) == 12 and name.lower() == b"x-request-id"]
    if len(found) == 1 and _SANE_REQUEST_ID(found[0]):
        return found[0]
    return new()


def passed_before(headers: RawHeaders, pseudonym: bytes) -> bool:
    """Whether Via says that this gateway has seen the message before (RFC 9110 section 7.6.3)."""
    for name, value in headers:
        if len(name) == 3 and name.lower() == b"via":
            for element in value.split(b","):
                # received-protocol, received-by, and perhaps a comment
                words = element.split()
                if len(words) >= 2 and words[1].lower() == pseudonym.lower():
                    return True
    return False


def _without_nominated(
    pairs: list[tuple[bytes, bytes]], connection: list[bytes], protected: frozenset[bytes]
) -> list[tuple[bytes, bytes]]:
    nominated = options_of(b",".join(connection)) - _USUAL_OPTIONS - protected
    if not nominated:
        return pairs
    return [pair for pair in pairs if pair[0].lower() not in nominated]


def _check_names(headers: Iterable[tuple[bytes, bytes]]) -> None:
    for name, _ in headers:
        if is_token(name) is None:
            raise ValueError("a header name is not a token")
        if len(name) <= _MAX_REMEMBERED_NAME:
            if len(_token_names) >= _MAX_REMEMBERED:
                _token_names.clear()
            _token_names.add(name)
