"""What comes through other proxies: whose word counts, how far a request goes, and over how many gateways."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from gateway.app import draw_pseudonym
from tests.support.clients.proving import bound_token, proved
from tests.support.gateways.running import RawClient, request, running_gateway
from tests.support.upstreams.recording import raw_upstream

PUBLIC: tuple[dict[str, Any], ...] = ({"path": "/", "auth": "public"},)

TRUE = {
    "x-forwarded": ((b"X-Forwarded-For", b"203.0.113.9"), (b"X-Forwarded-Proto", b"https")),
    "forwarded": ((b"Forwarded", b"for=203.0.113.9;proto=https"),),
}
FORGED = {
    "x-forwarded": ((b"Forwarded", b"for=6.6.6.6;proto=http;host=evil.test"),),
    "forwarded": (
        *((b"X-Forwarded-For", b"6.6.6.6"), (b"X-Forwarded-Proto", b"http")),
        *((b"X-Forwarded-Host", b"evil.test"), (b"X-Forwarded-Port", b"666")),
    ),
}


@pytest.mark.parametrize("kind", ["x-forwarded", "forwarded"])
@pytest.mark.rule("R417", "C110")
async def test_a_clients_word_of_the_other_kind_never_counts(kind: str, tmp_path: Path) -> None:
    """Not for the log, not for limits by address, not for proofs, and not for the service."""
    server = {"trusted_proxies": ["127.0.0.1"], "forwarded_fields": kind}
    routes = (
        {"path": "/"},
        {
            "path": "/few",
            "auth": "public",
            "rate_limit": {"requests": 2, "burst": 2, "seconds": 1_000_000, "by": "address"},
        },
    )
    async with (
        raw_upstream() as upstream,
        running_gateway(upstream.url, tmp_path, routes=routes, server=server) as gateway,
    ):
        token = bound_token(gateway)
        for mixed in ((*FORGED[kind], *TRUE[kind]), (*TRUE[kind], *FORGED[kind])):
            proof = proved(token, "/", *mixed, htu="https://gateway.test/")
            assert (await gateway.exchange(proof)).status == 200
            assert (await gateway.exchange(proved(token, "/", *mixed, htu="http://evil.test/"))).status == 401
        statuses = []
        for number in range(4):
            forged = tuple((name, value.replace(b"6.6.6.6", b"6.6.6.%d" % number)) for name, value in FORGED[kind])
            statuses.append((await gateway.get("/few", *forged, *TRUE[kind])).status)
        assert statuses == [200, 200, 429, 429]
        assert {line["client"] for line in await gateway.log(8)} == {"203.0.113.9"}
    for received in upstream.requests:
        assert received.one(b"x-forwarded-for") == b"203.0.113.9, 127.0.0.1"
        assert received.one(b"x-forwarded-proto") == b"https"
        assert received.one(b"x-forwarded-host") == b"gateway.test"
        assert b"6.6.6" not in received.head
        assert b"evil" not in received.head
        assert len(received.all(b"forwarded")) == (kind == "forwarded")


@pytest.mark.parametrize(
    "said",
    [(b"X-Forwarded-Proto", b"wss"), (b"Forwarded", b"for=192.0.2.9;proto=wss")],
    ids=["x-forwarded", "forwarded"],
)
@pytest.mark.rule("R410", "C106")
async def test_a_websockets_scheme_is_that_of_http(said: tuple[bytes, bytes], tmp_path: Path) -> None:
    """The service gets https, and a proof names https or wss, never http or ws."""
    server = {"trusted_proxies": ["127.0.0.1"], "forwarded_fields": said[0].removesuffix(b"-Proto").decode().lower()}
    async with raw_upstream() as upstream, running_gateway(upstream.url, tmp_path, server=server) as gateway:
        token = bound_token(gateway)
        for scheme, status in (("https", 200), ("wss", 200), ("http", 401), ("ws", 401)):
            proof = proved(token, "/", said, htu=f"{scheme}://gateway.test/")
            assert (await gateway.exchange(proof)).status == status, scheme
        assert [received.one(b"x-forwarded-proto") for received in upstream.requests] == [b"https", b"https"]


async def over_socket(path: Path, *fields: tuple[bytes, bytes], target: str = "/") -> int:
    client = RawClient(*await asyncio.open_unix_connection(str(path)))
    try:
        return (await client.exchange(request(b"GET", target, *fields))).status
    finally:
        await client.close()


@pytest.mark.rule("R411", "C103")
async def test_the_peer_of_a_unix_socket_can_be_trusted(tmp_path: Path) -> None:
    """Each client behind it has a limit of its own; the log names it."""
    path = tmp_path / "gateway.sock"
    server = {"listen": f"unix:{path}", "trusted_proxies": ["unix"]}
    routes = ({**PUBLIC[0], "rate_limit": {"requests": 1, "seconds": 1_000_000, "by": "address"}},)
    async with (
        raw_upstream() as upstream,
        running_gateway(upstream.url, tmp_path, routes=routes, server=server) as gateway,
    ):
        for address, status in ((b"192.0.2.1", 200), (b"192.0.2.2", 200), (b"192.0.2.1", 429)):
            assert await over_socket(path, (b"X-Forwarded-For", address)) == status
        clients = [line["client"] for line in await gateway.log(3)]
    assert clients == ["192.0.2.1", "192.0.2.2", "192.0.2.1"]
    assert [one.one(b"x-forwarded-for") for one in upstream.requests] == [b"192.0.2.1, unix", b"192.0.2.2, unix"]


@pytest.mark.rule("R411")
async def test_a_unix_socket_is_an_address_of_its_own_otherwise(tmp_path: Path) -> None:
    """For limits, for the log and for the service; what its clients say of themselves does not count."""
    path = tmp_path / "gateway.sock"
    routes = ({**PUBLIC[0], "rate_limit": {"requests": 2, "burst": 2, "seconds": 1_000_000, "by": "address"}},)
    async with (
        raw_upstream() as upstream,
        running_gateway(upstream.url, tmp_path, routes=routes, server={"listen": f"unix:{path}"}) as gateway,
    ):
        statuses = [await over_socket(path, (b"X-Forwarded-For", b"192.0.2.%d" % number)) for number in range(3)]
        assert statuses == [200, 200, 429]
        assert {line["client"] for line in await gateway.log(3)} == {"unix"}
    assert {one.one(b"x-forwarded-for") for one in upstream.requests} == {b"unix"}


@pytest.mark.rule("R412", "C104")
async def test_a_chain_of_gateways_is_served_and_a_loop_is_not(tmp_path: Path) -> None:
    """However alike two gateways are; and a request that comes back to one of them ends there."""
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    async with (
        raw_upstream() as upstream,
        running_gateway(upstream.url, tmp_path / "a", routes=PUBLIC) as inner,
        running_gateway(f"http://127.0.0.1:{inner.app.port}", tmp_path / "b", routes=PUBLIC) as outer,
    ):
        # Both are at "127.0.0.1:0" on this host, as two in containers are at "0.0.0.0:8080".
        assert inner.app.settings.server.listen == outer.app.settings.server.listen
        assert (await outer.get("/")).status == 200
        assert upstream.requests[0].all(b"via") == [
            b"1.1 " + outer.app.pseudonym,
            b"1.1 " + inner.app.pseudonym,
        ]
        for pseudonym in (outer.app.pseudonym, inner.app.pseudonym.upper(), b"x, 1.0 " + inner.app.pseudonym):
            looped = await outer.get("/", (b"Via", b"1.1 " + pseudonym))
            assert (looped.status, looped.json["error"]) == (508, "loop_detected")
        assert len(upstream.requests) == 1


@pytest.mark.rule("R412")
def test_no_two_gateways_draw_the_same_name() -> None:
    """48 random bits."""
    assert len({draw_pseudonym() for _ in range(1000)}) == 1000


MAX_ROUTES: tuple[dict[str, Any], ...] = (
    {"path": "/"},
    {"path": "/pub", "auth": "public"},
    {"path": "/orders", "methods": ["GET", "OPTIONS"]},
    {"path": "/orders", "methods": ["PURGE"]},
    {"path": "/cors", "auth": "public", "cors_origins": ["https://app.test"]},
)


@pytest.mark.rule("R414", "C102")
async def test_an_options_request_that_may_go_no_further_is_answered_here(tmp_path: Path) -> None:
    """After the credential, as for any request; with the methods that are served."""
    none_left = (b"Max-Forwards", b"0")
    async with raw_upstream() as upstream, running_gateway(upstream.url, tmp_path, routes=MAX_ROUTES) as gateway:
        client = await gateway.client()
        for _ in range(2):
            for target, token, allow in (
                ("/pub", b"", b"DELETE, GET, HEAD, OPTIONS, PATCH, POST, PURGE, PUT"),
                ("/", gateway.token(), b"DELETE, GET, HEAD, OPTIONS, PATCH, POST, PURGE, PUT"),
                ("/orders/7", gateway.token(), b"DELETE, GET, HEAD, OPTIONS, PATCH, POST, PURGE, PUT"),
            ):
                answer = await client.exchange(request(b"OPTIONS", target, none_left, token=token))
                assert (answer.status, answer.one(b"allow"), answer.one(b"content-length")) == (204, allow, None)
                assert answer.one(b"x-request-id")
            refused = await client.exchange(request(b"OPTIONS", "/orders", none_left))
            assert (refused.status, refused.one(b"allow")) == (401, None)
        page = await client.exchange(request(b"OPTIONS", "/cors", none_left, (b"Origin", b"https://app.test")))
        assert page.one(b"access-control-allow-origin") == b"https://app.test"
        lines = await gateway.log(9)
        assert (lines[0]["outcome"], lines[0]["status"], lines[0]["route"]) == ("answered", 204, "/pub")
    assert upstream.connections == 0


@pytest.mark.rule("R414")
async def test_where_every_route_names_its_methods_only_those_are_named(tmp_path: Path) -> None:
    """RFC 9110 section 10.2.1.."""
    routes = ({"path": "/", "auth": "public", "methods": ["OPTIONS", "GET"]}, {"path": "/", "methods": ["PURGE"]})
    async with raw_upstream() as upstream, running_gateway(upstream.url, tmp_path, routes=routes) as gateway:
        answer = await gateway.exchange(request(b"OPTIONS", "/", (b"Max-Forwards", b"0")))
    assert (answer.status, answer.one(b"allow")) == (204, b"GET, OPTIONS, PURGE")


@pytest.mark.parametrize("route", ["/", "/pub"])
@pytest.mark.rule("R414")
async def test_each_gateway_takes_one_of_the_forwards_that_are_left(route: str, tmp_path: Path) -> None:
    """On OPTIONS; on other methods the field means nothing (RFC 9110 section 7.6.2) and passes as it came."""
    async with raw_upstream() as upstream, running_gateway(upstream.url, tmp_path, routes=MAX_ROUTES) as gateway:
        client, token = await gateway.client(), gateway.token() if route == "/" else b""
        sent = (
            *((b"OPTIONS", b"5"), (b"OPTIONS", b"5"), (b"GET", b"5"), (b"OPTIONS", b"1"), (b"GET", b"0")),
            *((b"GET", b"x"), (b"OPTIONS", b"5"), (b"OPTIONS", b"007"), (b"POST", b"0"), (b"OPTIONS", b"9" * 400)),
        )
        for method, value in sent:
            assert (await client.exchange(request(method, route, (b"Max-Forwards", value), token=token))).status == 200
        passed = [received.one(b"max-forwards") for received in upstream.requests]
    assert passed == [b"4", b"4", b"5", b"0", b"0", b"x", b"4", b"6", b"0", b"999999998"]


@pytest.mark.parametrize("value", [b"x", b"", b"-1", b"1, 1", b"5 5"])
@pytest.mark.rule("R414")
async def test_forwards_that_cannot_be_counted_are_refused(value: bytes, tmp_path: Path) -> None:
    async with raw_upstream() as upstream, running_gateway(upstream.url, tmp_path, routes=MAX_ROUTES) as gateway:
        answer = await gateway.exchange(request(b"OPTIONS", "/pub", (b"Max-Forwards", value)))
        assert (answer.status, answer.json["error"]) == (400, "bad_request")
        twice = await gateway.exchange(request(b"OPTIONS", "/pub", *((b"Max-Forwards", b"1"),) * 2))
        assert twice.status == 400
        assert [line["reason"] for line in await gateway.log(2)] == ["max_forwards"] * 2
        traced = await gateway.exchange(request(b"TRACE", "/pub", (b"Max-Forwards", b"0")))
        assert (traced.status, traced.json["error"]) == (405, "method_not_allowed")
    assert upstream.connections == 0
