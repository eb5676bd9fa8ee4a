"""Names of request fields: which ones a service never gets from a client (R342, R401, R402)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.support.gateways.running import RunningGateway, request, running_gateway
from tests.support.upstreams.recording import RawUpstream, raw_upstream

ROUTES: tuple[dict[str, Any], ...] = ({"path": "/"}, {"path": "/pub", "auth": "public"})

BELIEVED = (
    *(b"Script-Name", b"Daphne-Root-Path", b"X-Request-Uri", b"X-Override-Url", b"X-Envoy-Original-Path"),
    *(b"Remote-User", b"X-Remote-User", b"X-WebAuth-User", b"X-Auth-Request-Email", b"X-MS-Client-Principal-Id"),
    *(b"Client-IP", b"Forwarded-For", b"WL-Proxy-SSL", b"X-Scheme", b"X-Host", b"X-ARR-SSL", b"Proxy"),
)
ODD = (
    b"SCRIPT_NAME",
    b"PATH_INFO",
    b"X_Foo",
    b"X.Foo",
    b"$WSRU",
    b"REMOTE_USER",
    b"x_user_id",
    b"A~b",
    b"Content_Type",
)
HARMLESS = ((b"X-Foo", b"1"), (b"traceparent", b"00-a-b-01"), (b"X-Requested-With", b"\xff"), (b"x-foo", b""))


async def kept(
    gateway: RunningGateway, upstream: RawUpstream, target: str, *fields: tuple[bytes, bytes]
) -> list[tuple[bytes, bytes]]:
    """Send the fields three times over one connection; return those of a client's own that arrived, each time alike."""
    client, token = await gateway.client(), gateway.token() if target == "/" else b""
    upstream.requests.clear()
    for _ in range(3):
        assert (await client.exchange(request(b"GET", target, *fields, token=token))).status == 200
    own = (b"host", b"via", b"x-request-id", b"x-user-id", b"x-scope")
    arrived = [
        [pair for pair in one.headers if pair[0].lower() not in own and not pair[0].startswith(b"X-Forwarded-")]
        for one in upstream.requests
    ]
    assert arrived[0] == arrived[1] == arrived[2]
    await client.close()
    return arrived[0]


@pytest.mark.parametrize("target", ["/", "/pub"])
@pytest.mark.rule("R342", "R401", "R402")
async def test_services_never_get_what_they_would_take_for_a_proxys_word(target: str, tmp_path: Path) -> None:
    """Dropped, never refused, and nothing beside it is touched."""
    async with raw_upstream() as upstream, running_gateway(upstream.url, tmp_path, routes=ROUTES) as gateway:
        bad = tuple((name, b"/evil") for name in (*BELIEVED, *ODD))
        mixed = (*bad[::2], HARMLESS[0], *bad[1::2], *HARMLESS[1:])
        assert await kept(gateway, upstream, target, *mixed) == list(HARMLESS)
        for pair in bad:  # a section that varies in one name only
            assert await kept(gateway, upstream, target, HARMLESS[0], pair) == [HARMLESS[0]]


@pytest.mark.parametrize("target", ["/", "/pub"])
@pytest.mark.rule("R342")
async def test_the_configuration_lets_odd_names_pass_that_have_no_twin(target: str, tmp_path: Path) -> None:
    """CVE-2025-64484: ``underscore_headers = "pass"``, and still no spelling of a name with a meaning."""
    free = [(b"X_Foo", b"1"), (b"X.Foo", b"2"), (b"A~b", b"3"), (b"my_app_id", b"4")]
    twins = (
        b"SCRIPT_NAME",
        b"PATH_INFO",
        b"$WSRU",
        b"REMOTE_USER",
        b"x_user_id",
        b"X_Forwarded_For",
        b"X.Team",
        b"H.ost",
    )
    server = {"underscore_headers": "pass", "strip_headers": ["x-team"]}
    async with (
        raw_upstream() as upstream,
        running_gateway(upstream.url, tmp_path, routes=ROUTES, server=server) as gateway,
    ):
        fields = (*free[:2], *((name, b"evil") for name in twins[:-1]), *free[2:])
        assert await kept(gateway, upstream, target, *fields) == free


@pytest.mark.rule("R340", "R342")
async def test_an_identity_header_may_have_an_underscore(tmp_path: Path) -> None:
    """The gateway's own field is sent as configured; a client's is dropped in every spelling."""
    identity = {"x_user": "sub"}
    async with (
        raw_upstream() as upstream,
        running_gateway(upstream.url, tmp_path, identity=identity, server={"underscore_headers": "pass"}) as gateway,
    ):
        forged = ((b"X_User", b"root"), (b"X-User", b"root"), (b"x.user", b"root"))
        assert (await gateway.get("/", *forged, token=gateway.token())).status == 200
    named = [pair for pair in upstream.requests[0].headers if pair[0].lower().startswith(b"x") and b"ser" in pair[0]]
    assert named == [(b"x_user", b"alice")]


@pytest.mark.parametrize("name", ["X-Team", "x_team"])
@pytest.mark.rule("R402")
async def test_further_names_can_be_stripped(name: str, tmp_path: Path) -> None:
    """``strip_headers``; on public and protected routes."""
    async with (
        raw_upstream() as upstream,
        running_gateway(upstream.url, tmp_path, routes=ROUTES, server={"strip_headers": [name]}) as gateway,
    ):
        for target in ("/", "/pub"):
            fields = ((b"X-TEAM", b"1"), (b"X_Team", b"1"), (b"X-Teams", b"2"))
            assert await kept(gateway, upstream, target, *fields) == [(b"X-Teams", b"2")]


@pytest.mark.rule("R259", "R402")
async def test_a_trusted_proxy_passes_its_forwarding_fields_only(tmp_path: Path) -> None:
    """What it lets through from its own clients is not its word."""
    async with (
        raw_upstream() as upstream,
        running_gateway(upstream.url, tmp_path, routes=ROUTES, server={"trusted_proxies": ["127.0.0.1"]}) as gateway,
    ):
        bad = tuple((name, b"/evil") for name in (*BELIEVED, *ODD, b"X-Forwarded-Prefix", b"X-Forwarded-User"))
        assert await kept(gateway, upstream, "/pub", (b"X-Forwarded-For", b"192.0.2.9"), *bad) == []
    received = upstream.requests[0]
    assert received.one(b"x-forwarded-for") == b"192.0.2.9, 127.0.0.1"
    assert b"evil" not in received.head
