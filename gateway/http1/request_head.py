"""A request's head, read strictly and before any other parser.

This file has the grammar of one HTTP/1.1 request's head (RFC 9112), as pure
code over bytes. It decides nothing about what a request may do; it decides
whether the bytes have one reading. llhttp, which parses after it, forgives
several things that RFC 9112 does not; what two parsers in a row may read
differently is what request smuggling is made of, so nothing is forgiven here.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from gateway.errors import Reason, Reasons
from gateway.http1.fields import METHOD, is_section, parse_fields

_REQUEST_LINE = re.compile(rb"(" + METHOD + rb") ([!-~]+) HTTP/1\.([01])\r\n")
_LENGTH = re.compile(rb"[0-9]{1,18}").fullmatch

#: Fields of one header section; their size has its own bound.
MAX_FIELDS = 1000


class MalformedError(ValueError):
    """Bytes that have no reading, or more than one; ``reason`` says which refusal they get.

    ``not_http`` names what stands in place of a request (``first_bytes.KINDS``); empty where a request does.
    """

    def __init__(self, reason: Reason = Reasons.MALFORMED_HTTP, not_http: str = "") -> None:
        super().__init__(reason.code)
        self.reason = reason
        self.not_http = not_http


#: The longest head that is remembered, in bytes: connections are many, and each may send the longest.
MAX_REMEMBERED_BYTES = 8192


class Head(NamedTuple):
    """A request's head that has one reading.

    Attributes:
        block: its bytes, from the request line to the empty line.
        method: see ``fields.METHOD``; never in lower case.
        target: visible ASCII, otherwise unread.
        http_11: HTTP/1.1; else HTTP/1.0.
        headers: name and value of each field line, in order, spelled as received, without outer white space.
        length: declared content length; 0 without one.
        chunked: the content comes in chunks.
        weight: for how many small heads it counts where a number of them is the bound.
    """

    block: bytes
    method: bytes
    target: bytes
    http_11: bool
    headers: tuple[tuple[bytes, bytes], ...]
    length: int
    chunked: bool
    weight: int


def parse_head(block: bytes) -> Head:
    """Read a request's head, from the request line to the empty line.

    Raises:
        MalformedError: for anything that RFC 9112 sections 3, 5 and 6 do not allow a sender to send.
    """
    line = _REQUEST_LINE.match(block)
    if line is None:
        raise MalformedError(_wrong_line(block))
    start = line.end()
    if is_section(block, start) is None:
        raise MalformedError
    headers = parse_fields(block[start:-4]) if len(block) - start > 2 else ()
    if len(headers) > MAX_FIELDS:
        raise MalformedError(Reasons.HEAD_TOO_LARGE)
    http_11 = line[3] == b"1"
    length, chunked = request_framing(headers, http_11=http_11)
    return Head(block, line[1], line[2], http_11, headers, length, chunked, 1 + len(block) // MAX_REMEMBERED_BYTES)


def request_framing(headers: tuple[tuple[bytes, bytes], ...], *, http_11: bool) -> tuple[int, bool]:
    """Return content length and whether the content is chunked (RFC 9112 sections 6.1 to 6.3).

    Raises:
        MalformedError: both, several, or any value but one plain number or ``chunked``.
    """
    length: bytes | None = None
    coding: bytes | None = None
    for name, value in headers:
        if len(name) == 14 and name.lower() == b"content-length":
            if length is not None or _LENGTH(value) is None:
                raise MalformedError
            length = value
        elif len(name) == 17 and name.lower() == b"transfer-encoding":
            if coding is not None or value.lower() != b"chunked" or not http_11:
                raise MalformedError
            coding = value
    if length is not None and coding is not None:
        raise MalformedError
    return int(length or 0), coding is not None


def _wrong_line(block: bytes) -> Reason:
    version = re.match(METHOD + rb" [!-~]+ HTTP/[0-9](?:\.[0-9])?\r\n", block)
    return Reasons.HTTP_VERSION if version else Reasons.MALFORMED_HTTP
