"""The order of a request's steps, what an observed route lets pass, and what the upstream gets."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from tests.support.clock import FakeClock
from tests.support.composed import Settings
from tests.support.gateways.running import RunningGateway, configuration, request, running_gateway
from tests.support.gateways.timed import timed_gateway
from tests.support.tokens.minting import SigningKey, good_claims, jwks, mint
from tests.support.upstreams.recording import RawUpstream, raw_upstream

ROUTES: tuple[dict[str, Any], ...] = (
    {"path": "/need"},
    {"path": "/scoped", "scopes": ["never:granted"]},
    {"path": "/public", "auth": "public"},
    {"path": "/optional", "auth": "optional"},
    {"path": "/observe", "observe": True, "scopes": ["read"], "issuers": ["main"], "claims": {"role": "admin"}},
    {"path": "/observe-optional", "auth": "optional", "observe": True},
)
LIMIT: dict[str, Any] = {"max_body_bytes": 10}
BOTH_LANES = pytest.mark.parametrize("express", [False, True])

LOOPED, BIG, EXPECT = (b"Via", b"1.1 PSEUDONYM"), (b"Content-Length", b"11"), (b"Expect", b"magic")

# Each request has every fault from its own on: the first one in the path's order is the one that is reported.
ORDER = [
    pytest.param(b"TRACE", b"/a/../b", (LOOPED, EXPECT), b"", 405, "method_refused", id="method"),
    pytest.param(b"POST", b"/a/../b", ((b"Host", b"a b"), LOOPED, EXPECT, BIG), b"", 400, "bad_path", id="path"),
    pytest.param(b"POST", b"/nowhere", ((b"Host", b"a b"), LOOPED, EXPECT, BIG), b"", 400, "bad_host", id="host"),
    pytest.param(b"POST", b"/nowhere", (LOOPED, EXPECT, BIG), b"", 508, "loop", id="loop"),
    pytest.param(b"POST", b"/nowhere%2f", (EXPECT, BIG), b"", 404, "no_route", id="route"),
    pytest.param(b"POST", b"/need/a%2fb", (EXPECT, BIG), b"", 400, "encoded_slash", id="encoded-slash"),
    pytest.param(b"POST", b"/need", (EXPECT, BIG), b"", 417, "expectation", id="expectation"),
    pytest.param(b"POST", b"/need", (BIG,), b"", 401, "no_credential", id="credential"),
    pytest.param(b"POST", b"/need", (BIG,), b"junk", 401, "not_a_jws", id="token"),
    pytest.param(b"POST", b"/scoped", (BIG,), b"GOOD", 403, "missing_scope", id="scope"),
    pytest.param(b"POST", b"/need", (BIG,), b"GOOD", 413, "body_too_large", id="content"),
]


@BOTH_LANES
@pytest.mark.parametrize(("method", "target", "headers", "token", "status", "reason"), ORDER)
async def test_first_fault_in_the_order_of_the_path_is_told(
    method: bytes,
    target: bytes,
    headers: tuple[tuple[bytes, bytes], ...],
    token: bytes,
    status: int,
    reason: str,
    express: bool,
    tmp_path: Path,
) -> None:
    """Guard, route, credential, identity, rules, content: 400 before 404 before 401 before 403 before 413."""
    server = {**LIMIT, "express": express}
    async with (
        raw_upstream() as upstream,
        running_gateway(upstream.url, tmp_path, routes=ROUTES, server=server) as gateway,
    ):
        via = (await gateway.get("/public")).one(b"via") or b""
        named = tuple((name, text.replace(b"1.1 PSEUDONYM", via)) for name, text in headers)
        given = gateway.token() if token == b"GOOD" else token
        response = await gateway.exchange(request(method, target, *named, token=given))
        log = await gateway.log(2)
    assert (response.status, log[1]["reason"]) == (status, reason)
    assert len(upstream.requests) == 1


async def observed(gateway: RunningGateway, *lines: tuple[bytes, bytes], token: bytes = b"") -> dict[str, Any]:
    """Send a request that the route would refuse; return its log line."""
    count = gateway.out.getvalue().count("\n")
    response = await gateway.get("/observe", (b"x-user-id", b"forged"), *lines, token=token)
    assert response.status == 200
    log = await gateway.log(count + 1)
    assert (log[-1]["status"], log[-1]["outcome"]) == (200, "forwarded")
    assert "reason" not in log[-1]
    return log[-1]


def assert_nobody(upstream: RawUpstream) -> None:
    """Nothing of an identity reached the upstream, neither the token's nor the client's own."""
    for received in upstream.requests:
        assert not [name for name, _ in received.headers if name.lower() in (b"x-user-id", b"x-user-role", b"x-scope")]
        assert not received.all(b"authorization")


@BOTH_LANES
async def test_observed_route_lets_every_kind_of_refusal_pass_and_nobody_is_named(
    express: bool, tmp_path: Path
) -> None:
    """Contract: observe. 400, 401 and 403 alike; an identity that a rule refused is not sent, only logged."""
    async with (
        raw_upstream() as upstream,
        running_gateway(upstream.url, tmp_path, routes=ROUTES, server={"express": express}) as gateway,
    ):
        forged = mint(SigningKey.rsa("a", variant=1), good_claims(time.time()))
        unknown = mint(SigningKey.rsa("unknown", variant=1), good_claims(time.time()))
        given: list[tuple[str, bytes, tuple[tuple[bytes, bytes], ...]]] = [
            ("no_credential", b"", ()),
            ("other_scheme", b"", ((b"Authorization", b"Basic abc"),)),
            ("malformed_authorization", b"", ((b"Authorization", b"Bearer a b"),)),
            ("several_credentials", gateway.token(), ((b"Authorization", b"Bearer x"),)),
            ("not_a_jws", b"junk", ()),
            ("token_too_long", b"a" * 9000, ()),
            ("expired", gateway.token(exp=1), ()),
            ("wrong_audience", gateway.token(aud="other"), ()),
            ("unknown_issuer", gateway.token(iss="https://other.test/"), ()),
            ("bad_signature", forged, ()),
            ("bad_signature", forged, ()),  # now from memory
            ("unknown_key", unknown, ()),
            ("unsafe_claim", gateway.token(sub="a\r\nb"), ()),
            ("missing_scope", gateway.token(scope="none"), ()),
            ("missing_scope", gateway.token(scope="none"), ()),  # now from the cache
            ("claim_not_accepted", gateway.token(role="clerk"), ()),
        ]
        for reason, token, lines in given:
            assert (await observed(gateway, *lines, token=token))["observed"] == reason
        assert_nobody(upstream)
        assert len(upstream.requests) == len(given)
        counted = {reason for _, reason in gateway.app.telemetry.observed}
        assert counted == {reason for reason, _, _ in given}
        good = await gateway.get("/observe", token=gateway.token(role="admin"))
        assert good.status == 200
        assert upstream.requests[-1].one(b"x-user-id") == b"alice"
        assert "observed" not in (await gateway.log(len(given) + 1))[-1]


@BOTH_LANES
@pytest.mark.rule("R113")
async def test_observed_route_lets_pass_what_could_not_be_decided(express: bool, tmp_path: Path) -> None:
    """No keys and keys that are too old would have been 503; the request passes."""
    key, file, clock = SigningKey.rsa("a"), tmp_path / "jwks.json", FakeClock()
    issuer = {"jwks_max_stale_seconds": 60, "jwks_refresh_seconds": 3600, "max_lifetime_seconds": 0}
    async with raw_upstream() as upstream:
        options = configuration(upstream.url, file, routes=ROUTES, issuer=issuer, server={"express": express})
        async with timed_gateway(Settings.model_validate(options), key, clock) as gateway:
            assert (await observed(gateway, token=gateway.token()))["observed"] == "no_keys"
        file.write_bytes(jwks(key))
        async with timed_gateway(Settings.model_validate(options), key, clock) as gateway:
            token = gateway.token(exp=int(clock.wall()) + 7200, role="admin")
            assert (await gateway.get("/observe", token=token)).status == 200
            assert upstream.requests.pop().one(b"x-user-id") == b"alice"
            await gateway.log(1)
            file.unlink()
            clock.jump(61)
            assert (await observed(gateway, token=token))["observed"] == "stale_keys"
        assert_nobody(upstream)


@BOTH_LANES
async def test_observe_concerns_the_token_alone(express: bool, tmp_path: Path) -> None:
    """Contract: what is wrong with the request itself is refused on an observed route as on any other."""
    async with (
        raw_upstream() as upstream,
        running_gateway(upstream.url, tmp_path, routes=ROUTES, server={**LIMIT, "express": express}) as gateway,
    ):
        assert (await gateway.get("/observe/a%2fb")).status == 400
        assert (await gateway.get("/observe/../need")).status == 400
        assert (await gateway.exchange(request(b"POST", "/observe", EXPECT, BIG))).status == 417
        assert (await gateway.exchange(request(b"POST", "/observe", BIG))).status == 413
        assert (await gateway.exchange(request(b"TRACE", "/observe"))).status == 405
    assert upstream.connections == 0


OPTIONAL = [
    # credential, status on an optional route, status on an optional route that is observed, and who the upstream saw
    pytest.param((), b"", 200, None, id="none"),
    pytest.param(((b"Authorization", b"Basic abc"),), b"", 200, None, id="other-scheme"),
    pytest.param((), b"GOOD", 200, b"alice", id="good"),
    pytest.param((), b"junk", 401, None, id="junk"),
    pytest.param(((b"Authorization", b"Bearer"),), b"", 400, None, id="malformed"),
    pytest.param(((b"Authorization", b"Bearer x"),), b"GOOD", 400, None, id="several"),
]


@BOTH_LANES
@pytest.mark.parametrize(("headers", "token", "status", "user"), OPTIONAL)
@pytest.mark.rule("R357")
async def test_optional_route_takes_nobody_or_somebody_but_nothing_bad(
    headers: tuple[tuple[bytes, bytes], ...],
    token: bytes,
    status: int,
    user: bytes | None,
    express: bool,
    tmp_path: Path,
) -> None:
    """And with observe the bad ones pass without an identity."""
    async with (
        raw_upstream() as upstream,
        running_gateway(upstream.url, tmp_path, routes=ROUTES, server={"express": express}) as gateway,
    ):
        given = gateway.token() if token == b"GOOD" else token
        assert (await gateway.get("/optional", *headers, token=given)).status == status
        assert (await gateway.get("/observe-optional", *headers, token=given)).status == 200
        log = await gateway.log(2)
    assert [received.one(b"x-user-id") for received in upstream.requests] == [user] * len(upstream.requests)
    assert len(upstream.requests) == (2 if status == 200 else 1)
    assert ("observed" in log[1]) == (status != 200)


@BOTH_LANES
@pytest.mark.rule("R357")
async def test_public_route_looks_at_no_credential(express: bool, tmp_path: Path) -> None:
    """Neither refused nor verified, and still not sent on."""
    async with (
        raw_upstream() as upstream,
        running_gateway(upstream.url, tmp_path, routes=ROUTES, server={"express": express}) as gateway,
    ):
        for line in (b"Bearer", b"Bearer a b", b"Bearer " + gateway.token(), b"Basic abc"):
            assert (await gateway.get("/public", (b"Authorization", line))).status == 200
        twice = ((b"Authorization", b"Bearer a"), (b"Authorization", b"Bearer b"))
        assert (await gateway.get("/public?access_token=x", *twice)).status == 200
        log = await gateway.log(5)
        assert gateway.app.authenticator.cache.misses == 0
    assert_nobody(upstream)
    assert not [line for line in log if {"cache_hit", "issuer", "observed"} & set(line)]


@BOTH_LANES
@pytest.mark.rule("R196", "R197")
async def test_bad_path_is_shown_in_one_line_without_its_query(express: bool, tmp_path: Path) -> None:
    """What an operator needs to find the client, and nothing that could be a secret."""
    async with (
        raw_upstream() as upstream,
        running_gateway(upstream.url, tmp_path, routes=ROUTES, server={"express": express}) as gateway,
    ):
        await gateway.get("/a/../b?access_token=secret")
        await gateway.get("/" + "a" * 2000 + "/../b")
        log = await gateway.log(2)
        raw = gateway.out.getvalue()
    assert "secret" not in raw
    assert len(raw.splitlines()) == 2
    assert all(len(json.dumps(line["path"])) < 600 for line in log)
    assert upstream.connections == 0
