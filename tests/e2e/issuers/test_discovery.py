"""What an MCP client does before its first call, against a running gateway and the demo's identity provider.

It knows one URL. The challenge leads to the resource's metadata (RFC 9728),
that to the authorization server's (RFC 8414 or OpenID Connect Discovery), that
to a token. The client checks on its way what the RFCs tell it to check.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest

from gateway.demo.identity_provider import AUDIENCE, IdentityProvider
from tests.support.gateways.running import running_gateway
from tests.support.ports import free_port
from tests.support.tokens.minting import SigningKey
from tests.support.upstreams.recording import raw_upstream


async def read_json(session: aiohttp.ClientSession, url: str) -> Any:
    """Return what is at a URL, None when there is nothing. Clients send this field with every request."""
    async with session.get(url, headers={"MCP-Protocol-Version": "2025-06-18"}, allow_redirects=False) as answer:
        if answer.status != 200:
            return None
        assert answer.content_type == "application/json"
        return await answer.json()


async def metadata_of(session: aiohttp.ClientSession, url: str) -> tuple[dict[str, Any], str]:
    """Return the metadata of the resource at a URL, and where they were (RFC 9728 section 5)."""
    async with session.post(url) as answer:
        assert answer.status == 401
        challenge = answer.headers["WWW-Authenticate"]
    found = re.search(r'resource_metadata="([^"\\]+)"', challenge)
    assert found is not None, challenge
    metadata = await read_json(session, found[1])
    assert metadata["resource"] == url  # section 3.3: else it MUST NOT be used
    return metadata, found[1]


async def authorization_server(session: aiohttp.ClientSession, issuer: str) -> dict[str, Any]:
    """Return the metadata of an authorization server, by either of its two well-known places."""
    places = ("/.well-known/oauth-authorization-server", "/.well-known/openid-configuration")
    for place in places:
        server = await read_json(session, issuer + place)
        if server is not None:
            assert server["issuer"] == issuer  # RFC 8414 section 3.3
            found: dict[str, Any] = server
            return found
    raise AssertionError(f"nothing at {issuer}")


async def token_from(session: aiohttp.ClientSession, server: dict[str, Any], resource: str, scopes: list[str]) -> str:
    """Ask for a token for the resource (RFC 8707)."""
    form = {"grant_type": "client_credentials", "resource": resource, "scope": " ".join(scopes)}
    async with session.post(server["token_endpoint"], data=form) as answer:
        assert answer.status == 200
        token: str = (await answer.json())["access_token"]
        return token


@pytest.mark.rule("R115", "R116")
async def test_a_client_that_knows_one_url_gets_in(tmp_path: Path) -> None:
    """401, challenge, document, authorization server, token, 200."""
    url = f"http://127.0.0.1:{(port := free_port())}/mcp"
    async with IdentityProvider() as provider, raw_upstream() as upstream:
        given: dict[str, Any] = {
            "server": {"listen": f"127.0.0.1:{port}"},
            "issuer": {"issuer": provider.issuer, "jwks_file": "", "audience": [AUDIENCE]},
            "routes": ({"path": "/mcp", "scopes": ["tools:call"], "any_scopes": ["tools:list"]},),
            "resources": [{"resource": url, "name": "Tools"}],
        }
        async with (
            running_gateway(upstream.url, tmp_path, key=SigningKey.rsa("unused"), **given),
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10), trust_env=False) as session,
        ):
            metadata, place = await metadata_of(session, url)
            assert urlsplit(place).path == "/.well-known/oauth-protected-resource/mcp"
            assert metadata["authorization_servers"] == [provider.issuer]
            server = await authorization_server(session, metadata["authorization_servers"][0])
            token = await token_from(session, server, metadata["resource"], metadata["scopes_supported"])
            assert upstream.requests == []
            async with session.post(url, headers={"Authorization": f"Bearer {token}"}, data=b"{}") as answer:
                assert answer.status == 200
            lacking = await token_from(session, server, metadata["resource"], [])
            async with session.post(url, headers={"Authorization": f"Bearer {lacking}"}) as answer:
                assert answer.status == 403  # step-up: what to ask for, and where
                challenge = answer.headers["WWW-Authenticate"]
    assert 'scope="tools:call tools:list"' in challenge
    assert f'resource_metadata="{place}"' in challenge
    assert [item.one(b"x-scope") for item in upstream.requests] == [b"tools:call tools:list"]
