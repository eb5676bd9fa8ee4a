"""Metadata of protected resources in a running gateway: documents, and challenges that lead to them (RFC 9728)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.support.clients.resource_metadata import challenge_of, document_of
from tests.support.gateways.running import RawResponse, RunningGateway, request, running_gateway
from tests.support.tokens.api_keys import entry
from tests.support.upstreams.recording import raw_upstream

pytestmark = pytest.mark.every_log

WELL_KNOWN = "/.well-known/oauth-protected-resource"
APP = (b"Origin", b"https://app.test")
RESOURCES: list[dict[str, Any]] = [{"resource": "https://api.test/mcp", "name": "Tools"}]
ROUTES: tuple[dict[str, Any], ...] = (
    {"path": "/"},
    {"path": "/mcp"},
    {"path": "/mcp/write", "scopes": ["write:all"]},
    {"path": "/mcp/role", "claims": {"role": ["admin"]}},
    {"path": "/mcp/pages", "cors_origins": ["https://app.test"]},
    {"path": "/mcp/watched", "observe": True},
    {"path": "/mcp/open", "auth": "public"},
    {"path": "/mcp/maybe", "auth": "optional"},
    {"path": "/mcp/until", "end_at_expiry": True},
    {"path": "/elsewhere", "resource": "https://api.test/mcp"},
)
URL = "https://api.test/.well-known/oauth-protected-resource/mcp"
DOCUMENT = f"{WELL_KNOWN}/mcp"


def options(**more: Any) -> dict[str, Any]:
    return {"routes": ROUTES, "resources": RESOURCES, **more}


HANDSHAKE = (
    (b"Upgrade", b"websocket"),
    (b"Connection", b"Upgrade"),
    (b"Sec-WebSocket-Version", b"13"),
    (b"Sec-WebSocket-Key", b"dGhlIHNhbXBsZSBub25jZQ=="),
)


@pytest.mark.parametrize(
    ("target", "headers", "token", "status", "error"),
    [
        pytest.param("/mcp", (), "", 401, None, id="none"),
        pytest.param("/elsewhere", (), "", 401, None, id="by name"),
        pytest.param("/mcp", ((b"Authorization", b"Basic abc"),), "", 401, None, id="other scheme"),
        pytest.param("/mcp", (), "a.b.c", 401, "invalid_token", id="junk"),
        pytest.param("/mcp", (), "EXPIRED", 401, "invalid_token", id="expired"),
        pytest.param("/mcp/maybe", (), "EXPIRED", 401, "invalid_token", id="optional"),
        pytest.param("/mcp/until", (), "EXPIRED", 401, "invalid_token", id="until expiry"),
        pytest.param("/mcp", ((b"Authorization", b"Bearer a b"),), "", 400, "invalid_request", id="malformed"),
        pytest.param("/mcp?access_token=x", (), "GOOD", 400, "invalid_request", id="two"),
        pytest.param("/mcp/write", (), "GOOD", 403, "insufficient_scope", id="scope"),
        pytest.param("/mcp/role", (), "GOOD", 403, "insufficient_scope", id="claim"),
        pytest.param("/mcp", HANDSHAKE, "", 401, None, id="WebSocket without"),
        pytest.param("/mcp/write", HANDSHAKE, "GOOD", 403, "insufficient_scope", id="WebSocket without scope"),
    ],
)
@pytest.mark.rule("R110", "R115")
async def test_every_challenge_of_a_resource_leads_to_its_document(
    target: str, headers: Any, token: str, status: int, error: str | None, tmp_path: Path
) -> None:
    """Whatever the refusal, three times on one connection, as the last ones may come from memory."""
    async with raw_upstream() as upstream, running_gateway(upstream.url, tmp_path, **options()) as gateway:
        tokens = {"GOOD": gateway.token(), "EXPIRED": gateway.token(exp=1)}
        client = await gateway.client()
        data = request(b"GET", target, *headers, token=tokens.get(token, token.encode()))
        for _ in range(3):
            response = await client.exchange(data)
            assert response.status == status
            challenge = challenge_of(response)
            assert challenge.pop("resource_metadata") == URL
            assert challenge.pop("realm") == "gateway"
            assert challenge.get("error") == error
            assert response.one(b"cache-control") == b"no-store"
    assert upstream.requests == []


@pytest.mark.parametrize("logs", ["json", "off"])
@pytest.mark.rule("R115")
async def test_refusals_from_memory_lead_to_the_document_of_their_own_route(logs: str, tmp_path: Path) -> None:
    """What a connection remembers of one route never answers for another; without a log it remembers most."""
    given = options(server={"access_log": logs})
    async with raw_upstream() as upstream, running_gateway(upstream.url, tmp_path, **given) as gateway:
        client = await gateway.client()
        for _ in range(3):
            for target, url in (("/mcp", URL), ("/x", None), ("/mcp/a", URL), ("/elsewhere", URL), ("/", None)):
                for token in (b"", b"a.b.c", gateway.token(exp=1)):
                    response = await client.exchange(request(b"GET", target, token=token))
                    assert response.status == 401
                    assert challenge_of(response).get("resource_metadata") == url, (target, token)


@pytest.mark.rule("R115")
async def test_refusals_with_403_for_bad_tokens_lead_there_too(tmp_path: Path) -> None:
    """With `invalid_token_status = 403`."""
    given = options(tokens={"invalid_token_status": 403})
    async with raw_upstream() as upstream, running_gateway(upstream.url, tmp_path, **given) as gateway:
        response = await gateway.get("/mcp", token=b"a.b.c")
    assert response.status == 403
    assert challenge_of(response)["resource_metadata"] == URL


@pytest.mark.rule("R113", "R115")
async def test_what_is_no_challenge_names_no_document(tmp_path: Path) -> None:
    """A public and an observed route refuse nothing, and a fault of the gateway is no challenge."""
    issuers = options(issuer={"jwks_file": "/nowhere/keys"})
    async with raw_upstream() as upstream, running_gateway(upstream.url, tmp_path, **options()) as gateway:
        for target in ("/mcp/open", "/mcp/watched", "/mcp/maybe"):
            response = await gateway.get(target)
            assert (response.status, response.one(b"www-authenticate")) == (200, None)
        ambiguous = await gateway.get("/mcp/../x")
    assert (ambiguous.status, ambiguous.one(b"www-authenticate")) == (400, None)
    async with running_gateway("http://127.0.0.1:1", tmp_path, **issuers) as gateway:
        without_keys = await gateway.get("/mcp", token=gateway.token())
    assert (without_keys.status, without_keys.one(b"www-authenticate")) == (503, None)


@pytest.mark.rule("R114", "R115")
async def test_pages_can_read_the_challenge_that_leads_to_the_document(tmp_path: Path) -> None:
    async with raw_upstream() as upstream, running_gateway(upstream.url, tmp_path, **options()) as gateway:
        response = await gateway.get("/mcp/pages", APP)
    assert b"WWW-Authenticate" in (response.one(b"access-control-expose-headers") or b"")
    assert challenge_of(response)["resource_metadata"] == URL


async def read(gateway: RunningGateway, *headers: tuple[bytes, bytes], target: str = DOCUMENT) -> RawResponse:
    return await gateway.get(target, *headers)


@pytest.mark.rule("R116")
async def test_the_document_is_answered_counted_and_logged_without_an_upstream(tmp_path: Path) -> None:
    """Several times on one connection, which stays open; HEAD tells the length; no token is looked at."""
    async with raw_upstream() as upstream, running_gateway(upstream.url, tmp_path, **options()) as gateway:
        client, answer = await gateway.client(), RawResponse(b"")
        for token in (b"", b"junk", gateway.token(), gateway.token(exp=1), b""):
            answer = await client.exchange(request(b"GET", DOCUMENT, APP, token=token))
            assert document_of(answer)["resource"] == "https://api.test/mcp"
            assert answer.one(b"x-request-id")
        head = await client.exchange(request(b"HEAD", DOCUMENT), head_only=True)
        assert head.one(b"content-length") == b"%d" % len(answer.body)
        both = (b"Authorization", b"Bearer x"), (b"Authorization", b"Basic y")
        assert document_of(await client.exchange(request(b"GET", f"{DOCUMENT}?access_token=x", *both)))
        log = await gateway.log(7)
        metrics = (await gateway.admin("/metrics")).body.decode()
    assert {(line["outcome"], line["status"], line["route"]) for line in log} == {("answered", 200, DOCUMENT)}
    assert not any("reason" in line or "issuer" in line or "upstream" in line for line in log)
    assert f'outcome="answered",route="{DOCUMENT}",status="200"}} 7.0' in metrics
    assert upstream.connections == 0


@pytest.mark.rule("R116")
async def test_the_document_says_what_its_routes_ask_for(tmp_path: Path) -> None:
    """Of the route for scopes, and of all for the issuer."""
    async with raw_upstream() as upstream, running_gateway(upstream.url, tmp_path, **options()) as gateway:
        assert document_of(await read(gateway)) == {
            "resource": "https://api.test/mcp",
            "authorization_servers": ["https://idp.test/"],
            "scopes_supported": ["write:all"],
            "bearer_methods_supported": ["header"],
            "resource_name": "Tools",
        }


@pytest.mark.rule("R114", "R116")
async def test_a_page_of_any_origin_may_read_the_document(tmp_path: Path) -> None:
    """The preflight is answered, with fields that MCP clients set."""
    async with raw_upstream() as upstream, running_gateway(upstream.url, tmp_path, **options()) as gateway:
        wanted = (b"Access-Control-Request-Headers", b"mcp-protocol-version")
        asked = (APP, (b"Access-Control-Request-Method", b"GET"), wanted)
        preflight = await gateway.exchange(request(b"OPTIONS", DOCUMENT, *asked))
        writing = (APP, (b"Access-Control-Request-Method", b"DELETE"))
        refused = await gateway.exchange(request(b"OPTIONS", DOCUMENT, *writing))
        log = await gateway.log(2)
    assert (preflight.status, preflight.one(b"access-control-allow-origin")) == (204, b"*")
    assert preflight.one(b"access-control-allow-headers") == b"mcp-protocol-version"
    assert preflight.one(b"access-control-allow-credentials") is None
    assert refused.status == 403
    assert [(line["outcome"], line["route"]) for line in log] == [("answered", DOCUMENT), ("refused", DOCUMENT)]
    assert upstream.connections == 0


@pytest.mark.rule("R116")
async def test_other_methods_are_refused_and_the_connection_goes_on(tmp_path: Path) -> None:
    """405 with Allow; content is read past."""
    async with raw_upstream() as upstream, running_gateway(upstream.url, tmp_path, **options()) as gateway:
        client = await gateway.client()
        for method in (b"POST", b"PUT", b"DELETE"):
            body = request(method, DOCUMENT, (b"Content-Length", b"5"), body=b"GET /")
            response = await client.exchange(body)
            assert (response.status, response.one(b"allow")) == (405, b"GET, HEAD, OPTIONS")
            assert response.json["error"] == "method_not_allowed"
        assert document_of(await client.exchange(request(b"GET", DOCUMENT)))
        plain = await client.exchange(request(b"OPTIONS", DOCUMENT))
        log = await gateway.log(5)
    assert (plain.status, plain.one(b"allow")) == (204, b"GET, HEAD, OPTIONS")
    assert [line.get("reason") for line in log] == ["document_method"] * 3 + [None] * 2
    assert upstream.connections == 0


@pytest.mark.parametrize(
    ("target", "status"),
    [
        (f"{WELL_KNOWN}/m%63p", 200),
        (f"{WELL_KNOWN}/mcp;v=1", 200),
        (f"{WELL_KNOWN}/x/../mcp", 400),
        (f"{WELL_KNOWN}/%2e/mcp", 400),
        (f"{WELL_KNOWN}//mcp", 400),
        (f"{WELL_KNOWN}%2fmcp", 400),
        (f"{WELL_KNOWN}/mcp%00", 400),
        (WELL_KNOWN, 401),
        (f"{WELL_KNOWN}/mcp/", 401),
        (f"{WELL_KNOWN}/MCP", 401),
        ("/mcp/.well-known/oauth-protected-resource", 401),
    ],
)
@pytest.mark.rule("R116", "R229", "R231", "R233", "R238")
async def test_only_the_path_inserted_form_is_the_document(target: str, status: int, tmp_path: Path) -> None:
    """The guard comes first; what is no document is a path like any other."""
    async with raw_upstream() as upstream, running_gateway(upstream.url, tmp_path, **options()) as gateway:
        assert (await gateway.get(target)).status == status
    assert upstream.connections == 0


@pytest.mark.rule("R116")
async def test_the_host_chooses_among_documents_of_one_path_and_changes_none(tmp_path: Path) -> None:
    """With one of them, any host does; without Host in HTTP/1.0, too."""
    resources = [
        {"resource": "https://one.test/a"},
        {"resource": "https://two.test:8443/a"},
        {"resource": "https://x.test"},
    ]
    routes = ({"path": "/", "resource": "https://x.test"},)
    given: dict[str, Any] = {"routes": routes, "resources": resources}
    async with raw_upstream() as upstream, running_gateway(upstream.url, tmp_path, **given) as gateway:
        found = {}
        for host in (b"one.test", b"ONE.test:80", b"two.test", b"two.test:8443"):
            found[host] = document_of(await read(gateway, (b"Host", host), target=f"{WELL_KNOWN}/a"))["resource"]
        absolute = request(b"GET", f"http://two.test{WELL_KNOWN}/a", (b"Host", b"one.test"))
        assert document_of(await gateway.exchange(absolute))["resource"] == "https://two.test:8443/a"
        assert (await read(gateway, (b"Host", b"three.test"), target=f"{WELL_KNOWN}/a")).status == 401
        old = await gateway.exchange(f"GET {WELL_KNOWN} HTTP/1.0\r\n\r\n".encode())
        assert document_of(old)["resource"] == "https://x.test"
    assert found == {
        b"one.test": "https://one.test/a",
        b"ONE.test:80": "https://one.test/a",
        b"two.test": "https://two.test:8443/a",
        b"two.test:8443": "https://two.test:8443/a",
    }


async def test_a_route_at_the_well_known_path_serves_the_document_instead(tmp_path: Path) -> None:
    """And only there: "/" does not."""
    routes = ({"path": "/"}, {"path": DOCUMENT, "match": "exact", "auth": "public"})
    resources = [*RESOURCES, {"resource": "https://api.test"}]
    given: dict[str, Any] = {"routes": routes, "resources": resources}
    async with raw_upstream() as upstream, running_gateway(upstream.url, tmp_path, **given) as gateway:
        own = await gateway.get(DOCUMENT)
        assert document_of(await gateway.get(WELL_KNOWN))["resource"] == "https://api.test"
    assert own.status == 200
    assert [item.target for item in upstream.requests] == [DOCUMENT.encode()]


@pytest.mark.rule("R110", "R115")
async def test_only_the_challenge_for_tokens_leads_to_the_document(tmp_path: Path) -> None:
    """A route that takes API keys as well has two challenges; one that takes them only, no document."""
    routes = (
        {"path": "/mcp", "credentials": ["jwt", "api_key"]},
        {"path": "/mcp/keys", "credentials": ["api_key"], "scopes": ["unseen"]},
    )
    given: dict[str, Any] = {"routes": routes, "resources": RESOURCES, "api_keys": [entry()]}
    async with raw_upstream() as upstream, running_gateway(upstream.url, tmp_path, **given) as gateway:
        both = (await gateway.get("/mcp")).all(b"www-authenticate")
        keys = (await gateway.get("/mcp/keys")).all(b"www-authenticate")
        document = document_of(await gateway.get(DOCUMENT))
    assert both == [f'Bearer realm="gateway", resource_metadata="{URL}"'.encode(), b'ApiKey realm="gateway"']
    assert keys == [b'ApiKey realm="gateway"']
    assert "scopes_supported" not in document
    assert upstream.requests == []
