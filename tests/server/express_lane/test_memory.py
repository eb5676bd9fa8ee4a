"""Requests that a connection knows already: what is asked anew each time, and what makes it read anew."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from gateway.server.express_lane.connection import ExpressConnection
from gateway.server.express_lane.exchange import ExpressExchange
from gateway.server.express_lane.loop_turn import DeferredRequest
from gateway.server.express_lane.memory import KnownRequests
from gateway.server.express_lane.plan import MAX_PLANS, MAX_PLANS_BYTES, MAX_SECTION, Plan
from tests.support.clock import FakeClock
from tests.support.composed import Settings
from tests.support.gateways.running import RawClient, RunningGateway, configuration, request, running_gateway, until
from tests.support.gateways.timed import timed_gateway
from tests.support.tokens.minting import SigningKey, good_claims, jwks, mint
from tests.support.upstreams.recording import OK, Received, raw_upstream

ROUTES: tuple[dict[str, Any], ...] = (
    {"path": "/"},
    {"path": "/scoped", "scopes": ["write"]},
    {"path": "/public", "auth": "public"},
    {"path": "/optional", "auth": "optional"},
    {"path": "/observed", "observe": True},
)
OPTIONS: dict[str, Any] = {"routes": ROUTES, "server": {"express": True}}


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether each request that could have been known was."""
    verdicts: list[bool] = []
    whole = KnownRequests._known

    def noting(self: KnownRequests, data: bytes) -> bool:
        verdict = whole(self, data)
        if type(self._exchange) is not DeferredRequest:  # else it is asked again when its turn has come
            verdicts.append(verdict)
        return verdict

    monkeypatch.setattr(ExpressConnection, "_known", noting)
    return verdicts


async def warm(gateway: RunningGateway, *tokens: bytes) -> RawClient:
    """Return a new client; the gateway knows the tokens and has an idle connection to its upstream."""
    for token in tokens:
        assert (await gateway.get("/", token=token)).status == 200
    assert (await gateway.get("/public")).status == 200
    return await gateway.client()


def connection_of(gateway: RunningGateway, client: RawClient) -> ExpressConnection:
    port = client.writer.get_extra_info("sockname")[1]
    for connection in gateway.app.express.connections:
        transport = connection._transport
        if transport is not None and transport.get_extra_info("peername")[1] == port:
            return connection
    raise AssertionError("the connection has left the lane")


async def statuses(client: RawClient, *requests: bytes) -> list[int]:
    return [(await client.exchange(data)).status for data in requests]


async def test_request_that_differs_in_nothing_but_its_token_is_known(known: list[bool], tmp_path: Path) -> None:
    async with raw_upstream() as upstream, running_gateway(upstream.url, tmp_path, **OPTIONS) as gateway:
        ann, bob = gateway.token(sub="ann"), gateway.token(sub="bob")
        client = await warm(gateway, ann, bob)
        requests = [request(b"GET", "/a", token=token) for token in (ann, ann, bob, ann)]
        assert await statuses(client, *requests) == [200] * 4
    assert known == [True, True, True]
    subjects = [received.one(b"x-user-id") for received in upstream.requests[-4:]]
    assert subjects == [b"ann", b"ann", b"bob", b"ann"]


async def test_rules_are_asked_anew_for_every_caller(known: list[bool], tmp_path: Path) -> None:
    """A plan made for one who may is none for one who may not."""
    async with raw_upstream() as upstream, running_gateway(upstream.url, tmp_path, **OPTIONS) as gateway:
        writer, reader = gateway.token(sub="w", scope="write"), gateway.token(sub="r", scope="read")
        client = await warm(gateway, writer, reader)
        requests = [request(b"GET", "/scoped", token=token) for token in (writer, writer, reader, writer)]
        assert await statuses(client, *requests) == [200, 200, 403, 200]
        log = await gateway.log(7)
    assert known == [True, False, True]
    assert log[5]["reason"] == "missing_scope"


@pytest.mark.parametrize(
    ("token", "status", "is_token"),
    [
        pytest.param(b"junk", 401, True, id="junk"),
        pytest.param(b"a, Bearer b", 400, False, id="list"),
        pytest.param(b"", 400, False, id="nothing"),
    ],
)
async def test_what_is_no_token_goes_the_long_way(
    token: bytes, status: int, is_token: bool, known: list[bool], tmp_path: Path
) -> None:
    async with raw_upstream() as upstream, running_gateway(upstream.url, tmp_path, **OPTIONS) as gateway:
        good = gateway.token()
        client = await warm(gateway, good)
        bad = request(b"GET", "/a", (b"Authorization", b"Bearer " + token))
        assert await statuses(client, *[request(b"GET", "/a", token=good)] * 2, bad) == [200, 200, status]
    assert known == [True, is_token]
    assert len(upstream.requests) == 4


async def test_token_whose_time_is_over_is_refused(known: list[bool], tmp_path: Path) -> None:
    """What was good a moment ago is asked anew."""
    key, clock = SigningKey.rsa("a"), FakeClock()
    file = tmp_path / "jwks.json"
    file.write_bytes(jwks(key))
    async with raw_upstream() as upstream:
        settings = Settings.model_validate(configuration(upstream.url, file, **OPTIONS))
        async with timed_gateway(settings, key, clock) as gateway:
            token = gateway.token()
            client = await warm(gateway, token)
            requests = [request(b"GET", "/a", token=token)] * 2
            assert await statuses(client, *requests) == [200, 200]
            clock.step_wall(100_000)
            assert await statuses(client, requests[0]) == [401]
    assert known == [True, True]
    assert len(upstream.requests) == 4


async def test_other_section_is_read_anew_and_forgets_the_plans_of_the_last(known: list[bool], tmp_path: Path) -> None:
    async with raw_upstream() as upstream, running_gateway(upstream.url, tmp_path, **OPTIONS) as gateway:
        client = await warm(gateway)
        plain, other = request(b"GET", "/public"), request(b"GET", "/public", (b"Accept", b"x"))
        assert await statuses(client, plain, plain, request(b"GET", "/public/2")) == [200] * 3
        connection = connection_of(gateway, client)
        assert len(connection._plans) == 2
        assert await statuses(client, other) == [200]
        assert len(connection._plans) == 1
        assert await statuses(client, other, plain) == [200, 200]
    assert known == [True, False, False, True, False]
    assert [received.one(b"accept") for received in upstream.requests[-3:]] == [b"x", b"x", None]


async def test_caller_without_a_token_is_none_of_those_with_one(known: list[bool], tmp_path: Path) -> None:
    """On a route that takes both."""
    async with raw_upstream() as upstream, running_gateway(upstream.url, tmp_path, **OPTIONS) as gateway:
        token = gateway.token(sub="ann")
        client = await warm(gateway, token)
        without, with_one = request(b"GET", "/optional"), request(b"GET", "/optional", token=token)
        assert await statuses(client, without, without, with_one, with_one, without) == [200] * 5
    assert [received.one(b"x-user-id") for received in upstream.requests[-5:]] == [None, None, b"ann", b"ann", None]
    assert known == [True, False, True, False]


@pytest.mark.parametrize("target", ["/observed", "/a?access_token=x"])
async def test_line_that_cannot_be_planned_is_never_known(target: str, known: list[bool], tmp_path: Path) -> None:
    async with raw_upstream() as upstream, running_gateway(upstream.url, tmp_path, **OPTIONS) as gateway:
        token = gateway.token()
        client = await warm(gateway, token)
        first = await statuses(client, request(b"GET", target, token=token))
        assert await statuses(client, *[request(b"GET", target, token=token)] * 2) == first * 2
    assert True not in known


async def test_limit_of_requests_is_not_gone_round(known: list[bool], tmp_path: Path) -> None:
    """Only requests of the long way are counted among those that are being served."""
    options = {**OPTIONS, "server": {"express": True, "max_concurrent_requests": 5}}
    async with raw_upstream() as upstream, running_gateway(upstream.url, tmp_path, **options) as gateway:
        client = await warm(gateway)
        assert await statuses(client, *[request(b"GET", "/public")] * 3) == [200] * 3
    assert True not in known


async def test_memory_of_request_lines_is_bounded(tmp_path: Path) -> None:
    async with raw_upstream() as upstream, running_gateway(upstream.url, tmp_path, **OPTIONS) as gateway:
        client = await warm(gateway)
        for number in range(2 * MAX_PLANS + 3):
            assert await statuses(client, request(b"GET", f"/public/{number}")) == [200]
            assert len(connection_of(gateway, client)._plans) <= MAX_PLANS
        assert len(connection_of(gateway, client)._plans) == 3


@pytest.mark.rule("R191")
async def test_memory_of_request_lines_is_bounded_in_bytes(tmp_path: Path) -> None:
    """What one connection makes the gateway remember is little, whatever it sends."""
    async with raw_upstream() as upstream, running_gateway(upstream.url, tmp_path, **OPTIONS) as gateway:
        client = await warm(gateway)
        assert await statuses(client, request(b"GET", "/public")) == [200]
        connection = connection_of(gateway, client)
        for number in range(MAX_PLANS):
            assert await statuses(client, request(b"GET", f"/public/{number:03000}")) == [200]
            assert connection._plans_bytes <= MAX_PLANS_BYTES
            assert 1 <= len(connection._plans) <= 5
        assert await statuses(client, request(b"GET", "/public/" + "x" * 20_000)) == [200]
        assert not any(len(line) > 20_000 for line in connection._plans)


@pytest.mark.rule("R191")
async def test_long_header_section_is_read_each_time(known: list[bool], tmp_path: Path) -> None:
    async with raw_upstream() as upstream, running_gateway(upstream.url, tmp_path, **OPTIONS) as gateway:
        token = gateway.token()
        client = await warm(gateway, token)
        long = request(b"GET", "/a", (b"X-Long", b"x" * MAX_SECTION), token=token)
        short = request(b"GET", "/a", token=token)
        assert await statuses(client, long, long, short, short, long, short) == [200] * 6
        assert connection_of(gateway, client)._section is not None
    assert known == [True, False]


@pytest.mark.rule("R273")
async def test_known_head_with_a_longer_token_is_not_too_long_for_nothing(known: list[bool], tmp_path: Path) -> None:
    """The bound on the head is that of any other request."""
    options = {**OPTIONS, "server": {"express": True, "max_head_bytes": 2048}}
    async with raw_upstream() as upstream, running_gateway(upstream.url, tmp_path, **options) as gateway:
        token = gateway.token()
        client = await warm(gateway, token)
        assert await statuses(client, request(b"GET", "/a", token=token)) == [200]
        assert await statuses(client, request(b"GET", "/a", token=b"x" * 3000)) == [431]
        assert await client.at_end()
    assert known == [False]


async def test_log_line_of_a_known_request_is_that_of_any_other(known: list[bool], tmp_path: Path) -> None:
    async with raw_upstream() as upstream, running_gateway(upstream.url, tmp_path, **OPTIONS) as gateway:
        token = gateway.token(sub="ann")
        client = await warm(gateway, token)
        assert await statuses(client, *[request(b"GET", "/a?q=1", token=token)] * 2) == [200, 200]
        lines = (await gateway.log(4))[2:]
        await until(lambda: gateway.app.telemetry.running == 0)
    changing = ("time", "duration_ms", "upstream_ms", "request_id")
    first, second = [{key: value for key, value in line.items() if key not in changing} for line in lines]
    assert known == [True]
    assert first == second


async def test_content_of_a_known_request_is_its_own(known: list[bool], tmp_path: Path) -> None:
    """Known is what announces the content; what it is differs from request to request."""
    async with raw_upstream() as upstream, running_gateway(upstream.url, tmp_path, **OPTIONS) as gateway:
        token = gateway.token(sub="ann")
        client = await warm(gateway, token)
        length = (b"Content-Length", b"3")
        posts = [request(b"POST", "/a", length, token=token, body=body) for body in (b"one", b"two", b"\r\n\r")]
        assert await statuses(client, *posts) == [200] * 3
        lines = (await gateway.log(5))[2:]
    assert known == [True, True]
    assert [received.body for received in upstream.requests[-3:]] == [b"one", b"two", b"\r\n\r"]
    assert [received.one(b"content-length") for received in upstream.requests[-3:]] == [b"3"] * 3
    assert [line["bytes_in"] for line in lines] == [3, 3, 3]


@pytest.mark.parametrize("cut", [-2, -4, -30])
@pytest.mark.rule("R213")
async def test_known_head_whose_content_is_not_all_there_waits_for_it(
    cut: int, known: list[bool], tmp_path: Path
) -> None:
    """And what comes behind the content is the next request."""
    async with raw_upstream() as upstream, running_gateway(upstream.url, tmp_path, **OPTIONS) as gateway:
        token = gateway.token(sub="ann")
        client = await warm(gateway, token)
        post = request(b"POST", "/a", (b"Content-Length", b"3"), token=token, body=b"one")
        assert await statuses(client, post) == [200]
        await client.send(post[:cut])
        await until(lambda: len(known) == 1)
        await client.send(post[cut:] + post)
        assert [(await client.response()).status for _ in range(2)] == [200, 200]
    assert known[0] is False
    assert [received.body for received in upstream.requests[-3:]] == [b"one"] * 3


@pytest.mark.rule("R100")
async def test_same_refusal_is_given_again_under_an_id_of_its_own(known: list[bool], tmp_path: Path) -> None:
    """And it is counted like the first."""
    options = {**OPTIONS, "server": {"express": True, "access_log": "off"}}
    async with raw_upstream() as upstream, running_gateway(upstream.url, tmp_path, **options) as gateway:
        client = await gateway.client()
        answers = [await client.exchange(request(b"GET", "/a")) for _ in range(3)]
        gone = await statuses(client, request(b"GET", "/a", (b"X-Request-Id", b"mine")), request(b"GET", "/a"))
        await gateway.settled()
        telemetry = gateway.app.telemetry
        assert telemetry.requests["/", "read", 401, "refused"] == 5
        assert telemetry.refusals == {"no_credential": 5}
        assert (sum(telemetry.whole.counts), telemetry.running) == (5, 0)
    assert known == [True, True, False, False]
    assert gone == [401, 401]
    assert not upstream.requests
    ids = [answer.one(b"x-request-id") for answer in answers]
    assert len(set(ids)) == 3
    assert [answer.json["request_id"].encode() for answer in answers] == ids
    bare = [answer.head.replace(answer.one(b"x-request-id") or b"", b"") for answer in answers]
    assert bare == bare[:1] * 3


async def test_refusal_of_a_logged_request_goes_the_long_way(known: list[bool], tmp_path: Path) -> None:
    async with raw_upstream() as upstream, running_gateway(upstream.url, tmp_path, **OPTIONS) as gateway:
        client = await gateway.client()
        assert await statuses(client, *[request(b"GET", "/a")] * 2) == [401, 401]
        lines = await gateway.log(2)
    assert True not in known
    assert [line["reason"] for line in lines] == ["no_credential"] * 2


@pytest.mark.parametrize("behind", [b"X", b"GET /"])
@pytest.mark.rule("R213")
async def test_bytes_behind_a_refused_request_are_not_swallowed(
    behind: bytes, known: list[bool], tmp_path: Path
) -> None:
    """A request is known only when it is all that has come; also when what follows was a token before."""
    options = {**OPTIONS, "server": {"express": True, "access_log": "off"}}
    async with raw_upstream() as upstream, running_gateway(upstream.url, tmp_path, **options) as gateway:
        client = await gateway.client()
        assert await statuses(client, request(b"GET", "/a"), request(b"GET", "/a")) == [401, 401]
        connection_of(gateway, client)._token = behind
        assert await statuses(client, request(b"GET", "/a") + behind) == [401]
        assert connection_of(gateway, client)._buffer == behind
    assert known == [True, False]


async def test_refusal_that_depends_on_the_token_is_not_remembered(known: list[bool], tmp_path: Path) -> None:
    options = {**OPTIONS, "server": {"express": True, "access_log": "off"}}
    async with raw_upstream() as upstream, running_gateway(upstream.url, tmp_path, **options) as gateway:
        token = gateway.token(sub="ann")
        client = await warm(gateway, token)
        bad = request(b"GET", "/a", token=token[:-4] + b"AAAA")
        assert await statuses(client, bad, bad, request(b"GET", "/a", token=token)) == [401, 401, 200]
        plans = connection_of(gateway, client)._plans.values()
        assert [type(plan) for plan in plans] == [Plan]
    assert known == [True, True]
    assert len(upstream.requests) == 3


CHANGING = ("time", "duration_ms", "upstream_ms", "verify_ms", "request_id")


def bare(line: dict[str, Any]) -> dict[str, Any]:
    """A line of the access log without what differs from request to request."""
    assert all(line[name] >= 0 for name in CHANGING if name.endswith("_ms") and name in line)
    return {key: value for key, value in line.items() if key not in CHANGING}


@pytest.mark.parametrize("way", ["new", "forged", "forged again", "expired", "no scope"])
@pytest.mark.rule("R047", "R101")
async def test_token_that_is_not_remembered_is_judged_as_on_the_long_way(
    way: str, known: list[bool], tmp_path: Path
) -> None:
    """The same answer, the same line, the same counts; and what is refused does not get through."""
    async with raw_upstream() as upstream, running_gateway(upstream.url, tmp_path, **OPTIONS) as gateway:
        client = await warm(gateway, *[gateway.token(sub="w", scope="write")])
        target = "/scoped" if way == "no scope" else "/a"
        assert await statuses(client, request(b"GET", target, token=gateway.token(sub="w", scope="write"))) == [200]
        wrong: dict[str, dict[str, Any]] = {"expired": {"exp": 1}, "no scope": {"scope": "read"}}
        tokens = [gateway.token(sub="ann", jti=jti, **wrong.get(way, {})) for jti in ("1", "2")]
        if way.startswith("forged"):
            tokens = [token[:-8] + b"AAAAAAAA" for token in tokens]
        if way == "forged again":
            tokens = tokens[:1] * 2
            assert await statuses(await gateway.client(), request(b"GET", target, token=tokens[0])) == [401]
        cache = gateway.app.authenticator.cache
        arrived, misses, known[:] = len(upstream.requests), cache.misses, []
        status = {"new": 200, "no scope": 403}.get(way, 401)
        short = await client.exchange(request(b"GET", target, token=tokens[0]))
        long = await (await gateway.client()).exchange(request(b"GET", target, token=tokens[1]))
        count = {"forged again": 5}.get(way, 4)
        lines = [bare(line) for line in (await gateway.log(count + 1))[-2:]]
        assert (short.status, long.status) == (status, status)
        assert short.one(b"www-authenticate") == long.one(b"www-authenticate")
        assert cache.misses == misses + 2
        assert gateway.app.telemetry.running == 0
    assert known == [True]
    assert lines[0] == lines[1]
    forwarded = [received.one(b"x-user-id") for received in upstream.requests[arrived:]]
    assert forwarded == ([b"ann", b"ann"] if way == "new" else [])


@pytest.mark.rule("R171")
async def test_token_whose_key_has_to_be_asked_for_is_judged_once(known: list[bool], tmp_path: Path) -> None:
    """By the shared run, which can wait; and nothing is counted as being served for ever."""
    async with raw_upstream() as upstream, running_gateway(upstream.url, tmp_path, **OPTIONS) as gateway:
        client = await warm(gateway, gateway.token())
        other = mint(SigningKey.ec("other"), good_claims(time.time()))
        good = request(b"GET", "/a", token=gateway.token())
        assert await statuses(client, good) == [200]
        assert await statuses(client, request(b"GET", "/a", token=other)) == [401]
        line = (await gateway.log(4))[-1]
        assert (line["reason"], line.get("upstream", "")) == ("unknown_key", "")
        assert await statuses(client, good) == [200]
        assert gateway.app.telemetry.running == 0
        assert gateway.app.telemetry.refusals == {"unknown_key": 1}
    assert known == [True, True]


async def test_field_that_is_new_each_time_is_sent_on_as_it_comes(known: list[bool], tmp_path: Path) -> None:
    """Traced requests are known, too: with another token, another id and another length."""
    async with raw_upstream() as upstream, running_gateway(upstream.url, tmp_path, **OPTIONS) as gateway:
        ann, bob = gateway.token(sub="ann"), gateway.token(sub="bob")
        client = await warm(gateway, ann)

        def traced(number: int, token: bytes) -> bytes:
            body = b"x" * (number + 1)
            fields = ((b"X-Trace", b"t-%d" % number), (b"X-Request-Id", b"r-%d" % number))
            length = (b"Content-Length", b"%d" % len(body))
            return request(b"POST", "/a", *fields, length, token=token, body=body)

        requests = [traced(0, ann), traced(1, ann), traced(20, bob), traced(3, ann)]
        assert await statuses(client, *requests) == [200] * 4
        assert await statuses(client, traced(4, ann[:-8] + b"AAAAAAAA"), traced(5, bob)) == [401, 200]
        lines = await gateway.log(8)
    assert known == [True] * 5
    got = [(one.one(b"x-trace"), one.one(b"x-user-id"), len(one.body)) for one in upstream.requests[-5:]]
    assert got == [
        (b"t-0", b"ann", 1),
        (b"t-1", b"ann", 2),
        (b"t-20", b"bob", 21),
        (b"t-3", b"ann", 4),
        (b"t-5", b"bob", 6),
    ]
    assert [one.one(b"x-request-id") for one in upstream.requests[-5:]] == [b"r-0", b"r-1", b"r-20", b"r-3", b"r-5"]
    assert [line["request_id"] for line in lines[-6:]] == ["r-0", "r-1", "r-20", "r-3", "r-4", "r-5"]


@pytest.mark.rule("R310")
async def test_varied_request_over_a_connection_that_has_died_is_sent_again_as_it_was(
    known: list[bool], tmp_path: Path
) -> None:
    """The fields are those of this request, not those of the one that was remembered."""

    async def respond(received: Received, *_: object) -> bytes | None:
        first = [one.one(b"x-trace") for one in upstream.requests].count(b"3") == 1
        return None if received.one(b"x-trace") == b"3" and first else OK

    async with raw_upstream(respond) as upstream, running_gateway(upstream.url, tmp_path, **OPTIONS) as gateway:
        token = gateway.token()
        client = await warm(gateway, token)
        for trace in (b"1", b"2"):
            assert await statuses(client, request(b"GET", "/a", (b"X-Trace", trace), token=token)) == [200]
        response = await client.exchange(request(b"GET", "/a", (b"X-Trace", b"3"), token=token))
        assert response.status == 200
    assert known == [True] * 2
    assert [one.one(b"x-trace") for one in upstream.requests[-4:]] == [b"1", b"2", b"3", b"3"]


@pytest.mark.rule("R340")
async def test_field_that_does_not_pass_is_read_anew(known: list[bool], tmp_path: Path) -> None:
    names = {**OPTIONS, "identity": {"x-user-id": "sub", "x-trace": "jti"}}
    async with raw_upstream() as upstream, running_gateway(upstream.url, tmp_path, **names) as gateway:
        token = gateway.token()
        client = await warm(gateway, token)
        for trace in (b"1", b"2"):
            assert await statuses(client, request(b"GET", "/a", (b"X-Trace", trace), token=token)) == [200]
    assert known == [False]
    assert not {one.one(b"x-trace") for one in upstream.requests} & {b"1", b"2"}


async def test_client_that_leaves_while_its_token_is_verified_causes_nothing(
    known: list[bool], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is sent to the upstream; the request is counted, once, as the client's leaving."""
    async with raw_upstream() as upstream, running_gateway(upstream.url, tmp_path, **OPTIONS) as gateway:
        client = await warm(gateway, gateway.token())
        assert await statuses(client, request(b"GET", "/a", token=gateway.token())) == [200]
        batch = gateway.app.express.serving.pipeline.new_tokens
        monkeypatch.setattr(batch, "_soon", lambda: None)
        await client.send(request(b"GET", "/a", token=gateway.token(sub="ann")))
        await until(lambda: bool(batch._waiting))
        await client.close()
        line = (await gateway.log(4))[-1]
        batch._verify()
        assert (line["outcome"], line.get("upstream", "")) == ("client_gone", "")
        assert gateway.app.telemetry.running == 0
    assert known == [True]
    assert [received.one(b"x-user-id") for received in upstream.requests].count(b"ann") == 0


@pytest.mark.rule("R214")
async def test_what_comes_while_a_token_is_verified_waits_for_its_answer(known: list[bool], tmp_path: Path) -> None:
    """Pipelined requests are answered in their order, whose token is new or not."""
    async with raw_upstream() as upstream, running_gateway(upstream.url, tmp_path, **OPTIONS) as gateway:
        old, new = gateway.token(sub="old"), gateway.token(sub="new")
        client = await warm(gateway, old)
        assert await statuses(client, request(b"GET", "/a", token=old)) == [200]
        connection = connection_of(gateway, client)
        connection.data_received(request(b"GET", "/a", token=new))
        connection.data_received(request(b"GET", "/a", token=old))
        connection.data_received(request(b"GET", "/public"))
        assert [(await client.response()).status for _ in range(3)] == [200] * 3
    assert known[0] is True
    assert [received.one(b"x-user-id") for received in upstream.requests[-3:]] == [b"new", b"old", None]


async def test_new_callers_are_judged_one_by_one_and_counted(known: list[bool], tmp_path: Path) -> None:
    """That a caller with the same scopes may pass says nothing where the route looks at a claim."""
    routes: tuple[dict[str, Any], ...] = (*ROUTES, {"path": "/staff", "claims": {"role": ["staff"]}})
    options = {**OPTIONS, "routes": routes, "server": {"express": True, "access_log": "off"}}
    async with raw_upstream() as upstream, running_gateway(upstream.url, tmp_path, **options) as gateway:
        roles = ["staff", "staff", "guest", "staff", "guest"]
        client = await warm(gateway)
        telemetry = gateway.app.telemetry
        seen = [
            await statuses(client, request(b"GET", "/staff", token=gateway.token(role=role, jti=str(number))))
            for number, role in enumerate(roles)
        ]
        assert seen == [[200], [200], [403], [200], [403]]
        assert await statuses(client, request(b"GET", "/staff", token=gateway.token(role="guest", jti="4"))) == [403]
        await gateway.settled()
        assert sum(telemetry.verification.counts) == len(roles)
        assert telemetry.requests["/staff", "read", 200, "forwarded"] == 3
        assert telemetry.whole.total > telemetry.upstream.total > 0
    assert known == [True] * 4 + [False]


@pytest.mark.rule("R094")
async def test_unforeseen_fault_after_verification_is_answered(
    known: list[bool], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With no 500, and the connection serves the next request."""
    async with raw_upstream() as upstream, running_gateway(upstream.url, tmp_path, **OPTIONS) as gateway:
        client = await warm(gateway, gateway.token())
        assert await statuses(client, request(b"GET", "/a", token=gateway.token())) == [200]
        with monkeypatch.context() as patch:
            patch.setattr(Plan, "let_pass", lambda *_: 1 / 0)
            assert await statuses(client, request(b"GET", "/a", token=gateway.token(sub="ann"))) == [503]
        assert await statuses(client, request(b"GET", "/a", token=gateway.token(sub="ann"))) == [200]
        assert gateway.app.telemetry.running == 0
    assert known == [True] * 2


async def test_new_caller_waits_for_a_connection_when_none_is_idle(known: list[bool], tmp_path: Path) -> None:
    async with raw_upstream() as upstream, running_gateway(upstream.url, tmp_path, **OPTIONS) as gateway:
        client = await warm(gateway, gateway.token())
        posts = [
            request(b"POST", "/a", (b"Content-Length", b"3"), token=gateway.token(jti=jti), body=b"one")
            for jti in ("1", "2")
        ]
        assert await statuses(client, posts[0]) == [200]
        leased = gateway.app.upstreams["main"].lease_now()
        assert leased is not None
        assert await statuses(client, posts[1]) == [200]
        leased[1].release()
        lines = await gateway.log(4)
    assert known == [True]
    assert upstream.requests[-1].body == b"one"
    assert bare(lines[-1]) == bare(lines[-2])


async def test_nobody_in_particular_is_sent_nowhere_but_where_nobody_is_asked_for(tmp_path: Path) -> None:
    """The last line of defence of the short way: without it a mistake before it would forward without a caller."""
    async with raw_upstream() as upstream, running_gateway(upstream.url, tmp_path, **OPTIONS) as gateway:
        client = await warm(gateway, gateway.token())
        assert await statuses(client, request(b"GET", "/a", token=gateway.token())) == [200]
        connection = connection_of(gateway, client)
        (plan,) = connection._plans.values()
        assert isinstance(plan, Plan)
        leased = plan.upstream.lease_now()
        assert leased is not None
        exchange = ExpressExchange(connection, connection._serving, connection._heads)
        exchange.follow(plan, None, b"")
        with pytest.raises(AssertionError, match="without a caller"):
            exchange.send(None, b"GET / HTTP/1.1\r\n", leased[1])
        leased[1].release()


@pytest.mark.rule("R101")
async def test_refusals_of_new_tokens_are_alike_but_for_their_ids(known: list[bool], tmp_path: Path) -> None:
    """And each is counted, with its verification; another reason has another answer."""
    options = {**OPTIONS, "server": {"express": True, "access_log": "off"}}
    async with raw_upstream() as upstream, running_gateway(upstream.url, tmp_path, **options) as gateway:
        good = gateway.token(sub="ann", scope="read")
        client = await warm(gateway, good)
        assert await statuses(client, request(b"GET", "/scoped", token=good)) == [403]
        arrived = len(upstream.requests)
        telemetry = gateway.app.telemetry
        await gateway.settled()
        before = sum(telemetry.verification.counts)
        forged = [gateway.token(jti=jti)[:-8] + b"AAAAAAAA" for jti in "123"]
        expired = [gateway.token(jti=jti, exp=1) for jti in "123"]
        few = [gateway.token(jti=jti, scope="read") for jti in "123"]
        answers = [
            await client.exchange(request(b"GET", "/scoped", token=token))
            for trio in zip(forged, expired, few, strict=True)
            for token in trio
        ]
        await gateway.settled()
        assert telemetry.refusals == {"bad_signature": 3, "expired": 3, "missing_scope": 4}
        assert telemetry.requests["/scoped", "read", 401, "refused"] == 6
        assert telemetry.requests["/scoped", "read", 403, "refused"] == 4
        assert sum(telemetry.verification.counts) == before + 9
        assert telemetry.running == 0
    assert known == [True] * 9
    assert len(upstream.requests) == arrived
    assert [answer.status for answer in answers] == [401, 401, 403] * 3
    assert len({answer.one(b"x-request-id") for answer in answers}) == 9
    for answer in answers:
        assert answer.json["request_id"].encode() == answer.one(b"x-request-id")
    challenges = [answer.one(b"www-authenticate") for answer in answers]
    assert challenges == challenges[:3] * 3
    assert len(set(challenges)) == 3
