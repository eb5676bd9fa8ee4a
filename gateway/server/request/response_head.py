"""The head of an upstream's response as the client gets it.

Makes it: the upstream's fields without those that belong to its own connection,
and then what the gateway adds. Answers of the gateway itself are
``error_answers.py``.
"""

from __future__ import annotations

from gateway.http1.fields import RawHeaders, has_field, values_of
from gateway.http1.plain_response import PlainHead
from gateway.http1.websocket import UPGRADE_FIELDS
from gateway.server.request.error_answers import connection_field
from gateway.upstream.headers.rewrite import render_head, response_headers


def client_head(
    status: int,
    phrase: bytes,
    headers: tuple[tuple[bytes, bytes], ...],
    pseudonym: bytes,
    *,
    added: tuple[tuple[bytes, bytes], ...] = (),
    http_11: bool,
    keep_alive: bool,
    chunked: bool,
    date: bytes = b"",
) -> bytes:
    """Return the head of a response as the client gets it.

    Args:
        added: what the gateway says besides the upstream.
        date: the value of Date for a response that has none (RFC 9110 section 6.6.1); empty: it gets none.

    Raises:
        ValueError: it holds what may not stand in a head.
    """
    kept = response_headers(headers, pseudonym)
    if status == 204:  # RFC 9110 section 8.6: no Content-Length in a 204
        kept = [pair for pair in kept if pair[0].lower() != b"content-length"]
    kept += added
    if chunked:
        kept.append((b"Transfer-Encoding", b"chunked"))
    if connection := connection_field(http_11=http_11, keep_alive=keep_alive):
        kept.append((b"Connection", connection))
    _add_date(kept, date)
    return render_head(b"HTTP/1.1 %d %b" % (status, phrase), kept)


def plain_client_head(head: PlainHead, pseudonym: bytes, *, keep_alive: bool) -> bytes:
    """Return what a client of HTTP/1.1 gets for a plain head, but for a Date that the upstream did not send.

    Raises:
        ValueError: it holds what may not stand in a head.
    """
    return client_head(
        head.status, head.phrase, head.headers, pseudonym, http_11=True, keep_alive=keep_alive, chunked=False
    )


def switching_head(
    phrase: bytes, headers: RawHeaders, pseudonym: bytes, token_protocol: bytes | None, date: bytes
) -> bytes:
    """Return the head of a 101 that opens a WebSocket (RFC 6455 section 4.2.2).

    Args:
        token_protocol: the name under which the client offered its token as a subprotocol. It is chosen when
            the upstream has chosen none: browsers give up otherwise.
        date: see ``client_head``.

    Raises:
        ValueError: it holds what may not stand in a head.
    """
    kept = [pair for pair in response_headers(headers, pseudonym) if pair[0].lower() != b"content-length"]
    if token_protocol is not None and not values_of(kept, b"sec-websocket-protocol"):
        kept.append((b"Sec-WebSocket-Protocol", token_protocol))
    kept += UPGRADE_FIELDS
    _add_date(kept, date)
    return render_head(b"HTTP/1.1 101 %b" % phrase, kept)


def _add_date(fields: list[tuple[bytes, bytes]], date: bytes) -> None:
    if date and not has_field(fields, b"date"):
        fields.append((b"Date", date))
