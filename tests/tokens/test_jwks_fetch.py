"""``gateway/tokens/jwks_fetch.py`` and ``jwks_http.py``: one fetch, over real sockets and from real files."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import socket
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp.abc import AbstractResolver, ResolveResult

from gateway.tokens import jwks_fetch
from gateway.tokens.jwks_fetch import Fetched, RemoteSource, Source, make_source
from gateway.tokens.jwks_http import FetchError
from gateway.tokens.keys import MAX_BYTES, KeySet, import_jwks
from tests.support.idp import WELL_KNOWN, Answer, FakeIdp, issuer_settings, private_authority, raw_server
from tests.support.minting import SigningKey, jwks

A, B = SigningKey.ec("a"), SigningKey.ec("b")


@pytest.fixture
async def idp() -> AsyncIterator[FakeIdp]:
    async with FakeIdp() as started:
        started.publish(A)
        yield started


async def _fetch(source: Source, *, discover: bool = True) -> Fetched:
    try:
        return await source.fetch(discover=discover)
    finally:
        await source.close()


async def _failure(**options: Any) -> FetchError:
    with pytest.raises(FetchError) as caught:
        await _fetch(make_source(issuer_settings(**options)))
    assert str(caught.value).isprintable()
    return caught.value


def _kids(fetched: Fetched) -> list[str]:
    assert fetched.keys is not None
    return list(fetched.keys.kids)


async def test_a_given_address_is_fetched_without_discovery(idp: FakeIdp) -> None:
    """C100: jwks_url overrides discovery."""
    source = make_source(issuer_settings(jwks_url=idp.jwks_url, jwks_refresh_seconds=120))
    fetched = await _fetch(source)
    assert (_kids(fetched), fetched.lifetime, source.url) == (["a"], 120, idp.jwks_url)
    assert [seen.path for seen in idp.seen] == ["/jwks"]


@pytest.mark.parametrize("suffix", ["", "/", "/realms/x", "/realms/x/"])
async def test_keys_are_found_by_discovery(suffix: str) -> None:
    """R141, C94: exactly one slash before the well-known part, whatever the issuer ends with."""
    async with FakeIdp(suffix) as idp:
        idp.publish(A)
        source = make_source(issuer_settings(issuer=[idp.issuer, "https://other.test/"]))
        assert source.url == ""
        assert _kids(await _fetch(source)) == ["a"]
        assert [seen.path for seen in idp.seen] == [suffix.rstrip("/") + WELL_KNOWN, "/jwks"]
        assert source.url == idp.jwks_url


async def test_what_the_gateway_asks_for(idp: FakeIdp) -> None:
    """C40, R151, R267: both types, nothing compressed, no cookie, no credential."""
    idp.keys_answer.headers = {"Set-Cookie": "session=1"}
    source = make_source(issuer_settings(jwks_url=idp.jwks_url))
    await source.fetch(discover=True)
    await _fetch(source)
    for seen in idp.seen:
        assert seen.headers["Accept"] == "application/jwk-set+json, application/json"
        assert seen.headers["Accept-Encoding"] == "identity"
        assert not {"Cookie", "Authorization"} & set(seen.headers)


@pytest.mark.parametrize("status", [201, 204, 206, 301, 302, 304, 307, 401, 403, 404, 429, 500, 503])
async def test_only_200_is_an_answer(idp: FakeIdp, status: int) -> None:
    """R153: also an unsolicited 304, and 2xx that carry something else."""
    idp.keys_answer.status = status
    assert (await _failure(jwks_url=idp.jwks_url)).code == f"status_{status}"


@pytest.mark.parametrize("target", ["/other", "http://127.0.0.1:1/", "//evil.test/", "file:///etc/passwd"])
async def test_redirects_are_not_followed(idp: FakeIdp, target: str) -> None:
    """R150."""
    idp.keys_answer = Answer(b"", 302, {"Location": target})
    assert (await _failure(jwks_url=idp.jwks_url)).code == "status_302"
    assert len(idp.seen) == 1


@pytest.mark.parametrize(
    "body",
    [
        b"<html>please log in</html>",
        b"",
        b"[]",
        b'"x"',
        b"null",
        b"{}",
        b'{"keys":{}}',
        b'{"keys":null}',
        b'{"keys":[]}',
        jwks(A)[:-20],
        b"\xff\xfe{}",
        b'{"keys":' + b"[" * 100_000,
    ],
)
async def test_what_is_no_key_set_is_a_failure(idp: FakeIdp, body: bytes) -> None:
    """R154, R155, C30, C38."""
    idp.keys_answer = Answer(body)
    assert (await _failure(jwks_url=idp.jwks_url)).code == "bad_key_set"


@pytest.mark.parametrize(
    "content_type", ["application/jwk-set+json", "application/json; charset=UTF-8", "text/plain", "text/html", "junk"]
)
@pytest.mark.parametrize("prefix", [b"", b"\xef\xbb\xbf"])
async def test_a_key_set_is_judged_by_its_content(idp: FakeIdp, content_type: str, prefix: bytes) -> None:
    """R154, C40: any content type, a byte order mark; for discovery as well."""
    headers = {"Content-Type": content_type}
    idp.keys_answer = Answer(prefix + jwks(A), 200, headers)
    idp.discovery_answer = Answer(prefix + idp.discovery_document(), 200, headers)
    assert _kids(await _fetch(make_source(issuer_settings(issuer=idp.issuer)))) == ["a"]


@pytest.mark.parametrize("coding", ["gzip", "br", "identity, gzip", "x"])
async def test_a_coded_answer_is_a_failure(idp: FakeIdp, coding: str) -> None:
    """R151: nothing is decompressed, so nothing can expand."""
    idp.keys_answer = Answer(gzip.compress(jwks(A)), 200, {"Content-Encoding": coding})
    assert (await _failure(jwks_url=idp.jwks_url)).code == "encoded"


async def test_an_answer_that_says_identity_is_none_coded(idp: FakeIdp) -> None:
    """R151."""
    idp.keys_answer = Answer(jwks(A), 200, {"Content-Encoding": "Identity"})
    assert _kids(await _fetch(make_source(issuer_settings(jwks_url=idp.jwks_url)))) == ["a"]


@pytest.mark.parametrize("head", [b"", b"Content-Length: 1000000000\r\n"])
async def test_an_endless_answer_is_cut_at_the_limit(head: bytes) -> None:
    """R151: with and without a length; no more is read than the limit and what buffers hold."""
    sent = 0

    async def talk(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(b"HTTP/1.1 200 OK\r\n" + head + b"\r\n")
        while sent < 100 * MAX_BYTES:
            writer.write(b" " * 65536)
            await writer.drain()
            sent += 65536

    async with raw_server(talk) as origin:
        assert (await _failure(jwks_url=origin + "/jwks")).code == "too_large"
    assert sent < 80 * MAX_BYTES


async def test_the_largest_accepted_document() -> None:
    """R151: exactly the limit passes."""
    async with FakeIdp() as idp:
        idp.keys_answer = Answer(jwks(A).ljust(MAX_BYTES))
        assert _kids(await _fetch(make_source(issuer_settings(jwks_url=idp.jwks_url)))) == ["a"]
        idp.keys_answer = Answer(jwks(A).ljust(MAX_BYTES + 1))
        assert (await _failure(jwks_url=idp.jwks_url)).code == "too_large"


async def test_a_dripping_answer_ends_at_the_total_timeout() -> None:
    """R152."""

    async def talk(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            writer.write(b" ")
            await writer.drain()
            await asyncio.sleep(0.02)

    async with raw_server(talk) as origin:
        assert (await _failure(jwks_url=origin + "/jwks", jwks_timeout_seconds=0.2)).code == "timeout"


async def test_a_silent_server_ends_at_the_total_timeout(idp: FakeIdp) -> None:
    """R152."""
    idp.keys_answer.gate = asyncio.Event()
    assert (await _failure(jwks_url=idp.jwks_url, jwks_timeout_seconds=0.1)).code == "timeout"


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
async def test_a_broken_exchange_is_a_failure(answer: bytes, code: str) -> None:
    """C30, R286 in the other direction: a cut answer never passes for a whole one."""

    async def talk(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answer)
        await writer.drain()

    async with raw_server(talk) as origin:
        assert (await _failure(jwks_url=origin + "/jwks")).code == code


async def test_a_refused_connection_is_a_failure(idp: FakeIdp) -> None:
    """C30, C32."""
    await idp.stop()
    assert (await _failure(jwks_url=idp.jwks_url)).code == "connect"


async def test_an_unchanged_set_is_revalidated(idp: FakeIdp) -> None:
    """R160, C98: 304 means that the keys stay; a changed set comes whole."""
    idp.revalidates = True
    source = make_source(issuer_settings(jwks_url=idp.jwks_url))
    assert _kids(await source.fetch(discover=True)) == ["a"]
    assert (await source.fetch(discover=True)).keys is None
    idp.publish(A, B)
    assert _kids(await source.fetch(discover=True)) == ["a", "b"]
    assert (await _fetch(source)).keys is None
    assert ["If-None-Match" in seen.headers for seen in idp.seen] == [False, True, True, True]


async def test_last_modified_revalidates_as_well(idp: FakeIdp) -> None:
    """R160."""
    moment = "Wed, 21 Oct 2015 07:28:00 GMT"
    idp.keys_answer.headers = {"Last-Modified": moment, "Cache-Control": "max-age=100"}
    source = make_source(issuer_settings(jwks_url=idp.jwks_url))
    assert (await source.fetch(discover=True)).lifetime == 100
    idp.keys_answer = Answer(b"", 304)
    again = await _fetch(source)
    assert (again.keys, again.lifetime) == (None, 100)  # RFC 9111 section 4.3.4: what 304 does not say stays
    assert idp.seen[-1].headers["If-Modified-Since"] == moment


async def test_304_brings_its_own_lifetime(idp: FakeIdp) -> None:
    """R160, C98."""
    idp.keys_answer.headers = {"ETag": '"1"', "Cache-Control": "max-age=100"}
    source = make_source(issuer_settings(jwks_url=idp.jwks_url))
    await source.fetch(discover=True)
    idp.keys_answer = Answer(b"", 304, {"Cache-Control": "max-age=200", "Age": "50"})
    assert (await _fetch(source)).lifetime == 150


@pytest.mark.parametrize("etag", ['"\u20ac"', '"' + "x" * 2000 + '"'])
async def test_an_odd_validator_is_not_sent_back(idp: FakeIdp, etag: str) -> None:
    """R160: it must not break each later fetch."""
    idp.keys_answer.headers = {"ETag": etag}
    source = make_source(issuer_settings(jwks_url=idp.jwks_url))
    await source.fetch(discover=True)
    assert _kids(await _fetch(source)) == ["a"]
    assert "If-None-Match" not in idp.seen[-1].headers


async def test_a_validator_of_a_set_that_was_not_taken_is_forgotten(idp: FakeIdp) -> None:
    """R160, C30: else the next 304 would confirm a set that nobody has."""
    source = make_source(issuer_settings(jwks_url=idp.jwks_url))
    idp.keys_answer = Answer(b"{}", 200, {"ETag": '"bad"'})
    with pytest.raises(FetchError):
        await source.fetch(discover=True)
    idp.publish(A)
    await _fetch(source)
    assert "If-None-Match" not in idp.seen[-1].headers


@pytest.mark.parametrize(
    ("document", "code"),
    [
        ({"issuer": "https://evil.test"}, "issuer_mismatch"),
        ({"jwks_uri": None}, "jwks_uri_refused"),
        ({"jwks_uri": "file:///etc/passwd"}, "jwks_uri_refused"),
        ({"jwks_uri": "http://u:p@127.0.0.1/jwks"}, "jwks_uri_refused"),
    ],
)
async def test_a_lying_discovery_document_is_a_failure(idp: FakeIdp, document: dict[str, Any], code: str) -> None:
    """R140, R142."""
    idp.discovery_answer = Answer(idp.discovery_document(**document))
    assert (await _failure(issuer=idp.issuer)).code == code
    assert idp.key_fetches() == 0


@pytest.mark.parametrize("suffix", ["", "/"])
async def test_an_issuer_that_differs_by_a_slash_is_a_failure_that_shows_both(suffix: str) -> None:
    """R140, C94: configured with a slash and answered without, and the reverse."""
    async with FakeIdp(suffix) as idp:
        idp.publish(A)
        configured = idp.issuer.rstrip("/") if suffix else idp.issuer + "/"
        error = await _failure(issuer=configured)
        assert error.code == "issuer_mismatch"
        assert f"issuer {idp.issuer}, configured is {configured}:" in str(error)


@pytest.mark.parametrize("body", [b"<html>", b"[]", b'{"issuer":1,"issuer":2}', b""])
async def test_a_discovery_answer_that_is_no_object_is_a_failure(idp: FakeIdp, body: bytes) -> None:
    """R140."""
    idp.discovery_answer = Answer(body)
    assert (await _failure(issuer=idp.issuer)).code == "bad_discovery"


async def test_an_issuer_that_is_no_address_is_a_failure_that_says_what_to_set() -> None:
    """R141."""
    assert (await _failure(issuer="accounts")).code == "issuer_not_a_url"


async def test_a_moved_key_set_is_found_by_a_scheduled_fetch_only(idp: FakeIdp) -> None:
    """R143: a fetch that a request caused uses the known address."""
    async with FakeIdp() as moved:
        moved.publish(B)
        source = make_source(issuer_settings(issuer=idp.issuer))
        assert _kids(await source.fetch(discover=True)) == ["a"]
        idp.discovery_answer = Answer(idp.discovery_document(jwks_uri=moved.jwks_url))
        assert _kids(await source.fetch(discover=False)) == ["a"]
        assert idp.discoveries() == 1
        assert _kids(await source.fetch(discover=True)) == ["b"]
        assert _kids(await _fetch(source, discover=False)) == ["b"]


async def test_validators_of_one_address_are_not_sent_to_another(idp: FakeIdp) -> None:
    """R160, R143."""
    async with FakeIdp() as moved:
        idp.revalidates = moved.revalidates = True
        moved.publish(A)
        source = make_source(issuer_settings(issuer=idp.issuer))
        await source.fetch(discover=True)
        idp.discovery_answer = Answer(idp.discovery_document(jwks_uri=moved.jwks_url))
        assert _kids(await source.fetch(discover=True)) == ["a"]
        assert "If-None-Match" not in moved.seen[0].headers
        assert (await _fetch(source)).keys is None


async def test_discovery_is_revalidated(idp: FakeIdp) -> None:
    """R160: an unchanged document keeps the address that was believed."""
    idp.revalidates = True
    source = make_source(issuer_settings(issuer=idp.issuer))
    await source.fetch(discover=True)
    assert (await _fetch(source)).keys is None
    assert ["If-None-Match" in seen.headers for seen in idp.seen] == [False, False, True, True]


class _Names(AbstractResolver):
    """Every name is on loopback, as after DNS rebinding."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        return [ResolveResult(hostname=host, host="127.0.0.1", port=port, family=socket.AF_INET, proto=0, flags=0)]

    async def close(self) -> None:
        return


@pytest.mark.parametrize(("allow_http", "code"), [(False, "connect"), (True, "")])
async def test_a_discovered_name_that_leads_inside_is_not_connected_to(
    tmp_path: Path, allow_http: bool, code: str
) -> None:
    """R158: the issuer's own name may be private, the name in its document may not, unless the operator said so."""
    bundle, tls = private_authority(tmp_path, "idp.test", "keys.test")
    async with FakeIdp(tls=tls) as idp:
        idp.publish(A)
        port = idp.jwks_url.rpartition(":")[2].partition("/")[0]
        issuer = f"https://idp.test:{port}"
        idp.discovery_answer = Answer(
            json.dumps({"issuer": issuer, "jwks_uri": f"https://keys.test:{port}/jwks"}).encode()
        )
        settings = issuer_settings(issuer=issuer, jwks_ca_file=str(bundle), allow_http=allow_http)
        source = RemoteSource(settings, resolver=_Names())
        if not code:
            assert _kids(await _fetch(source)) == ["a"]
            return
        with pytest.raises(FetchError, match="no public address") as caught:
            await _fetch(source)
        assert caught.value.code == code
        assert (idp.discoveries(), idp.key_fetches()) == (1, 0)


async def test_the_certificate_is_checked_with_the_issuers_authorities(tmp_path: Path) -> None:
    """R157, C100: a private authority works when named, and only then."""
    bundle, tls = private_authority(tmp_path)
    async with FakeIdp(tls=tls) as idp:
        idp.publish(A)
        assert (await _failure(jwks_url=idp.jwks_url)).code == "tls"
        named = issuer_settings(jwks_url=idp.jwks_url, jwks_ca_file=str(bundle))
        assert _kids(await _fetch(make_source(named))) == ["a"]


async def test_a_changed_authority_file_is_read_again(tmp_path: Path) -> None:
    """C100: authorities rotate, too."""
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
        assert _kids(await _fetch(source)) == ["a"]


@pytest.mark.parametrize("content", [None, b"", b"junk"])
async def test_an_unusable_authority_file_is_a_failure(tmp_path: Path, content: bytes | None) -> None:
    """R157: never a fetch without verification instead."""
    file = tmp_path / "ca.pem"
    if content is not None:
        file.write_bytes(content)
    async with FakeIdp() as idp:
        idp.publish(A)
        assert (await _failure(jwks_url=idp.jwks_url, jwks_ca_file=str(file))).code == "ca_file"
        assert idp.seen == []


async def test_proxy_variables_have_no_say(idp: FakeIdp, monkeypatch: pytest.MonkeyPatch) -> None:
    """R157."""
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert _kids(await _fetch(make_source(issuer_settings(jwks_url=idp.jwks_url)))) == ["a"]


async def test_the_bearer_token_is_read_at_each_fetch(idp: FakeIdp, tmp_path: Path) -> None:
    """C100: the file rotates."""
    file = tmp_path / "token"
    file.write_text("first\n")
    source = make_source(issuer_settings(issuer=idp.issuer, jwks_token_file=str(file)))
    await source.fetch(discover=True)
    file.write_text(" second ")
    await _fetch(source)
    assert [seen.headers["Authorization"] for seen in idp.seen] == [
        f"Bearer {text}" for text in ("first", "first", "second", "second")
    ]


async def test_the_bearer_token_goes_to_no_other_host(idp: FakeIdp, tmp_path: Path) -> None:
    """C100: discovered addresses elsewhere do not get it, and no redirect carries it on."""
    file = tmp_path / "token"
    file.write_text("secret")
    async with FakeIdp() as elsewhere:
        elsewhere.publish(A)
        idp.discovery_answer = Answer(idp.discovery_document(jwks_uri=elsewhere.jwks_url))
        assert _kids(await _fetch(make_source(issuer_settings(issuer=idp.issuer, jwks_token_file=str(file))))) == ["a"]
        assert "Authorization" in idp.seen[0].headers
        assert "Authorization" not in elsewhere.seen[0].headers
        idp.keys_answer = Answer(b"", 307, {"Location": elsewhere.jwks_url})
        assert (await _failure(jwks_url=idp.jwks_url, jwks_token_file=str(file))).code == "status_307"
        assert len(elsewhere.seen) == 1


@pytest.mark.parametrize("content", [None, b"", b"a b", b"a\nb", b"\xff", b"a\x00"])
async def test_an_unusable_token_file_is_a_failure_that_does_not_quote_it(
    tmp_path: Path, content: bytes | None
) -> None:
    """C100, R196."""
    file = tmp_path / "token"
    if content is not None:
        file.write_bytes(content)
    error = await _failure(jwks_url="http://127.0.0.1:1/", jwks_token_file=str(file))
    assert error.code == "token_file"
    assert "a b" not in str(error)


async def test_a_query_in_the_address_is_not_shown(idp: FakeIdp) -> None:
    """R196: it may hold a key of the provider's API."""
    idp.keys_answer.status = 500
    source = make_source(issuer_settings(jwks_url=idp.jwks_url + "?key=hidden"))
    with pytest.raises(FetchError) as caught:
        await _fetch(source)
    assert "hidden" not in str(caught.value) + source.url


async def test_a_file_is_read_and_read_again_when_it_changes(tmp_path: Path) -> None:
    """Contract: jwks_file holds a JWKS or PEM."""
    file = tmp_path / "keys"
    file.write_bytes(jwks(A))
    source = make_source(issuer_settings(jwks_file=str(file)))
    first = await source.fetch(discover=True)
    assert (_kids(first), first.lifetime, source.url) == (["a"], 5, str(file))
    assert (await source.fetch(discover=False)).keys is None
    before = file.stat()
    file.write_bytes(jwks(SigningKey.ec("c")))
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert _kids(await source.fetch(discover=True)) == ["c"]  # same size, same time: content decides
    replacement = tmp_path / "new"
    replacement.write_bytes(B.public_bytes())
    replacement.rename(file)
    pem = await _fetch(source)
    assert pem.keys is not None
    assert [key.kid for key in pem.keys.keys] == [None]


async def test_a_broken_file_is_a_failure_until_it_is_mended(tmp_path: Path) -> None:
    """C30 for files."""
    file = tmp_path / "keys"
    file.write_bytes(jwks(A))
    source = make_source(issuer_settings(jwks_file=str(file), jwks_refresh_seconds=2))
    assert (await source.fetch(discover=True)).lifetime == 2
    for content in (b"", b"{", b"-----BEGIN PUBLIC KEY-----\njunk\n-----END PUBLIC KEY-----\n"):
        file.write_bytes(content)
        with pytest.raises(FetchError) as caught:
            await source.fetch(discover=True)
        assert caught.value.code == "bad_key_set"
    file.write_bytes(jwks(A))
    assert (await _fetch(source)).keys is None


async def test_what_is_no_readable_regular_file_is_a_failure(tmp_path: Path) -> None:
    """A pipe must not block the gateway, a device must not fill it."""
    pipe, large = tmp_path / "pipe", tmp_path / "large"
    os.mkfifo(pipe)
    large.write_bytes(b" " * (MAX_BYTES + 1))
    for path, code in (
        (pipe, "file"),
        (tmp_path, "file"),
        (tmp_path / "absent", "file"),
        (Path("/dev/zero"), "file"),
        (large, "too_large"),
    ):
        assert (await _failure(jwks_file=str(path))).code == code


async def test_a_large_set_is_imported_beside_the_event_loop(idp: FakeIdp, monkeypatch: pytest.MonkeyPatch) -> None:
    """R156, R175: a hundred keys cost 30 ms; the rest is cut. A usual set is not worth a thread."""
    threads: list[threading.Thread] = []

    def spy(data: bytes) -> KeySet:
        threads.append(threading.current_thread())
        return import_jwks(data)

    monkeypatch.setattr(jwks_fetch, "import_jwks", spy)
    usual = await _fetch(make_source(issuer_settings(jwks_url=idp.jwks_url)))
    members = [SigningKey.rsa("k").public_jwk(kid=f"k{number}") for number in range(150)]
    idp.keys_answer = Answer(json.dumps({"keys": members}).encode())
    large = await _fetch(make_source(issuer_settings(jwks_url=idp.jwks_url)))
    assert (len(_kids(usual)), len(_kids(large))) == (1, 100)
    assert [thread is threading.main_thread() for thread in threads] == [True, False]
