"""Entra ID: docs/providers/entra-id.md, one directory and many, v1.0 and v2.0 tokens."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from tests.providers.recipes import recipe, times, token
from tests.support.issuers.named_hosts import Document, discovery
from tests.support.tokens.minting import ABSENT, SigningKey, b64, mint_raw

DIRECTORY, PERSONAL = "8eaef023-2b34-4da1-9baa-8bc8c9d6a490", "9188040d-6c67-4c5b-b112-36a304b66dad"
STRANGER = "82229342-1101-4ab6-817b-70c0747630f3"
API = "6e74172b-be56-4843-9ff4-e66a39bb12e3"
LOGIN = "https://login.microsoftonline.com"
COMMON = f"{LOGIN}/common/discovery/v2.0/keys"

WORK = SigningKey.rsa("Mc7l3Iz93g7uwgNeEmmw_WYGPko")
LIVE = SigningKey.rsa("8IIDH6M8c3cXoeojKme8Jvqsr2Y", variant=1)


def v2(directory: str) -> str:
    return f"{LOGIN}/{directory}/v2.0"


def v1(directory: str) -> str:
    return f"https://sts.windows.net/{directory}/"


def published(key: SigningKey, issuer: str) -> dict[str, Any]:
    """A key as Microsoft publishes it: no ``alg``, but the thumbprint, the certificate, and whose tokens it signs."""
    return key.public_jwk(use="sig", x5t=key.kid, x5c=["MIIC/TCCAeWgAwIBAgII"], issuer=issuer)


ONE = discovery(v2(DIRECTORY), f"{LOGIN}/{DIRECTORY}/discovery/v2.0/keys", published(WORK, v2(DIRECTORY)))
MANY: dict[str, Document] = {
    COMMON: {"keys": [published(WORK, v2("{tenantid}")), published(LIVE, v2(PERSONAL))]},
}
V2_HEADER = {"typ": "JWT"}
V2_CLAIMS: dict[str, Any] = {
    "aud": API,
    "iss": v2(DIRECTORY),
    **times(4500, nbf=True),
    "aio": "AXQAi/8TAAAA",
    "azp": "0f5b3c2e-4e1a-4f5e-9d59-6c2f0c4b1a77",
    "azpacr": "1",
    "name": "Alice Example",
    "oid": "690222be-ff1a-4d56-abd1-7e4f7d38e474",
    "preferred_username": "alice@contoso.test",
    "rh": "0.AXAA",
    "scp": "Orders.Read Orders.Write",
    "sub": "HKZpfaHyWadeOouYlitjrI-KffTm222X5rrV3xDqfKQ",
    "tid": DIRECTORY,
    "uti": "fqiBqXLPj0eQa82S-IYFAA",
    "ver": "2.0",
}
V1_CLAIMS: dict[str, Any] = {
    "aud": f"api://{API}",
    "iss": v1(DIRECTORY),
    **times(4500, nbf=True),
    "acr": "1",
    "amr": ["pwd"],
    "appid": "0f5b3c2e-4e1a-4f5e-9d59-6c2f0c4b1a77",
    "appidacr": "1",
    "ipaddr": "192.0.2.1",
    "oid": "690222be-ff1a-4d56-abd1-7e4f7d38e474",
    "scp": "Orders.Read",
    "sub": "HKZpfaHyWadeOouYlitjrI-KffTm222X5rrV3xDqfKQ",
    "tid": DIRECTORY,
    "unique_name": "alice@contoso.test",
    "ver": "1.0",
}
#: A client on its own: application roles, no scope.
APP_CLAIMS = {**V2_CLAIMS, "scp": ABSENT, "roles": ["Orders.Process"], "idtyp": "app", "azpacr": "2"}
ID_TOKEN = {**V2_CLAIMS, "scp": ABSENT, "nonce": "12345", "azp": ABSENT}


def v2_token(key: SigningKey = WORK, **changed: Any) -> bytes:
    return token(key, V2_HEADER, V2_CLAIMS, **changed)


def v1_token(key: SigningKey = WORK, **changed: Any) -> bytes:
    return token(key, {"typ": "JWT", "x5t": key.kid}, V1_CLAIMS, **changed)


@pytest.mark.rule("C88")
async def test_both_versions_of_one_directory_pass(tmp_path: Path) -> None:
    """One key set, each ``iss`` and each ``aud`` exact."""
    async with recipe(tmp_path, "entra-id", ONE) as made:
        assert await made.accepted(v2_token()) == {
            "x-user-id": "690222be-ff1a-4d56-abd1-7e4f7d38e474",
            "x-tenant": DIRECTORY,
            "x-scope": "Orders.Read Orders.Write",
        }
        assert (await made.accepted(v1_token()))["x-scope"] == "Orders.Read"
        assert (await made.accepted(v1_token(aud=API)))["x-tenant"] == DIRECTORY
        jobs = await made.accepted(token(WORK, V2_HEADER, APP_CLAIMS), "/jobs")
        assert (jobs["x-roles"], "x-scope" in jobs) == ("Orders.Process", False)


@pytest.mark.parametrize(
    ("shown", "verdict"),
    [
        (v2_token(iss=v2(STRANGER), tid=STRANGER), (401, "unknown_issuer")),
        (v1_token(iss=v1(STRANGER), tid=STRANGER), (401, "unknown_issuer")),
        (v2_token(iss=v1(DIRECTORY).rstrip("/")), (401, "unknown_issuer")),
        (v2_token(iss=f"{LOGIN}/common/v2.0"), (401, "unknown_issuer")),
        (v2_token(tid=STRANGER), (401, "wrong_claim")),
        (v2_token(tid=ABSENT), (401, "wrong_claim")),
        (v2_token(aud="00000003-0000-0000-c000-000000000000"), (401, "wrong_audience")),
        (v1_token(aud="https://graph.microsoft.com"), (401, "wrong_audience")),
        (token(WORK, V2_HEADER, ID_TOKEN), (403, "missing_scope")),
        (token(WORK, V2_HEADER, APP_CLAIMS), (403, "missing_scope")),
        (v2_token(LIVE), (401, "unknown_key")),
    ],
    ids=[
        *("other directory", "other directory, v1", "no slash", "common", "other tid", "no tid"),
        *("graph", "graph, v1", "ID token", "application", "foreign key"),
    ],
)
@pytest.mark.rule("C88", "R049")
async def test_what_is_not_for_this_api_is_refused(shown: bytes, verdict: tuple[int, str], tmp_path: Path) -> None:
    """Other directories, other APIs, other kinds of tokens."""
    async with recipe(tmp_path, "entra-id", ONE) as made:
        assert await made.ask(shown) == verdict
        assert made.upstream.requests == []


@pytest.mark.rule("C90")
async def test_token_for_graph_is_refused_with_a_hint_and_a_nonce_alone_is_nothing(tmp_path: Path) -> None:
    """Signed over a header with the nonce's hash; no fetch on its behalf. A valid one with a nonce passes."""
    header = {"typ": "JWT", "nonce": "abc", "alg": "RS256", "x5t": WORK.kid, "kid": WORK.kid}
    hashed = {**header, "nonce": hashlib.sha256(b"abc").hexdigest()}
    payload = json.dumps({**V1_CLAIMS}).encode()
    signed = mint_raw(WORK, json.dumps(hashed).encode(), payload)
    graph = b64(json.dumps(header).encode()) + signed[signed.index(b".") :]
    async with recipe(tmp_path, "entra-id", ONE) as made:
        fetched = len(made.provider.seen)
        assert await made.ask(graph) == (401, "bad_signature")
        assert "Microsoft Graph" in (await made.gateway.log(1))[0]["detail"]
        assert len(made.provider.seen) == fetched
        assert await made.ask(mint_raw(WORK, json.dumps(header).encode(), payload)) == (200, None)


@pytest.mark.rule("C88")
async def test_many_directories_share_the_common_keys(tmp_path: Path) -> None:
    """V1.0 and v2.0, work and personal accounts, one fetch, no discovery."""
    async with recipe(tmp_path, "entra-id", MANY, number=1) as made:
        assert (await made.accepted(v2_token()))["x-tenant"] == DIRECTORY
        assert (await made.accepted(v1_token()))["x-tenant"] == DIRECTORY
        personal = v2_token(LIVE, iss=v2(PERSONAL), tid=PERSONAL)
        assert (await made.accepted(personal))["x-tenant"] == PERSONAL
        assert [url for url, _ in made.provider.seen] == [COMMON]


@pytest.mark.parametrize(
    ("shown", "verdict"),
    [
        (v2_token(iss=v2(STRANGER), tid=STRANGER), (401, "unknown_issuer")),
        (v2_token(iss=v2("{tenantid}")), (401, "unknown_issuer")),
        (v2_token(tid=PERSONAL), (401, "wrong_claim")),
        (v2_token(iss=v2(PERSONAL)), (401, "wrong_claim")),
        (v2_token(tid=DIRECTORY.upper()), (401, "wrong_claim")),
        (v2_token(tid=[DIRECTORY]), (401, "wrong_claim")),
        (v2_token(LIVE), (401, "unknown_key")),
        (v1_token(LIVE), (401, "unknown_key")),
    ],
    ids=["stranger", "template", "tid", "iss", "case", "list", "personal key", "personal key, v1"],
)
@pytest.mark.rule("C88")
async def test_no_directory_speaks_for_another(shown: bytes, verdict: tuple[int, str], tmp_path: Path) -> None:
    """``iss``, ``tid`` and the key's ``issuer`` are one directory ("Validate the signing key issuer")."""
    async with recipe(tmp_path, "entra-id", MANY, number=1) as made:
        assert await made.ask(shown) == verdict
        assert made.upstream.requests == []
