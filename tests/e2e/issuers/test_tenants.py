"""Issuers that are templates, end to end: a provider of many tenants behind TLS, under the hosts that tokens name."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from gateway.tasks import spawn
from tests.support.composed import Settings
from tests.support.gateways.running import RawResponse, RunningGateway, configuration, running, until
from tests.support.issuers.identity_provider import Answer
from tests.support.issuers.named_hosts import Document, Provider, discovery, provider
from tests.support.tokens.minting import ABSENT, SigningKey, good_claims, jwks, mint
from tests.support.upstreams.recording import RawUpstream, raw_upstream

HOST = "https://idp.test"
REALMS = HOST + "/realms/{tenant}"
#: One key each, all of one name: only the tenant tells them apart.
ACME, OTHER, ROGUE = SigningKey.rsa("k"), SigningKey.rsa("k", variant=1), SigningKey.rsa("k", variant=2)
IDENTITY = {"x-user-id": "sub", "x-tenant": "$tenant"}


def realm(name: str, key: SigningKey) -> dict[str, Document]:
    return discovery(f"{HOST}/realms/{name}", f"{HOST}/realms/{name}/certs", key)


@dataclass
class World:
    """A gateway between clients, a provider of many tenants and an upstream."""

    gateway: RunningGateway
    provider: Provider
    upstream: RawUpstream

    async def get(self, key: SigningKey, tenant: str, path: str = "/", **claims: Any) -> RawResponse:
        return await self.gateway.get(path, token=token(key, tenant, **claims))

    async def status(self, key: SigningKey, tenant: str, path: str = "/", **claims: Any) -> int:
        return (await self.get(key, tenant, path, **claims)).status

    async def reasons(self, count: int) -> list[str | None]:
        return [line.get("reason") for line in await self.gateway.log(count)]


def token(key: SigningKey, tenant: str, header: Mapping[str, Any] | None = None, **claims: Any) -> bytes:
    return mint(key, good_claims(time.time(), **{"iss": f"{HOST}/realms/{tenant}", **claims}), header=header)


@asynccontextmanager
async def world(
    directory: Path, documents: Mapping[str, Document], *hosts: str, **options: Any
) -> AsyncIterator[World]:
    """Run everything; ``options`` are the issuer's, and ``routes``."""
    routes = options.pop("routes", ({"path": "/"},))
    async with raw_upstream() as upstream, provider(directory, documents, *hosts) as idp:
        issuer = {"issuer": REALMS, "jwks_file": "", "jwks_ca_file": str(idp.bundle), **options}
        config = configuration(upstream.url, directory / "unused", routes=routes, issuer=issuer, identity=IDENTITY)
        async with running(Settings.model_validate(config), ACME, resolver=idp) as gateway:
            yield World(gateway, idp, upstream)


TWO = {**realm("acme", ACME), **realm("other", OTHER)}
LISTED: dict[str, Any] = {"tenants": ["acme", "other"]}
ANY: dict[str, Any] = {"tenant_pattern": "[a-z0-9]+"}


@pytest.mark.parametrize("options", [LISTED, ANY], ids=["listed", "pattern"])
@pytest.mark.rule("R028", "R029", "R354")
async def test_each_tenant_is_verified_by_its_own_keys_and_named_to_the_upstream(
    options: dict[str, Any], tmp_path: Path
) -> None:
    """Keys of one name, one subject, two tenants; neither can speak for the other."""
    async with world(tmp_path, TWO, **options) as made:
        assert await made.status(ACME, "acme") == await made.status(OTHER, "other") == 200
        assert [request.one(b"x-tenant") for request in made.upstream.requests] == [b"acme", b"other"]
        assert await made.status(ACME, "other") == await made.status(OTHER, "acme") == 401
        assert await made.status(ROGUE, "acme") == 401
        assert (await made.reasons(5))[2:] == ["bad_signature"] * 3
        assert made.provider.fetched(f"{HOST}/realms/acme/certs") == 1
        assert made.provider.fetched(f"{HOST}/realms/other/certs") == 1


@pytest.mark.parametrize(
    "issuer",
    [
        f"{HOST}/realms/nobody",
        f"{HOST}/realms/Acme",
        f"{HOST}/realms/acme/",
        f"{HOST}/realms/",
        f"{HOST}/realms/../admin",
        f"{HOST}/realms/acme%2f..",
        f"{HOST}.evil.test/realms/acme",
        "https://evil.test/realms/acme",
        "http://169.254.169.254/realms/acme",
        REALMS,
    ],
)
@pytest.mark.rule("R085", "R086")
async def test_token_of_no_listed_tenant_is_refused_before_anything_is_fetched(issuer: str, tmp_path: Path) -> None:
    """Exact values, no outbound connection, no look-up (CWE-918)."""
    async with world(tmp_path, TWO, **LISTED) as made:
        assert await made.status(ACME, "acme", iss=issuer) == 401
        assert await made.reasons(1) == ["unknown_issuer"]
        assert made.provider.looked_up == []


@pytest.mark.parametrize("tenant", ["a/b", "..", ".", "a%2fb", "a?b", "a#b", "a@evil.test", "a:b", "A", "a" * 129, ""])
@pytest.mark.rule("R086")
async def test_pattern_lets_nothing_but_a_plain_segment_into_an_address(tenant: str, tmp_path: Path) -> None:
    """Nothing is looked up for what the pattern, or any pattern, does not match (CWE-918)."""
    async with world(tmp_path, TWO, **ANY) as made:
        assert await made.status(ACME, tenant) == 401
        assert made.provider.looked_up == []


IMPLAUSIBLE: dict[str, dict[str, Any]] = {
    "expired": {"exp": 1},
    "not yet valid": {"nbf": 4e9},
    "too long": {"exp": int(time.time()) + 10**8},
    "other audience": {"aud": "other"},
    "no audience": {"aud": ABSENT},
    "no subject": {"sub": ABSENT},
    "algorithm": {"header": {"alg": "HS256"}},
    "ID token": {"header": {"typ": "logout+jwt"}},
}


@pytest.mark.parametrize("options", [LISTED, ANY], ids=["listed", "pattern"])
@pytest.mark.rule("R163")
async def test_only_a_plausible_token_begins_a_tenant(options: dict[str, Any], tmp_path: Path) -> None:
    """Everything but the signature is right before any provider is asked."""
    async with world(tmp_path, TWO, **options) as made:
        for claims in IMPLAUSIBLE.values():
            assert await made.status(ROGUE, "acme", **claims) == 401
        assert made.provider.looked_up == []
        assert await made.status(ROGUE, "acme") == 401
        assert made.provider.fetched(f"{HOST}/realms/acme/certs") == 1


@pytest.mark.parametrize("options", [LISTED, ANY], ids=["listed", "pattern"])
@pytest.mark.rule("R164")
async def test_first_requests_of_a_tenant_wait_for_one_fetch(options: dict[str, Any], tmp_path: Path) -> None:
    """Thirty at a time, one discovery, one key set."""
    gate = asyncio.Event()
    documents = {**TWO, f"{HOST}/realms/acme/certs": Answer(jwks(ACME), gate=gate)}
    async with world(tmp_path, documents, **options) as made:
        waiting = [spawn(made.get(ACME, "acme", jti=str(number)), "client") for number in range(30)]
        await until(lambda: made.provider.fetched(f"{HOST}/realms/acme/certs") == 1)
        assert await made.status(OTHER, "other") == 200, "nobody else waits for it (R172)"
        gate.set()
        assert {(await answer).status for answer in waiting} == {200}
        assert made.provider.fetched(f"{HOST}/realms/acme/.well-known/openid-configuration") == 1
        assert made.provider.fetched(f"{HOST}/realms/acme/certs") == 1


async def test_tenant_that_the_provider_does_not_know_is_503_and_asked_for_once(tmp_path: Path) -> None:
    """Nothing could be decided; what is asked again within the cooldown is answered without a fetch."""
    async with world(tmp_path, TWO, **ANY) as made:
        assert await made.status(ACME, "acme") == 200
        answers = [await made.get(ROGUE, "nobody", jti=str(number)) for number in range(5)]
        assert {answer.status for answer in answers} == {503}
        assert all(int(answer.one(b"retry-after") or 0) >= 1 for answer in answers)
        assert made.provider.fetched(f"{HOST}/realms/nobody/.well-known/openid-configuration") == 1
        assert await made.status(ACME, "acme", jti="later") == 200
        lines = await made.gateway.log(7)
        assert {(line["reason"], line["detail"]) for line in lines[2:6]} == {("no_keys", "issuer main, tenant nobody")}


@pytest.mark.rule("R162", "R163")
async def test_flood_of_made_up_tenants_costs_the_provider_little_and_nobody_else_anything(tmp_path: Path) -> None:
    """CWE-400: a tenant in use goes on; the provider is asked as often as may be, and no more."""
    async with world(tmp_path, TWO, **ANY, max_tenants=12) as made:
        assert await made.status(ACME, "acme") == 200
        statuses = []
        for start in range(0, 300, 30):
            names = [f"madeup{number}" for number in range(start, start + 30)]
            answers = await asyncio.gather(*(made.get(ROGUE, name) for name in names))
            statuses += [answer.status for answer in answers]
            assert await made.status(ACME, "acme", jti=str(start)) == 200
        assert set(statuses) == {503}
        discoveries = [url for url, _ in made.provider.seen if "madeup" in url]
        assert len(discoveries) == len(set(discoveries)) <= 12
        state = (await made.gateway.admin("/status")).json["issuers"]["main"]
        assert (list(state["tenants"]), state["failed_tenants"]) == (["acme"], len(discoveries))
        metrics = (await made.gateway.admin("/metrics")).body.decode()
        assert f'gateway_tenants_refused_total{{issuer="main"}} {300 - len(discoveries)}.0' in metrics
        assert 'gateway_tenants_ended_total{issuer="main",reason="evicted"} 0.0' in metrics


@pytest.mark.parametrize(
    "elsewhere",
    [
        "https://keys.test/certs",
        "https://127.0.0.1/certs",
        "http://idp.test/realms/acme/certs",
        "https://idp.test:8443/certs",
    ],
)
async def test_document_of_a_tenant_cannot_lead_to_another_host(elsewhere: str, tmp_path: Path) -> None:
    """CWE-918: a tenant may belong to an attacker; what it publishes names no host that the configuration does not."""
    documents = {**realm("acme", ACME), **discovery(f"{HOST}/realms/acme", elsewhere, ACME)}
    async with world(tmp_path, documents, "keys.test", **LISTED) as made:
        assert await made.status(ACME, "acme") == 503
        assert set(made.provider.looked_up) == {"idp.test"}
        state = (await made.gateway.admin("/status")).json["issuers"]["main"]["tenants"]["acme"]
        assert state["last_error"].startswith("jwks_uri_refused")


async def test_listed_tenants_may_be_labels_of_a_host(tmp_path: Path) -> None:
    issuers = {name: f"https://{name}.idp.test/" for name in ("acme", "other")}
    documents = {
        **discovery(issuers["acme"], "https://acme.idp.test/keys", ACME),
        **discovery(issuers["other"], "https://other.idp.test/keys", OTHER),
    }
    options = {"issuer": "https://{tenant}.idp.test/", **LISTED}
    async with world(tmp_path, documents, **options) as made:
        assert await made.status(ACME, "", iss=issuers["acme"]) == 200
        assert await made.status(OTHER, "", iss=issuers["acme"]) == 401
        assert await made.status(OTHER, "", iss="https://evil.idp.test/") == 401
        assert set(made.provider.looked_up) == {"acme.idp.test"}


async def test_keys_of_each_tenant_may_be_at_an_address_without_discovery(tmp_path: Path) -> None:
    documents = {
        f"https://keys.test/{name}": {"keys": [key.public_jwk()]} for name, key in (("acme", ACME), ("other", OTHER))
    }
    async with world(tmp_path, documents, jwks_url="https://keys.test/{tenant}", **LISTED) as made:
        assert await made.status(ACME, "acme") == await made.status(OTHER, "other") == 200
        assert await made.status(ACME, "other") == 401
        assert [url for url, _ in made.provider.seen] == ["https://keys.test/acme", "https://keys.test/other"]


async def test_tenants_may_share_one_set_that_is_fetched_at_the_start(tmp_path: Path) -> None:
    """However many tenants come, their number causes no fetch."""
    documents: dict[str, Document] = {"https://keys.test/all": {"keys": [ACME.public_jwk()]}}
    async with world(tmp_path, documents, jwks_url="https://keys.test/all", **ANY) as made:
        for number in range(50):
            assert await made.status(ACME, f"t{number}") == 200
        assert made.provider.fetched("https://keys.test/all") == 1
        assert made.upstream.requests[49].one(b"x-tenant") == b"t49"
        assert "tenants" not in (await made.gateway.admin("/status")).json["issuers"]["main"]


@pytest.mark.parametrize(
    ("key_issuer", "passes"),
    [
        (ABSENT, {"acme", "other"}),
        (REALMS, {"acme", "other"}),
        (f"{HOST}/realms/other", {"other"}),
        (f"{HOST}/realms/nobody", set()),
        ("https://evil.test/realms/{tenant}", set()),
        ("", set()),
        (5, set()),
    ],
    ids=["none", "template", "tenant", "nobody", "elsewhere", "empty", "odd"],
)
@pytest.mark.rule("C88")
async def test_key_of_a_shared_set_signs_for_the_tenants_that_it_names_only(
    key_issuer: Any, passes: set[str], tmp_path: Path
) -> None:
    """The member ``issuer`` of Microsoft's keys ("Validate the signing key issuer")."""
    documents: dict[str, Document] = {"https://keys.test/all": {"keys": [ACME.public_jwk(issuer=key_issuer)]}}
    async with world(tmp_path, documents, jwks_url="https://keys.test/all", **ANY) as made:
        for tenant in ("acme", "other"):
            assert await made.status(ACME, tenant) == (200 if tenant in passes else 401)
        refused = [line["reason"] for line in await made.gateway.log(2) if line["status"] == 401]
        assert refused == ["unknown_key"] * (2 - len(passes))


@pytest.mark.parametrize(
    ("claims", "status"),
    [({"org": "acme"}, 200), ({"org": "other"}, 401), ({"org": ["acme"]}, 401), ({"org": None}, 401), ({}, 401)],
)
async def test_claim_that_names_the_tenant_has_to_agree(claims: Any, status: int, tmp_path: Path) -> None:
    async with world(tmp_path, TWO, tenant_claim="org", **LISTED) as made:
        assert await made.status(ACME, "acme", **claims) == status
        assert (made.provider.looked_up != []) is (status == 200)
        if status == 401:
            assert await made.reasons(1) == ["wrong_claim"]


async def test_route_may_be_for_some_tenants_only(tmp_path: Path) -> None:
    """403 for the others, on both lanes, also when their token is known; no claim of a token can stand in for it."""
    routes = ({"path": "/"}, {"path": "/acme", "claims": {"$tenant": ["acme"]}})
    async with world(tmp_path, TWO, routes=routes, **LISTED) as made:
        client = await made.gateway.client()
        for _ in range(3):
            for key, tenant, status in ((ACME, "acme", 200), (OTHER, "other", 403)):
                claims: dict[str, Any] = {"$tenant": "acme"}
                bearer = token(key, tenant, **claims)
                text = b"GET /acme HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer " + bearer + b"\r\n\r\n"
                assert (await client.exchange(text)).status == status
        assert await made.status(OTHER, "other", "/") == 200
        assert [request.one(b"x-tenant") for request in made.upstream.requests] == [b"acme"] * 3 + [b"other"]


@pytest.mark.rule("R340")
async def test_client_cannot_name_its_tenant(tmp_path: Path) -> None:
    """The header is removed in every spelling, and set from the verified token alone."""
    async with world(tmp_path, TWO, routes=({"path": "/", "auth": "optional"},), **LISTED) as made:
        forged = ((b"X-Tenant", b"other"), (b"x_tenant", b"other"))
        assert (await made.gateway.get("/", *forged)).status == 200
        assert (await made.gateway.get("/", *forged, token=token(ACME, "acme"))).status == 200
        assert [request.all(b"x-tenant") for request in made.upstream.requests] == [[], [b"acme"]]
        assert b"other" not in b"".join(request.head for request in made.upstream.requests)


@pytest.mark.rule("R198", "R378")
async def test_pages_name_issuers_and_never_a_tenant_that_somebody_made_up(tmp_path: Path) -> None:
    """Ready before the first tenant; labels are configured names, lists are bounded."""
    async with world(tmp_path, TWO, **ANY) as made:
        ready = await made.gateway.admin("/readyz")
        assert (ready.status, ready.json["issuers"]["main"]) == (200, {"ready": True, "reason": ""})
        assert await made.status(ACME, "acme") == 200
        assert await made.status(ROGUE, "madeup") == 503
        metrics = (await made.gateway.admin("/metrics")).body.decode()
        assert 'gateway_tenants{issuer="main"} 1.0' in metrics
        assert 'gateway_tenants_begun_total{issuer="main"} 2.0' in metrics
        assert 'gateway_tenants_ended_total{issuer="main",reason="failed"} 1.0' in metrics
        assert 'gateway_tenants_refused_total{issuer="main"} 0.0' in metrics
        assert 'gateway_jwks_fetches_total{issuer="main"} 2.0' in metrics
        assert 'gateway_jwks_failures_total{issuer="main"} 1.0' in metrics
        assert "acme" not in metrics
        assert "madeup" not in metrics
        state = (await made.gateway.admin("/status")).json["issuers"]["main"]
        assert (list(state["tenants"]), state["failed_tenants"]) == (["acme"], 1)
        lines = await made.gateway.log(2)
        assert (lines[0]["issuer"], lines[0]["tenant"]) == ("main", "acme")
        assert "tenant" not in lines[1], "nobody has vouched for it"
