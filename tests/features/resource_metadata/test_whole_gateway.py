"""Rules on protected resource metadata (RFC 9728), one test a rule: what a client sees of a running gateway."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.support.clients.resource_metadata import challenge_of, document_of
from tests.support.gateways.running import request, running_gateway
from tests.support.upstreams.recording import raw_upstream

RESOURCES: list[dict[str, Any]] = [{"resource": "https://API.test/api"}, {"resource": "https://api.test"}]
ROUTES: tuple[dict[str, Any], ...] = ({"path": "/api", "scopes": ["read"]}, {"path": "/"})
WELL_KNOWN = "/.well-known/oauth-protected-resource"
BOTH_LANES = pytest.mark.parametrize("express", [True, False])


@BOTH_LANES
@pytest.mark.parametrize(
    ("target", "url"), [("/api/1", f"https://API.test{WELL_KNOWN}/api"), ("/other", f"https://api.test{WELL_KNOWN}")]
)
@pytest.mark.rule("R115")
async def test_the_challenge_names_the_document_when_configured(
    target: str, url: str, express: bool, tmp_path: Path
) -> None:
    """Also without a token, and never with the Host of the request."""
    options: dict[str, Any] = {"routes": ROUTES, "resources": RESOURCES, "server": {"express": express}}
    async with raw_upstream() as upstream, running_gateway(upstream.url, tmp_path, **options) as gateway:
        refused = await gateway.exchange(request(b"GET", target, (b"Host", b"evil.test")))
    assert refused.status == 401
    assert challenge_of(refused) == {"realm": "gateway", "resource_metadata": url}
    assert b"evil" not in refused.head + refused.body


@BOTH_LANES
@pytest.mark.rule("R115")
async def test_the_challenge_names_nothing_when_nothing_is_configured(express: bool, tmp_path: Path) -> None:
    options: dict[str, Any] = {"routes": ROUTES, "server": {"express": express}}
    async with raw_upstream() as upstream, running_gateway(upstream.url, tmp_path, **options) as gateway:
        refused = await gateway.get("/api")
        document = await gateway.get(f"{WELL_KNOWN}/api")
    assert challenge_of(refused) == {"realm": "gateway"}
    assert document.status == 401  # a path like any other
    assert upstream.requests == []


@BOTH_LANES
@pytest.mark.parametrize(
    ("path", "resource", "scopes"), [("/api", "https://API.test/api", ["read"]), ("", "https://api.test", None)]
)
@pytest.mark.rule("R116")
async def test_the_document_is_public_json_at_the_path_inserted_form(
    path: str, resource: str, scopes: list[str] | None, express: bool, tmp_path: Path
) -> None:
    """RFC 9728 sections 2, 3.1 and 3.3: `resource` is exactly the configured text, whatever the Host."""
    options: dict[str, Any] = {"routes": ROUTES, "resources": RESOURCES, "server": {"express": express}}
    async with raw_upstream() as upstream, running_gateway(upstream.url, tmp_path, **options) as gateway:
        answer = await gateway.exchange(request(b"GET", WELL_KNOWN + path, (b"Host", b"evil.test")))
    document = document_of(answer)
    assert document["resource"] == resource
    assert document["authorization_servers"] == ["https://idp.test/"]
    assert document["bearer_methods_supported"] == ["header"]
    assert document.get("scopes_supported") == scopes
    assert upstream.requests == []
