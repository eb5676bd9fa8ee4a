"""API keys through a whole gateway: who gets in, as whom, what the upstream sees, and how keys come and go."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.support.clients.websockets import close_of, dial, socket_upstream
from tests.support.clock import FakeClock, eventually
from tests.support.composed import Settings
from tests.support.gateways.discovering import A
from tests.support.gateways.running import RawResponse, configuration, request, running_gateway, until
from tests.support.gateways.timed import TimedGateway, timed_gateway
from tests.support.tokens.api_keys import FOREIGN, KEY, OTHER, entry, write_keys
from tests.support.tokens.minting import jwks
from tests.support.upstreams.recording import Received, raw_upstream

pytestmark = pytest.mark.every_log

BOTH = ["jwt", "api_key"]
ROUTES: tuple[dict[str, Any], ...] = (
    {"path": "/"},
    {"path": "/either", "credentials": BOTH, "scopes": ["read"]},
    {"path": "/keys", "credentials": ["api_key"]},
    {"path": "/named", "credentials": BOTH, "api_key_header": "Partner-Key"},
    {"path": "/optional", "credentials": BOTH, "auth": "optional"},
    {"path": "/rules", "credentials": ["api_key"], "claims": {"role": "merchant"}, "any_scopes": ["write", "all"]},
    {"path": "/issuers", "credentials": BOTH, "issuers": ["main"]},
    {"path": "/observe", "credentials": ["api_key"], "observe": True, "scopes": ["all"]},
    {"path": "/public", "auth": "public"},
)
KEYS: list[dict[str, Any]] = [
    entry(owner="alice inc", scopes=["read", "write"], claims={"role": ["clerk", "merchant"], "level": 3}),
    entry(OTHER, "other"),
    entry(FOREIGN, "foreign", scopes=["read"]),
    entry(b"expired", "expired", expires="2020-01-01T00:00:00Z"),
]
IDENTITY = {"x-user-id": "sub", "x-user-role": "role", "x-scope": "$scopes", "x-client": "$client", "x-level": "level"}
BEARER, API_KEY = 'Bearer realm="gateway"', 'ApiKey realm="gateway"'
INVALID = BEARER + ', error="invalid_token", error_description='


def key_field(key: bytes, name: bytes = b"X-Api-Key") -> tuple[bytes, bytes]:
    return name, key


def challenges(response: RawResponse) -> list[str]:
    return [value.decode() for value in response.all(b"www-authenticate")]


@pytest.mark.rule("R340", "R341", "R344")
async def test_key_speaks_for_its_owner_and_stays_at_the_edge(tmp_path: Path) -> None:
    """The same identity headers as a token; the key in no spelling of its field."""
    async with (
        raw_upstream() as upstream,
        running_gateway(upstream.url, tmp_path, routes=ROUTES, api_keys=KEYS, identity=IDENTITY) as gateway,
    ):
        client = await gateway.client()
        forged = ((b"x-user-id", b"admin"), (b"X_Api_Key", b"other"), (b"HTTP_X_API_KEY", b"other"), (b"x-a", b"1"))
        for _ in range(3):  # also where the connection is known
            response = await client.exchange(request(b"GET", "/either", key_field(KEY), *forged))
            assert (response.status, response.body) == (200, b"ok")
        assert (await client.exchange(request(b"GET", "/keys", key_field(FOREIGN)))).status == 200
        assert (await client.exchange(request(b"GET", "/keys", key_field(OTHER)))).status == 200
        assert (await client.exchange(request(b"GET", "/either", token=gateway.token()))).status == 200
        log = await gateway.log(6)
    for received in upstream.requests[:3]:
        found = {name: received.all(name) for name in (b"x-user-id", b"x-user-role", b"x-scope", b"x-client")}
        assert found == {
            b"x-user-id": [b"alice inc"],
            b"x-user-role": [b"clerk,merchant"],
            b"x-scope": [b"read write"],
            b"x-client": [b"partner"],
        }
        assert (received.all(b"x-level"), received.all(b"x-a")) == ([b"3"], [b"1"])
        assert b"api" not in received.head.lower()
    foreign, other, token = upstream.requests[3:]
    assert (foreign.all(b"x-user-id"), foreign.all(b"x-scope")) == ([b"foreign"], [b"read"])
    assert (other.all(b"x-user-id"), other.all(b"x-user-role"), other.all(b"x-scope")) == ([b"other"], [], [])
    assert (token.all(b"x-user-id"), token.all(b"x-client")) == ([b"alice"], [])
    assert [line["credential"] for line in log] == [*["api_key"] * 5, "jwt"]
    assert ["issuer" in line for line in log] == [*[False] * 5, True]
    assert log[0]["subject_hash"] != log[3]["subject_hash"]


ONE: tuple[tuple[bytes, bytes], ...] = (key_field(KEY),)
TOKEN = (b"Authorization", b"Bearer GOOD")
REFUSED = [
    pytest.param("/either", (), 401, "no_credential", [BEARER, API_KEY], id="nothing"),
    pytest.param("/keys", (), 401, "no_credential", [API_KEY], id="nothing-keys-only"),
    pytest.param("/keys", (TOKEN,), 401, "no_credential", [API_KEY], id="token-where-keys-only"),
    pytest.param("/", ONE, 401, "no_credential", [BEARER], id="key-where-tokens-only"),
    pytest.param("/named", ONE, 401, "no_credential", [BEARER, API_KEY], id="another-route's-field"),
    pytest.param("/either", (key_field(b"x" * 64),), 401, "unknown_api_key", [INVALID, API_KEY], id="unknown"),
    pytest.param("/keys", (key_field(KEY[:-1]),), 401, "unknown_api_key", [API_KEY], id="cut"),
    pytest.param("/keys", (key_field(KEY + b", " + OTHER),), 401, "unknown_api_key", [API_KEY], id="joined"),
    pytest.param("/keys", (key_field(b"expired"),), 401, "expired_api_key", [API_KEY], id="expired"),
    pytest.param("/keys", (key_field(b"x" * 9000),), 401, "api_key_too_long", [API_KEY], id="too-long"),
    pytest.param("/keys", (key_field(b""),), 400, "malformed_api_key", [API_KEY], id="empty"),
    pytest.param("/keys", ONE * 2, 400, "several_credentials", [API_KEY], id="twice"),
    pytest.param("/either", (*ONE, TOKEN), 400, "several_credentials", [BEARER, API_KEY], id="and-token"),
    pytest.param("/keys", (TOKEN, *ONE), 400, "several_credentials", [API_KEY], id="and-token-where-keys-only"),
    pytest.param("/keys", (*ONE, (b"authorization", b"")), 400, "several_credentials", [API_KEY], id="and-empty"),
    pytest.param("/keys", (*ONE, (b"Authorization", b"Basic eDp5")), 400, "several_credentials", [API_KEY], id="basic"),
    pytest.param("/keys?access_token=x", ONE, 400, "several_credentials", [API_KEY], id="and-query"),
    pytest.param("/either?access_token=x", (), 401, "no_credential", [BEARER, API_KEY], id="query-alone"),
    pytest.param("/keys?x-api-key=" + KEY.decode(), (), 401, "no_credential", [API_KEY], id="key-in-query"),
    pytest.param("/optional", (key_field(b"bad"),), 401, "unknown_api_key", [INVALID, API_KEY], id="optional-bad"),
    pytest.param("/optional", ONE * 2, 400, "several_credentials", [BEARER, API_KEY], id="optional-twice"),
    pytest.param("/either", (key_field(OTHER),), 403, "missing_scope", [BEARER, API_KEY], id="scope"),
    pytest.param("/rules", (key_field(FOREIGN),), 403, "missing_scope", [API_KEY], id="any-scope"),
]


@pytest.mark.parametrize(("target", "fields", "status", "reason", "wanted"), REFUSED)
@pytest.mark.rule("R100", "R101", "R102", "R103", "R104", "R105", "R108", "R110", "C20", "C21")
async def test_what_is_no_good_key_is_refused(
    target: str, fields: Sequence[tuple[bytes, bytes]], status: int, reason: str, wanted: list[str], tmp_path: Path
) -> None:
    """Twice, for what is remembered; challenges name the kinds that would do."""
    async with (
        raw_upstream() as upstream,
        running_gateway(upstream.url, tmp_path, routes=ROUTES, api_keys=KEYS) as gateway,
    ):
        given = [(name, value.replace(b"GOOD", gateway.token())) for name, value in fields]
        client = await gateway.client()
        for _ in range(2):
            response = await client.exchange(request(b"GET", target, *given))
            assert response.status == status
            found = challenges(response)
            assert len(found) == len(wanted)
            assert all(value.startswith(start) for value, start in zip(found, wanted, strict=True))
            assert (API_KEY in found) == (API_KEY in wanted)
        good = await client.exchange(request(b"GET", "/rules", key_field(KEY)))
        log = await gateway.log(3)
    assert [line.get("reason") for line in log] == [reason, reason, None]
    assert good.status == 200
    assert len(upstream.requests) == 1


@pytest.mark.rule("R110")
async def test_answer_names_what_would_do(tmp_path: Path) -> None:
    """Fixed texts, by what the route takes."""
    async with running_gateway("http://127.0.0.1:1", tmp_path, routes=ROUTES, api_keys=KEYS) as gateway:
        texts = [(await gateway.get(target)).json["error_description"] for target in ("/", "/either", "/keys")]
        bad = (await gateway.get("/keys", key_field(b"bad"))).json
        old = (await gateway.get("/keys", key_field(b"expired"))).json
    assert texts == [
        "A bearer token is required.",
        "A bearer token or an API key is required.",
        "An API key is required.",
    ]
    assert (bad["error"], bad["error_description"]) == ("invalid_token", "The API key is not valid here.")
    assert old["error_description"] == "The API key expired."


async def test_field_of_a_key_is_an_ordinary_one_where_no_key_is_taken(tmp_path: Path) -> None:
    """It passes as it came, beside a token, on public routes, and on routes with a field of another name."""
    async with (
        raw_upstream() as upstream,
        running_gateway(upstream.url, tmp_path, routes=ROUTES, api_keys=KEYS) as gateway,
    ):
        client = await gateway.client()
        for target in ("/", "/public", "/named"):
            for value in (b"one", b"two"):
                response = await client.exchange(request(b"GET", target, key_field(value), token=gateway.token()))
                assert response.status == 200
        named = request(b"GET", "/named", key_field(b"mine"), (b"partner-key", KEY), (b"Partner_Key", KEY))
        assert (await client.exchange(named)).status == 200
    assert [received.all(b"x-api-key") for received in upstream.requests] == [*[[b"one"], [b"two"]] * 3, [b"mine"]]
    assert b"partner" not in upstream.requests[-1].head.lower().replace(b"x-user-id: partner", b"")
    assert upstream.requests[-1].one(b"x-user-id") == b"alice inc"


@pytest.mark.rule("R187")
async def test_kept_connection_tells_keys_apart(tmp_path: Path) -> None:
    """Nothing that is remembered of one key answers for another, for none, or on another route."""
    sequence: list[tuple[str, bytes, int]] = [
        ("/keys", KEY, 200),
        ("/keys", OTHER, 200),
        ("/keys", b"bad", 401),
        ("/keys", KEY, 200),
        ("/keys", b"", 401),
        ("/either", KEY, 200),
        ("/either", OTHER, 403),
        ("/optional", b"", 200),
        ("/optional", b"bad", 401),
        ("/optional", KEY, 200),
        ("/public", b"bad", 200),
        ("/", KEY, 401),
        ("/issuers", KEY, 200),
        ("/rules", OTHER, 403),
        ("/observe", OTHER, 200),
        ("/observe", b"bad", 200),
    ]
    async with (
        raw_upstream() as upstream,
        running_gateway(upstream.url, tmp_path, routes=ROUTES, api_keys=KEYS, server={"access_log": "off"}) as gateway,
    ):
        client = await gateway.client()
        for target, key, status in sequence * 2:
            fields = (key_field(key),) if key else ()
            assert (await client.exchange(request(b"GET", target, *fields))).status == status, (target, key)
    passed = [(target, key) for target, key, status in sequence * 2 if status == 200]
    names = {KEY: [b"alice inc"], OTHER: [b"other"]}
    for (target, key), received in zip(passed, upstream.requests, strict=True):
        expected = [] if target in ("/public", "/observe") else names.get(key, [])
        assert received.all(b"x-user-id") == expected, (target, key)
        assert received.all(b"x-api-key") == ([key] if target == "/public" else [])


@pytest.mark.rule("R310")
async def test_key_is_not_sent_again_either(tmp_path: Path) -> None:
    """The request that is repeated over another connection is stripped as the first one was."""
    answered = 0

    async def respond(received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes | None:
        nonlocal answered
        answered += 1
        return None if answered == 2 else b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

    async with (
        raw_upstream(respond) as upstream,
        running_gateway(upstream.url, tmp_path, routes=ROUTES, api_keys=KEYS) as gateway,
    ):
        for _ in range(2):
            assert (await gateway.get("/keys", key_field(KEY))).status == 200
    assert len(upstream.requests) == 3
    assert all(KEY not in received.head and received.one(b"x-user-id") for received in upstream.requests)


@contextlib.asynccontextmanager
async def timed(
    directory: Path,
    upstream_url: str,
    *keys: dict[str, Any] | str,
    routes: Sequence[dict[str, Any]] = (),
    **sections: Any,
) -> AsyncIterator[TimedGateway]:
    """A gateway with a file of keys, under a test's clock."""
    (directory / "jwks.json").write_bytes(jwks(A))
    file = directory / "keys.jsonl"
    write_keys(file, *keys)
    config = configuration(
        upstream_url,
        directory / "jwks.json",
        routes=routes or ({"path": "/", "credentials": BOTH},),
        tokens={"api_keys_file": str(file)},
        **sections,
    )
    async with timed_gateway(Settings.model_validate(config), A, FakeClock()) as gateway:
        yield gateway


async def reread(gateway: TimedGateway) -> None:
    """Let time pass until a changed file has been read."""
    for _ in range(3):
        await gateway.clock.advance(1)
        await asyncio.sleep(0.02)


async def test_file_is_read_again_when_it_changes(tmp_path: Path) -> None:
    """Keys come, go, and change their rights, without a restart; also on a connection that is known."""
    file = tmp_path / "keys.jsonl"
    async with raw_upstream() as upstream, timed(tmp_path, upstream.url, entry(owner="one")) as gateway:
        client = await gateway.client()

        async def ask(key: bytes) -> int:
            return (await client.exchange(request(b"GET", "/", key_field(key)))).status

        assert [await ask(KEY), await ask(OTHER)] == [200, 401]
        write_keys(file, entry(owner="two"), entry(OTHER, "other"))
        await reread(gateway)
        assert [await ask(KEY), await ask(OTHER)] == [200, 200]
        write_keys(file, entry(OTHER, "other"))
        await reread(gateway)
        assert [await ask(KEY), await ask(OTHER)] == [401, 200]
        write_keys(file)
        await reread(gateway)
        assert [await ask(KEY), await ask(OTHER)] == [401, 401]
        status = (await gateway.admin("/status")).json["api_keys"]
    assert [received.one(b"x-user-id") for received in upstream.requests] == [b"one", b"two", b"other", b"other"]
    assert (status["keys"], status["last_error"]) == (0, "")


@pytest.mark.rule("R113")
async def test_bad_file_keeps_the_last_good_keys_and_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A line without its hash, then no file at all; nothing of a line is in the log, status or metrics."""
    file = tmp_path / "keys.jsonl"
    async with raw_upstream() as upstream, timed(tmp_path, upstream.url, entry()) as gateway:
        write_keys(file, entry(), {"id": "new", "hash": OTHER.decode(), OTHER.decode(): 1})
        await reread(gateway)
        assert (await gateway.get("/", key_field(KEY))).status == 200
        page = await gateway.admin("/status")
        metrics = (await gateway.admin("/metrics")).body
        file.unlink()
        await reread(gateway)
        assert (await gateway.get("/", key_field(KEY))).status == 200
        gone = (await gateway.admin("/status")).json["api_keys"]
        write_keys(file, entry(OTHER, "other"))
        await reread(gateway)
        well = (await gateway.admin("/status")).json["api_keys"]
        assert (await gateway.get("/", key_field(OTHER))).status == 200
    told = page.json["api_keys"]
    assert told["last_error"].startswith(f'{file}, line 2, hash: must be "sha256:" and the 64 lower-case hex digits')
    assert (told["keys"], told["file"], told["reload_failures"], told["complete"]) == (1, str(file), 1, True)
    assert b"gateway_api_key_reload_failures_total 1.0" in metrics
    assert b"gateway_api_keys 1.0" in metrics
    assert (gone["last_error"], gone["reload_failures"]) == ("this file cannot be read: no such file or directory", 2)
    assert (well["keys"], well["last_error"], well["reload_failures"]) == (1, "", 2)
    assert "line 2, hash" in caplog.text
    for said in (caplog.text, page.body.decode(), metrics.decode()):
        assert OTHER.decode()[:20] not in said


@pytest.mark.rule("R113")
async def test_file_that_was_never_read_is_no_reason_for_401(tmp_path: Path) -> None:
    """It may hold the key; keys of the configuration itself are known, and so are tokens."""
    async with (
        raw_upstream() as upstream,
        timed(tmp_path, upstream.url, "nonsense", api_keys=[entry()]) as gateway,
    ):
        unknown = await gateway.get("/", key_field(OTHER))
        known = await gateway.get("/", key_field(KEY))
        token = await gateway.get("/", token=gateway.token())
        write_keys(tmp_path / "keys.jsonl", entry(OTHER, "other"))
        await reread(gateway)
        later = await gateway.get("/", key_field(OTHER))
        log = await gateway.log(4)
    assert (unknown.status, log[0]["reason"], unknown.one(b"retry-after")) == (503, "no_api_keys", b"1")
    assert unknown.all(b"www-authenticate") == []
    assert (known.status, token.status, later.status) == (200, 200, 200)


@pytest.mark.rule("R198")
async def test_counters_tell_the_kinds_apart(tmp_path: Path) -> None:
    """By kind, without an id."""
    async with (
        raw_upstream() as upstream,
        running_gateway(upstream.url, tmp_path, routes=ROUTES, api_keys=KEYS) as gateway,
    ):
        for key in (KEY, KEY, b"bad"):
            await gateway.get("/keys", key_field(key))
        await gateway.get("/either", token=gateway.token())
        await gateway.settled()
        metrics = (await gateway.admin("/metrics")).body.decode()
    assert 'gateway_credential_lookups_total{kind="api_key"} 3.0' in metrics
    assert 'gateway_credential_lookups_total{kind="jwt"} 1.0' in metrics
    assert 'gateway_refusals_total{reason="unknown_api_key"} 1.0' in metrics
    assert "gateway_api_keys 4.0" in metrics
    assert not any(name in metrics for name in ("partner", "alice", "foreign"))


@pytest.mark.rule("R322", "C65")
async def test_tunnel_ends_when_its_key_expires(tmp_path: Path) -> None:
    """On both sides, at that very second."""
    async with (
        socket_upstream() as upstream,
        timed(tmp_path, upstream.url, entry(expires="2027-01-15T08:00:03Z")) as gateway,
    ):
        async with dial(gateway, headers={"X-Api-Key": KEY.decode()}) as client:
            await gateway.clock.advance(2)
            await client.send("still")
            assert await client.recv() == "still"
            await gateway.clock.advance(1)
            assert await close_of(client) == (1008, "API key expired")
        await until(lambda: upstream.ends == [(1008, "API key expired")], within=1)
        assert (await gateway.get("/", key_field(KEY))).status == 401
        log = await gateway.log(2)
    assert (log[0]["status"], log[0]["reason"], log[0]["outcome"]) == (101, "expired", "refused")
    assert log[1]["reason"] == "expired_api_key"


@pytest.mark.parametrize("after", [(), (entry(scopes=["read"]),), (entry(owner="bob"),)], ids=["gone", "less", "other"])
@pytest.mark.rule("R322", "C65")
async def test_tunnel_ends_when_its_key_is_withdrawn(after: tuple[dict[str, Any], ...], tmp_path: Path) -> None:
    """Or says something else; the tunnels of other keys go on, and so do those whose end was put off."""
    file = tmp_path / "keys.jsonl"
    other = entry(OTHER, "other", expires="2027-01-15T08:00:20Z")
    async with socket_upstream() as upstream, timed(tmp_path, upstream.url, entry(), other) as gateway:
        one = dial(gateway, headers={"X-Api-Key": KEY.decode()})
        two = dial(gateway, headers={"X-Api-Key": OTHER.decode()})
        async with one as old, two as kept:
            write_keys(file, *after, {**other, "expires": "2027-01-15T08:01:00Z"})
            await reread(gateway)
            await gateway.clock.advance(20)
            assert await close_of(old) == (1008, "API key withdrawn")
            await kept.send("hello")
            assert await kept.recv() == "hello"
    assert upstream.ends[0] == (1008, "API key withdrawn")


@pytest.mark.rule("R322", "R340")
async def test_key_does_not_reach_the_upstream_of_a_tunnel(tmp_path: Path) -> None:
    """The handshake is stripped as any request is."""
    heads: list[bytes] = []

    async def refuse(received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        heads.append(received.head)
        return b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"

    shake = (
        *((b"Connection", b"upgrade"), (b"Upgrade", b"websocket"), (b"Sec-WebSocket-Version", b"13")),
        *((b"Sec-WebSocket-Key", b"MDEyMzQ1Njc4OWFiY2RlZg=="), (b"X.Api.Key", KEY), key_field(KEY)),
    )
    async with raw_upstream(refuse) as upstream, timed(tmp_path, upstream.url, entry()) as gateway:
        assert (await gateway.get("/", *shake)).status == 404
    assert b"Upgrade: websocket" in heads[0]
    assert KEY not in heads[0]
    assert b"x-user-id: partner" in heads[0]


@pytest.mark.parametrize("how", ["expires", "withdrawn"])
@pytest.mark.rule("C65")
async def test_response_ends_with_its_key_where_the_route_says_so(how: str, tmp_path: Path) -> None:
    """Cut off, so that it cannot be taken for whole."""

    async def stream(received: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nevent\r\n")
        await reader.read()

    routes = ({"path": "/", "credentials": ["api_key"], "end_at_expiry": True},)
    key = entry(expires="2027-01-15T08:00:10Z")
    async with raw_upstream(stream) as upstream, timed(tmp_path, upstream.url, key, routes=routes) as gateway:
        client = await gateway.client()
        await client.send(request(b"GET", "/", key_field(KEY)))
        assert (await client.reader.readuntil(b"event\r\n")).startswith(b"HTTP/1.1 200 OK\r\n")
        assert upstream.open_connections == 1
        if how == "withdrawn":
            write_keys(tmp_path / "keys.jsonl")
            await reread(gateway)
            await gateway.clock.advance(1)
        else:
            await gateway.clock.advance(11)
        assert await client.at_end(within=1)
        await eventually(lambda: upstream.open_connections == 0)
        log = await gateway.log()
    reason = {"expires": "expired_api_key", "withdrawn": "unknown_api_key"}[how]
    assert (log[0]["status"], log[0]["reason"], log[0]["outcome"]) == (200, reason, "refused")
