"""Rate limits through a whole gateway: whose requests are counted, what answers say of it, and how they are refused."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.support.clock import FakeClock
from tests.support.composed import Settings
from tests.support.gateways.discovering import A, B
from tests.support.gateways.running import RawResponse, configuration, request
from tests.support.gateways.timed import TimedGateway, timed_gateway
from tests.support.issuers.identity_provider import FakeIdp
from tests.support.parts import rate_limits
from tests.support.tokens.api_keys import FOREIGN, KEY, OTHER, entry
from tests.support.tokens.minting import jwks
from tests.support.upstreams.recording import RawUpstream, Received, Responder, raw_upstream

pytestmark = pytest.mark.every_log

POLICY, LIMIT, RETRY = b"ratelimit-policy", b"ratelimit", b"retry-after"


@contextlib.asynccontextmanager
async def limited(
    folder: Path, *routes: dict[str, Any], respond: Responder | None = None, **options: Any
) -> AsyncIterator[tuple[TimedGateway, RawUpstream]]:
    """Run a gateway with these routes under a test's clock."""
    file = folder / "jwks.json"
    file.write_bytes(jwks(A))
    async with raw_upstream(respond) as upstream:
        settings = Settings.model_validate(configuration(upstream.url, file, routes=routes, **options))
        async with timed_gateway(settings, A, FakeClock()) as gateway:
            yield gateway, upstream


def table(requests: int, seconds: float = 10, by: str = "sub", **more: Any) -> dict[str, Any]:
    return {"requests": requests, "seconds": seconds, "by": by, **more}


def told(response: RawResponse) -> tuple[int, list[bytes], list[bytes], list[bytes]]:
    return response.status, response.all(POLICY), response.all(LIMIT), response.all(RETRY)


def forwarded(address: str) -> tuple[bytes, bytes]:
    return b"X-Forwarded-For", address.encode()


BEHIND_A_PROXY = {"trusted_proxies": ["127.0.0.0/8"]}


async def test_a_subject_is_let_through_as_often_as_is_said(tmp_path: Path) -> None:
    """Over several connections and with several tokens; the next answer says when, and the service sees nothing."""
    async with limited(tmp_path, {"path": "/", "rate_limit": table(10, burst=2)}) as (gateway, upstream):
        client = await gateway.client()
        tokens = [gateway.token(jti=str(number)) for number in range(3)]
        policy = [b'"sub";q=10;w=10']
        first = await client.exchange(request(b"GET", "/", token=tokens[0]))
        assert told(first) == (200, policy, [b'"sub";r=1;t=1'], [])
        assert told(await gateway.get("/a", token=tokens[1])) == (200, policy, [b'"sub";r=0;t=1'], [])
        for token in tokens:
            refusal = await client.exchange(request(b"GET", "/", token=token))
            assert told(refusal) == (429, policy, [b'"sub";r=0;t=1'], [b"1"])
        refused = await gateway.get("/", token=tokens[0])
        assert refused.json["error"] == "rate_limited"
        assert refused.json["error_description"] == "Too many requests. Try again later."
        assert refused.one(b"content-type") == b"application/json"
        assert refused.one(b"cache-control") == b"no-store"
        assert refused.one(b"x-request-id") == refused.json["request_id"].encode()
        assert refused.all(b"www-authenticate") == []
        assert len(upstream.requests) == 2
        assert (await gateway.get("/", token=gateway.token(sub="bob"))).status == 200
        gateway.clock.jump(1)
        assert told(await client.exchange(request(b"GET", "/", token=tokens[2])))[0] == 200
        assert (await client.exchange(request(b"GET", "/", token=tokens[2]))).status == 429
        log = await gateway.log(9)
    assert [line["status"] for line in log] == [200, 200, *[429] * 4, 200, 200, 429]
    assert (log[2]["reason"], log[2]["detail"], log[2]["outcome"]) == ("rate_limited", "by sub", "refused")
    assert log[2]["subject_hash"] == log[0]["subject_hash"]


async def test_times_are_told_rounded_up(tmp_path: Path) -> None:
    """RFC 9110 section 10.2.3; the draft's section 6: never earlier than the end of the window in the answer."""
    async with limited(tmp_path, {"path": "/", "rate_limit": table(3, 100)}) as (gateway, _):
        token = gateway.token()
        assert told(await gateway.get("/", token=token))[2:] == ([b'"sub";r=0;t=34'], [])
        assert told(await gateway.get("/", token=token))[2:] == ([b'"sub";r=0;t=34'], [b"34"])
        gateway.clock.jump(30)
        assert told(await gateway.get("/", token=token))[2:] == ([b'"sub";r=0;t=4'], [b"4"])
        gateway.clock.jump(4)
        assert (await gateway.get("/", token=token)).status == 200


@pytest.mark.rule("R332")
async def test_an_address_is_counted_before_its_credential_is_looked_at(tmp_path: Path) -> None:
    """A flood of bad tokens costs no signature check any more, and takes nothing from clients elsewhere."""
    route = {"path": "/", "rate_limit": table(5, by="address", burst=5)}
    async with limited(tmp_path, route, server=BEHIND_A_PROXY) as (gateway, upstream):
        bad = gateway.token()[:-4] + b"AAAA"
        cache = gateway.app.authenticator.cache
        for status, count in ((401, 5), (429, 15)):
            for _ in range(count):
                response = await gateway.get("/", forwarded("192.0.2.1"), token=bad)
                assert response.status == status
                assert response.all(POLICY) == [b'"address";q=5;w=10']
            assert cache.misses == 5
        assert (await gateway.get("/", forwarded("192.0.2.1"), token=gateway.token())).status == 429
        good = await gateway.get("/", forwarded("192.0.2.2"), token=gateway.token())
        assert told(good) == (200, [b'"address";q=5;w=10'], [b'"address";r=4;t=2'], [])
        # A client that is not a trusted proxy cannot choose another address.
        assert len(upstream.requests) == 1


@pytest.mark.parametrize(
    ("addresses", "served"),
    [
        (["192.0.2.1", "192.0.2.1", "192.0.2.2"], [200, 429, 200]),
        (["2001:db8::1", "2001:db8::2:3", "2001:db8:0:1::1"], [200, 429, 200]),
        (["::ffff:192.0.2.1", "192.0.2.1"], [200, 429]),
        (["192.0.2.1, 192.0.2.7", "192.0.2.7", "192.0.2.1"], [200, 429, 200]),
    ],
)
@pytest.mark.rule("R257")
async def test_addresses_are_the_clients(addresses: Sequence[str], served: list[int], tmp_path: Path) -> None:
    """Seen through trusted proxies only; an IPv6 client is its network, for it may choose among addresses."""
    route = {"path": "/", "auth": "public", "rate_limit": table(1, by="address")}
    async with limited(tmp_path, route, server=BEHIND_A_PROXY) as (gateway, _):
        assert [(await gateway.get("/", forwarded(address))).status for address in addresses] == served


async def test_no_client_chooses_its_address_by_a_header(tmp_path: Path) -> None:
    async with limited(tmp_path, {"path": "/", "auth": "public", "rate_limit": table(1, by="address")}) as (gateway, _):
        answers = [await gateway.get("/", forwarded(f"192.0.2.{number}")) for number in range(3)]
    assert [answer.status for answer in answers] == [200, 429, 429]


async def test_callers_who_share_a_claim_share_a_limit_and_so_do_those_without(tmp_path: Path) -> None:
    async with limited(tmp_path, {"path": "/", "rate_limit": table(2, by="claim:tenant", burst=2)}) as (gateway, _):

        async def status(**claims: Any) -> int:
            return (await gateway.get("/", token=gateway.token(**claims))).status

        assert [await status(sub=sub, tenant="a") for sub in ("x", "y", "z")] == [200, 200, 429]
        assert [await status(sub=sub, tenant="b") for sub in ("x", "y", "z")] == [200, 200, 429]
        assert [await status(sub="x", **claims) for claims in ({}, {"tenant": None}, {})] == [200, 200, 429]
        refused = await gateway.get("/", token=gateway.token(tenant="a"))
    assert told(refused)[1:3] == ([b'"claim:tenant";q=2;w=10'], [b'"claim:tenant";r=0;t=5'])


async def test_keys_are_counted_each_and_their_owners_together(tmp_path: Path) -> None:
    """A limit about keys does not count tokens."""
    routes = (
        {"path": "/keys", "credentials": ["api_key", "jwt"], "rate_limit": table(1, by="api_key")},
        {"path": "/owners", "credentials": ["api_key", "jwt"], "rate_limit": table(1)},
    )
    keys = [entry(owner="inc"), entry(OTHER, "other", owner="inc"), entry(FOREIGN, "foreign")]
    async with limited(tmp_path, *routes, api_keys=keys) as (gateway, _):

        async def statuses(path: str) -> list[int]:
            shown = [(b"X-Api-Key", key) for key in (KEY, KEY, OTHER, FOREIGN)]
            return [(await gateway.get(path, field)).status for field in shown]

        assert await statuses("/keys") == [200, 429, 200, 200]
        assert await statuses("/owners") == [200, 429, 429, 200]
        answers = [await gateway.get("/keys", token=gateway.token()) for _ in range(3)]
        assert [told(answer) for answer in answers] == [(200, [], [], [])] * 3


async def test_anonymous_callers_are_counted_by_address(tmp_path: Path) -> None:
    route = {"path": "/", "auth": "optional", "rate_limit": table(1)}
    async with limited(tmp_path, route, server=BEHIND_A_PROXY) as (gateway, _):
        one, other = forwarded("192.0.2.1"), forwarded("192.0.2.2")
        assert [(await gateway.get("/", field)).status for field in (one, one, other)] == [200, 429, 200]
        assert (await gateway.get("/", one, token=gateway.token())).status == 200
        assert (await gateway.get("/", one, token=b"bad")).status == 401


async def test_an_observed_route_counts_and_lets_pass(tmp_path: Path) -> None:
    limits = [table(1), table(2, by="address", burst=2)]
    async with limited(tmp_path, {"path": "/", "observe": True, "rate_limit": limits}) as (gateway, upstream):
        answers = [await gateway.get("/", token=gateway.token()) for _ in range(3)]
        assert [answer.status for answer in answers] == [200, 200, 200]
        assert answers[2].all(LIMIT) == [b'"address";r=0;t=5', b'"sub";r=0;t=10']
        await gateway.settled()
        assert gateway.app.telemetry.observed == {("/", "rate_limited"): 2}
        assert len(upstream.requests) == 3
        assert (await gateway.log(3))[2]["observed"] == "rate_limited"


async def test_all_limits_of_a_route_have_to_let_a_request_through(tmp_path: Path) -> None:
    """And those that would have, do not count what another one refused."""
    limits = [table(2, 10, burst=2), table(3, 1000, burst=3), table(100, by="address", burst=100)]
    async with limited(tmp_path, {"path": "/", "rate_limit": limits}) as (gateway, _):
        token = gateway.token()
        policies = [b'"address";q=100;w=10', b'"sub";q=2;w=10, "sub-2";q=3;w=1000']
        answers = [told(await gateway.get("/", token=token)) for _ in range(4)]
        assert [answer[0] for answer in answers] == [200, 200, 429, 429]
        assert all(answer[1] == policies for answer in answers)
        assert answers[1][2][1] == b'"sub";r=0;t=5, "sub-2";r=1;t=334'
        assert answers[3][2:] == ([b'"address";r=96;t=1', b'"sub";r=0;t=5, "sub-2";r=1;t=334'], [b"5"])
        gateway.clock.jump(10)
        assert [told(await gateway.get("/", token=token))[0] for _ in range(3)] == [200, 429, 429]
        assert told(await gateway.get("/", token=token))[3] == [b"324"]  # the longer one
        counts = rate_limits(gateway.app).counts
    assert (counts["/", "sub", "admitted"], counts["/", "sub-2", "admitted"]) == (3, 3)
    assert (counts["/", "sub", "limited"], counts["/", "sub-2", "limited"]) == (2, 3)
    assert counts["/", "address", "admitted"] == 8


async def test_routes_have_limits_of_their_own(tmp_path: Path) -> None:
    routes = ({"path": "/a", "rate_limit": table(1)}, {"path": "/b", "rate_limit": table(1)}, {"path": "/free"})
    async with limited(tmp_path, *routes) as (gateway, _):
        token, client = gateway.token(), await gateway.client()
        for path, status in (("/a", 200), ("/b", 200), ("/a", 429), ("/b", 429), ("/free", 200), ("/a/x", 429)):
            assert (await client.exchange(request(b"GET", path, token=token))).status == status


async def test_only_callers_who_may_are_counted(tmp_path: Path) -> None:
    """A 401 or 403 takes nothing from any caller, and does not show what is left."""
    async with limited(tmp_path, {"path": "/", "scopes": ["read"], "rate_limit": table(1)}) as (gateway, _):
        for token in (b"", b"junk", gateway.token(scope="other"), gateway.token(exp=1)):
            assert told(await gateway.get("/", token=token))[1:] == ([], [], [])
        assert (await gateway.get("/", token=gateway.token())).status == 200
        assert (await gateway.get("/", token=gateway.token())).status == 429


@pytest.mark.rule("R294")
async def test_every_method_counts_and_its_content_is_dealt_with(tmp_path: Path) -> None:
    """Content that a refused request brought is never taken for a request."""
    async with limited(tmp_path, {"path": "/", "rate_limit": table(1)}) as (gateway, upstream):
        token, client = gateway.token(), await gateway.client()
        length = (b"Content-Length", b"3")
        assert (await client.exchange(request(b"POST", "/", length, token=token, body=b"abc"))).status == 200
        refused = await client.exchange(request(b"PUT", "/", length, token=token, body=b"GET"))
        assert refused.status == 429
        if refused.one(b"connection") != b"close":
            assert (await client.exchange(request(b"GET", "/", token=token))).status == 429
        head = await gateway.exchange(request(b"HEAD", "/", token=token), head_only=True)
        assert told(head) == (429, [b'"sub";q=1;w=10'], [b'"sub";r=0;t=10'], [b"10"])
        assert [received.line for received in upstream.requests] == [b"POST / HTTP/1.1"]


async def test_websocket_handshakes_count(tmp_path: Path) -> None:
    async with limited(tmp_path, {"path": "/", "rate_limit": table(1)}) as (gateway, upstream):
        fields = (
            *((b"Connection", b"Upgrade"), (b"Upgrade", b"websocket"), (b"Sec-WebSocket-Version", b"13")),
            (b"Sec-WebSocket-Key", b"dGhlIHNhbXBsZSBub25jZQ=="),
        )
        answers = [await gateway.get("/", *fields, token=gateway.token()) for _ in range(2)]
        assert [answer.status for answer in answers] == [200, 429]
        assert len(upstream.requests) == 1


async def test_preflights_do_not_count_and_pages_can_read_what_is_left(tmp_path: Path) -> None:
    """Fetch standard: other fields than the harmless ones have to be exposed."""
    route = {"path": "/", "cors_origins": ["https://app.test"], "rate_limit": [table(1), table(9, by="address")]}
    origin = (b"Origin", b"https://app.test")
    async with limited(tmp_path, route) as (gateway, _):
        asking = (b"Access-Control-Request-Method", b"GET")
        for _ in range(20):
            preflight = await gateway.exchange(request(b"OPTIONS", "/", origin, asking))
            assert (preflight.status, preflight.all(LIMIT)) == (204, [])
        served = await gateway.get("/", origin, token=gateway.token())
        gateway.clock.jump(5)
        refused = await gateway.get("/", origin, token=gateway.token())
        assert (served.status, refused.status) == (200, 429)
        for response in (served, refused):
            assert response.one(b"access-control-allow-origin") == b"https://app.test"
            exposed = b", ".join(response.all(b"access-control-expose-headers"))
            assert exposed.endswith(b"RateLimit-Policy, RateLimit")
            assert exposed.count(b"RateLimit-Policy") == 1
        assert b"Retry-After" in b", ".join(refused.all(b"access-control-expose-headers"))


async def test_a_service_with_limits_of_its_own_is_heard_too(tmp_path: Path) -> None:
    """Both fields are lists, which may come on several lines (the draft's sections 3 and 4)."""

    async def respond(received: Received, *_: Any) -> bytes:
        return b'HTTP/1.1 200 OK\r\nRateLimit: "daily";r=7;t=99\r\nRetry-After: 9\r\nContent-Length: 2\r\n\r\nok'

    async with limited(tmp_path, {"path": "/", "rate_limit": table(10)}, respond=respond) as (gateway, _):
        response = await gateway.get("/", token=gateway.token())
    assert told(response)[2:] == ([b'"daily";r=7;t=99', b'"sub";r=0;t=1'], [b"9"])


async def test_pages_show_what_was_counted(tmp_path: Path) -> None:
    limits = [table(1), table(9, by="address", burst=9)]
    async with limited(tmp_path, {"path": "/", "rate_limit": limits}) as (gateway, _):
        for _ in range(3):
            await gateway.get("/", token=gateway.token())
        await gateway.settled()
        page = (await gateway.admin("/metrics")).body.decode()
        status = (await gateway.admin("/status")).json["rate_limits"]
    for line in (
        'gateway_rate_limit_requests_total{limit="sub",route="/",verdict="admitted"} 1.0',
        'gateway_rate_limit_requests_total{limit="sub",route="/",verdict="limited"} 2.0',
        'gateway_rate_limit_requests_total{limit="address",route="/",verdict="admitted"} 3.0',
        "gateway_rate_limit_fallbacks_total 0.0",
        "gateway_rate_limit_callers 2.0",
        "gateway_rate_limit_forgotten_total 0.0",
        'gateway_refusals_total{reason="rate_limited"} 2.0',
        'gateway_requests_total{method_class="read",outcome="refused",route="/",status="429"} 2.0',
    ):
        assert f"\n{line}\n" in page, line
    assert "alice" not in page
    assert status == {"limits": 2, "shared": False, "callers": 2, "forgotten": 0, "fallbacks": 0}


async def test_many_callers_take_no_more_memory_than_is_said(tmp_path: Path) -> None:
    """OWASP API4: neither does one who is refused get through by it."""
    route = {"path": "/", "auth": "public", "rate_limit": table(1, 1000, by="address")}
    options: dict[str, Any] = {"server": BEHIND_A_PROXY, "limits": {"max_callers": 100}}
    async with limited(tmp_path, route, **options) as (gateway, _):
        client = await gateway.client()

        async def status(address: str) -> int:
            return (await client.exchange(request(b"GET", "/", forwarded(address)))).status

        assert await status("192.0.2.1") == 200
        for number in range(150):
            assert await status(f"198.51.100.{number}") == 200
            assert await status("192.0.2.1") == 429
        assert rate_limits(gateway.app).status()["callers"] == 100
        assert rate_limits(gateway.app).status()["forgotten"] == 51


async def test_a_caller_whose_key_has_to_be_fetched_is_counted_once(tmp_path: Path) -> None:
    """The long way: an unknown kid, a fetch, and only then who it is."""
    async with FakeIdp("/") as provider, raw_upstream() as upstream:
        provider.publish(A)
        issuer = {"issuer": provider.issuer, "jwks_file": "", "jwks_url": provider.jwks_url}
        route = {"path": "/", "rate_limit": table(2, burst=2)}
        made = configuration(upstream.url, tmp_path / "unused", routes=[route], issuer=issuer)
        async with timed_gateway(Settings.model_validate(made), A, FakeClock()) as gateway:
            gateway.clock.jump(60)
            provider.publish(A, B)
            token = gateway.token_of(B, iss=provider.issuer)
            assert told(await gateway.get("/", token=token))[2] == [b'"sub";r=1;t=5']
            assert (await gateway.get("/", token=token)).status == 200
            assert (await gateway.get("/", token=token)).status == 429
