"""Public bug reports against proxies, over real sockets: each case is a test."""

from __future__ import annotations

import asyncio
import gzip
import ssl
import zlib
from pathlib import Path

import pytest

from tests.support.certificates import authority
from tests.support.gateways.running import RunningGateway, request, running_gateway
from tests.support.upstreams.recording import Received, raw_upstream

pytestmark = pytest.mark.every_log

PUBLIC = ({"path": "/", "auth": "public"},)


def answering(data: bytes):  # type: ignore[no-untyped-def]
    async def respond(received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        return data

    return respond


def framed(body: bytes, *headers: tuple[bytes, bytes], status: bytes = b"200 OK") -> bytes:
    lines = [b"HTTP/1.1 " + status, b"Content-Length: %d" % len(body), *(b"%b: %b" % pair for pair in headers)]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


@pytest.mark.parametrize(
    ("coding", "body"),
    [
        pytest.param(b"gzip", gzip.compress(b"x" * 5000), id="gzip"),
        pytest.param(b"deflate", zlib.compress(b"x" * 5000), id="deflate"),
        pytest.param(b"br", b"\x8b\x07\x80not really brotli\x03", id="br"),
        pytest.param(b"zstd", b"(\xb5/\xfd not really zstd", id="zstd"),
        pytest.param(b"gzip, gzip", gzip.compress(gzip.compress(b"x" * 50)), id="twice"),
        pytest.param(b"gzip", b"broken", id="broken"),
    ],
)
@pytest.mark.rule("C43", "R298")
async def test_compressed_response_passes_byte_for_byte(coding: bytes, body: bytes, tmp_path: Path) -> None:
    """No decoding in passing; Content-Encoding, Content-Length and ETag stay."""
    data = framed(body, (b"Content-Encoding", coding), (b"ETag", b'"abc"'))
    async with (
        raw_upstream(answering(data)) as upstream,
        running_gateway(upstream.url, tmp_path, routes=PUBLIC) as gateway,
    ):
        response = await gateway.get("/", (b"Accept-Encoding", b"gzip, br"))
    assert response.body == body
    assert response.one(b"content-encoding") == coding
    assert response.one(b"content-length") == b"%d" % len(body)
    assert response.one(b"etag") == b'"abc"'
    assert upstream.requests[0].one(b"accept-encoding") == b"gzip, br"


@pytest.mark.rule("R216")
async def test_compressed_request_content_passes_byte_for_byte(tmp_path: Path) -> None:
    """The server side does not inflate either."""
    body = gzip.compress(b"x" * 100_000)
    async with raw_upstream() as upstream, running_gateway(upstream.url, tmp_path, routes=PUBLIC) as gateway:
        headers = ((b"Content-Encoding", b"gzip"), (b"Content-Length", b"%d" % len(body)))
        response = await gateway.exchange(request(b"POST", "/", *headers, body=body))
    assert response.status == 200
    assert upstream.requests[0].body == body
    assert upstream.requests[0].one(b"content-length") == b"%d" % len(body)


@pytest.mark.parametrize(
    "target",
    [
        b"/a%2Fb%27c%41?x=%27&y=%2B+%20",
        b"/path%28t%29",
        b"/%E2%82%AC",
        b"/x?q=a&q=b&q=",
        b"/x?",
        b"/x??",
        b"/x?a;b",
        b"/x?x=%7e&y=a+b&[]={}&%zz",
        b"/%7Euser/~user/a:b@c!$&'()*+,;=d",
        b"/%252e%252e",
    ],
)
@pytest.mark.rule("C45", "R232", "R241")
async def test_request_line_reaches_the_upstream_byte_for_byte(target: bytes, tmp_path: Path) -> None:
    """What the rules see is what the upstream gets; the encoded slash where the route allows it."""
    routes = ({"path": "/", "auth": "public", "allow_encoded_slash": True},)
    async with raw_upstream() as upstream, running_gateway(upstream.url, tmp_path, routes=routes) as gateway:
        response = await gateway.get(target)
    assert response.status == 200
    assert upstream.requests[0].target == target


@pytest.mark.parametrize(
    "target",
    [
        b"/pub/../admin",
        b"/pub/%2e%2e/admin",
        b"/pub/.%2E/admin",
        b"/pub/..%2fadmin",
        b"/pub%2f..%2fadmin",
        b"/pub/%5c..%5cadmin",
        b"//admin",
        b"/./admin",
        b"/admin;x",
        b"/%61dmin",
        b"/pub/..;/admin",
        b"/pub/%00/admin",
        b"/a%",
        b"/pub/%c0%ae%c0%ae/admin",
    ],
)
@pytest.mark.rule("C46", "R228", "R229", "R230", "R231", "R232", "R233", "R234", "R235", "R236", "R237")
async def test_no_spelling_of_a_path_reaches_a_protected_route_without_a_token(target: bytes, tmp_path: Path) -> None:
    """Guard and upstream agree on the path, or it is refused."""
    routes = ({"path": "/pub", "auth": "public"}, {"path": "/admin"})
    async with raw_upstream() as upstream, running_gateway(upstream.url, tmp_path, routes=routes) as gateway:
        response = await gateway.get(target)
    assert response.status in (400, 401)
    assert response.json["error"] in ("bad_path", "missing_token", "bad_request")
    assert upstream.requests == []
    assert upstream.connections == 0


@pytest.mark.rule("C48", "R263", "R268")
async def test_repeated_fields_stay_separate_and_in_order(tmp_path: Path) -> None:
    data = framed(b"", (b"Set-Cookie", b"sid=A"), (b"Link", b"<1>"), (b"Set-Cookie", b"b=2"), (b"Link", b"<2>"))
    async with (
        raw_upstream(answering(data)) as upstream,
        running_gateway(upstream.url, tmp_path, routes=PUBLIC) as gateway,
    ):
        response = await gateway.get(
            "/", (b"Cookie", b'a="b;c"'), (b"X-A", b"1"), (b"Cookie", b"=x"), (b"x-a", b"2"), (b"X-A", b"")
        )
    assert [value for name, value in response.headers if name == b"Set-Cookie"] == [b"sid=A", b"b=2"]
    assert response.all(b"link") == [b"<1>", b"<2>"]
    received = upstream.requests[0]
    assert received.all(b"cookie") == [b'a="b;c"', b"=x"]
    assert [(n, v) for n, v in received.headers if n.lower() == b"x-a"] == [
        (b"X-A", b"1"),
        (b"x-a", b"2"),
        (b"X-A", b""),
    ]


@pytest.mark.rule("C49", "R267")
async def test_cookies_of_one_user_are_never_sent_for_another(tmp_path: Path) -> None:
    """By host name, since aiohttp's jar ignores addresses."""
    data = framed(b"", (b"Set-Cookie", b"sid=A; Path=/"))
    async with raw_upstream(answering(data)) as upstream:
        url = upstream.url.replace("127.0.0.1", "localhost")
        async with running_gateway(url, tmp_path, routes=PUBLIC) as gateway:
            await gateway.get("/")
            await gateway.get("/")
    assert [received.all(b"cookie") for received in upstream.requests] == [[], []]


@pytest.mark.parametrize("filler", [0, 150])
@pytest.mark.parametrize("spelling", [b"X-User-Id", b"x-user-id", b"X_User_Id", b"X-User_Id", b"X.User.Id"])
@pytest.mark.rule("C51", "C52", "R340", "R341", "R344")
async def test_identity_headers_of_a_client_never_reach_the_upstream(
    spelling: bytes, filler: int, tmp_path: Path
) -> None:
    """On public and protected routes, with and without the claim."""
    routes = ({"path": "/pub", "auth": "public"}, {"path": "/"})
    forged = (
        *((b"X-Filler-%d" % number, b"x") for number in range(filler)),
        (spelling, b"admin"),
        (spelling, b"root"),
        (b"x-user-role", b"admin"),
    )
    async with raw_upstream() as upstream, running_gateway(upstream.url, tmp_path, routes=routes) as gateway:
        assert (await gateway.get("/pub", *forged)).status == 200
        assert (await gateway.get("/", *forged, token=gateway.token())).status == 200
        assert (await gateway.exchange(request(b"OPTIONS", "/pub", *forged))).status == 200
    public, protected, options = upstream.requests
    for received in (public, options):
        assert b"admin" not in received.head
        assert b"root" not in received.head
    assert protected.all(b"x-user-id") == [b"alice"]
    assert protected.all(b"x-user-role") == []
    assert b"admin" not in protected.head


@pytest.mark.rule("C54", "R256", "R258")
async def test_forwarding_fields_of_an_untrusted_peer_are_replaced(tmp_path: Path) -> None:
    """One line each, with the real values."""
    forged = (
        (b"X-Forwarded-For", b"10.0.0.1"),
        (b"X-Forwarded-Proto", b"https"),
        (b"X-Forwarded-Host", b"admin.test"),
        (b"Forwarded", b"for=1.2.3.4"),
        (b"X-Real-IP", b"10.0.0.1"),
    )
    async with raw_upstream() as upstream, running_gateway(upstream.url, tmp_path, routes=PUBLIC) as gateway:
        await gateway.get("/", *forged)
    received = upstream.requests[0]
    assert received.one(b"x-forwarded-for") == b"127.0.0.1"
    assert received.one(b"x-forwarded-proto") == b"http"
    assert received.one(b"x-forwarded-host") == b"gateway.test"
    assert received.all(b"forwarded") == []
    assert received.all(b"x-real-ip") == []


@pytest.mark.rule("C54", "R257")
async def test_forwarding_fields_of_a_trusted_proxy_are_appended_to(tmp_path: Path) -> None:
    """And the log shows the client behind the proxy."""
    given = ((b"X-Forwarded-For", b"198.51.100.7"), (b"X-Forwarded-Proto", b"https"))
    async with (
        raw_upstream() as upstream,
        running_gateway(upstream.url, tmp_path, routes=PUBLIC, server={"trusted_proxies": ["127.0.0.0/8"]}) as gateway,
    ):
        await gateway.get("/", *given)
        log = await gateway.log()
    received = upstream.requests[0]
    assert received.one(b"x-forwarded-for") == b"198.51.100.7, 127.0.0.1"
    assert received.one(b"x-forwarded-proto") == b"https"
    assert log[0]["client"] == "198.51.100.7"


MALFORMED = [
    pytest.param(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n", id="cl-te"),
    pytest.param(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n", id="two-lengths"),
    pytest.param(b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: xchunked\r\n\r\n", id="xchunked"),
    pytest.param(b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked, identity\r\n\r\n", id="chunked-not-last"),
    pytest.param(b"GET / HTTP/1.1\r\nHost: h\r\nX: a\rb\r\n\r\n", id="bare-cr"),
    pytest.param(b"GET / HTTP/1.1\r\nHost: h\r\nX: a\nb: c\r\n\r\n", id="bare-lf"),
    pytest.param(b"GET / HTTP/1.1\r\nHost: h\r\nX : a\r\n\r\n", id="space-before-colon"),
    pytest.param(b"GET / HTTP/1.1\r\nHost: h\r\nSECRETMARK\r\n\r\n", id="no-colon"),
    pytest.param(b"GET / HTTP/1.1\r\n\r\n", id="no-host"),
    pytest.param(b"GET / HTTP/1.1\r\nHost: h\r\nHost: i\r\n\r\n", id="two-hosts"),
    pytest.param(b"SECRETMARK\r\n\r\n", id="no-request"),
    pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", id="tls-hello"),
]


@pytest.mark.parametrize("data", MALFORMED)
@pytest.mark.rule("C55", "R200", "R201", "R202", "R203", "R204", "R205", "R206", "R207", "R208", "R274")
async def test_malformed_or_ambiguous_framing_is_refused_and_the_connection_closed(data: bytes, tmp_path: Path) -> None:
    """400, nothing upstream, nothing of the request in the answer or log."""
    async with raw_upstream() as upstream, running_gateway(upstream.url, tmp_path, routes=PUBLIC) as gateway:
        client = await gateway.client()
        response = await client.exchange(data + request(b"GET", "/canary"))
        assert response.status == 400
        assert response.json["error"] == "bad_request"
        assert response.one(b"connection") == b"close"
        assert await client.at_end()
        log = await gateway.log()
    assert upstream.connections == 0
    assert b"SECRETMARK" not in response.head + response.body
    assert "SECRETMARK" not in str(log)
    assert log[0]["reason"] in ("malformed_http", "bad_host")


@pytest.mark.parametrize(
    "body",
    [b"5\r\nabc\r\n0\r\n\r\n", b"3\r\nabcdef\r\n0\r\n\r\n", b"0x3\r\nabc\r\n0\r\n\r\n", b"3;a\nb\r\nabc\r\n0\r\n\r\n"],
)
@pytest.mark.rule("C55", "R208")
async def test_broken_chunks_never_complete_an_upstream_request(body: bytes, tmp_path: Path) -> None:
    """The upstream sees at most an aborted request."""
    async with raw_upstream() as upstream, running_gateway(upstream.url, tmp_path, routes=PUBLIC) as gateway:
        client = await gateway.client()
        await client.send(request(b"POST", "/", (b"Transfer-Encoding", b"chunked"), body=body))
        client.half_close()
        try:
            response = await client.response()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        else:
            assert response.status == 400
    assert not any(received.complete for received in upstream.requests)


@pytest.mark.parametrize("method", [b"GET", b"HEAD", b"DELETE", b"OPTIONS", b"POST"])
@pytest.mark.rule("C56", "R300")
async def test_request_without_content_gains_none(method: bytes, tmp_path: Path) -> None:
    """Neither Transfer-Encoding nor Content-Length nor Content-Type appears."""
    async with (
        raw_upstream(answering(framed(b""))) as upstream,
        running_gateway(upstream.url, tmp_path, routes=PUBLIC) as gateway,
    ):
        response = await gateway.exchange(request(method, "/"), head_only=method == b"HEAD")
    assert response.status == 200
    received = upstream.requests[0]
    assert received.all(b"transfer-encoding") == []
    assert received.all(b"content-length") == []
    assert received.all(b"content-type") == []


@pytest.mark.parametrize(
    ("headers", "body", "length", "coding"),
    [
        pytest.param(((b"Content-Length", b"0"),), b"", b"0", None, id="empty"),
        pytest.param(((b"Content-Length", b"3"),), b"abc", b"3", None, id="length"),
        pytest.param(((b"Content-Length", b"0003"),), b"abc", b"3", None, id="leading-zeros"),
        pytest.param(((b"Transfer-Encoding", b"chunked"),), b"3\r\nabc\r\n0\r\n\r\n", None, b"chunked", id="chunked"),
        pytest.param(((b"Transfer-Encoding", b"chunked"),), b"0\r\n\r\n", None, b"chunked", id="empty-chunked"),
    ],
)
@pytest.mark.parametrize("method", [b"POST", b"DELETE", b"GET"])
@pytest.mark.rule("C56", "R203", "R211", "R212", "R300")
async def test_request_content_keeps_its_framing(
    method: bytes,
    headers: tuple[tuple[bytes, bytes], ...],
    body: bytes,
    length: bytes | None,
    coding: bytes | None,
    tmp_path: Path,
) -> None:
    async with raw_upstream() as upstream, running_gateway(upstream.url, tmp_path, routes=PUBLIC) as gateway:
        client = await gateway.client()
        assert (await client.exchange(request(method, "/", *headers, body=body))).status == 200
        assert (await client.exchange(request(b"GET", "/next"))).status == 200
    received = upstream.requests[0]
    assert received.one(b"content-length") == length
    assert received.one(b"transfer-encoding") == coding
    assert received.body == (b"abc" if b"abc" in body else b"")
    assert upstream.requests[1].target == b"/next"


@pytest.mark.rule("C57", "R265", "R266")
async def test_no_field_is_invented_in_either_direction(tmp_path: Path) -> None:
    """The exact list of what the gateway adds."""
    data = b"HTTP/1.1 200 OK\r\nServer: up\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\nContent-Length: 2\r\n\r\nok"
    async with (
        raw_upstream(answering(data)) as upstream,
        running_gateway(upstream.url, tmp_path, routes=PUBLIC) as gateway,
    ):
        response = await gateway.get("/")
    sent = [name for name, _ in upstream.requests[0].headers]
    assert sent == [
        b"Host",
        b"X-Forwarded-For",
        b"X-Forwarded-Proto",
        b"X-Forwarded-Host",
        b"X-Forwarded-Port",
        b"Via",
        b"X-Request-Id",
    ]
    assert [name for name, _ in response.headers] == [b"Server", b"Date", b"Content-Length", b"Via"]


@pytest.mark.rule("R269", "R270")
async def test_redirect_is_passed_on_not_followed(tmp_path: Path) -> None:
    data = framed(b"", (b"Location", b"http://internal/x"), status=b"307 Temporary Redirect")
    async with (
        raw_upstream(answering(data)) as upstream,
        running_gateway(upstream.url, tmp_path, routes=PUBLIC) as gateway,
    ):
        response = await gateway.get("/")
    assert response.status == 307
    assert response.one(b"location") == b"http://internal/x"
    assert len(upstream.requests) == 1


async def _two_after_idle_death(gateway: RunningGateway, second: bytes) -> tuple[int, int]:
    first = await gateway.get("/warm-up")
    response = await gateway.exchange(second)
    return first.status, response.status


@pytest.mark.rule("C60", "R310")
async def test_get_on_a_connection_that_the_upstream_just_closed_is_sent_once_more(tmp_path: Path) -> None:
    """One silent retry on a fresh connection."""

    async def die_on_reuse(
        received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bytes | None:
        seen = sum(1 for other in upstream.requests if other.connection == received.connection)
        return None if seen > 1 else framed(b"ok")

    async with (
        raw_upstream(die_on_reuse) as upstream,
        running_gateway(upstream.url, tmp_path, routes=PUBLIC) as gateway,
    ):
        assert await _two_after_idle_death(gateway, request(b"GET", "/again")) == (200, 200)
    assert [received.target for received in upstream.requests] == [b"/warm-up", b"/again", b"/again"]


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(request(b"POST", "/again"), id="post-without-content"),
        pytest.param(request(b"POST", "/again", (b"Content-Length", b"3"), body=b"abc"), id="post"),
        pytest.param(request(b"PUT", "/again", (b"Content-Length", b"3"), body=b"abc"), id="put-with-content"),
        pytest.param(
            request(b"POST", "/again", (b"Transfer-Encoding", b"chunked"), body=b"3\r\nabc\r\n0\r\n\r\n"), id="chunked"
        ),
    ],
)
@pytest.mark.rule("C60", "R310", "R311")
async def test_request_that_may_have_had_an_effect_is_never_sent_twice(data: bytes, tmp_path: Path) -> None:
    """502 instead."""

    async def die_on_reuse(
        received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bytes | None:
        seen = sum(1 for other in upstream.requests if other.connection == received.connection)
        return None if seen > 1 else framed(b"ok")

    async with (
        raw_upstream(die_on_reuse) as upstream,
        running_gateway(upstream.url, tmp_path, routes=PUBLIC) as gateway,
    ):
        assert await _two_after_idle_death(gateway, data) == (200, 502)
    assert [received.target for received in upstream.requests] == [b"/warm-up", b"/again"]


@pytest.mark.parametrize("method", [b"GET", b"POST"])
@pytest.mark.rule("C60", "R333")
async def test_upstream_that_closes_a_fresh_connection_unanswered_is_a_bad_gateway(
    method: bytes, tmp_path: Path
) -> None:
    """502, no retry, no upstream name in the body."""

    async def die(received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        return None

    async with raw_upstream(die) as upstream, running_gateway(upstream.url, tmp_path, routes=PUBLIC) as gateway:
        response = await gateway.exchange(request(method, "/"))
    assert response.status == 502
    assert response.json["error"] == "bad_gateway"
    assert len(upstream.requests) == 1
    assert str(upstream.port).encode() not in response.body


@pytest.mark.parametrize(
    ("url", "status", "reason"),
    [
        pytest.param("http://127.0.0.1:1", 502, "upstream_connect", id="refused"),
        pytest.param("http://name.invalid:80", 502, "upstream_name", id="no-such-name"),
    ],
)
@pytest.mark.rule("C60", "R109")
async def test_upstream_that_cannot_be_reached_is_a_bad_gateway(
    url: str, status: int, reason: str, tmp_path: Path
) -> None:
    """502 with the reason in the log only."""
    async with running_gateway(url, tmp_path, routes=PUBLIC) as gateway:
        response = await gateway.get("/")
        log = await gateway.log()
    assert response.status == status
    assert response.json["error"] == "bad_gateway"
    assert log[0]["reason"] == reason
    assert log[0]["outcome"] == "failed"


@pytest.mark.rule("C60", "R330")
async def test_upstream_with_a_certificate_that_nobody_vouches_for_is_a_bad_gateway(tmp_path: Path) -> None:
    """TLS to upstreams is verified."""
    certificate = authority(tmp_path).sign("upstream", "127.0.0.1")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate.cert, certificate.key)
    async with raw_upstream(tls=context) as upstream, running_gateway(upstream.url, tmp_path, routes=PUBLIC) as gateway:
        response = await gateway.get("/")
        log = await gateway.log()
    assert response.status == 502
    assert log[0]["reason"] == "upstream_tls"
    assert upstream.requests == []


@pytest.mark.parametrize("protocol", [b"websocket", b"h2c", b"foo"])
@pytest.mark.rule("R320", "R321")
async def test_upgrade_is_not_passed_on_and_what_follows_is_judged_as_requests(protocol: bytes, tmp_path: Path) -> None:
    """No tunnel without a route for it; bytes behind the request are requests of their own."""
    headers = ((b"Connection", b"Upgrade, HTTP2-Settings"), (b"Upgrade", protocol), (b"HTTP2-Settings", b"AAAA"))
    routes = ({"path": "/", "websocket": False},)
    async with raw_upstream() as upstream, running_gateway(upstream.url, tmp_path, routes=routes) as gateway:
        client = await gateway.client()
        token = gateway.token()
        first = await client.exchange(request(b"GET", "/", *headers, token=token) + request(b"GET", "/behind"))
        second = await client.response()
        third = await client.exchange(request(b"GET", "/later", token=token))
        await client.send(request(b"GET", "/", *headers, token=token))
        await client.send(b"\x81\x05hello\r\n\r\n")
        assert (await client.response()).status == 200
        assert (await client.response()).status == 400
    assert (first.status, second.status, third.status) == (200, 401, 200)
    assert [received.target for received in upstream.requests] == [b"/", b"/later", b"/"]
    assert all(received.all(b"upgrade") + received.all(b"http2-settings") == [] for received in upstream.requests)
