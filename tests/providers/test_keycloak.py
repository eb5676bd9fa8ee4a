"""Keycloak: docs/providers/keycloak.md, one realm and many."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.providers.recipes import recipe, times, token
from tests.support.issuers.named_hosts import Document, discovery
from tests.support.tokens.minting import ABSENT, SigningKey

HOST = "https://sso.example.com"
SHOP = f"{HOST}/realms/shop"
KEY = SigningKey.rsa("FJ86GcF3jTbNLOco4NvZkUCIUmfYCqoqtOQeMfbhNlE")
WHOLESALE = SigningKey.rsa("qVnGcW0uKOxrjBYQRGZcLrfYQdVGk0NQ4JmL8h9b2rM", variant=1)
ENCRYPTING = SigningKey.rsa("9Sd3pcrNbxXgxPQxPjZcKkVxqFYpQpYQ9Hh3kZrMZOQ", variant=2)


def realm(name: str, key: SigningKey) -> dict[str, Document]:
    """A realm as Keycloak publishes it: a key for signatures, and one for encryption that must not be used here."""
    issuer = f"{HOST}/realms/{name}"
    return discovery(
        issuer,
        f"{issuer}/protocol/openid-connect/certs",
        key.public_jwk(alg="RS256", use="sig", x5c=["MIIClzCCAX8CBgF"], **{"x5t#S256": "AAAA"}),
        ENCRYPTING.public_jwk(alg="RSA-OAEP", use="enc"),
        introspection_endpoint=f"{issuer}/protocol/openid-connect/token/introspect",
    )


CLAIMS: dict[str, Any] = {
    **times(),
    "auth_time": 1_700_000_000,
    "jti": "onrtac:6f0b2f4a-2d0f-4c4d-9a6a-8d8fdf8a9f3e",
    "iss": SHOP,
    "aud": ["orders-api", "account"],
    "sub": "9c0c4f1e-2c57-4d0f-9d6e-6d5a1d3c7a52",
    "typ": "Bearer",
    "azp": "web-shop",
    "sid": "2a7c8d1c-65cf-4a3c-8b8f-5bb0a3a6e6b1",
    "acr": "1",
    "allowed-origins": ["https://shop.example.com"],
    "realm_access": {"roles": ["offline_access", "merchant"]},
    "resource_access": {"orders-api": {"roles": ["reader"]}, "account": {"roles": ["view-profile"]}},
    "scope": "openid email orders:read",
    "email_verified": True,
    "preferred_username": "alice",
}
ID_TOKEN: dict[str, Any] = {"typ": "ID", "aud": "orders-api", "nonce": "n", "at_hash": "h", "scope": ABSENT}


def shop(key: SigningKey = KEY, **changed: Any) -> bytes:
    return token(key, {"typ": "JWT"}, CLAIMS, **changed)


@pytest.mark.rule("C92")
async def test_a_realm_passes_with_nested_roles_as_headers(tmp_path: Path) -> None:
    """``account`` beside the API's own audience does no harm."""
    async with recipe(tmp_path, "keycloak", realm("shop", KEY)) as made:
        assert await made.accepted(shop()) == {
            "x-user-id": "9c0c4f1e-2c57-4d0f-9d6e-6d5a1d3c7a52",
            "x-user-name": "alice",
            "x-client-id": "web-shop",
            "x-scope": "openid email orders:read",
            "x-roles": "offline_access,merchant",
            "x-order-roles": "reader",
        }
        state = (await made.gateway.admin("/status")).json["issuers"]["keycloak"]
        assert (state["key_ids"], state["rejected_keys"][0]["problem"]) == ([KEY.kid], "'use' is not 'sig'")


@pytest.mark.parametrize(
    ("shown", "verdict"),
    [
        (shop(aud="account"), (401, "wrong_audience")),
        (shop(aud=ABSENT), (401, "missing_claim")),
        (shop(**ID_TOKEN), (401, "wrong_claim")),
        (shop(typ=ABSENT), (401, "wrong_claim")),
        (
            token(SigningKey.hmac("k", b"s"), {"alg": "HS512"}, CLAIMS, typ="Refresh", aud=SHOP),
            (401, "algorithm_refused"),
        ),
        (shop(typ="Logout", events={"http://schemas.openid.net/event/backchannel-logout": {}}), (401, "wrong_claim")),
        (shop(iss=f"{HOST}/realms/master"), (401, "unknown_issuer")),
        (shop(iss=f"{HOST}/auth/realms/shop"), (401, "unknown_issuer")),
        (shop(iss="http://keycloak:8080/realms/shop"), (401, "unknown_issuer")),
        (shop(scope="openid email"), (403, "missing_scope")),
        (shop(ENCRYPTING), (401, "unknown_key")),
    ],
    ids=[
        *("account only", "no audience", "ID token", "no typ", "refresh token", "logout token", "master"),
        *("old path", "inner address", "scope", "encryption key"),
    ],
)
@pytest.mark.rule("C92", "C87", "R049")
async def test_what_is_not_for_this_api_is_refused(shown: bytes, verdict: tuple[int, str], tmp_path: Path) -> None:
    """Another client's tokens, other kinds of tokens, other realms."""
    async with recipe(tmp_path, "keycloak", realm("shop", KEY)) as made:
        assert await made.ask(shown) == verdict


@pytest.mark.rule("C87")
async def test_many_realms_each_with_its_keys(tmp_path: Path) -> None:
    """A realm's keys are fetched with its first token, and are no other realm's."""
    documents = {**realm("shop", KEY), **realm("wholesale", WHOLESALE), **realm("master", KEY)}
    other = f"{HOST}/realms/wholesale"
    async with recipe(tmp_path, "keycloak", documents, number=1) as made:
        assert made.provider.seen == []
        assert (await made.accepted(shop()))["x-realm"] == "shop"
        assert not made.provider.fetched(f"{other}/protocol/openid-connect/certs")
        assert (await made.accepted(shop(WHOLESALE, iss=other), "/bulk"))["x-realm"] == "wholesale"
        assert await made.ask(shop(), "/bulk") == (403, "claim_not_accepted")
        assert await made.ask(shop(iss=other)) == (401, "unknown_key")
        assert await made.ask(shop(WHOLESALE)) == (401, "unknown_key")
        assert await made.ask(shop(iss=f"{HOST}/realms/master")) == (401, "unknown_issuer")
