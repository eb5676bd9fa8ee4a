"""The same bytes through both lanes: upstream and client must see the same (differential)."""

from __future__ import annotations

import asyncio
import contextlib
import re
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway import tasks
from gateway.server.express_lane import response as express_response
from gateway.server.express_lane.exchange import ExpressExchange
from gateway.server.express_lane.plan import Plan
from gateway.server.request.facts import Facts
from tests.lanes.traffic import API_KEYS, COMMON_ROUTES
from tests.support.clients.proving import bound_token, proved
from tests.support.gateways.running import RawResponse, RunningGateway, request, running_gateway
from tests.support.tokens.api_keys import KEY, OTHER
from tests.support.tokens.minting import SigningKey
from tests.support.upstreams.recording import RawUpstream, Received, raw_upstream

pytestmark = pytest.mark.untraced

ROUTES: tuple[dict[str, Any], ...] = (
    *COMMON_ROUTES,
    {"path": "/"},
    {"path": "/cors", "auth": "public", "cors_origins": ["https://a.test"], "cors_credentials": True},
    {"path": "/opt-key", "credentials": ["jwt", "api_key"], "auth": "optional"},
    {"path": "/seen-key", "credentials": ["api_key"], "observe": True, "scopes": ["never:granted"]},
    {"path": "/limited", "rate_limit": [{"requests": 1_000_000}, {"requests": 1_000_000, "by": "address"}]},
    {"path": "/full", "auth": "optional", "rate_limit": {"requests": 1, "seconds": 1_000_000, "burst": 3}},
)

#: With the one, every challenge says where a document is, on some routes another one.
RESOURCES = [{"resource": "https://api.test"}, {"resource": "https://api.test/scope"}]
DOCUMENT = b"/.well-known/oauth-protected-resource"

RESPONSES: dict[str, bytes] = {
    "plain": b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    "kept": b"HTTP/1.1 200 OK\r\nConnection: keep-alive\r\nKeep-Alive: timeout=5\r\nContent-Length: 2\r\n\r\nok",
    "empty": b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    "chunked": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    "closing": b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
    "nominating": b"HTTP/1.1 200 OK\r\nConnection: X-Gone\r\nX-Gone: 1\r\nX-Kept: 2\r\nContent-Length: 0\r\n\r\n",
    "early-hints": b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    "no-content": b"HTTP/1.1 204 No Content\r\nX-A: b\r\n\r\n",
    "not-modified": b'HTTP/1.1 304 Not Modified\r\nETag: "x"\r\nContent-Length: 9\r\n\r\n',
    "cookies": b"HTTP/1.1 200 Fine\r\nSet-Cookie: a=1\r\nset-cookie: b=2\r\nX-Odd:  \xff \r\n"
    b"Content-Length: 1\r\n\r\nx",
    "error": b"HTTP/1.1 500 Oops\r\nContent-Length: 3\r\n\r\nerr",
    "dated": b"HTTP/1.1 200 OK\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nContent-Length: 0\r\n\r\n",
    "dated-small": b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\ndate: yesterday\r\n\r\n",
    "allowing": b"HTTP/1.1 200 OK\r\nAccess-Control-Allow-Credentials: true\r\naccess-control-allow-origin: *\r\n"
    b"Content-Length: 0\r\n\r\n",
    "redirect": b"HTTP/1.1 307 T\r\nLocation: http://x/\r\nContent-Length: 0\r\n\r\n",
    "twice-length": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok",
    "folded": b"HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 2\r\n\r\nok",
    "bare-lf": b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok",
    "control": b"HTTP/1.1 200 OK\r\nX: a\x01b\r\nContent-Length: 2\r\n\r\nok",
    "space-before-colon": b"HTTP/1.1 200 OK\r\nX : a\r\nContent-Length: 2\r\n\r\nok",
    "no-phrase": b"HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nok",
    "odd-phrase": b"HTTP/1.1 200 caf\xc3\xa9\r\nContent-Length: 2\r\n\r\nok",
    "old": b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
    "too-much": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokpoison",
    "garbage": b"garbage\r\n\r\n",
    "switching": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
}

LINES = (
    b"GET / HTTP/1.1",
    b"GET /a?x=1&y=%20 HTTP/1.1",
    b"HEAD / HTTP/1.1",
    b"DELETE /a HTTP/1.1",
    b"OPTIONS /pub HTTP/1.1",
    b"OPTIONS /cors HTTP/1.1",
    b"GET /cors HTTP/1.1",
    b"get /pub HTTP/1.1",
    b"Options / HTTP/1.1",
    b"POST /post HTTP/1.1",
    b"PURGE /pub HTTP/1.1",
    b"GET /pub/%61;p?q HTTP/1.1",
    b"GET /opt HTTP/1.1",
    b"GET /scope HTTP/1.1",
    b"GET /no HTTP/1.1",
    b"GET /observed HTTP/1.1",
    b"GET /strip/x/y?z HTTP/1.1",
    b"GET /token HTTP/1.1",
    b"GET /keys HTTP/1.1",
    b"GET /either?x HTTP/1.1",
    b"GET /opt-key HTTP/1.1",
    b"GET /seen-key HTTP/1.1",
    b"GET /limited?x HTTP/1.1",
    b"HEAD /limited HTTP/1.1",
    b"GET /full HTTP/1.1",
    b"GET /bound HTTP/1.1",
    b"GET http://other.test/pub HTTP/1.1",
    b"GET /a?access_token=x HTTP/1.1",
    b"GET /a/../b HTTP/1.1",
    b"GET /a%2fb HTTP/1.1",
    b"GET /post HTTP/1.1",
    b"TRACE / HTTP/1.1",
    b"GET / HTTP/1.0",
    b"GET  / HTTP/1.1",
    b"GET / HTTP/2.0",
    b"GET /\xc3\xa9 HTTP/1.1",
    b"GET " + DOCUMENT + b" HTTP/1.1",
    b"HEAD " + DOCUMENT + b"/scope?x HTTP/1.1",
    b"PUT " + DOCUMENT + b" HTTP/1.1",
    b"OPTIONS " + DOCUMENT + b" HTTP/1.1",
)

FIELDS = (
    b"Authorization: Bearer GOOD",
    b"authorization: bearer GOOD",
    b"Authorization: Bearer  GOOD",
    b"Authorization: BEARER GOOD",
    b"Authorization: Bearer junk",
    b"Authorization: Bearer BOUND",
    b"Authorization: DPoP BOUND",
    b"Authorization: DPoP GOOD",
    b"DPoP: a.b.c",
    b"Authorization: Bearer GOOD, Bearer GOOD",
    b"Authorization: Basic abc",
    b"Authorization:",
    b"X-Api-Key: " + KEY,
    b"x-api-key: " + OTHER,
    b"X_Api_Key: unknown",
    b"X-Api-Key: unknown",
    b"X-Api-Key:",
    b"Connection: close",
    b"Connection: keep-alive",
    b"Connection: X-A, keep-alive",
    b"X-A: 1",
    b"x-a:2",
    b"X-User-Id: admin",
    b"X_User_Id: admin",
    b"X-Forwarded-For: 10.0.0.1",
    b"X-Request-Id: mine-1",
    b"X-Request-Id: not <sane>",
    b"Cookie: a=b",
    b"X-Odd: \xff\xfe",
    b"SCRIPT_NAME: /pub",
    b"Script-Name: /pub",
    b"X_Custom: 1",
    b"X.Custom: 1",
    b"Remote-User: root",
    b"Max-Forwards: 0",
    b"Max-Forwards: 7",
    b"Max-Forwards: x",
    b"Max_Forwards: 0",
    b"Forwarded: for=192.0.2.1;proto=https;host=evil.test",
    b"X-Forwarded-Proto: wss",
    b"Origin: https://a.test",
    b"X-Space:   a \t ",
    b"Via: 1.0 before",
    b"TE: trailers",
    b"Expect: 100-continue",
    b"Expect: other",
    b"Upgrade: foo",
    b"Content-Length: 0",
    b"Content-Length: 3",
    b"Content-Length: 3, 3",
    b"Transfer-Encoding: chunked",
    b"Transfer-Encoding: gzip",
    b"Bad Name: x",
    b"X-Nul: a\x00b",
)


@dataclass
class Seen:
    """What one lane let through, without what differs from gateway to gateway."""

    answers: list[tuple[bytes, bytes, bool]]
    closed: bool
    upstream: list[tuple[bytes, bytes]]
    log: list[dict[str, Any]]


def same_for_all(head: bytes, *ports: int) -> bytes:
    head = re.sub(rb"(?i)(X-Request-Id: )[0-9a-f]{32}", rb"\1ID", head)
    head = re.sub(rb"\r\nDate: [A-Z][a-z]{2}, [0-9A-Za-z: ]{20} GMT\r\n", b"\r\nDate: NOW\r\n", head)
    head = re.sub(rb"(Via: 1\.[01] gateway-)[0-9a-f]{12}", rb"\1NAME", head)
    head = re.sub(rb"(;t=|Retry-After: )[0-9]{4,}", rb"\1SECONDS", head)
    for port in ports:
        head = head.replace(b"%d" % port, b"PORT")
    return head


async def observe(gateway: RunningGateway, upstream: RawUpstream, data: bytes, responses: int) -> Seen:
    """Send ``data`` on a new connection; read up to ``responses`` answers and whether it ends."""
    await gateway.settled()
    upstream.requests.clear()
    before = len(await gateway.log(0))
    client = await gateway.client()
    await client.send(data)
    answers: list[tuple[bytes, bytes, bool]] = []
    closed = False
    for number in range(responses):
        try:
            methods = [line.split(b" ")[0] for line in data.split(b"\r\n") if b" HTTP/1." in line]
            response: RawResponse = await client.response(head_only=methods[number : number + 1] == [b"HEAD"], within=2)
        except (asyncio.IncompleteReadError, ConnectionError):
            closed = True
            break
        except TimeoutError:
            break
        body = re.sub(rb'"request_id":"[0-9a-f]{32}"', b"ID", response.body)
        answers.append((same_for_all(response.head, gateway.app.port, upstream.port), body, response.complete))
        if response.one(b"connection") == b"close" or not response.complete:
            closed = True
            break
    await client.close()
    seen = [(same_for_all(item.head, gateway.app.port, upstream.port), item.body) for item in upstream.requests]
    await gateway.settled()
    log = (await gateway.log(before + len(answers)))[before:] if answers else []
    changing = ("time", "duration_ms", "upstream_ms", "request_id")
    return Seen(answers, closed, seen, [{k: v for k, v in line.items() if k not in changing} for line in log])


@contextlib.asynccontextmanager
async def both_lanes(respond: Any = None) -> AsyncIterator[tuple[tuple[RunningGateway, RawUpstream], ...]]:
    """Run a gateway with the express lane and one without, with the same key."""
    key = SigningKey.rsa("a")
    async with contextlib.AsyncExitStack() as stack:
        lanes = []
        for express in (True, False):
            upstream = await stack.enter_async_context(raw_upstream(respond))
            directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            server = {"express": express}
            options: dict[str, Any] = {"routes": ROUTES, "resources": RESOURCES, "server": server, "api_keys": API_KEYS}
            running = running_gateway(upstream.url, directory, key=key, **options)
            lanes.append((await stack.enter_async_context(running), upstream))
        yield tuple(lanes)


async def assert_same(lanes: tuple[tuple[RunningGateway, RawUpstream], ...], data: bytes, responses: int = 1) -> Seen:
    express, full = [await observe(gateway, upstream, data, responses) for gateway, upstream in lanes]
    assert express == full, data
    return express


async def warm(lanes: tuple[tuple[RunningGateway, RawUpstream], ...], token: bytes) -> None:
    """Let both know the token and have an idle upstream connection, so that the express lane has its way."""
    for gateway, _ in lanes:
        assert (await gateway.get("/", token=token)).status == 200


@pytest.mark.parametrize("name", RESPONSES)
@pytest.mark.parametrize("method", [b"GET", b"HEAD", b"POST"])
async def test_every_kind_of_response_looks_the_same_through_both_lanes(name: str, method: bytes) -> None:
    """Plain ones go straight through, odd ones to aiohttp's parser: same result. Twice, for what is remembered."""
    data = RESPONSES[name]

    async def respond(received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        if received.target == b"/":
            return RESPONSES["plain"]
        return data.partition(b"\r\n\r\n")[0] + b"\r\n\r\n" if received.line.startswith(b"HEAD") else data

    async with both_lanes(respond) as lanes:
        token = lanes[0][0].token()
        await warm(lanes, token)
        body = b"" if method != b"POST" else b"abc"
        fields = ((b"Content-Length", b"3"),) if body else ()
        one = request(method, "/a", *fields, token=token, body=body)
        await assert_same(lanes, one + one, responses=2)


async def test_response_in_pieces_looks_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut at every place of the head and in the content."""
    whole = RESPONSES["cookies"].replace(b"Content-Length: 1\r\n\r\nx", b"Content-Length: 6\r\n\r\nabcdef")
    cut = 0

    async def respond(received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        if received.target == b"/":
            return RESPONSES["plain"]
        writer.write(whole[:cut])
        await writer.drain()
        await asyncio.sleep(0.002)
        return whole[cut:]

    async with both_lanes(respond) as lanes:
        token = lanes[0][0].token()
        await warm(lanes, token)
        for cut in range(1, len(whole), 7):  # noqa: B007  respond reads it
            seen = await assert_same(lanes, request(b"GET", "/a", token=token))
            assert seen.answers[0][1] == b"abcdef"


@pytest.mark.parametrize("line", LINES)
async def test_every_kind_of_request_looks_the_same_through_both_lanes(line: bytes) -> None:
    """Each request line with each field, alone and behind a token, and with another request behind it."""
    async with both_lanes() as lanes:
        token, bound = lanes[0][0].token(), bound_token(lanes[0][0])
        await warm(lanes, token)
        for field in (b"", *FIELDS):
            for prefix in (b"", b"Authorization: Bearer GOOD\r\n"):
                fields = prefix + (field + b"\r\n" if field else b"")
                content = {b"Content-Length: 3": b"abc", b"Transfer-Encoding: chunked": b"3\r\nabc\r\n0\r\n\r\n"}
                data = line + b"\r\nHost: api.test\r\n" + fields + b"\r\n" + content.get(field, b"")
                behind = b"GET /behind HTTP/1.1\r\nHost: api.test\r\nAuthorization: Bearer GOOD\r\n\r\n"
                whole = (data + behind).replace(b"GOOD", token).replace(b"BOUND", bound)
                await assert_same(lanes, whole, responses=2)


@pytest.mark.parametrize(
    "hosts", [b"", b"Host: a\r\nHost: b\r\n", b"Host: a b\r\n", b"Host:\r\n", b"Host: A.Test:8080\r\n"]
)
@pytest.mark.rule("R220")
async def test_host_fields_look_the_same(hosts: bytes) -> None:
    async with both_lanes() as lanes:
        await assert_same(lanes, b"GET /pub HTTP/1.1\r\n" + hosts + b"\r\n")


async def test_requests_of_a_kept_connection_look_the_same_whatever_changes_between_them() -> None:
    """What the express lane remembers of a connection never answers for another request."""
    async with both_lanes() as lanes:
        gateway = lanes[0][0]
        good, other = gateway.token(), gateway.token(sub="bob", scope="read")
        expired = gateway.token(exp=1)
        await warm(lanes, good)
        await warm(lanes, other)
        sequence = b""
        count = 0
        for _ in range(2):
            for target in (
                "/",
                "/scope",
                "/limited",
                "/",
                "/pub",
                "/full",
                "/no",
                "/opt",
                "/strip/x",
                "/token",
                DOCUMENT,
            ):
                for token in (good, other, expired, b"", good):
                    sequence += request(b"GET", target, token=token)
                    count += 1
            sequence += request(b"GET", "/", (b"X-A", b"1"), token=good) + request(b"GET", "/", token=other)
            count += 2
        seen = await assert_same(lanes, sequence, responses=count)
        assert len(seen.answers) == count
        subjects = {re.search(rb"x-user-id: (\w+)", head) for head, _ in seen.upstream}
        assert {match[1] if match else b"" for match in subjects} == {b"alice", b"bob", b""}


@pytest.mark.rule("R096", "R102", "R133")
async def test_bound_tokens_on_a_kept_connection_look_the_same_whatever_changes_between_them() -> None:
    """A proof makes one request pass, and no other one beside it."""
    async with both_lanes() as lanes:
        gateway = lanes[0][0]
        good, bound = gateway.token(), bound_token(gateway, sub="bob")
        await warm(lanes, good)
        sequence, statuses = b"", []
        for target in ("/", "/bound", "/opt", "/"):
            for data, status in (
                (request(b"GET", target, token=bound), 401),
                (proved(bound, target, base="http://gateway.test"), 200),
                (request(b"GET", target, token=bound), 401),
                (request(b"GET", target, token=good), 401 if target == "/bound" else 200),
                (request(b"GET", target, (b"Authorization", b"BEARER " + good)), 401 if target == "/bound" else 200),
                (request(b"GET", target, (b"Authorization", b"BEARER " + good)), 401 if target == "/bound" else 200),
                (request(b"GET", target, (b"Authorization", b"DPoP " + good)), 401),
                (request(b"GET", target, (b"Authorization", b"DPoP " + bound)), 401),
                (request(b"GET", target), 200 if target == "/opt" else 401),
            ):
                sequence += data
                statuses.append(status)
        seen = await assert_same(lanes, sequence, responses=len(statuses))
        assert [int(head.split(b" ")[1]) for head, _, _ in seen.answers] == statuses


@pytest.mark.rule("R187", "R340")
async def test_keys_on_a_kept_connection_look_the_same_whatever_changes_between_them() -> None:
    """No key answers for another, for a token, for none, or for another route's field."""
    async with both_lanes() as lanes:
        good = lanes[0][0].token()
        await warm(lanes, good)
        sequence, count = b"", 0
        for target in ("/keys", "/either", "/", "/opt-key", "/seen-key", "/pub", "/keys"):
            for key in (KEY, KEY, OTHER, b"unknown", b"", KEY):
                for token in (b"", good):
                    fields = ((b"X-Trace", b"%d" % count), (b"X-Api-Key", key)) if key else ()
                    sequence += request(b"GET", target, *fields, token=token)
                    count += 1
        seen = await assert_same(lanes, sequence, responses=count)
    assert len(seen.answers) == count
    passed = [head for head, _ in seen.upstream]
    assert {b"x-api-key" in head.lower() for head in passed if head.startswith((b"GET /pub", b"GET / "))} == {
        True,
        False,
    }
    assert not [head for head in passed if b"key" in head.split(b" ")[1] and b"x-api-key" in head.lower()]
    subjects = {match[1] for head in passed if (match := re.search(rb"x-user-id: (\w+)", head))}
    assert subjects == {b"alice", b"partner"}


@settings(max_examples=60)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(LINES[:25]),
            st.lists(st.sampled_from(FIELDS), max_size=4, unique=True),
            st.sampled_from([b"GOOD", b"OTHER", b"BAD"]),
        ),
        min_size=1,
        max_size=6,
    ),
    st.lists(st.integers(0, 2000), max_size=4),
)
def test_random_connections_look_the_same(requests: list[tuple[bytes, list[bytes], bytes]], cuts: list[int]) -> None:
    """Random sequences of requests on one connection."""
    asyncio.run(_compare(requests))


async def _compare(requests: list[tuple[bytes, list[bytes], bytes]]) -> None:
    async with both_lanes() as lanes:
        tokens = {b"GOOD": lanes[0][0].token(), b"OTHER": lanes[0][0].token(sub="bob"), b"BAD": b"a.b.c"}
        tokens[b"BOUND"] = bound_token(lanes[0][0])
        await warm(lanes, tokens[b"GOOD"])
        data = b""
        for line, fields, token in requests:
            chosen = [field.replace(b"GOOD", token) for field in fields]
            names = [field.split(b":")[0].lower() for field in chosen]
            content = b""
            if b"Content-Length: 3" in chosen and b"transfer-encoding" not in names:
                content = b"abc"
            elif b"Transfer-Encoding: chunked" in chosen and b"content-length" not in names:
                content = b"3\r\nabc\r\n0\r\n\r\n"
            data += b"\r\n".join([line, b"Host: api.test", *chosen]) + b"\r\n\r\n" + content
        for name, token in tokens.items():
            data = data.replace(name, token)
        await assert_same(lanes, data, responses=len(requests))


async def test_express_lane_has_its_way_with_plain_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests above would prove nothing if everything were handed over: a warm connection makes no task."""
    made: list[str] = []
    spawn = tasks.spawn

    def counting(work: Any, name: str, **options: Any) -> Any:
        made.append(name)
        return spawn(work, name, **options)

    asked: list[str] = []
    ask_guards = ExpressExchange.ask_guards

    def noting(exchange: ExpressExchange, plan: Plan, facts: Facts) -> None:
        asked.append(plan.admitted.route.name)
        ask_guards(exchange, plan, facts)

    monkeypatch.setattr(express_response, "spawn", counting)
    monkeypatch.setattr(ExpressExchange, "ask_guards", noting)
    async with both_lanes() as lanes:
        gateway = lanes[0][0]
        token = gateway.token()
        await warm(lanes, token)
        made.clear()
        client = await gateway.client()
        for target in ("/", "/a", "/", "/pub", "/"):
            assert (await client.exchange(request(b"GET", target, token=token))).status == 200
        assert (await client.exchange(request(b"GET", "/no", token=token))).status == 403
        for subject in ("alice", "bob", "alice"):  # from the second on by what the connection remembers
            limited = request(b"GET", "/limited", token=gateway.token(sub=subject))
            assert (await client.exchange(limited)).status == 200
        assert asked == ["/limited"] * 2
        assert [(await client.exchange(request(b"GET", "/full", token=token))).status for _ in range(4)] == [
            *(200, 200, 200),
            429,
        ]
        assert (await client.exchange(request(b"GET", "/", token=gateway.token(sub="new")))).status == 200
        post = request(b"POST", "/post", (b"Content-Length", b"3"), body=b"abc")
        assert (await client.exchange(post)).status == 200
        assert made == []
        assert len(gateway.app.express.connections) >= 1
        assert not gateway.app.listener.connections


HIDDEN = {
    "field": b"x\r\nX-A: 1",
    "length": b"x\r\nContent-Length: 37",
    "chunked": b"x\r\nTransfer-Encoding: chunked",
    "second-credential": b"x\r\nAuthorization: Bearer y",
    "second-key": b"x\r\nX-Api-Key: " + KEY,
    "second-host": b"x\r\nHost: other.test",
    "request": b"x\r\nX-Z: 1\r\n\r\nGET /hidden HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer x",
    "space": b"x y",
    "comma": b"x,Bearer y",
    "bare-lf": b"x\nX-A: 1",
    "nothing": b"",
}


@pytest.mark.parametrize("target", ["/pub", "/", "/opt", "/either"])
@pytest.mark.parametrize("name", HIDDEN)
async def test_nothing_hides_where_the_token_of_an_earlier_request_stood(name: str, target: str) -> None:
    """What stands between the bytes that are as before is one token, or the request is read anew (CWE-444)."""
    async with both_lanes() as lanes:
        token = lanes[0][0].token()
        await warm(lanes, token)
        plain = request(b"GET", target, (b"X-Z", b"1"), token=token)
        odd = plain.replace(token, HIDDEN[name])
        behind = b"GET /behind HTTP/1.1\r\nHost: h\r\n\r\n"
        sequence = plain + plain + odd + behind
        await assert_same(lanes, sequence, responses=sequence.count(b" HTTP/1.1"))
        for gateway, upstream in lanes:  # and in segments of their own, as the express lane likes them best
            upstream.requests.clear()
            client = await gateway.client()
            for _ in range(2):
                assert (await client.exchange(plain)).status == 200
            with contextlib.suppress(TimeoutError, asyncio.IncompleteReadError, ConnectionError):
                await client.exchange(odd, within=0.5)
                await client.exchange(behind, within=0.5)
                await client.response(within=0.2)
        seen = [[(item.target, item.body) for item in upstream.requests] for _, upstream in lanes]
        assert seen[0] == seen[1]
