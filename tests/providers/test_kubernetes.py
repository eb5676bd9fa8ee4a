"""Kubernetes service accounts: docs/providers/kubernetes.md."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.providers.recipes import recipe, times, token
from tests.support.issuers.named_hosts import discovery
from tests.support.tokens.minting import ABSENT, SigningKey

CLUSTER = "https://kubernetes.default.svc.cluster.local"
JWKS = f"{CLUSTER}/openid/v1/jwks"
MOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
KEY = SigningKey.rsa("Kx2jN0bX3o8hUe2Jx2dIaUu8dBk3kz0Qw7Jc5V1yq3E")
#: Discovery names a node's address, which no pod reaches.
DOCUMENTS = {
    **discovery(CLUSTER, "https://10.0.2.15:8443/openid/v1/jwks", response_types_supported=["id_token"]),
    JWKS: {"keys": [{"use": "sig", "alg": "RS256", **KEY.public_jwk()}]},
}
#: A projected token's header has no ``typ``.
HEADER = {"typ": ABSENT}
CLAIMS: dict[str, Any] = {
    "aud": ["api"],
    **times(3607, nbf=True),
    "iss": CLUSTER,
    "jti": "0b4d2a3e-2f29-4a4e-8c4e-0d3e3d1f5a6b",
    "kubernetes.io": {
        "namespace": "shop",
        "node": {"name": "worker-1", "uid": "646e7c5e-32d6-4d42-9dbd-e504e6cbe6b1"},
        "pod": {"name": "billing-5f7d-abcde", "uid": "5e0bd49b-f040-43b0-99b7-22765a53f7f3"},
        "serviceaccount": {"name": "billing", "uid": "14ee3fa4-a7e2-420f-9f9a-dbc4507c3798"},
        "warnafter": 1_900_000_000,
    },
    "sub": "system:serviceaccount:shop:billing",
}


def files(directory: Path, bearer: str = "pod-token") -> dict[str, str]:
    """What the kubelet mounts, in another place."""
    (directory / "token").write_text(bearer + "\n")
    return {f"{MOUNT}/ca.crt": "AUTHORITY", f"{MOUNT}/token": str(directory / "token")}


@pytest.mark.rule("C100")
async def test_pod_passes_with_its_namespace_and_account(tmp_path: Path) -> None:
    """Private authority, keys for bearers only, an address instead of discovery, colons in ``sub``."""
    async with recipe(tmp_path, "kubernetes", DOCUMENTS, replaced=files(tmp_path), bearer="pod-token") as made:
        assert await made.accepted(token(KEY, HEADER, CLAIMS), "/billing/x") == {
            "x-user-id": "system:serviceaccount:shop:billing",
            "x-namespace": "shop",
            "x-service-account": "billing",
        }
        assert [(url, seen["Authorization"]) for url, seen in made.provider.seen] == [(JWKS, "Bearer pod-token")]


@pytest.mark.parametrize(
    ("changed", "path", "verdict"),
    [
        ({"aud": [CLUSTER]}, "/orders/7", (401, "wrong_audience")),
        ({"iss": "https://kubernetes.default.svc"}, "/orders/7", (401, "unknown_issuer")),
        (
            {"iss": "kubernetes/serviceaccount", "aud": ABSENT, "exp": ABSENT, "iat": ABSENT, "nbf": ABSENT},
            "/orders/7",
            (401, "unknown_issuer"),
        ),
        ({"exp": CLAIMS["iat"] + 31_536_000}, "/orders/7", (401, "lifetime_too_long")),
        ({"sub": "system:serviceaccount:evil:billing"}, "/billing/x", (403, "claim_not_accepted")),
        ({"sub": "system:serviceaccount:shop:billing2"}, "/billing/x", (403, "claim_not_accepted")),
    ],
    ids=["default token", "other cluster", "token of a Secret", "a year", "other namespace", "other account"],
)
@pytest.mark.rule("C100", "R087")
async def test_others_are_refused(changed: dict[str, Any], path: str, verdict: tuple[int, str], tmp_path: Path) -> None:
    """A pod's default token is for the API server."""
    async with recipe(tmp_path, "kubernetes", DOCUMENTS, replaced=files(tmp_path), bearer="pod-token") as made:
        assert await made.ask(token(KEY, HEADER, CLAIMS, **changed), path) == verdict


@pytest.mark.rule("C100")
async def test_keys_are_for_the_bearer_of_the_token_only(tmp_path: Path) -> None:
    """503 with Retry-After, and the cause in /status."""
    async with recipe(tmp_path, "kubernetes", DOCUMENTS, replaced=files(tmp_path, "stale"), bearer="pod-token") as made:
        assert await made.ask(token(KEY, HEADER, CLAIMS)) == (503, "no_keys")
        state = (await made.gateway.admin("/status")).json["issuers"]["cluster"]
        assert state["last_error"].startswith("status_403")
