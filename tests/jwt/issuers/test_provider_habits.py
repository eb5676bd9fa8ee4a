"""Public bug reports about real identity providers, replayed through the authenticator."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gateway.errors import GatewayError, Reasons
from tests.support.gateways.authenticating import rig, rig_with_idp
from tests.support.issuers.identity_provider import Answer, FakeIdp, issuer_settings, private_authority
from tests.support.tokens.minting import SigningKey, jwks

A, B = SigningKey.rsa("a"), SigningKey.rsa("b")
RS: dict[str, Any] = {"algorithms": ["RS256"]}


@pytest.mark.rule("C88")
async def test_one_tenant_with_two_issuers_over_one_key_set() -> None:
    """Entra v1 and v2; each value exact, another tenant's is not."""
    v1, v2 = "https://sts.windows.net/T/", "https://login.microsoftonline.com/T/v2.0"
    entry = A.public_jwk(use="sig", x5t="AAAA", x5c=["AAAA"], issuer=v2)
    async with FakeIdp() as idp:
        idp.keys_answer = Answer(jwks(entry))
        settings = issuer_settings(issuer=[v2, v1], jwks_url=idp.jwks_url, audience=["app-guid", "api://app"], **RS)
        async with rig(settings) as made:
            first = await made.ask(made.mint(A, iss=v1, aud="api://app", ver="1.0"))
            second = await made.ask(made.mint(A, iss=v2, aud="app-guid", ver="2.0"))
            assert (first.issuer, second.issuer) == (v1, v2)
            assert first.issuer_name == second.issuer_name == "main"
            for foreign in (v1.replace("T", "U"), v2.replace("T", "U"), v1.rstrip("/"), v2 + "/"):
                assert await made.reason(made.mint(A, iss=foreign, aud="app-guid")) is Reasons.UNKNOWN_ISSUER
            assert idp.key_fetches() == 1


@pytest.mark.parametrize("configured", ["https://t.auth0.test", "https://t.auth0.test/"])
@pytest.mark.rule("C94")
async def test_a_trailing_slash_counts_and_the_log_shows_both(configured: str) -> None:
    """Nothing is normalised."""
    other = configured.rstrip("/") if configured.endswith("/") else configured + "/"
    async with rig_with_idp(A, issuer=configured, **RS) as (made, _):
        assert await made.reason(made.mint(A, iss=configured)) is None
        with pytest.raises(GatewayError) as caught:
            await made.ask(made.mint(A, iss=other))
        assert caught.value.reason is Reasons.UNKNOWN_ISSUER
        assert f"'{other}'" in caught.value.detail
        assert f"'{configured}'" in caught.value.detail


@pytest.mark.parametrize("suffix", ["", "/"])
@pytest.mark.rule("C94", "R140")
async def test_discovery_that_names_the_issuer_with_another_slash_warns_and_loads_nothing(
    suffix: str, caplog: pytest.LogCaptureFixture
) -> None:
    """With both values; requests are 503, not 401."""
    async with FakeIdp(suffix) as idp:
        idp.publish(A)
        configured = idp.issuer.rstrip("/") if suffix else idp.issuer + "/"
        async with rig(issuer_settings(issuer=configured, **RS)) as made:
            assert await made.reason(made.mint(A, iss=configured)) is Reasons.NO_KEYS
            assert (idp.discoveries(), idp.key_fetches()) == (1, 0)
            assert "issuer_mismatch" in made.keys.status()["last_error"]
        assert f"names issuer {idp.issuer}, configured is {configured}:" in caplog.text
        assert all("//.well-known" not in seen.path for seen in idp.seen)


@pytest.mark.parametrize(
    ("headers", "lifetime"),
    [
        ({"Cache-Control": "public, max-age=24873", "Age": "5059"}, 19814),
        ({"Cache-Control": "max-age=15"}, 15),
        ({"Cache-Control": "max-age=3293198"}, 86400),
        ({"Cache-Control": "no-cache"}, 15),
        ({"Cache-Control": "max-age=0"}, 15),
        ({"Cache-Control": "max-age=abc"}, 300),
        ({}, 300),
        ({"Cache-Control": "max-age=60", "Age": "999999"}, 15),
    ],
)
@pytest.mark.rule("C98", "R159", "R161")
async def test_lifetimes_as_published(headers: dict[str, str], lifetime: float) -> None:
    """Within 15 s and 24 h; and an unknown key is fetched whatever they say."""
    async with FakeIdp() as idp:
        idp.keys_answer = Answer(jwks(A), 200, headers)
        async with rig(issuer_settings(jwks_url=idp.jwks_url, **RS)) as made:
            assert made.keys.status()["next_refresh_seconds"] == pytest.approx(0.85 * lifetime, abs=0.01)
            idp.publish(A, B)
            assert await made.reason(made.mint(B)) is None


@pytest.mark.rule("C98", "R160")
async def test_304_counts_as_success() -> None:
    """The set stays, its age begins anew."""
    async with FakeIdp() as idp:
        idp.publish(A)
        idp.revalidates = True
        async with rig(issuer_settings(jwks_url=idp.jwks_url, jwks_max_stale_seconds=400, **RS)) as made:
            token = made.mint(A, exp=made.clock.wall() + 5000)
            for _ in range(5):
                await made.refresh()
            assert (made.keys.failures, made.keys.fetches) == (0, 6)
            assert made.keys.status()["age_seconds"] < 1
            assert await made.reason(token) is None


@pytest.mark.rule("C100")
async def test_a_kubernetes_issuer(tmp_path: Path) -> None:
    """Private authority, a bearer token that rotates, and an address of its own instead of discovery."""
    bundle, tls = private_authority(tmp_path)
    token_file = tmp_path / "token"
    token_file.write_text("one")
    issuer = "https://kubernetes.default.svc"
    async with FakeIdp(tls=tls) as idp:
        idp.publish(A)
        settings = issuer_settings(
            issuer=issuer, jwks_url=idp.jwks_url, jwks_ca_file=str(bundle), jwks_token_file=str(token_file), **RS
        )
        async with rig(settings) as made:
            subject = "system:serviceaccount:ns:n"
            identity = await made.ask(made.mint(A, iss=issuer, aud=["api"], sub=subject))
            assert identity.subject == subject
            assert (b"x-user-id", subject.encode()) in identity.headers
            token_file.write_text("two")
            await made.refresh()
        assert [seen.headers["Authorization"] for seen in idp.seen] == ["Bearer one", "Bearer two"]
        assert idp.discoveries() == 0


@pytest.mark.parametrize("missing", ["jwks_ca_file", "jwks_token_file", "jwks_url"])
@pytest.mark.rule("C100")
async def test_a_kubernetes_issuer_without_its_options_is_503(tmp_path: Path, missing: str) -> None:
    """TLS is never left unverified instead; the provider refuses anonymous callers."""
    bundle, tls = private_authority(tmp_path)
    token_file = tmp_path / "token"
    token_file.write_text("one")
    async with FakeIdp(tls=tls) as idp:
        idp.publish(A)
        if missing == "jwks_token_file":
            idp.keys_answer = Answer(b"", 403)
        idp.discovery_answer = Answer(idp.discovery_document(jwks_uri="https://127.0.0.1:1/node"))
        options = {"jwks_url": idp.jwks_url, "jwks_ca_file": str(bundle), "jwks_token_file": str(token_file)}
        del options[missing]
        async with rig(issuer_settings(issuer=idp.issuer, **options, **RS)) as made:
            assert await made.reason(made.mint(A, iss=idp.issuer)) is Reasons.NO_KEYS
            code = {"jwks_ca_file": "tls", "jwks_token_file": "status_403", "jwks_url": "connect"}[missing]
            assert made.keys.status()["last_error"].startswith(code + ":")
