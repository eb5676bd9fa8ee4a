"""A request's head, read once, strictly, and before any other parser.

The grammar of one HTTP/1.1 request's head (RFC 9112), as one pass over its bytes. It
decides nothing about what a request may do; it decides whether the bytes have one
reading, and sorts the field lines by what their names mean to the gateway. Services
forgive several things that RFC 9112 does not; what two parsers in a row may read
differently is what request smuggling is made of, so nothing is forgiven here. The
danger of this file is a line that is kept although it means something: so a name that
was never seen is classified before its line goes anywhere.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from gateway.errors import Reason, Reasons
from gateway.http1.fields import METHOD, VISIBLE, is_token, options_of

_REQUEST_LINE = re.compile(rb"(" + METHOD + rb") ([!-~]+) HTTP/1\.([01])").fullmatch
_OTHER_VERSION = re.compile(METHOD + rb" [!-~]+ HTTP/[0-9](?:\.[0-9])?").fullmatch
_LENGTH = re.compile(rb"[0-9]{1,18}").fullmatch

#: A request id that is taken from the client: it can stand in logs, headers and JSON as it is.
_IS_REQUEST_ID = re.compile(rb"[A-Za-z0-9._~+/=:@-]{1,128}").fullmatch

#: Fields of one header section; their size has its own bound.
MAX_FIELDS = 1000

#: The bytes of a head that count as one small head, where a number of heads is the bound.
SMALL_HEAD = 8192

#: Names whose meaning is remembered besides those that are known, and how long they may be: clients choose them.
MAX_LEARNED, MAX_LEARNED_NAME = 1024, 64

_NO_OPTIONS: frozenset[bytes] = frozenset()
_METHODS = {name.encode("ascii"): name for name in ("GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS")}


class MalformedError(ValueError):
    """Bytes that have no reading, or more than one; ``reason`` says which refusal they get.

    ``not_http`` names what stands in place of a request (``first_bytes.KINDS``); empty where a request does.
    """

    def __init__(self, reason: Reason = Reasons.MALFORMED_HTTP, not_http: str = "") -> None:
        super().__init__(reason.code)
        self.reason = reason
        self.not_http = not_http


class Meaning(IntEnum):
    """What a field's name means to the gateway: where the reader puts its lines."""

    KEPT = 0  # falsy: goes upstream as it is, and says nothing to the gateway
    DROPPED = 1
    HOST = 2
    AUTHORIZATION = 3  # a credential; withheld too
    CONNECTION = 4
    REQUEST_ID = 5
    CONTENT_LENGTH = 6
    TRANSFER_ENCODING = 7
    FORWARDING = 8  # says where a request came from
    READ = 9  # goes upstream, and is read by the gateway as well
    TAKEN = 10  # read by the gateway alone
    WITHHELD = 11  # read, and goes upstream on routes that send credentials on
    AUTHORIZATION_TAKEN = 12  # a credential that goes upstream on no route


# Compared for each line of each request: plain numbers are faster.
(_DROPPED, _HOST, _AUTHORIZATION, _CONNECTION, _REQUEST_ID, _LENGTH_LINE, _CODING, _FORWARDING, _READ) = (
    int(meaning) for meaning in list(Meaning)[1:10]
)
_WITHHELD = int(Meaning.WITHHELD)
_AUTHORIZATION_TAKEN = int(Meaning.AUTHORIZATION_TAKEN)


@dataclass(slots=True)
class RequestHead:
    """A request's head that has one reading. It does not change: its types say so, which costs nothing.

    Values are without outer white space; lines are as received. A line of a field begins with the LF that ends the line
    before it, and is without its own end: so they are cut at single bytes, and joined as they are.

    Attributes:
        line: the request line.
        method: see ``fields.METHOD``; never in lower case.
        target: visible ASCII, otherwise unread.
        http_11: HTTP/1.1; else HTTP/1.0.
        kept: the lines that may go upstream, in order.
        hosts: the values of all Host lines.
        authorization: the values of all Authorization lines.
        withheld: the lines that may do so on some routes, each with its place among the kept ones.
        forwarding: lower-case name and value of each line that says where the request came from.
        read: lower-case name and value of each other line that the gateway reads, in order.
        options: what the Connection lines list, in lower case.
        content_length: the declared length; None without one.
        chunked: the content comes in chunks.
        request_id: the client's id for the request, if it gave one of a sane form.
        weight: for how many small heads it counts where a number of them is the bound.
    """

    line: Final[bytes]
    method: Final[str]
    target: Final[bytes]
    http_11: Final[bool]
    kept: Final[list[bytes]]
    hosts: Final[tuple[bytes, ...]]
    authorization: Final[tuple[bytes, ...]]
    withheld: Final[tuple[tuple[int, bytes], ...]]
    forwarding: Final[tuple[tuple[bytes, bytes], ...]]
    read: Final[tuple[tuple[bytes, bytes], ...]]
    options: Final[frozenset[bytes]]
    content_length: Final[int | None]
    chunked: Final[bool]
    request_id: Final[bytes | None]
    weight: Final[int]

    @property
    def has_content(self) -> bool:
        """Whether the request announces content (RFC 9112 section 6.3)."""
        return self.chunked or bool(self.content_length)

    @property
    def host(self) -> bytes:
        """The first Host as received; empty without one."""
        return self.hosts[0] if self.hosts else b""

    def values(self, name: bytes) -> list[bytes]:
        """Return the values of a field that the gateway reads; ``name`` in lower case."""
        return [value for key, value in self.read if key == name]


class HeadReader:
    """Reads heads under one configuration.

    Args:
        meaning: says what a name means, as spelled; asked once for each spelling, which is then remembered.
        usual: names in lower case that are known from the start, in their usual spellings, and never forgotten.
    """

    def __init__(self, meaning: Callable[[bytes], Meaning], usual: Iterable[bytes]) -> None:
        self._meaning = meaning
        spellings = (spelling for name in usual for spelling in (name, name.title(), name.upper()))
        self._usual = {b"\n" + spelling: int(meaning(spelling)) for spelling in spellings}
        self._known = self._usual.copy()  # by the name behind its LF

    def read(self, block: bytes) -> RequestHead:
        """Read a head, from the request line to the empty line.

        Raises:
            MalformedError: for anything that RFC 9112 sections 3, 5 and 6 do not allow a sender to send.
        """
        lines = block.split(b"\r")
        count = len(lines) - 1
        # All that is no part of a line is its end: nowhere a control, nowhere a CR or LF alone. That each LF follows
        # its CR at once is seen below: no name is known without the LF before it.
        request_line = _REQUEST_LINE(lines[0])
        if request_line is None or block.translate(None, VISIBLE) != b"\r\n" * count:
            raise MalformedError(_wrong_line(block.partition(b"\r\n")[0]))
        if count > MAX_FIELDS + 2:
            raise MalformedError(Reasons.HEAD_TOO_LARGE)
        method, target, version = request_line.groups()
        kept: list[bytes] = []
        hosts: tuple[bytes, ...] = ()
        authorization: tuple[bytes, ...] = ()
        withheld: tuple[tuple[int, bytes], ...] = ()
        others: list[tuple[int, bytes, bytes]] = []
        keep, known = kept.append, self._known.get
        for line in lines[1:-2]:
            name, colon, value = line.partition(b":")
            meaning = known(name)
            if meaning is None:
                meaning = self._learn(name)
            if not colon:
                raise MalformedError
            if not meaning:
                keep(line)
            elif meaning == _HOST:
                hosts += (value.strip(b" \t"),)
            elif meaning == _AUTHORIZATION:
                authorization += (value.strip(b" \t"),)
                withheld += ((len(kept), line),)
            elif meaning == _AUTHORIZATION_TAKEN:
                authorization += (value.strip(b" \t"),)
            elif meaning != _DROPPED:
                others.append((meaning, name, value.strip(b" \t")))
                if meaning == _READ:
                    keep(line)
                elif meaning == _WITHHELD:
                    withheld += ((len(kept), line),)
        if lines[-2] != b"\n":
            raise MalformedError
        forwarding, read, options, length, chunked, given = _sorted(others, version) if others else _NOTHING
        verb = _METHODS.get(method) or method.decode("ascii")
        return RequestHead(
            lines[0], verb, target, version == b"1", kept, hosts, authorization, withheld,
            forwarding, read, options, length, chunked, given, 1 + len(block) // SMALL_HEAD,
        )  # fmt: skip

    def read_alone(self, block: bytes) -> RequestHead | None:
        """Read bytes that end as a head does; None when they are no head, or a head and more: that has no reading."""
        try:
            return self.read(block)
        except MalformedError:
            return None

    def _learn(self, name: bytes) -> int:
        """Return what a name means that is not known.

        Args:
            name: behind the LF before it.

        Raises:
            MalformedError: it is no name.
        """
        if name[:1] != b"\n" or is_token(name[1:]) is None:
            raise MalformedError
        meaning = int(self._meaning(name[1:]))
        if len(name) <= 1 + MAX_LEARNED_NAME:
            if len(self._known) >= len(self._usual) + MAX_LEARNED:
                self._known.clear()
                self._known.update(self._usual)
            self._known[name] = meaning
        return meaning


# From ``forwarding`` to ``request_id``.
_Sorted = tuple[
    tuple[tuple[bytes, bytes], ...], tuple[tuple[bytes, bytes], ...], frozenset[bytes], int | None, bool, bytes | None
]
_NOTHING: _Sorted = ((), (), _NO_OPTIONS, None, False, None)


def _sorted(noted: list[tuple[int, bytes, bytes]], version: bytes) -> _Sorted:
    """Return what the lines say that mean something.

    Args:
        noted: meaning, name behind its LF, and value.
        version: the minor one.

    Raises:
        MalformedError: the framing has no reading, or two (RFC 9112 sections 6.1 to 6.3).
    """
    forwarding: tuple[tuple[bytes, bytes], ...] = ()
    read: tuple[tuple[bytes, bytes], ...] = ()
    connection: tuple[bytes, ...] = ()
    given, length, chunked = None, None, False
    for meaning, name, value in noted:
        if meaning == _CONNECTION:
            connection += (value,)
        elif meaning == _REQUEST_ID:
            given = value if given is None else b""
        elif meaning == _FORWARDING:
            forwarding += ((name[1:].lower(), value),)
        elif meaning == _LENGTH_LINE:
            if length is not None or chunked or _LENGTH(value) is None:
                raise MalformedError
            length = int(value)
        elif meaning == _CODING:
            if length is not None or chunked or value.lower() != b"chunked" or version == b"0":
                raise MalformedError
            chunked = True
        else:
            read += ((name[1:].lower(), value),)
    if given is not None and _IS_REQUEST_ID(given) is None:
        given = None
    # All lines at once: sets that grow line by line cost the square of what a client writes (CWE-407).
    options = options_of(b",".join(connection)) if connection else _NO_OPTIONS
    return forwarding, read, options, length, chunked, given


def _wrong_line(line: bytes) -> Reason:
    good = _OTHER_VERSION(line) and _REQUEST_LINE(line) is None
    return Reasons.HTTP_VERSION if good else Reasons.MALFORMED_HTTP
