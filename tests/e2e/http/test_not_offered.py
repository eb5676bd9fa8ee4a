"""Rules about what this version does not offer, where clients can see that it does not."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.gateways.running import request, running_gateway
from tests.support.upstreams.recording import raw_upstream


@pytest.mark.rule("R114")
async def test_preflight_needs_a_token_as_every_other_request_does(tmp_path: Path) -> None:
    """No CORS policy is offered, so no OPTIONS is let through or answered in the service's place."""
    headers = ((b"Origin", b"https://shop.test"), (b"Access-Control-Request-Method", b"DELETE"))
    routes = (
        {"path": "/"},
        {"path": "/public", "auth": "public"},
        {"path": "/open", "methods": ["OPTIONS"], "auth": "public"},
    )
    async with raw_upstream() as upstream, running_gateway(upstream.url, tmp_path, routes=routes) as gateway:
        refused = [await gateway.exchange(request(b"OPTIONS", "/x", *extra)) for extra in (headers, ())]
        assert upstream.connections == 0
        passed = [await gateway.exchange(request(b"OPTIONS", path, *headers)) for path in ("/public", "/open")]
    assert [answer.status for answer in refused] == [401, 401]
    assert all(answer.one(b"www-authenticate") == b'Bearer realm="gateway"' for answer in refused)
    assert not any(name.lower().startswith(b"access-control") for answer in refused for name, _ in answer.headers)
    assert [answer.status for answer in passed] == [200, 200]
    assert upstream.requests[0].one(b"access-control-request-method") == b"DELETE"


async def test_challenge_and_paths_know_no_resource_metadata(tmp_path: Path) -> None:
    """A route to a service that publishes such a document passes it on as any other (RFC 9728 section 3)."""
    well_known = "/.well-known/oauth-protected-resource"
    routes = ({"path": "/"}, {"path": well_known, "auth": "public"})
    async with raw_upstream() as upstream, running_gateway(upstream.url, tmp_path, routes=routes) as gateway:
        assert b"resource_metadata" not in (await gateway.get("/")).head
        assert (await gateway.get(well_known + "/api")).status == 200
    assert upstream.requests[0].target == f"{well_known}/api".encode()
