"""Firebase Authentication: docs/providers/firebase.md, one project and many."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.providers.recipes import block, recipe, times, token
from tests.support.issuers.named_hosts import Document
from tests.support.tokens.minting import ABSENT, SigningKey

JWK = "https://www.googleapis.com/service_accounts/v1/jwk/securetoken@system.gserviceaccount.com"
X509 = "https://www.googleapis.com/robot/v1/metadata/x509/securetoken@system.gserviceaccount.com"
PROJECT = "https://securetoken.google.com/my-project"
KEY = SigningKey.rsa("f53304fafa7b8cc81d8b8d1f62c4e6ed6ab05bd1")
#: The same key in both places: as a JWK Set, and as an object of PEM texts by key id.
DOCUMENTS: dict[str, Document] = {
    JWK: {"keys": [KEY.public_jwk(alg="RS256", use="sig")]},
    X509: {str(KEY.kid): "-----BEGIN CERTIFICATE-----\nMIIDHDCCAgSgAwIBAgIIHKAmmAPvE+cw\n-----END CERTIFICATE-----\n"},
}
CLAIMS: dict[str, Any] = {
    "role": "admin",
    "iss": PROJECT,
    "aud": "my-project",
    "auth_time": 1_700_000_000,
    "user_id": "Yb4mC2lQzPZ1k9v0wVQ3YpS8gkD2",
    "sub": "Yb4mC2lQzPZ1k9v0wVQ3YpS8gkD2",
    **times(),
    "email": "alice@example.com",
    "email_verified": False,
    "firebase": {"identities": {"email": ["alice@example.com"]}, "sign_in_provider": "password"},
}


async def test_users_pass_with_custom_claims(tmp_path: Path) -> None:
    async with recipe(tmp_path, "firebase", DOCUMENTS) as made:
        assert await made.accepted(token(KEY, {}, CLAIMS), "/admin/x") == {
            "x-user-id": "Yb4mC2lQzPZ1k9v0wVQ3YpS8gkD2",
            "x-user-role": "admin",
            "x-sign-in": "password",
        }
        anonymous = {**CLAIMS, "role": ABSENT, "firebase": {"identities": {}, "sign_in_provider": "anonymous"}}
        assert (await made.accepted(token(KEY, {}, anonymous)))["x-sign-in"] == "anonymous"
        assert await made.ask(token(KEY, {}, anonymous), "/admin/x") == (403, "claim_not_accepted")


@pytest.mark.parametrize(
    ("changed", "verdict"),
    [
        ({"iss": "https://securetoken.google.com/other", "aud": "other"}, (401, "unknown_issuer")),
        ({"aud": "other"}, (401, "wrong_audience")),
        ({"iss": "https://session.firebase.google.com/my-project"}, (401, "unknown_issuer")),
        ({"iss": "https://accounts.google.com"}, (401, "unknown_issuer")),
        ({"sub": ""}, (401, "bad_claim_type")),
        ({"exp": 1_700_003_600, "iat": 1_700_000_000}, (401, "expired")),
    ],
    ids=["other project", "audience", "session cookie", "Google", "no uid", "expired"],
)
@pytest.mark.rule("R085", "R087")
async def test_others_are_refused(changed: dict[str, Any], verdict: tuple[int, str], tmp_path: Path) -> None:
    async with recipe(tmp_path, "firebase", DOCUMENTS) as made:
        assert await made.ask(token(KEY, {}, CLAIMS, **changed)) == verdict


async def test_custom_token_is_for_signing_in_only(tmp_path: Path) -> None:
    account = "firebase-adminsdk@my-project.iam.gserviceaccount.com"
    custom = {"iss": account, "sub": account, "aud": "https://identitytoolkit.googleapis.com/", **times(), "uid": "u"}
    async with recipe(tmp_path, "firebase", DOCUMENTS) as made:
        assert await made.ask(token(KEY, {}, custom)) == (401, "unknown_issuer")


async def test_address_of_the_certificates_is_no_key_set(tmp_path: Path) -> None:
    """D5: 503, with the cause in /status."""
    async with recipe(tmp_path, "firebase", DOCUMENTS, replaced={JWK: X509}) as made:
        assert await made.ask(token(KEY, {}, CLAIMS)) == (503, "no_keys")
        state = (await made.gateway.admin("/status")).json["issuers"]["firebase"]
        assert state["last_error"].startswith("bad_key_set")


async def test_many_projects_are_told_apart_by_both_claims(tmp_path: Path) -> None:
    """One key for all projects of the world: neither ``iss`` nor ``aud`` alone would do."""
    assert JWK in block("firebase", 1)
    staging = "https://securetoken.google.com/my-project-staging"
    async with recipe(tmp_path, "firebase", DOCUMENTS, number=1) as made:
        assert (await made.accepted(token(KEY, {}, CLAIMS)))["x-project"] == "my-project"
        second = token(KEY, {}, CLAIMS, iss=staging, aud="my-project-staging")
        assert (await made.accepted(second))["x-project"] == "my-project-staging"
        assert await made.ask(token(KEY, {}, CLAIMS, iss=staging)) == (401, "wrong_claim")
        assert await made.ask(token(KEY, {}, CLAIMS, aud="my-project-staging")) == (401, "wrong_claim")
        assert made.provider.fetched(JWK) == 1
