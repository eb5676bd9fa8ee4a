"""Google: docs/providers/google.md, people and service accounts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.providers.recipes import recipe, times, token
from tests.support.issuers.identity_provider import Answer
from tests.support.issuers.named_hosts import Document
from tests.support.tokens.minting import ABSENT, SigningKey, jwks

CERTS = "https://www.googleapis.com/oauth2/v3/certs"
CLIENT = "407408718192-abc123.apps.googleusercontent.com"
KEY = SigningKey.rsa("c37da75c9fbe18c2ce9125b9aa1f300dcb31e8d9")
OLD = SigningKey.rsa("b2620d5e7f132b52afe8875cdf3776c064249d04", variant=1)
#: As Google answers: a long lifetime, of which some has passed on the way.
CACHED = {"Cache-Control": "public, max-age=24873, must-revalidate, no-transform", "Age": "5059"}
DOCUMENTS: dict[str, Document] = {
    CERTS: Answer(jwks(OLD.public_jwk(alg="RS256", use="sig"), KEY.public_jwk(alg="RS256", use="sig")), 200, CACHED)
}
PERSON: dict[str, Any] = {
    "iss": "https://accounts.google.com",
    "azp": CLIENT,
    "aud": CLIENT,
    "sub": "110169484474386276334",
    "hd": "example.com",
    "email": "alice@example.com",
    "email_verified": True,
    "at_hash": "HK6E_P6Dh8Y93mRNtsDB1Q",
    "nonce": "0394852-3190485-2490358",
    **times(),
}
SERVICE: dict[str, Any] = {
    "aud": "https://orders.example.com",
    "azp": "112233445566778899001",
    "email": "billing@my-project.iam.gserviceaccount.com",
    "email_verified": True,
    "iss": "https://accounts.google.com",
    "sub": "112233445566778899001",
    **times(),
}


@pytest.mark.parametrize("issuer", ["https://accounts.google.com", "accounts.google.com"])
async def test_people_of_the_domain_pass_with_either_issuer(issuer: str, tmp_path: Path) -> None:
    async with recipe(tmp_path, "google", DOCUMENTS) as made:
        headers = await made.accepted(token(KEY, {}, PERSON, iss=issuer))
        assert headers == {"x-user-id": "110169484474386276334", "x-user-email": "alice@example.com"}


@pytest.mark.rule("C98")
async def test_keys_are_kept_for_as_long_as_google_says(tmp_path: Path) -> None:
    """Max-age minus Age; a token with a new key is fetched for all the same."""
    async with recipe(tmp_path, "google", DOCUMENTS) as made:
        state = (await made.gateway.admin("/status")).json["issuers"]["people"]
        assert 0.79 * (24873 - 5059) < state["next_refresh_seconds"] <= 0.9 * (24873 - 5059)
        new = SigningKey.rsa("6719678351a5faedc2e70274bbea62da2a8c4a12", variant=2)
        made.provider.documents[CERTS] = Answer(jwks(KEY, new), 200, CACHED)
        await made.accepted(token(new, {}, PERSON))
        assert made.provider.fetched(CERTS) == 2


@pytest.mark.parametrize(
    ("shown", "verdict"),
    [
        (b"ya29.a0AfH6SMBx-opaque_access_token", (401, "not_a_jws")),
        (b"ya29.a0AfH6SMBx.opaque", (401, "bad_header")),
        (token(KEY, {}, PERSON, aud="999-other.apps.googleusercontent.com"), (401, "wrong_audience")),
        (token(KEY, {}, PERSON, hd="evil.example"), (401, "wrong_claim")),
        (token(KEY, {}, PERSON, hd=ABSENT, email="alice@example.com"), (401, "wrong_claim")),
        (token(KEY, {}, PERSON, iss="https://accounts.google.com/"), (401, "unknown_issuer")),
        (token(KEY, {}, PERSON, iss="http://accounts.google.com"), (401, "unknown_issuer")),
        (token(KEY, {}, SERVICE), (401, "wrong_audience")),
    ],
    ids=["access token", "three parts", "other client", "other domain", "no domain", "slash", "http", "service"],
)
@pytest.mark.rule("C94", "C95", "R049")
async def test_others_are_refused(shown: bytes, verdict: tuple[int, str], tmp_path: Path) -> None:
    async with recipe(tmp_path, "google", DOCUMENTS) as made:
        assert await made.ask(shown) == verdict


async def test_service_account_that_is_listed_passes_and_no_other(tmp_path: Path) -> None:
    """Any Google service account can have a token for this audience."""
    async with recipe(tmp_path, "google", DOCUMENTS, number=1) as made:
        assert await made.accepted(token(KEY, {}, SERVICE)) == {
            "x-user-id": "112233445566778899001",
            "x-service": "billing@my-project.iam.gserviceaccount.com",
        }
        stranger = token(KEY, {}, SERVICE, email="billing@evil.iam.gserviceaccount.com")
        assert await made.ask(stranger) == (403, "claim_not_accepted")
        assert await made.ask(token(KEY, {}, SERVICE, email_verified=False)) == (401, "wrong_claim")
        assert await made.ask(token(KEY, {}, PERSON)) == (401, "wrong_audience")
