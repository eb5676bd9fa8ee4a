"""ZITADEL: docs/providers/zitadel.md."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from tests.providers.recipes import recipe, times, token
from tests.support.issuers.identity_provider import Answer
from tests.support.issuers.named_hosts import Document, discovery
from tests.support.tokens.minting import ABSENT, SigningKey

ISSUER = "https://acme-a1b2c3.zitadel.cloud"
PROJECT, CLIENT = "227781846842048513", "227782069152710657"
KEY = SigningKey.rsa("230450123456789012")
DOCUMENTS = discovery(
    ISSUER,
    f"{ISSUER}/oauth/v2/keys",
    KEY.public_jwk(alg="RS256", use="sig"),
    introspection_endpoint=f"{ISSUER}/oauth/v2/introspect",
)
ROLES = {"merchant": {"227781846841983000": "acme-a1b2c3.zitadel.cloud"}}
CLAIMS: dict[str, Any] = {
    "iss": ISSUER,
    "sub": "227789123456789012",
    "aud": [CLIENT, "227782069152776193", PROJECT],
    **times(43200, nbf=True),
    "jti": "V2_230450999999999999-at_230451000000000000",
    "client_id": CLIENT,
    "urn:zitadel:iam:org:project:roles": ROLES,
    f"urn:zitadel:iam:org:project:{PROJECT}:roles": ROLES,
    "urn:zitadel:iam:user:resourceowner:id": "227781846841983000",
}
ID_TOKEN: dict[str, Any] = {
    "jti": ABSENT,
    "nbf": ABSENT,
    "azp": CLIENT,
    "amr": ["pwd"],
    "auth_time": CLAIMS["iat"],
    "nonce": "n",
    "at_hash": "h",
}


async def test_access_token_of_type_jwt_passes_with_roles_as_json(tmp_path: Path) -> None:
    async with recipe(tmp_path, "zitadel", DOCUMENTS) as made:
        headers = await made.accepted(token(KEY, {"typ": "JWT"}, CLAIMS))
        assert json.loads(headers.pop("x-roles")) == ROLES
        assert headers == {
            "x-user-id": "227789123456789012",
            "x-client-id": CLIENT,
            "x-organization": "227781846841983000",
        }


@pytest.mark.parametrize(
    ("changed", "verdict"),
    [
        (ID_TOKEN, (401, "missing_claim")),
        ({"aud": [CLIENT]}, (401, "wrong_audience")),
        ({"iss": ISSUER + "/"}, (401, "unknown_issuer")),
        ({"iss": "https://login.acme.example"}, (401, "unknown_issuer")),
        ({"sub": 227789123456789012}, (401, "bad_claim_type")),
    ],
    ids=["ID token", "no project", "slash", "other domain", "number"],
)
@pytest.mark.rule("R049", "C94")
async def test_others_are_refused(changed: dict[str, Any], verdict: tuple[int, str], tmp_path: Path) -> None:
    """An ID token has the audience of the access token."""
    async with recipe(tmp_path, "zitadel", DOCUMENTS) as made:
        assert await made.ask(token(KEY, {"typ": "JWT"}, CLAIMS, **changed)) == verdict


@pytest.mark.parametrize(
    "opaque", [b"VjVxyCZmRmWYqd3_F5db9Pb9mHR5fqzhn", b"dEGjPkOv6cGtgPPdGMwBLl4NCXvOeJ2Dm2RoxxHsqv6W-3iMpQ"]
)
@pytest.mark.rule("C95")
async def test_opaque_token_is_told_as_such(opaque: bytes, tmp_path: Path) -> None:
    """ZITADEL's default; the log says what it is, without the token."""
    async with recipe(tmp_path, "zitadel", DOCUMENTS) as made:
        assert await made.ask(opaque) == (401, "not_a_jws")
        [line] = await made.gateway.log(1)
        assert line["detail"] == "not a signed JWT"
        assert opaque.decode() not in made.gateway.out.getvalue()


INTROSPECTION = f"{ISSUER}/oauth/v2/introspect"
ACTIVE: dict[str, Any] = {
    "active": True,
    "scope": "openid profile offline_access",
    "token_type": "Bearer",
    "username": "merchant@acme.example",
    **{name: value for name, value in CLAIMS.items() if "urn:" not in name},
}


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        (ACTIVE, (200, None)),
        ({"active": False}, (401, "inactive_token")),
        ({**ACTIVE, "aud": [CLIENT]}, (401, "wrong_audience")),
        (Answer(b'{"error":"invalid_client"}', 401), (503, "introspection_failed")),
    ],
    ids=["active", "inactive", "no project", "the gateway is refused"],
)
@pytest.mark.rule("C95")
async def test_opaque_token_is_asked_about(answer: Document, verdict: tuple[int, str | None], tmp_path: Path) -> None:
    """With the second configuration of the page; nothing but the introspection request goes to ZITADEL."""
    secret = tmp_path / "secret"
    secret.write_text("s3cret")
    replaced = {"/run/secrets/zitadel-api": str(secret)}
    async with recipe(tmp_path, "zitadel", {INTROSPECTION: as_json(answer)}, number=1, replaced=replaced) as made:
        assert await made.ask(b"VjVxyCZmRmWYqd3_F5db9Pb9mHR5fqzhn") == verdict
        assert [url for url, _ in made.provider.seen] == [INTROSPECTION]
        headers = made.provider.seen[0][1]
        assert base64.b64decode(headers["Authorization"].removeprefix("Basic ")) == f"{CLIENT}%40orders:s3cret".encode()
        if verdict[0] == 200:
            request = made.upstream.requests[0]
            assert request.one(b"x-user-id") == b"227789123456789012"
            assert request.one(b"x-scope") == b"openid profile offline_access"


def as_json(answer: Document) -> Answer:
    """Return an answer with the type that an introspection request asks for."""
    if isinstance(answer, Answer):
        return Answer(answer.body, answer.status, {"Content-Type": "application/json"})
    assert not isinstance(answer, bytes)
    return Answer(json.dumps(answer).encode(), headers={"Content-Type": "application/json"})
