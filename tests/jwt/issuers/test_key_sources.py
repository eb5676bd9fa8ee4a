"""``gateway/jwt/issuers/key_sources.py``: one fetch, over real sockets: discovery, key set, revalidation."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import pytest
from aiohttp.abc import AbstractResolver, ResolveResult

from gateway.jwt.issuers.key_sources import RemoteSource, make_source
from gateway.outbound.http import FetchError
from tests.support.issuers.fetching import failure, fetch, kids
from tests.support.issuers.identity_provider import WELL_KNOWN, Answer, FakeIdp, issuer_settings, private_authority
from tests.support.tokens.minting import SigningKey, jwks

A, B = SigningKey.ec("a"), SigningKey.ec("b")


@pytest.mark.rule("C100")
async def test_a_given_address_is_fetched_without_discovery(idp: FakeIdp) -> None:
    """jwks_url overrides discovery."""
    source = make_source(issuer_settings(jwks_url=idp.jwks_url, jwks_refresh_seconds=120))
    fetched = await fetch(source)
    assert (kids(fetched), fetched.lifetime, source.url) == (["a"], 120, idp.jwks_url)
    assert [seen.path for seen in idp.seen] == ["/jwks"]


@pytest.mark.parametrize("suffix", ["", "/", "/realms/x", "/realms/x/"])
@pytest.mark.rule("R141", "C94")
async def test_keys_are_found_by_discovery(suffix: str) -> None:
    """Exactly one slash before the well-known part, whatever the issuer ends with."""
    async with FakeIdp(suffix) as idp:
        idp.publish(A)
        source = make_source(issuer_settings(issuer=[idp.issuer, "https://other.test/"]))
        assert source.url == ""
        assert kids(await fetch(source)) == ["a"]
        assert [seen.path for seen in idp.seen] == [suffix.rstrip("/") + WELL_KNOWN, "/jwks"]
        assert source.url == idp.jwks_url


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
@pytest.mark.rule("R154", "R155", "C30", "C38")
async def test_what_is_no_key_set_is_a_failure(idp: FakeIdp, body: bytes) -> None:
    idp.keys_answer = Answer(body)
    assert (await failure(jwks_url=idp.jwks_url)).code == "bad_key_set"


@pytest.mark.parametrize(
    "content_type", ["application/jwk-set+json", "application/json; charset=UTF-8", "text/plain", "text/html", "junk"]
)
@pytest.mark.parametrize("prefix", [b"", b"\xef\xbb\xbf"])
@pytest.mark.rule("R154", "C40")
async def test_a_key_set_is_judged_by_its_content(idp: FakeIdp, content_type: str, prefix: bytes) -> None:
    """Any content type, a byte order mark; for discovery as well."""
    headers = {"Content-Type": content_type}
    idp.keys_answer = Answer(prefix + jwks(A), 200, headers)
    idp.discovery_answer = Answer(prefix + idp.discovery_document(), 200, headers)
    assert kids(await fetch(make_source(issuer_settings(issuer=idp.issuer)))) == ["a"]


@pytest.mark.rule("R160", "C98")
async def test_an_unchanged_set_is_revalidated(idp: FakeIdp) -> None:
    """304 means that the keys stay; a changed set comes whole."""
    idp.revalidates = True
    source = make_source(issuer_settings(jwks_url=idp.jwks_url))
    assert kids(await source.fetch(discover=True)) == ["a"]
    assert (await source.fetch(discover=True)).keys is None
    idp.publish(A, B)
    assert kids(await source.fetch(discover=True)) == ["a", "b"]
    assert (await fetch(source)).keys is None
    assert ["If-None-Match" in seen.headers for seen in idp.seen] == [False, True, True, True]


@pytest.mark.rule("R160")
async def test_last_modified_revalidates_as_well(idp: FakeIdp) -> None:
    moment = "Wed, 21 Oct 2015 07:28:00 GMT"
    idp.keys_answer.headers = {"Last-Modified": moment, "Cache-Control": "max-age=100"}
    source = make_source(issuer_settings(jwks_url=idp.jwks_url))
    assert (await source.fetch(discover=True)).lifetime == 100
    idp.keys_answer = Answer(b"", 304)
    again = await fetch(source)
    assert (again.keys, again.lifetime) == (None, 100)  # RFC 9111 section 4.3.4: what 304 does not say stays
    assert idp.seen[-1].headers["If-Modified-Since"] == moment


@pytest.mark.rule("R160", "C98")
async def test_304_brings_its_own_lifetime(idp: FakeIdp) -> None:
    idp.keys_answer.headers = {"ETag": '"1"', "Cache-Control": "max-age=100"}
    source = make_source(issuer_settings(jwks_url=idp.jwks_url))
    await source.fetch(discover=True)
    idp.keys_answer = Answer(b"", 304, {"Cache-Control": "max-age=200", "Age": "50"})
    assert (await fetch(source)).lifetime == 150


@pytest.mark.parametrize("etag", ['"\u20ac"', '"' + "x" * 2000 + '"'])
@pytest.mark.rule("R160")
async def test_an_odd_validator_is_not_sent_back(idp: FakeIdp, etag: str) -> None:
    """It must not break each later fetch."""
    idp.keys_answer.headers = {"ETag": etag}
    source = make_source(issuer_settings(jwks_url=idp.jwks_url))
    await source.fetch(discover=True)
    assert kids(await fetch(source)) == ["a"]
    assert "If-None-Match" not in idp.seen[-1].headers


@pytest.mark.rule("R160", "C30")
async def test_a_validator_of_a_set_that_was_not_taken_is_forgotten(idp: FakeIdp) -> None:
    """Else the next 304 would confirm a set that the gateway does not have."""
    source = make_source(issuer_settings(jwks_url=idp.jwks_url))
    idp.keys_answer = Answer(b"{}", 200, {"ETag": '"bad"'})
    with pytest.raises(FetchError):
        await source.fetch(discover=True)
    idp.publish(A)
    await fetch(source)
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
@pytest.mark.rule("R140", "R142")
async def test_a_lying_discovery_document_is_a_failure(idp: FakeIdp, document: dict[str, Any], code: str) -> None:
    idp.discovery_answer = Answer(idp.discovery_document(**document))
    assert (await failure(issuer=idp.issuer)).code == code
    assert idp.key_fetches() == 0


@pytest.mark.parametrize("suffix", ["", "/"])
@pytest.mark.rule("R140", "C94")
async def test_an_issuer_that_differs_by_a_slash_is_a_failure_that_shows_both(suffix: str) -> None:
    """Configured with a slash and answered without, and the reverse."""
    async with FakeIdp(suffix) as idp:
        idp.publish(A)
        configured = idp.issuer.rstrip("/") if suffix else idp.issuer + "/"
        error = await failure(issuer=configured)
        assert error.code == "issuer_mismatch"
        assert f"issuer {idp.issuer}, configured is {configured}:" in str(error)


@pytest.mark.parametrize("body", [b"<html>", b"[]", b'{"issuer":1,"issuer":2}', b""])
@pytest.mark.rule("R140")
async def test_a_discovery_answer_that_is_no_object_is_a_failure(idp: FakeIdp, body: bytes) -> None:
    idp.discovery_answer = Answer(body)
    assert (await failure(issuer=idp.issuer)).code == "bad_discovery"


@pytest.mark.rule("R141")
async def test_an_issuer_that_is_no_address_is_a_failure_that_says_what_to_set() -> None:
    assert (await failure(issuer="accounts")).code == "issuer_not_a_url"


@pytest.mark.rule("R143")
async def test_a_moved_key_set_is_found_by_a_scheduled_fetch_only(idp: FakeIdp) -> None:
    """A fetch that a request caused uses the known address."""
    async with FakeIdp() as moved:
        moved.publish(B)
        source = make_source(issuer_settings(issuer=idp.issuer))
        assert kids(await source.fetch(discover=True)) == ["a"]
        idp.discovery_answer = Answer(idp.discovery_document(jwks_uri=moved.jwks_url))
        assert kids(await source.fetch(discover=False)) == ["a"]
        assert idp.discoveries() == 1
        assert kids(await source.fetch(discover=True)) == ["b"]
        assert kids(await fetch(source, discover=False)) == ["b"]


@pytest.mark.rule("R160", "R143")
async def test_validators_of_one_address_are_not_sent_to_another(idp: FakeIdp) -> None:
    async with FakeIdp() as moved:
        idp.revalidates = moved.revalidates = True
        moved.publish(A)
        source = make_source(issuer_settings(issuer=idp.issuer))
        await source.fetch(discover=True)
        idp.discovery_answer = Answer(idp.discovery_document(jwks_uri=moved.jwks_url))
        assert kids(await source.fetch(discover=True)) == ["a"]
        assert "If-None-Match" not in moved.seen[0].headers
        assert (await fetch(source)).keys is None


@pytest.mark.rule("R160")
async def test_discovery_is_revalidated(idp: FakeIdp) -> None:
    """An unchanged document keeps the address that was believed."""
    idp.revalidates = True
    source = make_source(issuer_settings(issuer=idp.issuer))
    await source.fetch(discover=True)
    assert (await fetch(source)).keys is None
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
@pytest.mark.rule("R158")
async def test_a_discovered_name_that_leads_inside_is_not_connected_to(
    tmp_path: Path, allow_http: bool, code: str
) -> None:
    """The issuer's own name may be private, the name in its document may not, unless the operator said so."""
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
            assert kids(await fetch(source)) == ["a"]
            return
        with pytest.raises(FetchError, match="no public address") as caught:
            await fetch(source)
        assert caught.value.code == code
        assert (idp.discoveries(), idp.key_fetches()) == (1, 0)
