"""Random HTTP/1.1 messages, and what docs/transparency.md says becomes of them.

Makes messages, and models the documented changes. The model is written from the
document, on purpose without the gateway's own lists of names: it is the other
opinion.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from email.utils import formatdate

from hypothesis import strategies as st

from tests.support.upstreams.recording import Received

Pair = tuple[bytes, bytes]

TCHAR = "!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
TOKENS = st.text(TCHAR, min_size=1, max_size=12).map(str.encode)

# --- what the document lists -----------------------------------------------------------------------------------------

_HOP_BY_HOP = frozenset(
    b"connection keep-alive proxy-connection te trailer transfer-encoding upgrade http2-settings "
    b"proxy-authenticate proxy-authentication-info proxy-authorization".split()
)
_REMOVED = _HOP_BY_HOP | frozenset(
    b"authorization dpop host content-length x-request-id expect proxy forwarded "
    b"x-user-id x-user-role x-scope script-name path-info remote-user "
    b"x-real-ip x-client-ip x-cluster-client-ip true-client-ip cf-connecting-ip cf-connecting-ipv6 fastly-client-ip "
    b"client-cert client-cert-chain "
    b"x-original-url x-original-uri x-original-host x-original-method x-rewrite-url front-end-https x-url-scheme "
    b"x-http-method x-http-method-override x-method-override".split()
)
_REMOVED_BEGINNINGS = (
    *(b"x-forward", b"x-client-cert", b"x-ssl", b"ssl-", b"x-remote-", b"daphne-", b"x-original-", b"wl-proxy-"),
    *(b"cas-", b"iv-", b"sm-", b"oam-", b"l5d-", b"x-nf-", b"shib-", b"oidc-", b"remote-", b"x-sso-", b"x-tls-"),
)
_PLAIN_NAME = re.compile(rb"[A-Za-z0-9-]+").fullmatch
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._~+/=:@-]{1,128}").fullmatch


def folded(name: bytes) -> bytes:
    """Return what services that read names loosely take a name for."""
    return re.sub(rb"[^a-z0-9]", b"-", name.lower()).removeprefix(b"http-")


def is_removed(name: bytes) -> bool:
    """Return whether no client's field of this name is sent on, under the default options; Connection aside."""
    spelled = folded(name)
    return (
        not _PLAIN_NAME(name)
        or spelled in _REMOVED
        or spelled.startswith(_REMOVED_BEGINNINGS)
        or (spelled in (b"via", b"max-forwards") and name.lower() != spelled)  # another spelling of a listed name
    )


def _nominated(fields: Iterable[Pair]) -> set[bytes]:
    named = (value.split(b",") for name, value in fields if name.lower() == b"connection")
    return {option.strip(b" \t").lower() for options in named for option in options}


# --- requests --------------------------------------------------------------------------------------------------------

#: Methods with a meaning, and some without a definition.
METHODS = st.sampled_from(
    b"GET HEAD POST PUT PATCH DELETE OPTIONS PROPFIND REPORT MKCOL COPY MOVE LOCK SEARCH M-SEARCH PURGE QUERY".split()
) | st.from_regex(rb"\A[A-Z0-9_-]{1,32}\Z").filter(lambda method: method not in (b"CONNECT", b"TRACE"))

_SEGMENT_CHARACTERS = [
    *"abcXYZ019-_~!$&'()*+,=:@.;",
    *('"', "<", ">", "[", "]", "^", "`", "{", "|", "}"),
    *("%20", "%41", "%7E", "%7e", "%2E", "%3B", "%3f", "%23", "%25", "%252e", "%252F", "%C3%A9", "%e2%82%ac"),
]
_SEGMENTS = st.lists(st.sampled_from(_SEGMENT_CHARACTERS), min_size=1, max_size=6).map("".join)
_AMBIGUOUS = re.compile(r"/(?:\.|%2e){1,2}(?:/|;|%3b|$)|/(?:;|%3b)[^/]*/", re.IGNORECASE).search
_PATHS = st.builds(
    lambda segments, slash: ("/" + "/".join(segments) + slash).replace("//", "/"),
    st.lists(_SEGMENTS, max_size=4),
    st.sampled_from(["", "/"]),
).filter(lambda path: not _AMBIGUOUS(path))
_QUERIES = st.none() | st.text([chr(code) for code in range(0x21, 0x7F) if chr(code) != "#"], max_size=20)
TARGETS = st.builds(lambda path, query: (path if query is None else f"{path}?{query}").encode(), _PATHS, _QUERIES)

_BLANKS = st.text(" \t", max_size=3).map(str.encode)
_TEXT = bytes([0x09, *range(0x20, 0x7F), *range(0x80, 0x100)])
VALUES = st.lists(st.sampled_from(_TEXT), max_size=24).map(bytes) | st.sampled_from(
    [b"", b"a, b", b"a,,b", b'"q\\"uoted"', b"a\xff\x80b", b"\xc3\xa9", b"x=1; Path=/; HttpOnly", b"gzip, br;q=0"]
)

#: Names that an honest client sends, and names that the document lists, in several spellings.
_ORDINARY_NAMES = st.sampled_from(
    b"Cookie cookie X-A x-a X-B Accept ACCEPT-ENCODING Range If-None-Match Content-Type Content-Encoding Content-MD5 "
    b"User-Agent traceparent X_Custom x.dotted Referer Origin DNT Via Date Max-Forwards From Link Warning".split()
)
_LISTED_NAMES = st.sampled_from(
    b"Authorization X-User-Id x_user_id X.USER.ROLE HTTP_X_SCOPE Keep-Alive Proxy-Connection TE Trailer HTTP2-Settings "
    b"Proxy-Authorization X-Forwarded-For x_forwarded_for X-FORWARDED-USER X-Forwarded Forwarded X-Real-IP "
    b"True-Client-IP client_cert X-SSL-Client-Verify X-Original-URL X-HTTP-Method-Override Proxy X-Request-Id "
    b"Content_Length Transfer.Encoding V_I_A http_via SCRIPT_NAME Script-Name Daphne-Root-Path Remote-User".split()
)
# A name that asks for something of the connection itself is another test's business.
_SPECIAL = frozenset(b"host content-length transfer-encoding connection expect upgrade".split())
NAMES = (_ORDINARY_NAMES | TOKENS | _LISTED_NAMES).filter(lambda name: name.lower() not in _SPECIAL)
_NOMINATIONS = st.lists(
    st.sampled_from([b"X-A", b"x-b", b"Cookie", b"", b" X_Custom ", b"Via", b"X-User-Id", b"Host", b"X-Forwarded-For"]),
    min_size=1,
    max_size=3,
).map(b",".join)
FIELDS = st.lists(
    st.tuples(NAMES, VALUES) | st.tuples(st.sampled_from([b"Connection", b"CONNECTION"]), _NOMINATIONS), max_size=8
)


@dataclass(frozen=True)
class Body:
    """Content and how it is framed: ``length``, ``chunked``, ``close`` (responses only) or ``none``."""

    framing: str
    pieces: tuple[bytes, ...] = ()

    @property
    def content(self) -> bytes:
        return b"".join(self.pieces)

    @property
    def fields(self) -> list[Pair]:
        """Return the framing's own field."""
        if self.framing == "length":
            return [(b"Content-Length", b"%d" % len(self.content))]
        return [(b"Transfer-Encoding", b"chunked")] if self.framing == "chunked" else []

    def wire(self) -> bytes:
        """Return the content as sent."""
        if self.framing != "chunked":
            return self.content
        return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in self.pieces) + b"0\r\n\r\n"


_PIECES = st.lists(st.binary(min_size=1, max_size=200), max_size=5).map(tuple)
REQUEST_BODIES = st.builds(Body, st.sampled_from(["length", "chunked"]), _PIECES) | st.just(Body("none"))
RESPONSE_BODIES = st.builds(Body, st.sampled_from(["length", "chunked", "close"]), _PIECES)


@dataclass(frozen=True)
class Request:
    """A request as a client writes it."""

    method: bytes
    target: bytes
    version: bytes
    fields: tuple[Pair, ...]
    body: Body
    framing_at: int
    blanks: tuple[bytes, bytes]

    def wire(self) -> bytes:
        """Return its bytes: the framing's field among the others, white space around values."""
        fields = list(self.fields)
        fields[self.framing_at % (len(fields) + 1) : 0] = self.body.fields
        before, behind = self.blanks
        lines = [b"%b %b %b" % (self.method, self.target, self.version), b"Host: Gateway.Test:8080"]
        lines += [b"%b:%b%b%b" % (name, before, value, behind) for name, value in fields]
        return b"\r\n".join(lines) + b"\r\n\r\n" + self.body.wire()


def _sendable(request: Request) -> bool:
    if request.method == b"OPTIONS" and any(name.lower() == b"max-forwards" for name, _ in request.fields):
        return False  # not every value may be forwarded, and none as it is
    return request.version == b"HTTP/1.1" or request.body.framing != "chunked"


REQUESTS = st.builds(
    Request,
    METHODS,
    TARGETS,
    st.sampled_from([b"HTTP/1.1", b"HTTP/1.1", b"HTTP/1.0"]),
    FIELDS.map(tuple),
    REQUEST_BODIES,
    st.integers(0, 8),
    st.tuples(_BLANKS, _BLANKS),
).filter(_sendable)


def expected_upstream(direct: Received, *, upstream: bytes, port: int, pseudonym: bytes, made_id: bytes) -> list[bytes]:
    """Return the lines that the document promises to the upstream of a public route, from what came in directly.

    Args:
        direct: the request as it reaches a server without the gateway.
        upstream: the host of the upstream's URL.
        port: the gateway's.
        pseudonym: the gateway's name in Via.
        made_id: the id that the gateway made, should it have to.
    """
    nominated = _nominated(direct.headers) - {b"host", b"authorization", b"via"}
    lines = [(line.partition(b":")[0], line) for line in direct.head.split(b"\r\n")[1:-2]]
    kept = [line for name, line in lines if not is_removed(name) and name.lower() not in nominated]
    version = direct.line.rpartition(b"HTTP/")[2]
    ids = direct.all(b"x-request-id")
    framing = [(name, value) for name, value in direct.headers if name in (b"Content-Length", b"Transfer-Encoding")]
    own = [
        (b"X-Forwarded-For", b"127.0.0.1"),
        (b"X-Forwarded-Proto", b"http"),
        (b"X-Forwarded-Host", b"Gateway.Test:8080"),
        (b"X-Forwarded-Port", b"%d" % port),
        (b"Via", version + b" " + pseudonym),
        (b"X-Request-Id", ids[0] if len(ids) == 1 and _REQUEST_ID(ids[0]) else made_id),
    ]
    return [b"Host: " + upstream, *kept, *(b"%b: %b" % pair for pair in (*framing, *own))]


# --- responses -------------------------------------------------------------------------------------------------------

_RESPONSE_NAMES = (
    st.sampled_from(
        b"Set-Cookie set-cookie Content-Type Content-Encoding ETag Date Server Location WWW-Authenticate Vary X-A x-a "
        b"X-User-Id X-Forwarded-For X-Request-Id Authorization Retry-After Link Via Cache-Control Content-Range "
        b"Keep-Alive TE Trailer Proxy-Authenticate Proxy-Connection".split()
    )
    | TOKENS
).filter(lambda name: name.lower() not in (b"content-length", b"transfer-encoding", b"connection", b"upgrade"))


@dataclass(frozen=True)
class Response:
    """A response as an upstream writes it."""

    status: int
    phrase: bytes
    fields: tuple[Pair, ...]
    body: Body

    def wire(self, *, head_only: bool) -> bytes:
        """Return its bytes; a HEAD's response, a 204 and a 304 have no content."""
        fields = [*self.fields, *([] if self.status == 204 else self.body.fields)]
        lines = [b"HTTP/1.1 %d %b" % (self.status, self.phrase), *(b"%b: %b" % pair for pair in fields)]
        body = b"" if head_only or self.status in (204, 304) else self.body.wire()
        return b"\r\n".join(lines) + b"\r\n\r\n" + body


RESPONSES = st.builds(
    Response,
    st.sampled_from([200, 201, 202, 204, 206, 301, 304, 307, 400, 401, 403, 404, 418, 429, 500, 503])
    | st.integers(200, 599),
    st.text([chr(code) for code in range(0x20, 0x7F)], max_size=20).map(lambda text: text.strip().encode()),
    st.lists(
        st.tuples(_RESPONSE_NAMES, VALUES) | st.tuples(st.just(b"Connection"), st.sampled_from([b"X-A", b"Via, x-b"])),
        max_size=8,
    ).map(tuple),
    RESPONSE_BODIES,
)


def expected_at_client(direct: Sequence[Pair], *, pseudonym: bytes, now: float) -> list[Pair]:
    """Return the fields that the document promises to a client, but for framing and Connection."""
    nominated = _nominated(direct) - {b"content-length", b"via"}
    kept = [pair for pair in direct if pair[0].lower() not in _HOP_BY_HOP and pair[0].lower() not in nominated]
    date = (b"Date", formatdate(int(now), usegmt=True).encode())
    dated = any(name.lower() == b"date" for name, _ in kept)
    return [*kept, (b"Via", b"1.1 " + pseudonym), *([] if dated else [date])]
