"""The requests of the differential run, the answers of its upstream, and the configurations it runs under.

This file has what is sent. A session repeats itself as one client's requests
do, in nearly everything but not quite.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from random import Random
from typing import Any, NamedTuple

from tests.support.tokens.api_keys import KEY, OTHER, entry
from tests.support.upstreams.recording import Received

#: The routes that the tests of either lane use as well.
COMMON_ROUTES: tuple[dict[str, Any], ...] = (
    {"path": "/pub", "auth": "public"},
    {"path": "/opt", "auth": "optional"},
    {"path": "/scope", "scopes": ["write"]},
    {"path": "/no", "scopes": ["never:granted"]},
    {"path": "/observed", "observe": True, "scopes": ["never:granted"]},
    {"path": "/strip", "strip_prefix": True, "auth": "public"},
    {"path": "/token", "forward_authorization": True},
    {"path": "/post", "methods": ["POST"], "auth": "public"},
    {"path": "/bound", "sender_constrained": "required"},
    {"path": "/keys", "credentials": ["api_key"]},
    {"path": "/either", "credentials": ["jwt", "api_key"], "scopes": ["read"]},
)

ROUTES: tuple[dict[str, Any], ...] = (
    {"path": "/", "hosts": ["api.test", "o.test"]},
    *COMMON_ROUTES,
    {"path": "/exact", "match": "exact", "auth": "optional"},
    {"path": "/maybe", "credentials": ["jwt", "api_key"], "auth": "optional"},
    {"path": "/pages", "auth": "public", "cors_origins": ["https://a.test"]},
    {
        "path": "/app",
        "cors_origins": ["https://a.test"],
        "cors_credentials": True,
        "cors_methods": ["GET", "POST"],
        "cors_expose_headers": ["X-Kept"],
    },
    {"path": "/limited", "rate_limit": [{"requests": 1_000_000}]},
)
API_KEYS = [entry(scopes=["read"]), entry(OTHER, "other", expires="2020-01-01T00:00:00Z")]
RESOURCES = [{"resource": "https://api.test"}]

_BEHIND = {"trusted_proxies": ["127.0.0.0/8"]}

#: Options of ``[server]``, one run each.
SERVERS: tuple[Mapping[str, Any], ...] = (
    {},
    {**_BEHIND, "underscore_headers": "pass", "strip_headers": ["X-Mine"]},
    {**_BEHIND, "forwarded_fields": "forwarded", "max_body_bytes": 1000},
    {**_BEHIND, "forwarded_fields": "both"},
)

TARGETS = (
    *(b"/", b"/a?x=1", b"/pub", b"/pub/%61;p?q", b"/opt", b"/scope", b"/no", b"/observed", b"/strip/x?z", b"/token"),
    *(b"/post", b"/bound", b"/keys", b"/either", b"/pages", b"/limited", b"/a%2fb", b"/a/../b", b"http://o.test/pub"),
    *(b"/a?access_token=x", b"/.well-known/oauth-protected-resource", b"*", b"/pub?kind=chunked", b"/pub?kind=closing"),
    *(b"/pub?kind=none", b"/pub?kind=cookies", b"/pub?kind=error", b"/pub?kind=nominating", b"/app", b"/maybe"),
    *(b"/exact", b"/exact/", b"/publ", b"/strip", b"/pub//x", b"/pub/.", b"/pub;a=b/x", b"/app?kind=cors", b"/%2e/x"),
    *(b"/pub?kind=interim", b"/pub?kind=until", b"/pub?kind=dated", b"/pub?kind=big", b"/pub?kind=unchanged"),
    *(b"/pub?kind=refusing", b"/opt?kind=chunked", b"/pub?kind=old", b"/pub?kind=cut", b"/app?kind=chunked", b"/a#b"),
    *(b"HTTP://API.TEST/a", b"https://api.test:1/pub", b"/pages?kind=cors", b"/PUB", b"/pub?a=%00", b"/\xc3\xa9"),
)
METHODS = (*(b"GET",) * 8, b"HEAD", b"POST", b"POST", b"PUT", b"DELETE", b"OPTIONS", b"PURGE", b"TRACE")
ODD_METHODS = (b"post", b"get", b"GET!", b"A" * 32, b"A" * 33, b"M-SEARCH", b"X_Y", b"CONNECT", b"Trace", b"PATCH")
HOSTS = (b"other.test", b"API.test", b"api.test:80", b"api.test.", b"", b"a b", b"[::1]:8080")

RESPONSES: dict[bytes, bytes] = {
    b"chunked": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    b"closing": b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
    b"none": b"HTTP/1.1 204 No Content\r\nX-A: b\r\n\r\n",
    b"cookies": b"HTTP/1.1 200 Fine\r\nSet-Cookie: a=1\r\nset-cookie: b=2\r\nX-Odd:  \xff \r\n"
    b"Content-Length: 1\r\n\r\nx",
    b"error": b"HTTP/1.1 500 Oops\r\nContent-Length: 3\r\n\r\nerr",
    b"nominating": b"HTTP/1.1 200 OK\r\nConnection: X-Gone\r\nX-Gone: 1\r\nX-Kept: 2\r\nContent-Length: 0\r\n\r\n",
    b"interim": b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx",
    b"until": b"HTTP/1.1 200 OK\r\nX-A: b\r\n\r\nuntil the end",
    b"old": b"HTTP/1.0 200 OK\r\nX-A: b\r\nContent-Length: 3\r\n\r\nold",
    b"dated": b"HTTP/1.1 200 OK\r\ndate: Mon, 30 Nov 2026 00:00:00 GMT\r\nContent-Length: 1\r\n\r\nx",
    b"big": b"HTTP/1.1 200 OK\r\nContent-Length: 200000\r\n\r\n" + b"b" * 200_000,
    b"unchanged": b"HTTP/1.1 304 Not Modified\r\nETag: a\r\nContent-Length: 99\r\n\r\n",
    b"refusing": b"HTTP/1.1 413 No\r\nContent-Length: 2\r\n\r\nno",
    b"cors": b"HTTP/1.1 200 OK\r\nAccess-Control-Allow-Origin: *\r\nAccess-Control-Allow-Credentials: true\r\n"
    b"Vary: X-A\r\nX-Kept: 1\r\nContent-Length: 1\r\n\r\nx",
    b"cut": b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\ncut",
}

#: Answers behind which the upstream closes the connection.
CLOSING = (b"closing", b"until", b"old", b"cut")

FIELDS = (
    *(b"Connection: keep-alive", b"X-A: 1", b"x-a:2", b"X-User-Id: admin", b"X_User_Id: admin", b"Cookie: a=b"),
    *(b"X-Forwarded-For: 10.0.0.1", b"X-Odd: \xff\xfe", b"X-Space:   a \t ", b"Via: 1.0 before", b"TE: trailers"),
    *(b"Origin: https://a.test", b"Origin: https://b.test", b"Access-Control-Request-Method: POST", b"X_Tenant: a"),
    *(b"SCRIPT_NAME: /pub", b"Remote-User: root", b"X-Mine: 1", b"x-mine: 2", b"X.Dots: 1", b"X-Forwarded-Proto: wss"),
    *(b"X-Forwarded-For: 10.0.0.1, 127.0.0.5", b"X-Forwarded-Host: h.test", b"X-Forwarded-Port: 1", b"Range: bytes=0-"),
    *(b"Forwarded: for=10.0.0.9;proto=https;host=f.test", b"Forwarded: for=_x", b"forwarded: for=", b"DPoP: x"),
    *(b"X-Forwarded-Proto: HTTPS", b"Forwarded: for=10.0.0.1, for=127.0.0.2;proto=ws", b"Content-Type: text/plain"),
    *(b"Accept-Encoding: gzip", b"Connection: X-A", b"Connection: keep-alive, X-Mine", b"If-None-Match: a", b"X-A:"),
    *(b"Access-Control-Request-Headers: x-a", b"Cookie: c=d; e", b"Keep-Alive: 5", b"Proxy-Connection: keep-alive"),
    *(
        b"Expect: other",
        b"Upgrade: foo",
        b"Max-Forwards: 3",
        b"Content-Length: 0",
        b"Connection: close",
        b"Bad Name: x",
    ),
    *(b"Max-Forwards: 0", b"Max-Forwards: x", b"Expect: 100-continue", b"Authorization: Basic YTpi", b"Authorization:"),
    *(b"Transfer-Encoding: identity", b"Content-Length: x", b"X-Request-Id: twice", b"X-Request-Id: \xff", b" folded"),
    *(b"Connection: upgrade\r\nUpgrade: websocket", b"HTTP2-Settings: a", b"X-Long: " + b"l" * 9000, b"Host: o.test"),
    *(b"X-Api-Key: " + KEY, b"X-Api-Key: " + OTHER, b"X-Api-Key: unknown", b"X-Api-Key:"),
)

#: Fields from here on end connections, or most requests of a session that had them; they are put in one by one.
SINGLE = FIELDS.index(b"Expect: other")

#: What ids are made of, and words that answers and heads are made of.
ID_LETTERS = b"ABCXYZabcxyz0123456789._~+/=:@-"
WORDS = (
    *(b"1", b"9", b"77", b"4", b"401", b"200", b"OK", b"HTTP/1.1", b"H", b"Unauthorized", b"X-Request-Id:", b"error"),
    *(b"Content-Length:", b"request_id", b"Bearer", b"gateway", b"invalid_token", b"Host:", b"Via:", b"e", b":", b"/"),
)


class Request(NamedTuple):
    """One request, and what is needed to read its answer."""

    data: bytes
    method: bytes


async def respond(received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes | None:
    """Answer as the target asks for."""
    kind = received.target.partition(b"kind=")[2]
    data = RESPONSES.get(kind, b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")
    if received.line.startswith(b"HEAD "):
        heads, _, _ = data.rpartition(b"\r\n\r\n")
        data = heads + b"\r\n\r\n"
    if kind in CLOSING:
        writer.write(data)
        return None
    return data


class Maker:
    """Makes the requests of one session, which repeat each other as those of one client do."""

    def __init__(self, random: Random, tokens: Sequence[bytes]) -> None:
        self._random = random
        self._tokens = [*random.sample(tokens, 2), b""]
        self._targets = random.sample(TARGETS, random.randint(1, 5))
        self._fields = random.sample(FIELDS[:SINGLE], random.randint(0, 4))
        if random.random() < 0.2:
            self._fields.append(b"X-Api-Key: " + random.choice((KEY, OTHER)))
        self._traced = random.random() < 0.5
        self._host = random.choice(HOSTS) if random.random() < 0.1 else b"api.test"

    def request(self) -> Request:
        random = self._random
        method, target = random.choice(METHODS), random.choice(self._targets)
        if random.random() < 0.02:
            method = random.choice(ODD_METHODS)
        fields = list(self._fields)
        if random.random() < 0.1:
            fields.append(random.choice(FIELDS))
        if fields and random.random() < 0.1:
            fields.pop(random.randrange(len(fields)))
        if random.random() < 0.05:
            random.shuffle(fields)
        token = random.choice(self._tokens)
        if token:
            fields.insert(random.choice((0, len(fields))), b"Authorization: Bearer " + token)
        if self._traced:
            fields.append(b"X-Trace: %d" % random.randrange(1000))
        if random.random() < 0.9:
            fields.append(b"X-Request-Id: " + self._id())
        framing, content = self._content(method)
        version = b"1.0" if random.random() < 0.005 else b"1.1"
        host = random.choice(HOSTS) if random.random() < 0.01 else self._host
        lines = [b"%b %b HTTP/%b" % (method, target, version), b"Host: " + host, *fields, *framing]
        return Request(b"\r\n".join(lines) + b"\r\n\r\n" + content, method)

    def _content(self, method: bytes) -> tuple[list[bytes], bytes]:
        random = self._random
        if method not in (b"POST", b"PUT", b"PATCH") and random.random() > 0.02:
            return [], b""
        size = random.choice((0, 1, 3, 3, 200, 1000, 1001, 20_000))
        content = b"x" * size
        if random.random() < 0.7:
            return [b"Content-Length: %d" % size], content
        half = random.randint(0, size)
        chunks = [b"%x%b\r\n%b\r\n" % (len(piece), random.choice((b"", b"", b";a=b")), piece)
                  for piece in (content[:half], content[half:]) if piece]  # fmt: skip
        trailer = b"X-User-Id: admin\r\n" if random.random() < 0.1 else b""
        return [b"Transfer-Encoding: chunked"], b"".join(chunks) + b"0\r\n" + trailer + b"\r\n"

    def _id(self) -> bytes:
        if self._random.random() < 0.3:
            return self._random.choice(WORDS)
        return bytes(self._random.choices(ID_LETTERS, k=self._random.randint(1, 128)))
