"""The gateway's own answers, as a client sees them: status, body, challenge (contract, RFC 6750)."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import pytest

from tests.support.gateways.running import RawResponse, request, running_gateway
from tests.support.tokens.minting import SigningKey, good_claims, mint
from tests.support.upstreams.recording import raw_upstream

pytestmark = pytest.mark.every_log

ROUTES: tuple[dict[str, Any], ...] = (
    {"path": "/"},
    {"path": "/write", "scopes": ["orders:write", "orders:admin"]},
    {"path": "/any", "any_scopes": ["a", "write"]},
    {"path": "/role", "claims": {"role": ["admin", "merchant"]}},
    {"path": "/optional", "auth": "optional"},
    {"path": "/public", "auth": "public"},
    {"path": "/observe", "observe": True, "scopes": ["never:granted"]},
    {"path": "/only-post", "methods": ["POST"]},
    {"path": "/auth-forwarded", "forward_authorization": True},
)


def assert_answer(response: RawResponse, status: int, error: str, challenge: str | None) -> None:
    assert response.status == status
    assert set(response.json) == {"error", "error_description", "request_id"}
    assert response.json["error"] == error
    assert response.one(b"content-type") == b"application/json"
    assert response.one(b"cache-control") == b"no-store"
    assert response.one(b"x-request-id") == response.json["request_id"].encode()
    value = response.one(b"www-authenticate")
    if challenge is None:
        assert value is None
    else:
        assert value is not None
        assert re.fullmatch(challenge, value.decode()), value


BARE = 'Bearer realm="gateway"'
INVALID = 'Bearer realm="gateway", error="invalid_token", error_description="[^"\\\\]+"'
MALFORMED = 'Bearer realm="gateway", error="invalid_request", error_description="[^"\\\\]+"'


@pytest.mark.parametrize(
    ("headers", "status", "error", "challenge"),
    [
        pytest.param((), 401, "missing_token", BARE, id="none"),
        pytest.param(((b"Authorization", b"Basic abc"),), 401, "missing_token", BARE, id="basic"),
        pytest.param(((b"Authorization", b"Digest abc"),), 401, "missing_token", BARE, id="digest"),
        pytest.param(((b"Authorization", b"TOKEN"),), 401, "missing_token", BARE, id="bare-token"),
        pytest.param(((b"Authorization", b"Token TOKEN"),), 401, "missing_token", BARE, id="token-scheme"),
        pytest.param(((b"Authorization", b"Bearer a.b.c"),), 401, "invalid_token", INVALID, id="junk"),
        pytest.param(
            ((b"Authorization", b"Bearer \xc3\xa9.\xc3\xa9.\xc3\xa9"),), 401, "invalid_token", INVALID, id="text"
        ),
        pytest.param(((b"Authorization", b"Bearer " + b"A" * 30_000),), 401, "invalid_token", INVALID, id="long"),
        pytest.param(((b"Authorization", b"Bearer"),), 400, "invalid_request", MALFORMED, id="alone"),
        pytest.param(((b"Authorization", b"Bearer a b"),), 400, "invalid_request", MALFORMED, id="two-words"),
        pytest.param(
            ((b"Authorization", b"Bearer TOKEN, Bearer TOKEN"),), 400, "invalid_request", MALFORMED, id="list"
        ),
        pytest.param(
            ((b"Authorization", b"Bearer TOKEN"), (b"Authorization", b"Bearer junk")),
            400,
            "invalid_request",
            MALFORMED,
            id="good-and-junk",
        ),
        pytest.param(
            ((b"Authorization", b"Bearer junk"), (b"Authorization", b"Bearer TOKEN")),
            400,
            "invalid_request",
            MALFORMED,
            id="junk-and-good",
        ),
    ],
)
@pytest.mark.rule("R100", "R101", "R102", "R103", "R104", "R105", "R108", "R110", "R111", "C06", "C20", "C21", "C26")
async def test_answer_to_each_kind_of_credential(
    headers: tuple[tuple[bytes, bytes], ...], status: int, error: str, challenge: str, tmp_path: Path
) -> None:
    """Exactly one challenge, nothing upstream."""
    async with raw_upstream() as upstream, running_gateway(upstream.url, tmp_path) as gateway:
        token = gateway.token()
        filled = tuple((name, value.replace(b"TOKEN", token)) for name, value in headers)
        response = await gateway.get("/", *filled)
    assert_answer(response, status, error, challenge)
    assert upstream.connections == 0
    assert token not in response.head + response.body


@pytest.mark.parametrize("scheme", [b"Bearer", b"bearer", b"BEARER", b"Bearer "])
@pytest.mark.rule("R102", "C20")
async def test_scheme_is_case_insensitive_and_may_be_followed_by_several_spaces(scheme: bytes, tmp_path: Path) -> None:
    async with raw_upstream() as upstream, running_gateway(upstream.url, tmp_path) as gateway:
        response = await gateway.get("/", (b"Authorization", scheme + b" " + gateway.token()))
    assert response.status == 200


@pytest.mark.rule("R105", "R106", "R107")
async def test_token_in_query_or_form_is_not_a_credential(tmp_path: Path) -> None:
    """Not read, and beside a header refused."""
    async with raw_upstream() as upstream, running_gateway(upstream.url, tmp_path) as gateway:
        token = gateway.token()
        assert_answer(await gateway.get(b"/?access_token=" + token), 401, "missing_token", BARE)
        assert_answer(await gateway.get(b"/?access_token=" + token, token=token), 400, "invalid_request", MALFORMED)
        form = b"access_token=" + token
        headers = (
            (b"Content-Type", b"application/x-www-form-urlencoded"),
            (b"Content-Length", b"%d" % len(form)),
        )
        posted = await gateway.exchange(request(b"POST", "/", *headers, body=form))
        assert_answer(posted, 401, "missing_token", BARE)
        assert token.decode() not in str(await gateway.log(3))
    assert upstream.connections == 0


@pytest.mark.rule("R117", "R340", "R341", "R342", "R343", "R344", "R345", "R346", "R347", "R348", "R349", "R350")
async def test_good_token_passes_with_identity_and_without_the_token(tmp_path: Path) -> None:
    """X-user-id, x-user-role, x-scope from the claims; Authorization stays at the edge."""
    async with raw_upstream() as upstream, running_gateway(upstream.url, tmp_path, routes=ROUTES) as gateway:
        token = gateway.token(role="merchant")
        assert (await gateway.get("/orders?x=1", token=token)).status == 200
        assert (await gateway.get("/auth-forwarded", token=token)).status == 200
        log = await gateway.log(2)
    first, second = upstream.requests
    assert first.one(b"x-user-id") == b"alice"
    assert first.one(b"x-user-role") == b"merchant"
    assert first.one(b"x-scope") == b"read write"
    assert first.all(b"authorization") == []
    assert second.one(b"authorization") == b"Bearer " + token
    assert log[0]["cache_hit"] is False
    assert log[1]["cache_hit"] is True
    assert log[0]["issuer"] == "main"
    assert log[0]["path"] == "/orders"
    assert "alice" not in str(log)


@pytest.mark.parametrize(
    ("claims", "reason"),
    [
        ({"exp": 1}, "expired"),
        ({"aud": "other"}, "wrong_audience"),
        ({"iss": "https://evil.test/"}, "unknown_issuer"),
        ({"sub": ""}, "bad_claim_type"),
        ({"sub": "a\r\nX-Admin: 1"}, "unsafe_claim"),
    ],
)
@pytest.mark.rule("R108", "C26", "C69")
async def test_bad_token_is_401_with_its_reason_in_the_log_only(
    claims: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    """The client reads a fixed text; operators read why."""
    async with raw_upstream() as upstream, running_gateway(upstream.url, tmp_path) as gateway:
        response = await gateway.get("/", token=gateway.token(**claims))
        log = await gateway.log()
    assert_answer(response, 401, "invalid_token", INVALID)
    assert log[0]["reason"] == reason
    assert reason.encode() not in response.body.replace(b"The access token expired.", b"")
    assert upstream.connections == 0


@pytest.mark.rule("R109", "R092", "C26")
async def test_lacking_scope_or_claim_is_403_and_names_the_scopes_that_the_route_asks_for(tmp_path: Path) -> None:
    async with raw_upstream() as upstream, running_gateway(upstream.url, tmp_path, routes=ROUTES) as gateway:
        token = gateway.token(role="administrator")
        scope = await gateway.get("/write", token=token)
        role = await gateway.get("/role", token=token)
        anyone = await gateway.get("/any", token=token)
    expected = 'Bearer realm="gateway", error="insufficient_scope", error_description="[^"]+"'
    assert_answer(scope, 403, "insufficient_scope", expected + ', scope="orders:write orders:admin"')
    assert_answer(role, 403, "insufficient_scope", expected)
    assert anyone.status == 200
    assert [received.target for received in upstream.requests] == [b"/any"]


@pytest.mark.rule("C75", "R187")
async def test_route_rules_are_applied_on_every_request_in_any_order(tmp_path: Path) -> None:
    """A cached token opens no other route."""
    for order in (["/any", "/write", "/"], ["/write", "/", "/any"]):
        async with raw_upstream() as upstream, running_gateway(upstream.url, tmp_path, routes=ROUTES) as gateway:
            token = gateway.token()
            got = {path: (await gateway.get(path, token=token)).status for path in order}
        assert got == {"/any": 200, "/write": 403, "/": 200}


@pytest.mark.rule("R357")
async def test_optional_and_public_routes(tmp_path: Path) -> None:
    """Optional takes a good token and refuses a bad one; public looks at none."""
    async with raw_upstream() as upstream, running_gateway(upstream.url, tmp_path, routes=ROUTES) as gateway:
        good, bad = gateway.token(), gateway.token(exp=1)
        assert (await gateway.get("/optional")).status == 200
        assert (await gateway.get("/optional", token=good)).status == 200
        assert_answer(await gateway.get("/optional", token=bad), 401, "invalid_token", INVALID)
        assert (await gateway.get("/public", token=bad)).status == 200
        assert (await gateway.get("/public", token=good)).status == 200
    identities = [received.one(b"x-user-id") for received in upstream.requests]
    assert identities == [None, b"alice", None, None]


async def test_observed_route_lets_requests_pass_and_tells_why_it_would_not(tmp_path: Path) -> None:
    """Contract: observe = true counts and logs; identity is never taken from a refused token."""
    async with raw_upstream() as upstream, running_gateway(upstream.url, tmp_path, routes=ROUTES) as gateway:
        for token in (b"", b"junk", gateway.token()):
            assert (await gateway.get("/observe", (b"x-user-id", b"forged"), token=token)).status == 200
        log = await gateway.log(3)
        metrics = (await gateway.admin("/metrics")).body.decode()
    assert [line["observed"] for line in log] == ["no_credential", "not_a_jws", "missing_scope"]
    assert [received.all(b"x-user-id") for received in upstream.requests] == [[], [], []]
    assert 'gateway_observed_refusals_total{reason="missing_scope",route="/observe"} 1.0' in metrics


@pytest.mark.rule("R223", "R224", "R225", "R226", "R242")
async def test_no_route_bad_path_and_methods(tmp_path: Path) -> None:
    """404, 400, 405, no challenge."""
    routes = ({"path": "/only-post", "methods": ["POST"]},)
    async with raw_upstream() as upstream, running_gateway(upstream.url, tmp_path, routes=routes) as gateway:
        assert_answer(await gateway.get("/nothing"), 404, "no_route", None)
        assert_answer(await gateway.get("/only-post"), 404, "no_route", None)
        assert_answer(await gateway.get("/a/../b"), 400, "bad_path", None)
        assert_answer(await gateway.get("/a%2fb"), 404, "no_route", None)
        trace = await gateway.exchange(request(b"TRACE", "/only-post", (b"Authorization", b"Bearer x")))
        assert_answer(trace, 405, "method_not_allowed", None)
        star = await gateway.exchange(request(b"OPTIONS", "*"))
        assert star.status == 400
        connect = await gateway.exchange(b"CONNECT evil:443 HTTP/1.1\r\nHost: evil:443\r\n\r\n")
        assert connect.status in (400, 405)
    assert upstream.connections == 0


@pytest.mark.rule("R231")
async def test_encoded_slash_is_refused_where_the_route_does_not_allow_it(tmp_path: Path) -> None:
    async with raw_upstream() as upstream, running_gateway(upstream.url, tmp_path) as gateway:
        assert_answer(await gateway.get("/a%2fb"), 400, "bad_path", None)
        assert_answer(await gateway.get("/a%2Fb", token=gateway.token()), 400, "bad_path", None)
    assert upstream.connections == 0


@pytest.mark.rule("R113", "R378", "R379")
async def test_keys_that_never_came_are_503_with_retry_after_and_red_readiness(tmp_path: Path) -> None:
    """Never 401; public routes work; liveness does not care."""
    routes = ({"path": "/"}, {"path": "/public", "auth": "public"})
    issuer = {"jwks_file": "", "jwks_url": "http://127.0.0.1:1/jwks"}
    async with (
        raw_upstream() as upstream,
        running_gateway(upstream.url, tmp_path, routes=routes, issuer=issuer) as gateway,
    ):
        response = await gateway.get("/", token=gateway.token())
        assert_answer(response, 503, "unavailable", None)
        assert int(response.one(b"retry-after") or b"0") >= 1
        assert (await gateway.get("/public")).status == 200
        assert (await gateway.admin("/healthz")).status == 200
        ready = await gateway.admin("/readyz")
        assert ready.status == 503
        assert ready.json["issuers"]["main"] == {"ready": False, "reason": "no_keys"}


async def test_invalid_token_status_may_be_403(tmp_path: Path) -> None:
    """Contract: tokens.invalid_token_status and tokens.realm; a missing token stays 401."""
    tokens = {"invalid_token_status": 403, "realm": "orders api"}
    async with raw_upstream() as upstream, running_gateway(upstream.url, tmp_path, tokens=tokens) as gateway:
        bad, none = await gateway.get("/", token=b"a.b.c"), await gateway.get("/")
    assert bad.status == 403
    assert (bad.one(b"www-authenticate") or b"").startswith(b'Bearer realm="orders api", error="invalid_token"')
    assert (none.status, none.one(b"www-authenticate")) == (401, b'Bearer realm="orders api"')


@pytest.mark.rule("R112")
async def test_upstreams_own_refusals_pass_untouched(tmp_path: Path) -> None:
    async def refuse(*_: object) -> bytes:
        return b'HTTP/1.1 401 No\r\nWWW-Authenticate: Basic realm="up"\r\nContent-Length: 4\r\n\r\nmine'

    async with raw_upstream(refuse) as upstream, running_gateway(upstream.url, tmp_path) as gateway:
        response = await gateway.get("/", token=gateway.token())
    assert response.head.startswith(b"HTTP/1.1 401 No\r\n")
    assert response.all(b"www-authenticate") == [b'Basic realm="up"']
    assert response.body == b"mine"


@pytest.mark.rule("R288")
async def test_head_gets_the_same_refusal_without_a_body(tmp_path: Path) -> None:
    """The gateway's own answers: the connection stays in step."""
    async with raw_upstream() as upstream, running_gateway(upstream.url, tmp_path) as gateway:
        client = await gateway.client()
        first = await client.exchange(request(b"HEAD", "/"), head_only=True)
        second = await client.exchange(request(b"GET", "/", token=gateway.token()))
    assert (first.status, second.status) == (401, 200)
    assert first.one(b"content-length") != b"0"


@pytest.mark.parametrize("given", [b"x" * 200, b"a b", b"", b"<script>", b"a\tb"])
@pytest.mark.rule("R390")
async def test_odd_request_id_is_replaced_and_a_sane_one_kept(given: bytes, tmp_path: Path) -> None:
    async with raw_upstream() as upstream, running_gateway(upstream.url, tmp_path) as gateway:
        odd = await gateway.get("/", (b"X-Request-Id", given))
        sane = await gateway.get("/", (b"X-Request-Id", b"trace-1.a"), token=gateway.token())
        log = await gateway.log(2)
    assert re.fullmatch(rb"[0-9a-f]{32}", odd.one(b"x-request-id") or b"")
    assert upstream.requests[0].one(b"x-request-id") == b"trace-1.a"
    assert sane.status == 200
    assert log[1]["request_id"] == "trace-1.a"


@pytest.mark.rule("R214")
async def test_pipelined_requests_are_judged_one_by_one_in_order(tmp_path: Path) -> None:
    """A good token does not help the request behind it."""
    async with raw_upstream() as upstream, running_gateway(upstream.url, tmp_path) as gateway:
        client = await gateway.client()
        token = gateway.token()
        await client.send(
            request(b"GET", "/1", token=token) + request(b"GET", "/2") + request(b"GET", "/3", token=token)
        )
        statuses = [(await client.response()).status for _ in range(3)]
    assert statuses == [200, 401, 200]
    assert [received.target for received in upstream.requests] == [b"/1", b"/3"]


@pytest.mark.rule("R001", "R005", "R028", "C01", "C02", "C03")
async def test_token_of_another_key_or_algorithm_is_refused_end_to_end(tmp_path: Path) -> None:
    """The whole way, not only the verifier."""
    async with raw_upstream() as upstream, running_gateway(upstream.url, tmp_path) as gateway:
        forged = mint(SigningKey.ec("a", "P-256"), good_claims(time.time()))
        assert (await gateway.get("/", token=forged)).status == 401
        other = mint(SigningKey.rsa("a", variant=1), good_claims(time.time()))
        assert (await gateway.get("/", token=other)).status == 401
        none = b"eyJhbGciOiJub25lIn0." + gateway.token().split(b".")[1] + b"."
        assert (await gateway.get("/", token=none)).status == 401
    assert upstream.connections == 0


@pytest.mark.rule("R255")
async def test_loop_through_the_gateway_is_broken(tmp_path: Path) -> None:
    """A route that leads back to the gateway ends after one turn."""
    async with (
        raw_upstream() as upstream,
        running_gateway(upstream.url, tmp_path, routes=({"path": "/", "auth": "public"},)) as gateway,
    ):
        upstream_origin = gateway.app.upstreams["main"].origins[0]
        seen = await gateway.get("/")
        via = (seen.one(b"via") or b"").split(b", ")[-1]
        response = await gateway.get("/", (b"Via", b"1.1 other, " + via))
        assert upstream_origin.state().in_use == 0
    assert_answer(response, 508, "loop_detected", None)
    assert len(upstream.requests) == 1


@pytest.mark.rule("R295", "C61")
async def test_expect_other_than_continue_is_417(tmp_path: Path) -> None:
    async with (
        raw_upstream() as upstream,
        running_gateway(upstream.url, tmp_path, routes=({"path": "/", "auth": "public"},)) as gateway,
    ):
        response = await gateway.exchange(request(b"POST", "/", (b"Expect", b"foo"), (b"Content-Length", b"3")))
    assert_answer(response, 417, "expectation_failed", None)
    assert upstream.connections == 0


@pytest.mark.rule("R293", "R294", "C61")
async def test_continue_is_sent_only_after_the_caller_is_accepted(tmp_path: Path) -> None:
    async with raw_upstream() as upstream, running_gateway(upstream.url, tmp_path) as gateway:
        headers = ((b"Expect", b"100-continue"), (b"Content-Length", b"3"))
        refused = await gateway.client()
        first = await refused.exchange(request(b"POST", "/", *headers))
        assert first.status == 401
        assert first.one(b"connection") == b"close"
        assert await refused.at_end()
        accepted = await gateway.client()
        interim = await accepted.exchange(request(b"POST", "/", *headers, token=gateway.token()))
        assert interim.status == 100
        final = await accepted.exchange(b"abc")
        assert final.status == 200
        again = await accepted.exchange(request(b"GET", "/", token=gateway.token()))
        assert again.status == 200
    assert upstream.requests[0].body == b"abc"
    assert upstream.requests[0].all(b"expect") == []
