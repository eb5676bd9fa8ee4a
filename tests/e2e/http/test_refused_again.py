"""Refusals in a row on one connection: each answer is one request's own (R400, C112)."""

from __future__ import annotations

import asyncio
import gc
import re
import socket
from pathlib import Path
from typing import Any

import pytest

from gateway.errors import GatewayError
from gateway.http1.request_head import RequestHead
from gateway.telemetry.record import Record
from tests.support.gateways.running import RawResponse, RunningGateway, request, running_gateway
from tests.support.tokens.api_keys import entry
from tests.support.upstreams.recording import raw_upstream

pytestmark = pytest.mark.every_log

ROUTES: tuple[dict[str, Any], ...] = (
    {"path": "/api"},
    {"path": "/opt", "auth": "optional"},
    {"path": "/scoped", "scopes": ["never:granted"]},
    {"path": "/post", "auth": "public", "methods": ["POST"]},
    {"path": "/pages", "cors_origins": ["https://app.test"]},
    {"path": "/key", "credentials": ["api_key"]},
    {"path": "/bound", "sender_constrained": "required"},
    {"path": "/limited", "auth": "public", "rate_limit": {"requests": 1, "seconds": 1_000_000, "burst": 1}},
)
KEYS = [entry()]

#: Ids that equal a word, a figure or a letter of some answer, and of every kind of length.
IDS = (
    *(b"1", b"9", b"77", b"0", b"H", b"HTTP/1.1", b"4", b"401", b"404", b"40", b"Unauthorized", b"X-Request-Id:", b"e"),
    *(b"Content-Length:", b"error", b"request_id", b"Bearer", b"gateway", b"invalid_token", b"no-store", b":", b"/"),
    *(b"a" * length for length in (1, 2, 9, 10, 99, 100, 127, 128)),
    *(b"Z9._~+/=:@-", b"1" * 128, b"1"),
)

REFUSED = {
    "no token": (b"GET", "/api", b"", 401),
    "no token, HEAD": (b"HEAD", "/api", b"", 401),
    "bad token": (b"GET", "/api", b"a.b.c", 401),
    "expired": (b"GET", "/api", b"EXPIRED", 401),
    "forged": (b"GET", "/opt", b"FORGED", 401),
    "scope": (b"GET", "/scoped", b"GOOD", 403),
    "scope, HEAD": (b"HEAD", "/scoped", b"GOOD", 403),
    "bound route": (b"GET", "/bound", b"GOOD", 401),
    "no API key": (b"GET", "/key", b"", 401),
    "no route": (b"GET", "/nothing", b"", 404),
    "no route, with a token": (b"GET", "/nothing", b"GOOD", 404),
    "method": (b"GET", "/post", b"", 404),
    "bad path": (b"GET", "/api/%2e%2e/x", b"", 400),
    "expectation": (b"GET", "/api", b"", 417),
    "pages": (b"GET", "/pages", b"", 401),
    "limited": (b"GET", "/limited", b"", 429),
}


def refused(gateway: RunningGateway, name: str) -> tuple[bytes, str, bytes, tuple[tuple[bytes, bytes], ...]]:
    """Return method, target, token and further fields of a request that is refused."""
    method, target, word, _ = REFUSED[name]
    good = gateway.token()
    tokens = {b"GOOD": good, b"EXPIRED": gateway.token(exp=1), b"FORGED": good[:-8] + b"AAAAAAAA"}
    fields = ((b"Expect", b"other"),) if name == "expectation" else ()
    return method, target, tokens.get(word, word), (*fields, (b"Origin", b"https://app.test"))


def shape(response: RawResponse, id_: bytes) -> tuple[bytes, bytes]:
    """Return an answer's head and body as they must be for every id; the clock's fields aside."""
    ids = re.findall(rb"\r\nX-Request-Id: ([^\r]*)\r\n", response.head)
    assert ids == [id_]
    head = response.head.replace(b"\r\nX-Request-Id: %b\r\n" % id_, b"\r\nX-Request-Id: ID\r\n")
    head = re.sub(rb"(\r\nDate: |;t=|\r\nRetry-After: )[^\r;]*", rb"\1SOME", head)
    head, length = re.subn(rb"\r\nContent-Length: [0-9]+\r\n", b"\r\nContent-Length: LENGTH\r\n", head)
    assert length == 1
    body = response.body.replace(b'"request_id":"%b"' % id_, b'"request_id":"ID"')
    return head, body


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("traced", [False, True], ids=["alike", "traced"])
@pytest.mark.rule("R400", "C112")
async def test_refusals_of_one_connection_answer_each_its_own_request(name: str, traced: bool, tmp_path: Path) -> None:
    """One well-framed answer with its own id and status, whatever the ids, however alike the requests."""
    options: dict[str, Any] = {"routes": ROUTES, "api_keys": KEYS}
    async with raw_upstream() as upstream, running_gateway(upstream.url, tmp_path, **options) as gateway:
        method, target, token, fields = refused(gateway, name)
        if name == "limited":
            assert (await gateway.get(target)).status == 200
        kept = await gateway.client()
        shapes = set()
        for number, id_ in enumerate(IDS):
            trace = ((b"X-Trace", b"%d" % number),) if traced else ()
            data = request(method, target, *fields, *trace, (b"X-Request-Id", id_), token=token)
            response = await kept.exchange(data, head_only=method == b"HEAD")
            assert (response.status, response.complete) == (REFUSED[name][3], True), id_
            length = int(response.one(b"content-length") or b"-1")
            if method != b"HEAD":
                assert (length, response.json["request_id"]) == (len(response.body), id_.decode())
            shapes.add(shape(response, id_))
        assert len(shapes) == 1
        kept.half_close()
        assert await kept.at_end()  # nothing stands between or behind them
        assert not [one for one in upstream.requests if one.target != b"/limited"]


@pytest.mark.rule("R400", "C112")
async def test_refusals_in_one_segment_answer_each_its_own_request(tmp_path: Path) -> None:
    """The same for requests that are sent without waiting for answers."""
    async with raw_upstream() as upstream, running_gateway(upstream.url, tmp_path, routes=ROUTES) as gateway:
        client = await gateway.client()
        await client.send(request(b"GET", "/api"))
        assert (await client.response()).status == 401
        await client.send(b"".join(request(b"GET", "/api", (b"X-Request-Id", id_)) for id_ in IDS))
        for id_ in IDS:
            response = await client.response()
            assert (response.status, response.json["request_id"]) == (401, id_.decode())
            assert shape(response, id_)[1].startswith(b'{"error":"missing_token"')
        assert upstream.requests == []


@pytest.mark.rule("R400", "R390")
async def test_ids_of_requests_that_are_served_reach_the_service_as_they_are(tmp_path: Path) -> None:
    """The head for the upstream is made for each request, whatever words its id has in common with it."""
    async with raw_upstream() as upstream, running_gateway(upstream.url, tmp_path, routes=ROUTES) as gateway:
        client, token = await gateway.client(), gateway.token()
        for number, id_ in enumerate(IDS):
            fields = ((b"X-Trace", b"%d" % (number // 2)), (b"X-Request-Id", id_))
            assert (await client.exchange(request(b"GET", "/api", *fields, token=token))).status == 200
        seen = [one for one in upstream.requests if one.target == b"/api"]
        assert [one.one(b"x-request-id") for one in seen] == list(IDS)
        kinds = {tuple(pair for pair in one.headers if pair[0] not in (b"X-Request-Id", b"X-Trace")) for one in seen}
        assert len(kinds) == 1


MALFORMED = {
    "a field": (b"HEAD /api HTTP/1.1\r\nHost: gateway.test\r\nX-A : 1\r\n\r\n", 400),
    "empty lines first": (b"\r\n\r\nHEAD /api HTTP/1.1\r\nHost: gateway.test\r\nX-A : 1\r\n\r\n", 400),
    "version": (b"HEAD /api HTTP/3.0\r\nHost: gateway.test\r\n\r\n", 400),
    "head without an end": (b"HEAD /api HTTP/1.1\r\nX-A: " + b"a" * 70_000, 431),
    "head that is late": (b"HEAD /api HTTP/1.1\r\nHost: gateway.test\r\n", 408),
}


@pytest.mark.parametrize("name", MALFORMED)
@pytest.mark.parametrize("behind", [False, True], ids=["first", "behind another"])
@pytest.mark.rule("R400")
async def test_a_head_request_that_cannot_be_read_is_answered_without_content(
    name: str, behind: bool, tmp_path: Path
) -> None:
    """RFC 9110 section 9.3.2: a client that sent HEAD takes what follows the head for the next answer."""
    options: dict[str, Any] = {"routes": ROUTES, "server": {"request_head_timeout_seconds": 0.2}}
    async with raw_upstream() as upstream, running_gateway(upstream.url, tmp_path, **options) as gateway:
        client = await gateway.client()
        data, status = MALFORMED[name]
        if behind:
            await client.send(request(b"GET", "/api") + data)
            assert (await client.response()).status == 401
        else:
            await client.send(data)
        response = await client.response(head_only=True)
        assert (response.status, response.one(b"connection")) == (status, b"close")
        assert int(response.one(b"content-length") or b"0") > 0
        assert await client.at_end()


ENDING = {
    "no Host": b"GET /api HTTP/1.1\r\nX-A: b\r\n\r\n",
    "two Hosts": request(b"GET", "/api", (b"Host", b"a.test"), (b"Host", b"b.test")),
    "target": request(b"GET", "*"),
    "method": request(b"TRACE", "/api"),
    "no HTTP": request(b"get", "/api"),
    "Max-Forwards": request(b"OPTIONS", "/opt", (b"Max-Forwards", b"x")),
}


@pytest.mark.parametrize("name", ENDING)
@pytest.mark.rule("R400")
async def test_client_that_sends_on_behind_a_last_answer_is_not_reset(name: str, tmp_path: Path) -> None:
    """RFC 9112 section 9.6: a reset takes the answers away that the client has not read yet."""
    async with raw_upstream() as upstream, running_gateway(upstream.url, tmp_path, routes=ROUTES) as gateway:
        loop = asyncio.get_running_loop()
        with socket.create_connection(("127.0.0.1", gateway.app.port)) as client:
            client.setblocking(False)
            await loop.sock_sendall(client, request(b"GET", "/nothing") + ENDING[name])
            answers = b""
            while piece := await asyncio.wait_for(loop.sock_recv(client, 65536), 5):
                answers += piece
            assert answers.count(b"HTTP/1.1 4") == 2
            for _ in range(5):  # a reset comes as the answer to the first, and fails the next
                await loop.sock_sendall(client, request(b"GET", "/api"))
                await asyncio.sleep(0.01)
            assert client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
        assert upstream.requests == []


@pytest.mark.parametrize("name", [*REFUSED, "upstream gone"])
@pytest.mark.rule("R404")
async def test_refusals_leave_nothing_to_the_garbage_collector(name: str, tmp_path: Path) -> None:
    """Collections would delay all other requests for as long as any are refused."""
    routes = (*ROUTES, {"path": "/gone", "auth": "public", "upstream": "gone"})
    gone = {"name": "gone", "urls": ["http://127.0.0.1:9"], "eject_after_failures": 0}
    async with raw_upstream() as upstream:
        options: dict[str, Any] = {"api_keys": KEYS, "upstreams": [{"name": "main", "urls": [upstream.url]}, gone]}
        async with running_gateway(upstream.url, tmp_path, routes=routes, **options) as gateway:
            if name == "upstream gone":
                data = request(b"GET", "/gone")
            else:
                method, target, token, fields = refused(gateway, name)
                data = request(method, target, *fields, token=token)
            kept = await gateway.client()
            await kept.exchange(data, head_only=data.startswith(b"HEAD"))
            gc.collect()
            gc.disable()
            gc.set_debug(gc.DEBUG_SAVEALL)
            try:
                for _ in range(3):
                    await kept.exchange(data, head_only=data.startswith(b"HEAD"))
                gc.collect()
                left = [one for one in gc.garbage if isinstance(one, RequestHead | Record | GatewayError)]
            finally:
                gc.set_debug(0)
                gc.garbage.clear()
                gc.enable()
            assert left == []
