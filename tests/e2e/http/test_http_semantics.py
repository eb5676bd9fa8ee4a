"""What is left of the rules of HTTP itself, over raw sockets and in both lanes (R200-R334)."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from gateway.http1.request_head import Head
from gateway.server.aiohttp_lane.placeholders import StandIns
from tests.support.gateways.running import RawClient, request, running_gateway
from tests.support.upstreams.recording import Received, raw_upstream

PUBLIC = ({"path": "/", "auth": "public"},)


@pytest.mark.rule("R302")
async def test_trailers_of_a_response_are_not_passed_on(tmp_path: Path) -> None:
    """Also when the client says that it takes them; the next response is in its place."""

    async def respond(received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        assert received.one(b"te") is None
        return (
            b"HTTP/1.1 200 OK\r\nTrailer: Grpc-Status\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"3\r\nabc\r\n0\r\nGrpc-Status: 0\r\nSet-Cookie: a=b\r\n\r\n"
        )

    async with raw_upstream(respond) as upstream, running_gateway(upstream.url, tmp_path, routes=PUBLIC) as gateway:
        client = await gateway.client()
        await client.send(request(b"GET", "/", (b"TE", b"trailers"), (b"Connection", b"TE")) * 2)
        for _ in range(2):
            async with asyncio.timeout(5):
                head = await client.reader.readuntil(b"\r\n\r\n")
                assert await client.reader.readuntil(b"0\r\n\r\n") == b"3\r\nabc\r\n0\r\n\r\n"
            assert b"trailer" not in head.lower()
        assert upstream.connections == 1


@pytest.mark.parametrize("credential", [b"Negotiate YII=", b"NTLM TlRMTVNTUAAB", b"negotiate", b"ntlm  x"])
@pytest.mark.rule("R313")
async def test_credentials_of_a_connection_are_not_sent_where_connections_are_shared(
    credential: bytes, tmp_path: Path
) -> None:
    """After them, the connection would speak for one user and serve the requests of all (RFC 4559 section 6)."""
    routes = ({"path": "/", "auth": "public", "forward_authorization": True},)
    async with raw_upstream() as upstream, running_gateway(upstream.url, tmp_path, routes=routes) as gateway:
        for given, sent in ((credential, []), (b"Basic eDp5", [b"Basic eDp5"]), (b"Negotiator x", [b"Negotiator x"])):
            assert (await gateway.get("/", (b"Authorization", given))).status == 200
            assert upstream.requests[-1].all(b"authorization") == sent
        assert upstream.connections == 1


@pytest.mark.rule("R331", "R221")
async def test_only_the_configuration_names_the_upstream(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the environment's proxies nor anything in a request sends it elsewhere."""
    async with raw_upstream() as elsewhere, raw_upstream() as upstream:
        for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, elsewhere.url)
        monkeypatch.delenv("NO_PROXY", raising=False)
        monkeypatch.delenv("no_proxy", raising=False)
        async with running_gateway(upstream.url, tmp_path, routes=PUBLIC) as gateway:
            other = f"127.0.0.1:{elsewhere.port}".encode()
            for data in (
                request(b"GET", "/", (b"Host", other)),
                request(b"GET", elsewhere.url + "/"),
                request(b"GET", "/", (b"X-Forwarded-Host", other), (b"X-Original-URL", b"http://" + other)),
                request(b"GET", "/@" + other.decode()),
            ):
                assert (await gateway.exchange(data)).status == 200
        assert (len(upstream.requests), elsewhere.connections) == (4, 0)


@pytest.mark.rule("R204", "R208")
async def test_requests_that_the_two_parsers_read_differently_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Should aiohttp's parser ever stumble where ours did not, the answer is 400 and not a wait."""
    genuine = StandIns.make

    def misleading(self: StandIns, head: Head) -> bytes:
        return genuine(self, head).replace(b"Content-Length: 5", b"Transfer-Encoding: chunked")

    monkeypatch.setattr(StandIns, "make", misleading)
    async with raw_upstream() as upstream, running_gateway(upstream.url, tmp_path, routes=PUBLIC) as gateway:
        client = await gateway.client()
        head = request(b"POST", "/", (b"Content-Length", b"5"), (b"Expect", b"100-continue"))  # not the express lane's
        assert (await client.exchange(head)).status == 100
        refused = await client.exchange(b"zzzzz" + request(b"GET", "/canary"))
        assert (refused.status, refused.json["error"]) == (400, "bad_request")
        assert await client.at_end()
    assert not any(received.complete for received in upstream.requests)


CLOSING = {
    "connect": (b"CONNECT other.test:443 HTTP/1.1\r\nHost: other.test:443\r\n\r\n", 405),
    "old connect": (b"CONNECT other.test:443 HTTP/1.0\r\nHost: other.test:443\r\n\r\n", 405),
    "host": (b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n", 400),
    "target": (b"GET /#a HTTP/1.1\r\nHost: h\r\n\r\n", 400),
}


@pytest.mark.parametrize("name", CLOSING)
@pytest.mark.rule("R213", "R220", "R223", "R240")
async def test_what_follows_an_answer_that_closes_is_no_request(name: str, tmp_path: Path) -> None:
    """Not even when it is there already; and what still comes does not cost the answer."""
    head, status = CLOSING[name]
    async with raw_upstream() as upstream, running_gateway(upstream.url, tmp_path, routes=PUBLIC) as gateway:
        client = await gateway.client()
        behind = request(b"GET", "/canary") * 20_000  # more than the gateway takes in before it answers
        response = await client.exchange(head + behind)
        assert response.status == status
        assert response.one(b"connection") == b"close"
        assert await client.at_end()
    assert upstream.requests == []


@pytest.mark.rule("R299")
async def test_nothing_is_cached(tmp_path: Path) -> None:
    """Whatever an answer says of itself, the next request is the upstream's too."""
    storable = b'HTTP/1.1 200 OK\r\nCache-Control: public, max-age=3600\r\nETag: "a"\r\nContent-Length: 2\r\n\r\nok'

    async def respond(received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        return storable

    async with raw_upstream(respond) as upstream, running_gateway(upstream.url, tmp_path) as gateway:
        for subject in ("alice", "alice", "bob"):
            assert (await gateway.get("/", token=gateway.token(sub=subject))).body == b"ok"
    assert [received.one(b"x-user-id") for received in upstream.requests] == [b"alice", b"alice", b"bob"]


@pytest.mark.parametrize(
    "method", [b"PROPFIND", b"FOO", b"REPORT", b"M-SEARCH", b"X_2", b"QUERY", b"VERSION-CONTROL", b"A" * 32]
)
@pytest.mark.rule("R226")
async def test_any_method_in_capitals_passes_as_it_is(method: bytes, tmp_path: Path) -> None:
    """What a method means is between client and service; a route may name those that it takes."""
    routes = (*PUBLIC, {"path": "/some", "auth": "public", "methods": ["GET", "PURGE"]})
    async with raw_upstream() as upstream, running_gateway(upstream.url, tmp_path, routes=routes) as gateway:
        client: RawClient = await gateway.client()
        for target in ("/a", "/b"):
            assert (await client.exchange(request(method, target))).status == 200
        assert [received.line.split(b" ")[0] for received in upstream.requests] == [method, method]


@pytest.mark.parametrize(
    "method",
    [
        *(b"post", b"Post", b"trace", b"Connect", b"get", b"GE!", b"GET.", b"A" * 33, b"!#$%&'*+.^_`|~"),
        *(b"GE\x00T", b"G\xc3\x89T", b"GET\t", b""),
    ],
)
@pytest.mark.rule("R226")
async def test_a_method_that_a_service_could_read_as_another_is_no_request(method: bytes, tmp_path: Path) -> None:
    """CWE-178: 400 before any route is looked for, and nothing behind it on the connection is read."""
    routes = ({"path": "/a", "auth": "public"}, {"path": "/read", "auth": "public", "methods": ["GET", "HEAD"]})
    async with raw_upstream() as upstream, running_gateway(upstream.url, tmp_path, routes=routes) as gateway:
        for target in ("/a", "/read", "/nothing/here", "*"):
            client: RawClient = await gateway.client()
            assert (await client.exchange(request(b"GET", "/read"))).status == 200
            refused = await client.exchange(request(method, target) + request(b"GET", "/a"))
            assert (refused.status, refused.json["error"]) == (400, "bad_request")
            assert refused.one(b"connection") == b"close"
            assert await client.at_end()
        assert [received.line.split(b" ")[:2] for received in upstream.requests] == [[b"GET", b"/read"]] * 4
        reasons = [line["reason"] for line in await gateway.log(8) if line.get("reason")]
        assert reasons == ["malformed_http"] * 4
