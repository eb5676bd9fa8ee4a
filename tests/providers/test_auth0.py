"""Auth0: docs/providers/auth0.md."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.providers.recipes import recipe, times, token
from tests.support.issuers.named_hosts import discovery
from tests.support.tokens.minting import ABSENT, SigningKey

TENANT = "https://dev-abc123.eu.auth0.com/"
CLIENT = "mOHnkN2cRn1kQZ5BLbdqMXZ1iUxvFq3P"
KEY = SigningKey.rsa("NjVBRjY5MDlCMUIwNzU4RTA2QzZFMDQ4QzQ2MDAyQjVDNjk1RTM2Qg")
ENTRY = KEY.public_jwk(use="sig", alg="RS256", x5t=KEY.kid, x5c=["MIIDDTCCAfWgAwIBAgIJ"])
DOCUMENTS = discovery(TENANT, f"{TENANT}.well-known/jwks.json", ENTRY)
USER: dict[str, Any] = {
    "https://example.com/roles": ["buyer", "approver"],
    "iss": TENANT,
    "sub": "auth0|5f7c8ec7c33c6c004bbafe82",
    "aud": ["https://api.example.com/", f"{TENANT}userinfo"],
    **times(86400),
    "azp": CLIENT,
    "scope": "openid profile read:orders",
    "permissions": ["read:orders", "admin:orders"],
}
MACHINE: dict[str, Any] = {
    "iss": TENANT,
    "sub": f"{CLIENT}@clients",
    "aud": "https://api.example.com/",
    **times(86400),
    "azp": CLIENT,
    "scope": "read:orders",
    "gty": "client-credentials",
}
ID_TOKEN = {**USER, "aud": CLIENT, "nonce": "n", "sid": "s", "scope": ABSENT, "permissions": ABSENT}


def user(key: SigningKey = KEY, header: dict[str, Any] | None = None, **changed: Any) -> bytes:
    return token(key, header or {}, USER, **changed)


@pytest.mark.parametrize("kind", ["JWT", "at+jwt"], ids=["Auth0 profile", "RFC 9068 profile"])
@pytest.mark.rule("C94")
async def test_users_and_machines_pass_with_their_headers(kind: str, tmp_path: Path) -> None:
    """The issuer has a slash at its end; discovery has one slash."""
    async with recipe(tmp_path, "auth0", DOCUMENTS) as made:
        assert await made.accepted(user(header={"typ": kind}), "/admin/x") == {
            "x-user-id": "auth0|5f7c8ec7c33c6c004bbafe82",
            "x-client-id": CLIENT,
            "x-scope": "openid profile read:orders",
            "x-permissions": "read:orders,admin:orders",
            "x-roles": "buyer,approver",
        }
        machine = await made.accepted(token(KEY, {"typ": kind}, MACHINE))
        assert machine == {"x-user-id": f"{CLIENT}@clients", "x-client-id": CLIENT, "x-scope": "read:orders"}
        assert [url for url, _ in made.provider.seen] == list(DOCUMENTS)


@pytest.mark.parametrize(
    ("shown", "verdict"),
    [
        (user(iss=TENANT.rstrip("/")), (401, "unknown_issuer")),
        (user(iss="https://dev-other.eu.auth0.com/"), (401, "unknown_issuer")),
        (user(aud=[f"{TENANT}userinfo"]), (401, "wrong_audience")),
        (user(aud="https://other-api.example.com/"), (401, "wrong_audience")),
        (user(aud="https://api.example.com"), (401, "wrong_audience")),
        (token(KEY, {}, ID_TOKEN), (401, "wrong_audience")),
        (token(SigningKey.hmac(None, b"secret"), {}, USER), (401, "algorithm_refused")),
        (b"eyJhbGciOiJkaXIiLCJlbmMiOiJBMjU2R0NNIn0..x.y.z", (401, "encrypted_token")),
        (b"Gz7Hs2_opaque-access-token-of-32ch", (401, "not_a_jws")),
        (user(scope="openid profile"), (403, "missing_scope")),
    ],
    ids=[
        "no slash",
        "other tenant",
        "userinfo",
        "other API",
        "API slash",
        "ID token",
        "HS256",
        "JWE",
        "opaque",
        "scope",
    ],
)
@pytest.mark.rule("C94", "C95", "R049")
async def test_what_is_not_for_this_api_is_refused(shown: bytes, verdict: tuple[int, str], tmp_path: Path) -> None:
    """Exact values; a token that was not requested for this API is opaque or encrypted."""
    async with recipe(tmp_path, "auth0", DOCUMENTS) as made:
        assert await made.ask(shown) == verdict


async def test_permissions_open_what_scopes_do_not(tmp_path: Path) -> None:
    async with recipe(tmp_path, "auth0", DOCUMENTS) as made:
        assert await made.ask(user(permissions=["read:orders"]), "/admin/x") == (403, "claim_not_accepted")
        assert await made.ask(token(KEY, {}, MACHINE), "/admin/x") == (403, "claim_not_accepted")
