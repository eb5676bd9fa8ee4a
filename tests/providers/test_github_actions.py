"""GitHub Actions: docs/providers/github-actions.md."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.providers.recipes import recipe, times, token
from tests.support.issuers.named_hosts import discovery
from tests.support.tokens.minting import ABSENT, SigningKey

ISSUER = "https://token.actions.githubusercontent.com"
KEY = SigningKey.rsa("cc413527-173f-5a05-976e-9c52b1d7b431")
X5T = "eBCXqjiCKVcQxL1vnMGLq9kcpsY"
DOCUMENTS = discovery(
    ISSUER,
    f"{ISSUER}/.well-known/jwks",
    KEY.public_jwk(alg="RS256", use="sig", x5c=["MIIDrDCCApSgAwIBAgIQ"], x5t=X5T),
    id_token_signing_alg_values_supported=["RS256"],
)
HEADER = {"typ": "JWT", "x5t": X5T}
NOW = times()
CLAIMS: dict[str, Any] = {
    "jti": "3f1d2f5a-6a7b-4a40-9f38-0c2b9ad6f5a1",
    "sub": "repo:octo-org/octo-repo:ref:refs/heads/main",
    "aud": "https://deploy.example.com",
    "ref": "refs/heads/main",
    "sha": "d9dc7f9a5bd6a2e5b5c7d3d2d9e0cbd1f1e1c2b3",
    "repository": "octo-org/octo-repo",
    "repository_owner": "octo-org",
    "repository_owner_id": "65",
    "run_id": "1234567890",
    "run_number": "10",
    "run_attempt": "1",
    "repository_visibility": "private",
    "repository_id": "74",
    "actor_id": "12",
    "actor": "octocat",
    "workflow": "deploy",
    "head_ref": "",
    "base_ref": "",
    "event_name": "push",
    "ref_protected": "true",
    "ref_type": "branch",
    "workflow_ref": "octo-org/octo-repo/.github/workflows/deploy.yml@refs/heads/main",
    "job_workflow_ref": "octo-org/octo-repo/.github/workflows/deploy.yml@refs/heads/main",
    "runner_environment": "github-hosted",
    "iss": ISSUER,
    "nbf": NOW["iat"] - 600,
    **NOW,
}
PRODUCTION: dict[str, Any] = {"sub": "repo:octo-org/octo-repo:environment:production", "environment": "production"}
PULL_REQUEST: dict[str, Any] = {
    "sub": "repo:octo-org/octo-repo:pull_request",
    "ref": "refs/pull/7/merge",
    "event_name": "pull_request",
    "head_ref": "feature",
    "base_ref": "main",
}
STRANGER: dict[str, Any] = {
    "sub": "repo:evil/octo-repo:ref:refs/heads/main",
    "repository": "evil/octo-repo",
    "repository_owner": "evil",
    "repository_owner_id": "666",
}


def job(**changed: Any) -> bytes:
    return token(KEY, HEADER, CLAIMS, **changed)


async def test_jobs_pass_where_their_claims_let_them(tmp_path: Path) -> None:
    async with recipe(tmp_path, "github-actions", DOCUMENTS) as made:
        assert await made.accepted(job(), "/deploy") == {
            "x-user-id": "repo:octo-org/octo-repo:ref:refs/heads/main",
            "x-repository": "octo-org/octo-repo",
            "x-ref": "refs/heads/main",
            "x-workflow": "octo-org/octo-repo/.github/workflows/deploy.yml@refs/heads/main",
            "x-run": "1234567890",
            "x-actor": "octocat",
        }
        await made.accepted(job(**PRODUCTION), "/release")
        await made.accepted(job(**PULL_REQUEST), "/status")


@pytest.mark.parametrize(
    ("changed", "path", "verdict"),
    [
        (STRANGER, "/status", (401, "wrong_claim")),
        (
            {**STRANGER, "repository_owner": "octo-org", "repository": "octo-org/octo-repo"},
            "/status",
            (401, "wrong_claim"),
        ),
        ({"repository_owner_id": 65}, "/status", (401, "wrong_claim")),
        ({"repository_owner_id": ABSENT}, "/status", (401, "wrong_claim")),
        ({"aud": "https://github.com/octo-org"}, "/status", (401, "wrong_audience")),
        ({"aud": "sts.amazonaws.com"}, "/status", (401, "wrong_audience")),
        ({"iss": "https://github.example.com/_services/token"}, "/status", (401, "unknown_issuer")),
        ({"iat": 1_700_000_000, "nbf": 1_699_999_400, "exp": 1_700_000_300}, "/status", (401, "expired")),
        (PULL_REQUEST, "/deploy", (403, "claim_not_accepted")),
        ({"ref": "refs/heads/main2"}, "/deploy", (403, "claim_not_accepted")),
        ({"repository": "octo-org/other"}, "/deploy", (403, "claim_not_accepted")),
        ({}, "/release", (403, "claim_not_accepted")),
        ({"sub": "repo:octo-org/octo-repo:environment:production2"}, "/release", (403, "claim_not_accepted")),
    ],
    ids=[
        *("stranger", "taken-over name", "number", "no owner", "default audience", "cloud's audience", "other server"),
        *("old", "pull request", "branch", "repository", "no environment", "longer environment"),
    ],
)
@pytest.mark.rule("R087")
async def test_others_are_refused(changed: dict[str, Any], path: str, verdict: tuple[int, str], tmp_path: Path) -> None:
    """Any workflow on GitHub gets a signed token with any audience; the claims decide."""
    async with recipe(tmp_path, "github-actions", DOCUMENTS) as made:
        assert await made.ask(job(**changed), path) == verdict
        assert made.upstream.requests == []
