"""``gateway/jwt/issuers/jwks_client.py``: one bounded exchange, over real sockets."""

from __future__ import annotations

import asyncio
import gzip
from pathlib import Path

import pytest

from gateway.jwt.issuers.key_sources import make_source
from gateway.jwt.jose.keys import MAX_KEY_SET_BYTES
from gateway.outbound.http import FetchError
from tests.support.issuers.fetching import failure, fetch, kids
from tests.support.issuers.identity_provider import Answer, FakeIdp, issuer_settings, private_authority, raw_server
from tests.support.tokens.minting import SigningKey, jwks

A = SigningKey.ec("a")


@pytest.mark.rule("C40", "R151", "R267")
async def test_what_the_gateway_asks_for(idp: FakeIdp) -> None:
    """Both types, nothing compressed, no cookie, no credential."""
    idp.keys_answer.headers = {"Set-Cookie": "session=1"}
    source = make_source(issuer_settings(jwks_url=idp.jwks_url))
    await source.fetch(discover=True)
    await fetch(source)
    for seen in idp.seen:
        assert seen.headers["Accept"] == "application/jwk-set+json, application/json"
        assert seen.headers["Accept-Encoding"] == "identity"
        assert not {"Cookie", "Authorization"} & set(seen.headers)


@pytest.mark.parametrize("status", [201, 204, 206, 301, 302, 304, 307, 401, 403, 404, 429, 500, 503])
@pytest.mark.rule("R153")
async def test_only_200_is_an_answer(idp: FakeIdp, status: int) -> None:
    """Also an unsolicited 304, and 2xx that carry something else."""
    idp.keys_answer.status = status
    assert (await failure(jwks_url=idp.jwks_url)).code == f"status_{status}"


@pytest.mark.parametrize("target", ["/other", "http://127.0.0.1:1/", "//evil.test/", "file:///etc/passwd"])
@pytest.mark.rule("R150")
async def test_redirects_are_not_followed(idp: FakeIdp, target: str) -> None:
    idp.keys_answer = Answer(b"", 302, {"Location": target})
    assert (await failure(jwks_url=idp.jwks_url)).code == "status_302"
    assert len(idp.seen) == 1


@pytest.mark.parametrize("coding", ["gzip", "br", "identity, gzip", "x"])
@pytest.mark.rule("R151")
async def test_a_coded_answer_is_a_failure(idp: FakeIdp, coding: str) -> None:
    """Nothing is decompressed, so nothing can expand."""
    idp.keys_answer = Answer(gzip.compress(jwks(A)), 200, {"Content-Encoding": coding})
    assert (await failure(jwks_url=idp.jwks_url)).code == "encoded"


@pytest.mark.rule("R151")
async def test_an_answer_that_says_identity_is_none_coded(idp: FakeIdp) -> None:
    idp.keys_answer = Answer(jwks(A), 200, {"Content-Encoding": "Identity"})
    assert kids(await fetch(make_source(issuer_settings(jwks_url=idp.jwks_url)))) == ["a"]


@pytest.mark.parametrize("head", [b"", b"Content-Length: 1000000000\r\n"])
@pytest.mark.rule("R151")
async def test_an_endless_answer_is_cut_at_the_limit(head: bytes) -> None:
    """With and without a length; no more is read than the limit and what buffers hold."""
    sent = 0

    async def talk(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(b"HTTP/1.1 200 OK\r\n" + head + b"\r\n")
        while sent < 100 * MAX_KEY_SET_BYTES:
            writer.write(b" " * 65536)
            await writer.drain()
            sent += 65536

    async with raw_server(talk) as origin:
        assert (await failure(jwks_url=origin + "/jwks")).code == "too_large"
    assert sent < 80 * MAX_KEY_SET_BYTES


@pytest.mark.rule("R151")
async def test_the_largest_accepted_document() -> None:
    """Exactly the limit passes."""
    async with FakeIdp() as idp:
        idp.keys_answer = Answer(jwks(A).ljust(MAX_KEY_SET_BYTES))
        assert kids(await fetch(make_source(issuer_settings(jwks_url=idp.jwks_url)))) == ["a"]
        idp.keys_answer = Answer(jwks(A).ljust(MAX_KEY_SET_BYTES + 1))
        assert (await failure(jwks_url=idp.jwks_url)).code == "too_large"


@pytest.mark.rule("R152")
async def test_a_dripping_answer_ends_at_the_total_timeout() -> None:
    async def talk(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            writer.write(b" ")
            await writer.drain()
            await asyncio.sleep(0.02)

    async with raw_server(talk) as origin:
        assert (await failure(jwks_url=origin + "/jwks", jwks_timeout_seconds=0.2)).code == "timeout"


@pytest.mark.rule("R152")
async def test_a_silent_server_ends_at_the_total_timeout(idp: FakeIdp) -> None:
    idp.keys_answer.gate = asyncio.Event()
    assert (await failure(jwks_url=idp.jwks_url, jwks_timeout_seconds=0.1)).code == "timeout"


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (b"", "connect"),
        (b"garbage\r\n\r\n", "protocol"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{", "protocol"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{", "protocol"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000 + b"\r\n\r\n", "protocol"),
        (b"HTTP/1.1 200 OK\r\n\r\n" + jwks(A)[:-9], "bad_key_set"),
    ],
)
@pytest.mark.rule("C30", "R286")
async def test_a_broken_exchange_is_a_failure(answer: bytes, code: str) -> None:
    """A cut answer never passes for a whole one."""

    async def talk(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answer)
        await writer.drain()

    async with raw_server(talk) as origin:
        assert (await failure(jwks_url=origin + "/jwks")).code == code


@pytest.mark.rule("C30", "C32")
async def test_a_refused_connection_is_a_failure(idp: FakeIdp) -> None:
    await idp.stop()
    assert (await failure(jwks_url=idp.jwks_url)).code == "connect"


@pytest.mark.rule("R157", "C100")
async def test_the_certificate_is_checked_with_the_issuers_authorities(tmp_path: Path) -> None:
    """A private authority works when named, and only then."""
    bundle, tls = private_authority(tmp_path)
    async with FakeIdp(tls=tls) as idp:
        idp.publish(A)
        assert (await failure(jwks_url=idp.jwks_url)).code == "tls"
        named = issuer_settings(jwks_url=idp.jwks_url, jwks_ca_file=str(bundle))
        assert kids(await fetch(make_source(named))) == ["a"]


@pytest.mark.rule("C100")
async def test_a_changed_authority_file_is_read_again(tmp_path: Path) -> None:
    """Authorities rotate, too."""
    (tmp_path / "other").mkdir()
    other, _ = private_authority(tmp_path / "other")
    bundle, tls = private_authority(tmp_path)
    used = tmp_path / "ca.pem"
    used.write_bytes(other.read_bytes())
    async with FakeIdp(tls=tls) as idp:
        idp.publish(A)
        source = make_source(issuer_settings(jwks_url=idp.jwks_url, jwks_ca_file=str(used)))
        with pytest.raises(FetchError) as caught:
            await source.fetch(discover=True)
        assert caught.value.code == "tls"
        used.write_bytes(bundle.read_bytes() + b"\n")
        assert kids(await fetch(source)) == ["a"]


@pytest.mark.parametrize("content", [None, b"", b"junk"])
@pytest.mark.rule("R157")
async def test_an_unusable_authority_file_is_a_failure(tmp_path: Path, content: bytes | None) -> None:
    """Never a fetch without verification instead."""
    file = tmp_path / "ca.pem"
    if content is not None:
        file.write_bytes(content)
    async with FakeIdp() as idp:
        idp.publish(A)
        assert (await failure(jwks_url=idp.jwks_url, jwks_ca_file=str(file))).code == "ca_file"
        assert idp.seen == []


@pytest.mark.rule("R157")
async def test_proxy_variables_have_no_say(idp: FakeIdp, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert kids(await fetch(make_source(issuer_settings(jwks_url=idp.jwks_url)))) == ["a"]


@pytest.mark.rule("C100")
async def test_the_bearer_token_is_read_at_each_fetch(idp: FakeIdp, tmp_path: Path) -> None:
    """The file rotates."""
    file = tmp_path / "token"
    file.write_text("first\n")
    source = make_source(issuer_settings(issuer=idp.issuer, jwks_token_file=str(file)))
    await source.fetch(discover=True)
    file.write_text(" second ")
    await fetch(source)
    assert [seen.headers["Authorization"] for seen in idp.seen] == [
        f"Bearer {text}" for text in ("first", "first", "second", "second")
    ]


@pytest.mark.rule("C100")
async def test_the_bearer_token_goes_to_no_other_host(idp: FakeIdp, tmp_path: Path) -> None:
    """Discovered addresses elsewhere do not get it, and no redirect carries it on."""
    file = tmp_path / "token"
    file.write_text("secret")
    async with FakeIdp() as elsewhere:
        elsewhere.publish(A)
        idp.discovery_answer = Answer(idp.discovery_document(jwks_uri=elsewhere.jwks_url))
        assert kids(await fetch(make_source(issuer_settings(issuer=idp.issuer, jwks_token_file=str(file))))) == ["a"]
        assert "Authorization" in idp.seen[0].headers
        assert "Authorization" not in elsewhere.seen[0].headers
        idp.keys_answer = Answer(b"", 307, {"Location": elsewhere.jwks_url})
        assert (await failure(jwks_url=idp.jwks_url, jwks_token_file=str(file))).code == "status_307"
        assert len(elsewhere.seen) == 1


@pytest.mark.parametrize("content", [None, b"", b"a b", b"a\nb", b"\xff", b"a\x00"])
@pytest.mark.rule("C100", "R196")
async def test_an_unusable_token_file_is_a_failure_that_does_not_quote_it(
    tmp_path: Path, content: bytes | None
) -> None:
    file = tmp_path / "token"
    if content is not None:
        file.write_bytes(content)
    error = await failure(jwks_url="http://127.0.0.1:1/", jwks_token_file=str(file))
    assert error.code == "token_file"
    assert "a b" not in str(error)


@pytest.mark.rule("R196")
async def test_a_query_in_the_address_is_not_shown(idp: FakeIdp) -> None:
    """It may hold a key of the provider's API."""
    idp.keys_answer.status = 500
    source = make_source(issuer_settings(jwks_url=idp.jwks_url + "?key=hidden"))
    with pytest.raises(FetchError) as caught:
        await fetch(source)
    assert "hidden" not in str(caught.value) + source.url
