"""A GatewayError becomes an answer here, and nowhere else.

Status, body and fields of every answer that the gateway gives itself; what its
challenges say is ``challenges.py``'s. Everything in an answer
is a fixed text or comes from the configuration; the request's own bytes never
do, except for a request id that was checked before.
"""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus
from typing import NamedTuple

import orjson

from gateway.errors import Challenge, GatewayError, RefusalKind
from gateway.http1.fields import render_lines
from gateway.http1.websocket import UPGRADE_FIELDS, WEBSOCKET_VERSION
from gateway.server.request.challenges import ANY_ROUTE, RouteChallenges
from gateway.settings.tables.tokens import Tokens


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer of the gateway itself, ready to be framed.

    Attributes:
        status: HTTP status code.
        headers: fields of the answer, without framing and connection fields.
        body: the JSON body.
        close: the connection is closed afterwards.
    """

    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes
    close: bool


def answer(error: GatewayError, tokens: Tokens, request_id: str, challenges: RouteChallenges = ANY_ROUTE) -> Answer:
    """Return the answer to a refused or failed request.

    Args:
        challenges: of the request's route.
    """
    kind = error.reason.kind
    status = _status(kind, tokens)
    headers = [
        (b"Content-Type", b"application/json"),
        (b"Cache-Control", b"no-store"),
        (b"X-Request-Id", request_id.encode("latin-1", "replace")),
    ]
    if kind.challenge is not Challenge.NONE:
        headers += [(b"WWW-Authenticate", value) for value in challenges.fields(error, tokens.realm)]
    if error.retry_after is not None:
        headers.append((b"Retry-After", b"%d" % max(1, error.retry_after)))
    if kind.status == HTTPStatus.METHOD_NOT_ALLOWED:
        # RFC 9110 section 15.5.6 demands the field; the methods that an upstream's target allows are not known.
        headers.append((b"Allow", kind.allow.encode("ascii")))
    if kind.status == HTTPStatus.UPGRADE_REQUIRED:
        # RFC 9110 section 15.5.22, RFC 6455 section 4.4.
        headers += [*UPGRADE_FIELDS, (b"Sec-WebSocket-Version", WEBSOCKET_VERSION)]
    text = challenges.text(error.reason)
    body = orjson.dumps({"error": kind.error, "error_description": text, "request_id": request_id})
    return Answer(status, tuple(headers), body, kind.close)


class RefusalForm(NamedTuple):
    """What all answers to one kind of refusal on one route have in common: everything but id, Date and Connection.

    Attributes:
        status: HTTP status code.
        start: the status line and the fields up to and with the request id's name.
        fields: those that stand behind the request id, each with its end.
        content: the JSON body up to the request id.
        close: the connection is closed afterwards.
    """

    status: int
    start: bytes
    fields: bytes
    content: bytes
    close: bool

    def render(
        self, request_id: bytes, *, http_11: bool, keep_alive: bool, head_only: bool, date: bytes
    ) -> tuple[bytes, int]:
        """Return the same bytes as ``render`` of the answer with this id, and how many of them are content.

        Args:
            request_id: of characters that JSON does not escape (``request_head``).
        """
        content = b'%b%b"}' % (self.content, request_id)
        connection = connection_field(http_11=http_11, keep_alive=keep_alive)
        head = b"%b%b\r\n%bContent-Length: %d\r\n%bDate: %b\r\n\r\n" % (
            self.start,
            request_id,
            self.fields,
            len(content),
            b"Connection: %b\r\n" % connection if connection else b"",
            date,
        )
        return (head, 0) if head_only else (head + content, len(content))


def refusal_form(error: GatewayError, tokens: Tokens, challenges: RouteChallenges) -> RefusalForm:
    """Return what the answers to refusals like this one have in common; see ``answer``."""
    made = answer(error, tokens, "", challenges)
    place = [name for name, _ in made.headers].index(b"X-Request-Id")
    before, behind = render_lines(made.headers[:place]), render_lines(made.headers[place + 1 :])
    start = b"%b\r\n%bX-Request-Id: " % (_status_line(made.status), before)
    return RefusalForm(made.status, start, behind, made.body.removesuffix(b'"}'), made.close)


def _status(kind: RefusalKind, tokens: Tokens) -> int:
    if kind.error == "invalid_token":
        return tokens.invalid_token_status
    return kind.status


def render(reply: Answer, *, http_11: bool, keep_alive: bool, head_only: bool, date: bytes) -> bytes:
    """Return the whole answer as bytes (RFC 9112 section 4).

    Args:
        date: the value of Date (RFC 9110 section 6.6.1).
        http_11: the request's version; the answer to a 1.0 client says when the connection stays open.
        keep_alive: whether the connection stays open.
        head_only: the request was HEAD: Content-Length is sent, the body is not.
    """
    lines = [_status_line(reply.status)]
    lines += [b"%s: %s" % pair for pair in reply.headers]
    if reply.status != HTTPStatus.NO_CONTENT:  # RFC 9110 section 8.6
        lines.append(b"Content-Length: %d" % len(reply.body))
    if connection := connection_field(http_11=http_11, keep_alive=keep_alive):
        lines.append(b"Connection: " + connection)
    lines.append(b"Date: " + date)
    head = b"\r\n".join(lines) + b"\r\n\r\n"
    return head if head_only else head + reply.body


def _status_line(status: int) -> bytes:
    return b"HTTP/1.1 %d %s" % (status, phrase(status))


def connection_field(*, http_11: bool, keep_alive: bool) -> bytes:
    """Return the value of ``Connection``, or nothing when the version's default says it (RFC 9112 section 9.3)."""
    if not keep_alive:
        return b"close"
    return b"" if http_11 else b"keep-alive"


def phrase(status: int) -> bytes:
    """Return the registered reason phrase of a status code, or nothing."""
    try:
        return HTTPStatus(status).phrase.encode("ascii")
    except ValueError:
        return b""
