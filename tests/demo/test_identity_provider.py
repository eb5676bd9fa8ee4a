"""The demo's identity provider: discovery, keys, tokens, rotation, and what it refuses."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import jwt as pyjwt
import pytest

from gateway.demo.identity_provider import AUDIENCE, MAX_TOKEN_LIFETIME, IdentityProvider


@pytest.fixture
async def provider() -> AsyncIterator[IdentityProvider]:
    async with IdentityProvider() as provider:
        yield provider


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


async def get_json(session: aiohttp.ClientSession, url: str) -> Any:
    async with session.get(url) as answer:
        assert answer.status == 200
        return await answer.json(content_type=None)


async def ask(session: aiohttp.ClientSession, provider: IdentityProvider, **form: str) -> tuple[int, Any]:
    """Ask for a token by client credentials; ``form`` adds and replaces parameters."""
    async with session.post(f"{provider.issuer}/token", data={"grant_type": "client_credentials"} | form) as answer:
        assert answer.headers["Cache-Control"] == "no-store"
        return answer.status, await answer.json()


def verify(token: str, jwks: dict[str, Any]) -> dict[str, Any]:
    """Verify with another implementation than the one that signed."""
    key = pyjwt.PyJWKSet.from_dict(jwks)[pyjwt.get_unverified_header(token)["kid"]]
    return pyjwt.decode(token, key, algorithms=["RS256"], audience=AUDIENCE)


async def test_discovery_leads_to_the_keys_and_the_token_endpoint(
    provider: IdentityProvider, session: aiohttp.ClientSession
) -> None:
    """OpenID Connect Discovery section 4.3: the document names the issuer that was asked."""
    document = await get_json(session, f"{provider.issuer}/.well-known/openid-configuration")
    assert document["issuer"] == provider.issuer
    assert document["jwks_uri"] == f"{provider.issuer}/jwks"
    assert document["token_endpoint"] == f"{provider.issuer}/token"


async def test_it_listens_on_loopback_only(provider: IdentityProvider) -> None:
    """It authenticates no client, so no other machine may reach it."""
    assert provider.issuer.startswith("http://127.0.0.1:")


async def test_the_keys_are_public_and_named_by_their_thumbprint(
    provider: IdentityProvider, session: aiohttp.ClientSession
) -> None:
    """RFC 7517 section 9.3: no private member is published; RFC 7638 section 3: the kid."""
    async with session.get(f"{provider.issuer}/jwks") as answer:
        assert answer.headers["Cache-Control"] == "public, max-age=60"
        (key,) = (await answer.json(content_type="application/jwk-set+json"))["keys"]
    assert set(key) == {"kty", "n", "e", "kid", "use", "alg"}
    canonical = json.dumps({"e": key["e"], "kty": "RSA", "n": key["n"]}, separators=(",", ":"))
    digest = hashlib.sha256(canonical.encode()).digest()
    assert key["kid"] == base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


async def test_a_token_verifies_with_the_published_keys(
    provider: IdentityProvider, session: aiohttp.ClientSession
) -> None:
    """RFC 6749 section 4.4.3 and RFC 9068 section 2: the answer and the token's claims."""
    status, answer = await ask(session, provider, scope="a b", client_id="shop", expires_in="60")
    assert (status, answer["token_type"], answer["expires_in"], answer["scope"]) == (200, "Bearer", 60, "a b")
    claims = verify(answer["access_token"], await get_json(session, f"{provider.issuer}/jwks"))
    assert (claims["iss"], claims["sub"], claims["client_id"]) == (provider.issuer, "shop", "shop")
    assert (claims["scope"], claims["exp"] - claims["iat"]) == ("a b", 60)
    assert pyjwt.get_unverified_header(answer["access_token"])["typ"] == "at+jwt"


async def test_claims_are_added_and_put_in_place(provider: IdentityProvider, session: aiohttp.ClientSession) -> None:
    """It is a demo: the requester says what the token says."""
    _, answer = await ask(session, provider, claims='{"sub": "alice", "roles": ["x"]}')
    claims = verify(answer["access_token"], await get_json(session, f"{provider.issuer}/jwks"))
    assert (claims["sub"], claims["roles"]) == ("alice", ["x"])
    assert "scope" not in claims
    assert "scope" not in answer


async def test_a_token_may_be_born_expired(provider: IdentityProvider, session: aiohttp.ClientSession) -> None:
    """For trying what the gateway says to it."""
    _, answer = await ask(session, provider, expires_in="-60")
    jwks = await get_json(session, f"{provider.issuer}/jwks")
    with pytest.raises(pyjwt.ExpiredSignatureError):
        verify(answer["access_token"], jwks)


@pytest.mark.parametrize(
    ("credentials", "subject"),
    [
        ("Basic " + base64.b64encode(b"shop:secret").decode(), "shop"),
        ("basic " + base64.b64encode(b"a%3Ab+c:").decode(), "a:b c"),
        ("Bearer x", "demo-client"),
    ],
    ids=["basic", "form-encoded name (RFC 6749 section 2.3.1)", "another scheme is no name"],
)
async def test_the_client_is_whoever_it_says(
    provider: IdentityProvider, session: aiohttp.ClientSession, credentials: str, subject: str
) -> None:
    """Any client may have a token, with any secret."""
    form = {"grant_type": "client_credentials"}
    headers = {"Authorization": credentials}
    async with session.post(f"{provider.issuer}/token", data=form, headers=headers) as answer:
        token = (await answer.json())["access_token"]
    assert verify(token, await get_json(session, f"{provider.issuer}/jwks"))["sub"] == subject


@pytest.mark.parametrize(
    ("form", "error"),
    [
        ({"grant_type": "password"}, "unsupported_grant_type"),
        ({"grant_type": ""}, "unsupported_grant_type"),
        ({"claims": "[1]"}, "invalid_request"),
        ({"claims": "{"}, "invalid_request"),
        ({"claims": "[" * 100_000}, "invalid_request"),
        ({"claims": '{"a": "\\ud800"}'}, "invalid_request"),
        ({"expires_in": "soon"}, "invalid_request"),
        ({"expires_in": "1.5"}, "invalid_request"),
        ({"expires_in": str(MAX_TOKEN_LIFETIME + 1)}, "invalid_request"),
        ({"expires_in": str(-MAX_TOKEN_LIFETIME - 1)}, "invalid_request"),
    ],
)
async def test_odd_requests_are_refused(
    provider: IdentityProvider, session: aiohttp.ClientSession, form: dict[str, str], error: str
) -> None:
    """RFC 6749 section 5.2: 400 with an error code, never a token and never 500."""
    status, answer = await ask(session, provider, **form)
    assert (status, answer["error"]) == (400, error)
    assert "access_token" not in answer


@pytest.mark.parametrize("credentials", ["Basic !", "Basic /w=="], ids=["not base64", "not UTF-8"])
async def test_unreadable_credentials_are_refused(
    provider: IdentityProvider, session: aiohttp.ClientSession, credentials: str
) -> None:
    """RFC 7617 section 2."""
    form, headers = {"grant_type": "client_credentials"}, {"Authorization": credentials}
    async with session.post(f"{provider.issuer}/token", data=form, headers=headers) as answer:
        assert (answer.status, (await answer.json())["error"]) == (400, "invalid_request")


async def test_rotation_keeps_the_old_key_for_one_more(
    provider: IdentityProvider, session: aiohttp.ClientSession
) -> None:
    """OpenID Connect Core section 10.1.1: tokens of the old key verify until it is gone."""
    old = provider.mint()
    async with session.post(f"{provider.issuer}/rotate") as answer:
        told = await answer.json()
    jwks = await get_json(session, f"{provider.issuer}/jwks")
    new = provider.mint()
    assert told["published_keys"] == [key["kid"] for key in jwks["keys"]] == list(provider.key_ids)
    assert told["signing_key"] == pyjwt.get_unverified_header(new)["kid"] != pyjwt.get_unverified_header(old)["kid"]
    assert verify(old, jwks)["jti"] != verify(new, jwks)["jti"]
    await provider.rotate()
    jwks = await get_json(session, f"{provider.issuer}/jwks")
    assert pyjwt.get_unverified_header(old)["kid"] not in {key["kid"] for key in jwks["keys"]}
    assert verify(new, jwks)


async def test_a_taken_port_is_an_os_error_and_leaves_nothing_open(provider: IdentityProvider) -> None:
    """The caller picks another port."""
    taken = int(provider.issuer.rpartition(":")[2])
    with pytest.raises(OSError, match=str(taken)):
        await IdentityProvider(taken).start()
