"""Opaque tokens through a whole gateway: which callers get in, what is asked, and what an outage does."""

from __future__ import annotations

import asyncio
import contextlib
import time
from base64 import b64decode
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote_plus

import pytest

from tests.support.composed import Settings
from tests.support.gateways.running import RunningGateway, configuration, request, running, until
from tests.support.issuers.introspection import (
    CLIENT_ID,
    CLIENT_SECRET,
    ISSUER,
    AuthorizationServer,
    authorization_server,
    json_answer,
    opaque_issuer,
    said,
)
from tests.support.pace import paced
from tests.support.tokens.minting import SigningKey, good_claims, jwks, mint
from tests.support.tokens.proofs import bound_to, make_proof, with_proof
from tests.support.upstreams.recording import RawUpstream, raw_upstream

BOTH = ["jwt", "opaque"]
ROUTES: tuple[dict[str, Any], ...] = (
    {"path": "/"},
    {"path": "/either", "credentials": BOTH, "scopes": ["read"]},
    {"path": "/opaque", "credentials": ["opaque"]},
    {"path": "/keys-too", "credentials": ["opaque", "api_key"]},
    {"path": "/optional", "credentials": BOTH, "auth": "optional"},
    {"path": "/main", "credentials": ["jwt"], "issuers": ["main"]},
    {"path": "/rules", "credentials": ["opaque"], "claims": {"role": "merchant"}},
    {"path": "/observe", "credentials": ["opaque"], "observe": True},
    {"path": "/public", "auth": "public"},
)
KEY = SigningKey.ec("as-key")


class Scene:
    """A gateway, its upstream, and the server that it asks."""

    def __init__(self, gateway: RunningGateway, upstream: RawUpstream, server: AuthorizationServer) -> None:
        self.gateway = gateway
        self.upstream = upstream
        self.server = server

    async def status(self, target: str, token: str | bytes, *fields: tuple[bytes, bytes]) -> int:
        shown = token if isinstance(token, bytes) else token.encode()
        return (await self.gateway.get(target, *fields, token=shown)).status


@contextlib.asynccontextmanager
async def scene(
    directory: Path, routes: Sequence[dict[str, Any]] = ROUTES, *, issuer: dict[str, Any] | None = None, **sections: Any
) -> AsyncIterator[Scene]:
    """Run a gateway with an issuer of JWTs, ``main``, and one of opaque tokens, ``as``."""
    key = SigningKey.rsa("a")
    (directory / "jwks.json").write_bytes(jwks(key))
    (directory / "as.json").write_bytes(jwks(KEY))
    async with raw_upstream() as upstream, authorization_server() as server:
        made = configuration(upstream.url, directory / "jwks.json", routes=routes, **sections)
        options = {"jwks_file": str(directory / "as.json"), **(issuer or {})}
        made["issuers"].append(opaque_issuer(directory, server.url, **options))
        async with running(Settings.model_validate(made), key) as gateway:
            yield Scene(gateway, upstream, server)


@pytest.mark.rule("R118", "R119", "R127")
async def test_opaque_token_speaks_for_its_owner(tmp_path: Path) -> None:
    """Asked once by POST, with the client's credentials; the services see the identity only."""
    identity = {"x-user-id": "sub", "x-scope": "$scopes", "x-client": "$client", "x-issuer": "$issuer"}
    async with scene(tmp_path, identity=identity) as one:
        one.server.tokens["2YotnFZFEjr1zCsicMWpAA"] = said()
        client = await one.gateway.client()
        for target in ("/either", "/opaque", "/either", "/keys-too"):
            response = await client.exchange(request(b"GET", target, token=b"2YotnFZFEjr1zCsicMWpAA"))
            assert (response.status, response.body) == (200, b"ok")
        log = await one.gateway.log(4)
        status = (await one.gateway.admin("/status")).json["introspection"]["as"]
    for received in one.upstream.requests:
        assert received.all(b"authorization") == []
        assert [received.one(name) for name in (b"x-user-id", b"x-scope", b"x-client", b"x-issuer")] == [
            b"alice",
            b"read write",
            b"app",
            ISSUER.encode(),
        ]
    (asked,) = one.server.asked
    assert (asked.method, asked.target) == ("POST", "/introspect")
    assert asked.form == {"token": "2YotnFZFEjr1zCsicMWpAA", "token_type_hint": "access_token"}
    assert asked.headers["Accept"] == "application/json"
    scheme, _, value = asked.headers["Authorization"].partition(" ")
    sent_id, _, sent_secret = b64decode(value).decode("ascii").partition(":")
    assert (scheme, unquote_plus(sent_id), unquote_plus(sent_secret)) == ("Basic", CLIENT_ID, CLIENT_SECRET)
    assert [line["credential"] for line in log] == ["opaque"] * 4
    assert [line["issuer"] for line in log] == ["as"] * 4
    assert (status["outcomes"], status["hits"], status["in_flight"]) == ({"active": 1}, 3, 0)


@pytest.mark.rule("R118", "C95")
async def test_route_for_jwts_asks_nobody(tmp_path: Path) -> None:
    """Not about what looks like a JWT, and not about anything else."""
    async with scene(tmp_path, issuer={"introspect": "all"}) as one:
        shown = (b"opaque", b"00Dxx!AQ.Uo_.x", b"a.b.c.d.e", b"eyJhbGciOiJub25lIn0.e30.x", of_server())
        statuses = [await one.status("/", token) for token in shown]
        log = await one.gateway.log(len(shown))
    assert statuses == [401, 401, 401, 401, 200]
    assert [line.get("reason") for line in log] == [
        "not_a_jws",
        "bad_encoding",
        "encrypted_token",
        "bad_encoding",
        None,
    ]
    assert one.server.asked == []


def of_server(**overrides: Any) -> bytes:
    """Return a JWT of the server's issuer."""
    return mint(KEY, good_claims(time.time(), iss=ISSUER, **overrides))


@pytest.mark.rule("R118")
async def test_jwt_never_goes_to_a_server_that_it_does_not_name(tmp_path: Path) -> None:
    """JWTs of other issuers are verified or refused, and those of unknown ones refused."""
    async with scene(tmp_path) as one:
        good = one.gateway.token()
        foreign = mint(one.gateway.key, good_claims(time.time(), iss="https://elsewhere.test/"))
        client = await one.gateway.client()
        statuses = [
            (await client.exchange(request(b"GET", target, token=token))).status
            for target in ("/either", "/opaque")
            for token in (good, foreign, of_server(), good)
        ]
        log = await one.gateway.log(8)
    assert statuses == [200, 401, 200, 200, 401, 401, 401, 401]
    assert [line.get("reason") for line in log[:4]] == [None, "unknown_issuer", None, None]
    assert {line["reason"] for line in log[4:]} == {"credential_not_accepted"}
    assert one.server.asked == []


@pytest.mark.parametrize("introspect", ["all", "jwt"])
@pytest.mark.rule("R118")
async def test_jwt_is_asked_about_where_its_issuer_says_so(introspect: str, tmp_path: Path) -> None:
    """Also one that was verified by its key on another route a moment ago, on the same connection."""
    async with scene(tmp_path, issuer={"introspect": introspect}, server={"access_log": "off"}) as one:
        revoked, good = of_server(jti="1"), of_server(jti="2")
        one.server.tokens[good.decode()] = said()
        client = await one.gateway.client()
        statuses = [
            (await client.exchange(request(b"GET", target, token=token))).status
            for _ in range(3)
            for token in (revoked, good, one.gateway.token())
            for target in ("/", "/either", "/opaque")
        ]
    assert statuses == [200, 401, 401, 200, 200, 200, 200, 200, 401] * 3
    assert (one.server.questions(revoked.decode()), one.server.questions(good.decode())) == (1, 1)
    assert len(one.server.asked) == 2


@pytest.mark.rule("R118")
async def test_tokens_that_are_no_jwt_are_nobodys_where_only_jwts_are_asked_about(tmp_path: Path) -> None:
    """An issuer all of whose tokens are JWTs never sees another's opaque token."""
    async with scene(tmp_path, issuer={"introspect": "jwt"}) as one:
        statuses = [await one.status(target, b"opaque") for target in ("/either", "/opaque")]
        log = await one.gateway.log(2)
    assert statuses == [401, 401]
    assert [line["reason"] for line in log] == ["not_a_jws", "credential_not_accepted"]
    assert one.server.asked == []


@pytest.mark.rule("R118")
async def test_several_servers_each_get_their_own(tmp_path: Path) -> None:
    """The route says whose opaque tokens it takes; a JWT says it itself."""
    routes = (
        {"path": "/a", "credentials": ["opaque"], "issuers": ["as"]},
        {"path": "/b", "credentials": ["opaque"], "issuers": ["other"]},
    )
    async with authorization_server() as other:
        key = SigningKey.rsa("a")
        (tmp_path / "jwks.json").write_bytes(jwks(key))
        async with raw_upstream() as upstream, authorization_server() as server:
            made = configuration(upstream.url, tmp_path / "jwks.json", routes=routes)
            made["issuers"] = [
                opaque_issuer(tmp_path, server.url),
                opaque_issuer(tmp_path, other.url, name="other", issuer="https://other.test/", introspect="all"),
            ]
            async with running(Settings.model_validate(made), key) as gateway:
                assert gateway.app.issuers == {}  # no issuer's keys are needed, so none are fetched
                assert (await gateway.admin("/readyz")).status == 200
                server.tokens["t"] = said()
                jwt = mint(KEY, good_claims(time.time(), iss="https://other.test/"))
                other.tokens[jwt.decode()] = said(iss=None)
                statuses = [
                    (await gateway.get(target, token=token)).status for token in (b"t", jwt) for target in ("/a", "/b")
                ]
    assert statuses == [200, 401, 401, 200]
    assert [asked.token for asked in server.asked] == ["t"]
    assert [asked.token for asked in other.asked] == ["t", jwt.decode()]


@pytest.mark.rule("R187")
async def test_verdict_on_a_route_is_not_kept_with_the_token(tmp_path: Path) -> None:
    """The same token, on one connection, is enough for one route and not for the next."""
    async with scene(tmp_path, server={"access_log": "off"}) as one:
        one.server.tokens |= {
            "reader": said(scope="read"),
            "writer": said(scope="write"),
            "trader": said(role="merchant"),
        }
        client = await one.gateway.client()
        sequence = [
            ("/either", "reader", 200),
            ("/either", "writer", 403),
            ("/opaque", "writer", 200),
            ("/rules", "writer", 403),
            ("/rules", "trader", 200),
            ("/either", "bad", 401),
            ("/optional", "bad", 401),
            ("/observe", "bad", 200),
            ("/public", "bad", 200),
            ("/", "reader", 401),
            ("/main", "reader", 401),
        ]
        for target, token, status in sequence * 3:
            response = await client.exchange(request(b"GET", target, token=token.encode()))
            assert response.status == status, (target, token)
        assert (await client.exchange(request(b"GET", "/optional"))).status == 200
        assert one.gateway.app.telemetry.running == 0
    assert sorted({asked.token for asked in one.server.asked}) == ["bad", "reader", "trader", "writer"]
    assert len(one.server.asked) == 4
    for received in one.upstream.requests:
        known = received.target not in (b"/observe", b"/public", b"/optional")
        assert received.all(b"x-user-id") == ([b"alice"] if known else [])


@pytest.mark.rule("R118", "R187")
async def test_jwt_of_the_same_issuer_and_scopes_is_no_way_past_the_question(tmp_path: Path) -> None:
    """What an introspected token was granted says nothing of a token that was verified by a key."""
    async with scene(tmp_path, server={"access_log": "off"}) as one:
        one.server.tokens["t"] = said(scope="read")
        jwt = of_server(scope="read")
        client = await one.gateway.client()
        for _ in range(3):
            for target, token, status in (("/", jwt, 200), ("/opaque", b"t", 200), ("/opaque", jwt, 401)):
                assert (await client.exchange(request(b"GET", target, token=token))).status == status


FAILURES = [
    pytest.param(json_answer(b"", 500), "status_500", id="500"),
    pytest.param(json_answer({"error": "invalid_client"}, 401), "status_401", id="gateway's-own-credentials"),
    pytest.param(json_answer(said(), 201), "status_201", id="201"),
    pytest.param(json_answer(b"", 302, fields={"Location": "/other"}), "status_302", id="redirect"),
    pytest.param(
        json_answer(b"", 307, fields={"Location": "http://127.0.0.1:1/"}), "status_307", id="redirect-elsewhere"
    ),
    pytest.param(json_answer(b"{"), "bad_answer", id="bad-json"),
    pytest.param(json_answer(b'{"active": true, "active": false}'), "bad_answer", id="twice"),
    pytest.param(json_answer(b"[true]"), "bad_answer", id="array"),
    pytest.param(json_answer(said(), fields={"Content-Type": "text/html"}), "content_type", id="html"),
    pytest.param(
        json_answer(said(), fields={"Content-Type": "application/token-introspection+jwt"}), "content_type", id="jwt"
    ),
    pytest.param(json_answer(b" " * 10_000_000), "too_large", id="10-MB"),
    pytest.param(json_answer(said(), fields={"Content-Encoding": "gzip"}), "encoded", id="gzip"),
]


@pytest.mark.parametrize(("answer", "error"), FAILURES)
@pytest.mark.rule("R113", "R122", "R189")
async def test_no_answer_is_503_and_is_not_remembered(answer: Any, error: str, tmp_path: Path) -> None:
    """The next request asks again, and passes."""
    async with scene(tmp_path) as one:
        one.server.answer = answer
        client = await one.gateway.client()
        for _ in range(2):
            response = await client.exchange(request(b"GET", "/opaque", token=b"t"))
            assert (response.status, response.one(b"retry-after"), response.one(b"www-authenticate")) == (
                503,
                b"1",
                None,
            )
        state = (await one.gateway.admin("/status")).json["introspection"]["as"]
        assert state["last_error"].startswith(error)
        assert all(asked.target == "/introspect" for asked in one.server.asked)
        assert len(one.server.asked) == 2
        one.server.answer = json_answer(said())
        assert (await client.exchange(request(b"GET", "/opaque", token=b"t"))).status == 200
        log = await one.gateway.log(3)
    assert [line.get("reason") for line in log] == ["introspection_failed", "introspection_failed", None]


@pytest.mark.rule("R113", "R122")
async def test_silent_server_is_not_waited_for(tmp_path: Path) -> None:
    """503 after the time limit."""
    async with scene(tmp_path, issuer={"introspection_timeout_seconds": 0.2}) as one:
        one.server.gate = asyncio.Event()
        began = time.monotonic()
        assert await one.status("/opaque", "t") == 503
        assert 0.15 < time.monotonic() - began < paced(2)
        log = await one.gateway.log(1)
    assert log[0]["reason"] == "introspection_failed"


@pytest.mark.rule("R113")
async def test_server_that_is_gone_leaves_jwts_alone(tmp_path: Path) -> None:
    async with scene(tmp_path, issuer={"introspection_url": "http://127.0.0.1:1/introspect"}) as one:
        assert await one.status("/either", "t") == 503
        assert await one.status("/either", one.gateway.token()) == 200


NOT_ACTIVE = [
    pytest.param({**said(), "active": value}, id=f"active-{value!r}") for value in ("true", "false", 1, 0, False, None)
]


@pytest.mark.parametrize(
    "answer", [*NOT_ACTIVE, pytest.param(said(active=None), id="missing"), pytest.param({}, id="empty")]
)
@pytest.mark.rule("R120")
async def test_only_true_is_active(answer: dict[str, Any], tmp_path: Path) -> None:
    async with scene(tmp_path) as one:
        one.server.tokens["t"] = answer
        responses = [await one.gateway.get("/opaque", token=b"t") for _ in range(2)]
        log = await one.gateway.log(2)
    assert [response.status for response in responses] == [401, 401]
    for response in responses:
        assert (response.one(b"www-authenticate") or b"").startswith(b'Bearer realm="gateway", error="invalid_token"')
    assert [line["reason"] for line in log] == ["inactive_token", "inactive_token"]
    assert len(one.server.asked) == 1  # remembered for a few seconds


NOW = time.time()
REFUSED = [
    pytest.param({"exp": NOW - 100}, "expired", id="exp"),
    pytest.param({"exp": None}, "missing_claim", id="no-exp"),
    pytest.param({"exp": "tomorrow"}, "bad_claim_type", id="exp-text"),
    pytest.param({"exp": True}, "bad_claim_type", id="exp-true"),
    pytest.param({"nbf": NOW + 30_000}, "not_yet_valid", id="nbf"),
    pytest.param({"iat": NOW + 30_000}, "issued_in_future", id="iat"),
    pytest.param({"exp": NOW + 100_000}, "lifetime_too_long", id="too-long"),
    pytest.param({"aud": "other"}, "wrong_audience", id="aud"),
    pytest.param({"aud": None}, "missing_claim", id="no-aud"),
    pytest.param({"aud": [5]}, "bad_claim_type", id="aud-number"),
    pytest.param({"iss": "https://as.test"}, "unknown_issuer", id="iss"),
    pytest.param({"iss": 5}, "unknown_issuer", id="iss-number"),
    pytest.param({"sub": 5}, "bad_claim_type", id="sub-number"),
    pytest.param({"sub": {"a": 1}}, "bad_claim_type", id="sub-object"),
    pytest.param({"sub": None}, "missing_claim", id="no-sub"),
    pytest.param({"token_type": "N_A"}, "type_refused", id="no-access-token"),
    pytest.param({"token_type": 5}, "bad_claim_type", id="token_type-number"),
    pytest.param({"typ": "Refresh"}, "type_refused", id="refresh"),
    pytest.param({"token_use": "refresh_token"}, "type_refused", id="refresh-token-use"),
    pytest.param({"token_type": "DPoP"}, "sender_constrained", id="dpop-without-key"),
    pytest.param({"cnf": {"jkt": "x" * 43}}, "sender_constrained", id="bound"),
    pytest.param({"cnf": 5}, "sender_constrained", id="cnf-number"),
    pytest.param({"sub": "a\r\nb"}, "unsafe_claim", id="header"),
]


@pytest.mark.parametrize(("members", "reason"), REFUSED)
@pytest.mark.rule("R121", "R126")
async def test_active_is_not_enough(members: dict[str, Any], reason: str, tmp_path: Path) -> None:
    """What the server says of a token is judged as the claims of a JWT are, and never a 500."""
    async with scene(tmp_path) as one:
        one.server.tokens["t"] = said(**members)
        assert [await one.status("/opaque", "t") for _ in range(2)] == [401, 401]
        log = await one.gateway.log(2)
    assert [line["reason"] for line in log] == [reason, reason]
    assert len(one.server.asked) == 1


@pytest.mark.rule("R126")
async def test_username_of_any_type_is_no_fault(tmp_path: Path) -> None:
    """What is not looked at is not judged; as a header it is coded."""
    async with scene(tmp_path, identity={"x-name": "username"}) as one:
        one.server.tokens |= {"a": said(username=5), "b": said(username={"a": 1}), "c": said(username=None)}
        assert [await one.status("/opaque", token) for token in "abc"] == [200] * 3
    assert [received.all(b"x-name") for received in one.upstream.requests] == [[b"5"], [b'{"a":1}'], []]


@pytest.mark.rule("R124")
async def test_many_requests_share_one_question(tmp_path: Path) -> None:
    """And who leaves takes nothing from the others."""
    async with scene(tmp_path) as one:
        one.server.tokens["t"] = said()
        one.server.gate = asyncio.Event()
        first = await one.gateway.client()
        await first.send(request(b"GET", "/opaque", token=b"t"))
        await until(lambda: bool(one.server.asked))
        others = [await one.gateway.client() for _ in range(100)]
        for number, client in enumerate(others):
            await client.send(request(b"GET", "/either" if number % 2 else "/opaque", token=b"t"))
        await asyncio.sleep(0.05)
        await first.close()
        await asyncio.sleep(0.05)
        one.server.gate.set()
        statuses = {(await client.response()).status for client in others}
    assert statuses == {200}
    assert len(one.server.asked) == 1


@pytest.mark.rule("R125")
async def test_flood_of_made_up_tokens_is_bounded(tmp_path: Path) -> None:
    """So many introspection requests at a time, so many waiting; the rest is 503 at once, and others pass meanwhile."""
    limits = {
        "introspection_max_concurrent": 4,
        "introspection_max_waiting": 4,
        "introspection_max_inactive_per_second": 0,
    }
    async with scene(tmp_path, issuer=limits) as one:
        one.server.tokens["known"] = said()
        assert await one.status("/opaque", "known") == 200
        one.server.gate = asyncio.Event()
        clients = [await one.gateway.client() for _ in range(30)]
        for number, client in enumerate(clients):
            await client.send(request(b"GET", "/opaque" if number % 2 else "/either", token=b"made-up-%d" % number))
        answers = [asyncio.ensure_future(client.response()) for client in clients]
        await until(lambda: sum(answer.done() for answer in answers) == 24)
        busy = [answer.result() for answer in answers if answer.done()]
        assert {(response.status, response.one(b"retry-after")) for response in busy} == {(503, b"1")}
        assert await one.status("/opaque", "known") == 200
        assert await one.status("/either", one.gateway.token()) == 200
        state = (await one.gateway.admin("/status")).json["introspection"]["as"]
        assert (state["in_flight"], state["waiting"], state["refused_busy"]) == (4, 2, 24)
        await until(lambda: one.server.running == 4)
        one.server.gate.set()
        statuses = [(await answer).status for answer in answers]
        assert (statuses.count(401), statuses.count(503)) == (6, 24)
        log = await one.gateway.log(33)
    assert one.server.most_running == 4
    assert sum(line.get("reason") == "introspection_busy" for line in log) == 24


@pytest.mark.rule("R125")
async def test_budget_for_made_up_tokens_spares_those_that_were_good(tmp_path: Path) -> None:
    """Introspection requests that lead to nothing have a budget; new good tokens cost nothing of it."""
    budget = {"introspection_max_inactive_per_second": 0.001}
    async with scene(tmp_path, issuer=budget, server={"access_log": "off"}) as one:
        one.server.tokens |= {f"good-{number}": said() for number in range(20)}
        assert [await one.status("/opaque", f"good-{number}") for number in range(20)] == [200] * 20
        assert [await one.status("/opaque", f"bad-{number}") for number in range(3)] == [401, 503, 503]
        client = await one.gateway.client()  # the same where the connection is known
        for number in range(3):
            made_up = await client.exchange(request(b"GET", "/either", token=b"made-up-%d" % number))
            assert (made_up.status, made_up.one(b"retry-after")) == (503, b"1")
        good = await client.exchange(request(b"GET", "/either", token=b"good-8"))
        again = await client.exchange(request(b"GET", "/either", token=one.gateway.token()))
        assert (good.status, again.status) == (200, 200)
        assert one.gateway.app.telemetry.running == 0
        assert await one.status("/opaque", "good-7") == 200
    assert len(one.server.asked) == 21


@pytest.mark.rule("R125")
async def test_odd_tokens_are_refused_without_a_question(tmp_path: Path) -> None:
    """Too long, or of bytes that no token has."""
    async with scene(tmp_path) as one:
        statuses = [await one.status("/opaque", token) for token in (b"x" * 9000, b"caf\xc3\xa9", b"a\xa0b")]
        log = await one.gateway.log(3)
    assert statuses == [401, 401, 401]
    assert [line["reason"] for line in log] == ["token_too_long", "bad_encoding", "bad_encoding"]
    assert one.server.asked == []


@pytest.mark.rule("R119")
async def test_tokens_are_in_no_log_and_on_no_page(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Nor is the client's secret."""
    secrets = ("s3cr3t-t0k3n", "another-t0k3n", CLIENT_SECRET, "a%3Ab%25c")
    async with scene(tmp_path) as one:
        one.server.tokens["s3cr3t-t0k3n"] = said()
        assert await one.status("/opaque", secrets[0]) == 200
        one.server.answer = json_answer(b'{"s3cr3t-t0k3n')
        assert await one.status("/opaque", secrets[1]) == 503
        await one.gateway.log(2)
        pages = [(await one.gateway.admin(page)).body.decode() for page in ("/status", "/metrics")]
        text = one.gateway.out.getvalue() + caplog.text + "".join(pages)
    assert "introspection request failed" in caplog.text
    assert [secret for secret in secrets if secret in text] == []


async def test_metrics_tell_calls_hits_and_lookups(tmp_path: Path) -> None:
    async with scene(tmp_path) as one:
        one.server.tokens["t"] = said()
        for token in ("t", "t", "bad", "bad"):
            await one.status("/opaque", token)
        metrics = (await one.gateway.admin("/metrics")).body.decode()
    for line in (
        'gateway_introspections_total{issuer="as",outcome="active"} 1.0',
        'gateway_introspections_total{issuer="as",outcome="inactive"} 1.0',
        'gateway_introspection_cache_hits_total{issuer="as",verdict="good"} 1.0',
        'gateway_introspection_cache_hits_total{issuer="as",verdict="bad"} 1.0',
        'gateway_introspection_duration_seconds_count{issuer="as"} 2.0',
        'gateway_introspections_in_flight{issuer="as"} 0.0',
        'gateway_credential_lookups_total{kind="opaque"} 4.0',
    ):
        assert line in metrics


@pytest.mark.rule("R133", "R136")
async def test_bound_opaque_token_needs_its_proof_each_time(tmp_path: Path) -> None:
    """What the server says of the binding is believed, and asked for also when the token is known."""
    key, thief = SigningKey.ec("holder"), SigningKey.ec("thief")
    async with scene(tmp_path) as one:
        one.server.tokens["bound"] = said(token_type="DPoP", cnf=bound_to(key))
        uri = "http://gateway.test/opaque"
        client = await one.gateway.client()
        statuses = []
        for holder in (key, key, thief, key):
            proof = make_proof(holder, b"bound", time.time(), uri=uri)
            shown = request(b"GET", "/opaque", *with_proof(b"bound", proof))
            statuses.append((await client.exchange(shown)).status)
        again = make_proof(key, b"bound", time.time(), uri=uri)
        for _ in range(2):
            answer = await client.exchange(request(b"GET", "/opaque", *with_proof(b"bound", again)))
            statuses.append(answer.status)
        statuses.append(await one.status("/opaque", "bound"))
        log = await one.gateway.log(7)
    assert statuses == [200, 200, 401, 200, 200, 401, 401]
    assert log[-1]["reason"] == "sender_constrained"
    assert len(one.server.asked) == 1
