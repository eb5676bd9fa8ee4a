"""Amazon Cognito: docs/providers/cognito.md."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.providers.recipes import recipe, times, token
from tests.support.issuers.named_hosts import discovery
from tests.support.tokens.minting import ABSENT, SigningKey

POOL = "https://cognito-idp.eu-west-1.amazonaws.com/eu-west-1_AbCdEf123"
CLIENT = "3n4b5urk1ft4fl3mg5e62d9ado"
#: Two keys: one signs ID tokens, the other access tokens. Key ids are base64 with its padding.
ID_KEY = SigningKey.rsa("1LlxWCVq0O+l7hZlhLXwUeyz9VqmAcyK5P/8yMZ3jHg=")
KEY = SigningKey.rsa("kdXcQyJ/kbLpRDZP6TfN+5GBOoT3RWaxSVDWV7YTpsQ=", variant=1)
DOCUMENTS = discovery(
    POOL,
    f"{POOL}/.well-known/jwks.json",
    ID_KEY.public_jwk(alg="RS256", use="sig"),
    KEY.public_jwk(alg="RS256", use="sig"),
)
#: Cognito's header has no ``typ``.
HEADER = {"typ": ABSENT}
ACCESS: dict[str, Any] = {
    "sub": "aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee",
    "cognito:groups": ["admins", "buyers"],
    "iss": POOL,
    "version": 2,
    "client_id": CLIENT,
    "origin_jti": "2a4b1d1c-6b3c-4f0e-9d21-0f8f0f4a9f11",
    "event_id": "64f513be-32db-42b0-b78e-b02127b4f463",
    "token_use": "access",
    "scope": "openid orders/read",
    "auth_time": 1_700_000_000,
    **times(),
    "jti": "7d2e8f4b-6f5c-4a0b-8a57-4a1e8f0d3b3c",
    "username": "alice",
}
ID_TOKEN = {
    **ACCESS,
    "aud": CLIENT,
    "token_use": "id",
    "client_id": ABSENT,
    "scope": ABSENT,
    "cognito:username": "alice",
}


def access(key: SigningKey = KEY, **changed: Any) -> bytes:
    return token(key, HEADER, ACCESS, **changed)


async def test_access_token_without_audience_passes_by_its_client(tmp_path: Path) -> None:
    async with recipe(tmp_path, "cognito", DOCUMENTS) as made:
        assert await made.accepted(access()) == {
            "x-user-id": "aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee",
            "x-user-name": "alice",
            "x-client-id": CLIENT,
            "x-scope": "openid orders/read",
            "x-groups": "admins,buyers",
        }
        assert (await made.accepted(access(), "/admin/x"))["x-user-name"] == "alice"
        nobody: dict[str, Any] = {"sub": CLIENT, "username": ABSENT, "cognito:groups": ABSENT}
        machine = await made.accepted(access(scope="orders/read", **nobody))
        assert machine == {"x-user-id": CLIENT, "x-client-id": CLIENT, "x-scope": "orders/read"}


@pytest.mark.parametrize(
    ("shown", "verdict"),
    [
        (token(ID_KEY, HEADER, ID_TOKEN), (401, "missing_claim")),
        (token(ID_KEY, HEADER, ID_TOKEN, client_id=CLIENT), (401, "wrong_claim")),
        (access(client_id="7other5urk1ft4fl3mg5e62d9ad"), (401, "wrong_audience")),
        (access(client_id=[CLIENT, 5]), (401, "bad_claim_type")),
        (access(iss=POOL.replace("AbCdEf123", "ZyXwVu987")), (401, "unknown_issuer")),
        (access(iss=POOL.replace("eu-west-1", "us-east-1")), (401, "unknown_issuer")),
        (access(scope="aws.cognito.signin.user.admin"), (403, "missing_scope")),
        (access(SigningKey.rsa(KEY.kid, variant=3)), (401, "bad_signature")),
    ],
    ids=[
        "ID token",
        "ID token, client_id",
        "other client",
        "odd client",
        "other pool",
        "other region",
        "SDK",
        "forged",
    ],
)
@pytest.mark.rule("R049", "R087", "C87")
async def test_what_is_not_for_this_api_is_refused(shown: bytes, verdict: tuple[int, str], tmp_path: Path) -> None:
    """``client_id`` instead of ``aud``, and ``token_use`` tells the kinds apart."""
    async with recipe(tmp_path, "cognito", DOCUMENTS) as made:
        assert await made.ask(shown) == verdict


async def test_groups_are_compared_whole(tmp_path: Path) -> None:
    async with recipe(tmp_path, "cognito", DOCUMENTS) as made:
        for groups in (["buyers"], ["admins2"], "admins,buyers", ABSENT):
            changed: dict[str, Any] = {"cognito:groups": groups}
            assert await made.ask(access(**changed), "/admin/x") == (403, "claim_not_accepted")
