"""The header section of the request for the upstream, and of its response for the client.

This file has functions over raw header pairs. A section is always built new:
first everything that must not pass goes, then what the gateway itself says is
added. So no field of a client, and no name that it nominates in Connection, can
remove or add anything that the gateway says. Values are bytes from end to end
and never decoded.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from gateway.http1.fields import HOP_BY_HOP, TOKEN, RawHeaders, has_control, options_of, render_lines
from gateway.http1.request_head import RequestHead
from gateway.http1.websocket import protocols_without_token
from gateway.upstream.headers.header_policy import fold

# Connection options that name no field to remove, or one that goes anyway.
_USUAL_OPTIONS = HOP_BY_HOP | {b"close"}

# Meant for all recipients of a request: nominating them is a sender's error (RFC 9110
# section 7.6.1). Authorization passes only where the route asks for it.
_NOT_NOMINABLE = frozenset({b"host", b"authorization", b"via"})

# The same for responses.
_NOT_NOMINABLE_BY_UPSTREAM = frozenset({b"content-length", b"via"})

# Schemes whose credentials are those of a connection and not of a request.
_FOR_A_CONNECTION = re.compile(rb"(?:negotiate|ntlm)(?!" + TOKEN + rb")", re.IGNORECASE).match


def names_no_field(options: frozenset[bytes]) -> bool:
    """Return whether the options of a connection nominate no field that would go on without that."""
    return options <= _USUAL_OPTIONS


def client_lines(
    head: RequestHead,
    *,
    send_credentials: bool = False,
    without: Iterable[bytes] = (),
    websocket_token: bool = False,
    forwards_left: int | None = None,
) -> list[bytes]:
    """Return the lines of a client's head that go upstream, in order and as received, each behind an LF.

    Args:
        head: the client's.
        send_credentials: the route sends them on; never one that would authenticate the connection, which serves many
            clients (RFC 4559 section 6).
        without: fields in lower case that an upstream must not get, in any spelling that it may read as theirs.
        websocket_token: a token may stand among the subprotocols of a WebSocket, and is for the gateway alone.
        forwards_left: how often the request may be forwarded, where it says so; see ``facts.forwards_left``.
    """
    lines = head.kept
    if send_credentials and head.withheld:
        lines = lines.copy()
        for place, line in reversed(head.withheld):
            if _FOR_A_CONNECTION(line.partition(b":")[2].strip(b" \t")) is None:
                lines.insert(place, line)
    if not names_no_field(head.options):
        nominated = head.options - _USUAL_OPTIONS - _NOT_NOMINABLE
        lines = [line for line in lines if _name(line) not in nominated]
    for field in without:
        folded = fold(field)
        lines = [line for line in lines if fold(_name(line)) != folded]
    if websocket_token:
        lines = _without_token(lines, head)
    if forwards_left:
        fewer = b"\nMax-Forwards: %d" % (forwards_left - 1)
        lines = [fewer if _name(line) == b"max-forwards" else line for line in lines]
    return lines


def upstream_head(
    line: bytes, host: bytes, lines: Iterable[bytes], framing: bytes, own: bytes, identity: bytes, request_id: bytes
) -> bytes:
    """Return the head for the upstream.

    Host first; then the client's lines that may pass; then what the gateway says: framing, forwarding, Via, identity,
    request id.

    Args:
        line: the request line.
        host: the Host to send.
        lines: see ``client_lines``.
        framing: what frames the content, as lines with their ends.
        own: forwarding fields and Via, likewise.
        identity: the identity fields of the verified caller, likewise; empty without one.
        request_id: the request's id.
    """
    rest = b"".join((b"\n", framing, own, identity, b"X-Request-Id: ", request_id, b"\r\n\r\n"))
    return b"\r".join((line, b"\nHost: " + host, *lines, rest))


def _without_token(lines: list[bytes], head: RequestHead) -> list[bytes]:
    offered = head.values(b"sec-websocket-protocol")
    others = protocols_without_token(offered)
    if others is None:
        return lines
    kept = [line for line in lines if _name(line) != b"sec-websocket-protocol"]
    if others:
        kept.append(b"\nSec-WebSocket-Protocol: " + b", ".join(others))
    return kept


def _name(line: bytes) -> bytes:
    """Return the name of a line that stands behind an LF, in lower case."""
    return line[1:].partition(b":")[0].lower()


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
        ValueError: as ``fields.render_lines``, also for the start line.
    """
    if has_control(start_line):
        raise ValueError("a control character in a start line")
    return b"%b\r\n%b\r\n" % (start_line, render_lines(headers))


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
