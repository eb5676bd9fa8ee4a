"""What the gateway says of itself to an authorization server."""

from __future__ import annotations

import asyncio
import base64
import json
import threading
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st
from joserfc import jwt
from joserfc.jwk import ECKey, OKPKey, RSAKey

from gateway.features.introspection.client import client_of
from gateway.outbound import client_authentication
from gateway.outbound.client_authentication import ClientAuthentication, OutboundRequest
from gateway.outbound.http import FetchError
from gateway.settings.client_credentials import read_client_secret
from tests.support.clock import FakeClock
from tests.support.issuers.introspection import CLIENT_ID, ISSUER, introspecting

URL = "https://as.test/introspect"


async def request(folder: Path, *, secret: str = "", clock: FakeClock | None = None, **options: Any) -> OutboundRequest:
    issuer = introspecting(folder, URL, **options)
    if secret:
        (folder / "client-secret").write_text(secret, encoding="utf-8")
    return await ClientAuthentication(client_of(issuer), clock or FakeClock()).request({"token": "t+&=%é"})


def basic(made: OutboundRequest) -> tuple[str, str]:
    scheme, _, value = made.headers["Authorization"].partition(" ")
    assert scheme == "Basic"
    name, _, secret = base64.b64decode(value, validate=True).decode("ascii").partition(":")
    return unquote_plus(name), unquote_plus(secret)


@pytest.mark.parametrize("secret", ["a:b%c+é", "plain", "with space", "%41", "ü:&=?/#", "日本"])
@pytest.mark.rule("R127")
async def test_basic_is_form_encoded_before_it_is_joined(secret: str, tmp_path: Path) -> None:
    """What a server decodes by RFC 6749 section 2.3.1 is the secret itself."""
    made = await request(tmp_path, secret=secret)
    assert basic(made) == (CLIENT_ID, secret)
    assert parse_qs(made.body, strict_parsing=True) == {"token": ["t+&=%é"]}
    assert made.headers["Content-Type"] == "application/x-www-form-urlencoded"


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\n\r\0"), min_size=1, max_size=40))
@pytest.mark.rule("R127")
async def test_any_secret_arrives(secret: str) -> None:
    import tempfile  # noqa: PLC0415  (a fixture would be shared by all examples)

    with tempfile.TemporaryDirectory() as folder:
        assert basic(await request(Path(folder), secret=secret))[1] == secret
        made = await request(Path(folder), secret=secret, introspection_auth="client_secret_post")
        assert parse_qs(made.body, keep_blank_values=True)["client_secret"] == [secret]


async def test_post_puts_the_secret_into_the_form(tmp_path: Path) -> None:
    """RFC 6749 section 2.3.1: and nowhere else."""
    made = await request(tmp_path, introspection_auth="client_secret_post")
    assert parse_qs(made.body, strict_parsing=True) == {
        "token": ["t+&=%é"],
        "client_id": [CLIENT_ID],
        "client_secret": ["a:b%c+é"],
    }
    assert set(made.headers) == {"Content-Type"}


KEYS = [
    pytest.param(RSAKey.generate_key(2048), {}, "RS256", id="rsa"),
    pytest.param(RSAKey.generate_key(2048), {"alg": "PS384", "kid": "k"}, "PS384", id="pss"),
    pytest.param(ECKey.generate_key("P-256"), {"kid": "k"}, "ES256", id="p-256"),
    pytest.param(OKPKey.generate_key("Ed25519"), {}, "Ed25519", id="ed25519"),
    pytest.param(OKPKey.generate_key("Ed25519"), {"alg": "EdDSA"}, "EdDSA", id="eddsa"),
]


def by_key(folder: Path, key: Any, members: dict[str, str], **options: Any) -> dict[str, Any]:
    (folder / "key").write_text(json.dumps({**key.as_dict(private=True), **members}))
    return {
        "introspection_auth": "private_key_jwt",
        "introspection_private_key_file": str(folder / "key"),
        **options,
    }


@pytest.mark.filterwarnings("ignore:EdDSA is deprecated")
@pytest.mark.parametrize(("key", "members", "algorithm"), KEYS)
async def test_assertion_is_signed_and_for_one_use(
    key: Any, members: dict[str, str], algorithm: str, tmp_path: Path
) -> None:
    """RFC 7523 section 3: iss, sub, aud, jti, exp; the algorithm follows from the key."""
    clock = FakeClock()
    issuer = introspecting(tmp_path, URL, **by_key(tmp_path, key, members))
    client = ClientAuthentication(client_of(issuer), clock)
    seen = set()
    for _ in range(2):
        made = await client.request({"token": "t"})
        form = {name: values[0] for name, values in parse_qs(made.body, strict_parsing=True).items()}
        assert form["client_assertion_type"] == "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
        assert (form["token"], form["client_id"], "Authorization" in made.headers) == ("t", CLIENT_ID, False)
        token = jwt.decode(form["client_assertion"], key, algorithms=[algorithm])
        assert (token.header["alg"], token.header.get("kid")) == (algorithm, members.get("kid"))
        seen.add(token.claims.pop("jti"))
        assert token.claims == {
            "iss": CLIENT_ID,
            "sub": CLIENT_ID,
            "aud": ISSUER,
            "iat": int(clock.wall()),
            "exp": int(clock.wall()) + 60,
        }
    assert len(seen) == 2


async def test_audience_of_an_assertion_can_be_configured(tmp_path: Path) -> None:
    key = ECKey.generate_key("P-256")
    options = by_key(tmp_path, key, {}, introspection_assertion_audience="https://as.test/token")
    form = parse_qs((await request(tmp_path, **options)).body)
    assert jwt.decode(form["client_assertion"][0], key, algorithms=["ES256"]).claims["aud"] == "https://as.test/token"


async def test_changed_secret_is_used_within_a_second(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """And one that is gone or wrong leaves the last one in force."""
    clock, file = FakeClock(), tmp_path / "client-secret"
    client = ClientAuthentication(client_of(introspecting(tmp_path, URL)), clock)
    file.write_text("first")
    assert basic(await client.request({}))[1] == "first"
    file.write_text("second")
    assert basic(await client.request({}))[1] == "first"
    clock.jump(1)
    assert basic(await client.request({}))[1] == "second"
    for content in ("", None):
        if content is None:
            file.unlink()
        else:
            file.write_text(content)
        for _ in range(3):
            clock.jump(1)
            assert basic(await client.request({}))[1] == "second"
    assert len([record for record in caplog.records if "cannot be used: " in record.message]) == 2
    file.write_text("third")
    clock.jump(1)
    assert basic(await client.request({}))[1] == "third"
    assert "second" not in caplog.text


@pytest.mark.rule("R406")
async def test_secret_that_could_not_be_read_for_now_is_read_as_the_same_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when files ran out."""
    clock, file = FakeClock(), tmp_path / "client-secret"
    client = ClientAuthentication(client_of(introspecting(tmp_path, URL)), clock)
    file.write_text("first")
    assert basic(await client.request({}))[1] == "first"
    file.write_text("second")

    def unreadable(_: str) -> str:
        raise ValueError("too many open files")

    with monkeypatch.context() as patch:
        patch.setattr(client_authentication, "read_client_secret", unreadable)
        clock.jump(1)
        assert basic(await client.request({}))[1] == "first"
    clock.jump(1)
    assert basic(await client.request({}))[1] == "second"


async def test_whoever_asks_while_the_secret_is_first_read_waits_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second request of a burst after the start found a file that was looked at, and no secret."""
    reading, go_on = threading.Event(), threading.Event()

    def slow(file: str) -> str:
        reading.set()
        assert go_on.wait(10)
        return read_client_secret(file)

    monkeypatch.setattr(client_authentication, "read_client_secret", slow)
    asking = ClientAuthentication(client_of(introspecting(tmp_path, URL)), FakeClock())
    first = asyncio.ensure_future(asking.credential())
    assert await asyncio.to_thread(reading.wait, 10)
    second = asyncio.ensure_future(asking.credential())
    await asyncio.to_thread(second.done)  # another thread had its turn
    go_on.set()
    assert await first == await second


async def test_without_a_secret_nothing_can_be_asked(tmp_path: Path) -> None:
    issuer = introspecting(tmp_path, URL)
    (tmp_path / "client-secret").unlink()
    with pytest.raises(FetchError) as caught:
        await ClientAuthentication(client_of(issuer), FakeClock()).request({})
    assert caught.value.code == "client_file"
