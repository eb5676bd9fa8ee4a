"""Okta: docs/providers/okta.md."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.providers.recipes import recipe, times, token
from tests.support.issuers.named_hosts import discovery
from tests.support.tokens.minting import ABSENT, SigningKey

ORG = "https://dev-123456.okta.com"
SERVER = f"{ORG}/oauth2/default"
CLIENT = "0oabskvc6442nkvQO0h7"
KEY = SigningKey.rsa("TpyD2-rJHMBtpBqrtaMRbQJHQMGMkKSAE8nOQhYTOfg")
DOCUMENTS = discovery(SERVER, f"{SERVER}/v1/keys", KEY.public_jwk(alg="RS256", use="sig"))
#: Okta's header has no ``typ``.
HEADER = {"typ": ABSENT}
USER: dict[str, Any] = {
    "ver": 1,
    "jti": "AT.0mP4JKAZX1iACIT4vbEDF7LpvDVjxypPMf0D7uX39RE",
    "iss": SERVER,
    "aud": "api://default",
    **times(),
    "cid": CLIENT,
    "uid": "00uid4BxXw6I6TV4m0g3",
    "scp": ["openid", "orders.read"],
    "auth_time": 1_700_000_000,
    "sub": "alice@example.com",
    "groups": ["Everyone", "Orders"],
}
SERVICE = {**USER, "uid": ABSENT, "auth_time": ABSENT, "groups": ABSENT, "sub": CLIENT, "scp": ["orders.read"]}
ID_TOKEN = {**USER, "jti": "ID.x", "aud": CLIENT, "nonce": "n", "at_hash": "h", "amr": ["pwd"], "scp": ABSENT}


@pytest.mark.rule("C97")
async def test_users_and_services_pass_with_their_headers(tmp_path: Path) -> None:
    """Scopes are a list in ``scp``."""
    async with recipe(tmp_path, "okta", DOCUMENTS) as made:
        assert await made.accepted(token(KEY, HEADER, USER)) == {
            "x-user-id": "alice@example.com",
            "x-okta-user": "00uid4BxXw6I6TV4m0g3",
            "x-client-id": CLIENT,
            "x-scope": "openid orders.read",
            "x-groups": "Everyone,Orders",
        }
        service = await made.accepted(token(KEY, HEADER, SERVICE))
        assert service == {"x-user-id": CLIENT, "x-client-id": CLIENT, "x-scope": "orders.read"}


@pytest.mark.parametrize(
    ("changed", "verdict"),
    [
        ({"iss": ORG, "aud": ORG}, (401, "unknown_issuer")),
        ({"iss": f"{ORG}/oauth2/aus9o8wzkhckw9TLa0h7"}, (401, "unknown_issuer")),
        ({"iss": SERVER + "/"}, (401, "unknown_issuer")),
        ({"iss": "https://dev-999999.okta.com/oauth2/default"}, (401, "unknown_issuer")),
        ({"aud": "api://other"}, (401, "wrong_audience")),
        (ID_TOKEN, (401, "wrong_audience")),
        ({"scp": ["openid"]}, (403, "missing_scope")),
        ({"scp": ["orders.read.all"]}, (403, "missing_scope")),
    ],
    ids=[
        "organization",
        "other server",
        "slash",
        "other organization",
        "other API",
        "ID token",
        "scope",
        "longer scope",
    ],
)
@pytest.mark.rule("C94", "C97", "R049")
async def test_what_is_not_for_this_api_is_refused(
    changed: dict[str, Any], verdict: tuple[int, str], tmp_path: Path
) -> None:
    async with recipe(tmp_path, "okta", DOCUMENTS) as made:
        assert await made.ask(token(KEY, HEADER, USER, **changed)) == verdict


async def test_key_rotation_is_followed_at_once(tmp_path: Path) -> None:
    """Okta rotates several times a year: the first token with the new key causes the fetch."""
    async with recipe(tmp_path, "okta", DOCUMENTS) as made:
        await made.accepted(token(KEY, HEADER, USER))
        new = SigningKey.rsa("zuFo6RcXJ_xJ3v1RKqYk2vMZ0KkXHfSF9sYg7GxJgLQ", variant=1)
        unpublished = SigningKey.rsa("unpublished", variant=2)
        made.provider.documents |= discovery(SERVER, f"{SERVER}/v1/keys", KEY.public_jwk(alg="RS256"), new)
        await made.accepted(token(new, HEADER, USER))
        await made.accepted(token(KEY, HEADER, USER, jti="AT.another"))
        assert await made.ask(token(unpublished, HEADER, USER)) == (401, "unknown_key")
