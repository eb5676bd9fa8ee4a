"""``gateway/outbound/discovery.py``: which addresses are believed."""

from __future__ import annotations

import socket

import pytest
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from gateway.outbound.discovery import (
    DiscoveryError,
    GuardedResolver,
    discovery_url,
    is_global,
    is_local,
    jwks_uri_of,
    vet_jwks_uri,
)

ISSUER = "https://idp.example.com"


@pytest.mark.parametrize(
    ("issuer", "url"),
    [
        ("https://t.auth0.test", "https://t.auth0.test/.well-known/openid-configuration"),
        ("https://t.auth0.test/", "https://t.auth0.test/.well-known/openid-configuration"),
        ("https://idp.test/realms/x", "https://idp.test/realms/x/.well-known/openid-configuration"),
        ("https://idp.test/realms/x/", "https://idp.test/realms/x/.well-known/openid-configuration"),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080/.well-known/openid-configuration"),
    ],
)
@pytest.mark.rule("R141", "C94")
def test_discovery_address_is_appended_with_exactly_one_slash(issuer: str, url: str) -> None:
    """The form of OpenID Connect; the RFC 8414 form is not tried."""
    assert str(discovery_url(issuer)) == url


@pytest.mark.parametrize(
    "issuer",
    [
        "accounts",
        "urn:idp",
        "kubernetes/serviceaccount",
        "ftp://idp.test",
        "https://idp.test?x=1",
        "https://idp.test#a",
        "https://",
        "https://[::1",
    ],
)
@pytest.mark.rule("R141")
def test_an_issuer_that_is_no_address_cannot_be_discovered(issuer: str) -> None:
    """The error names the way out."""
    with pytest.raises(DiscoveryError, match="set jwks_url") as caught:
        discovery_url(issuer)
    assert caught.value.code == "issuer_not_a_url"


@pytest.mark.parametrize(
    "named", [ISSUER + "/", "https://idp.example.org", "HTTPS://idp.example.com", "", None, 5, [ISSUER]]
)
@pytest.mark.rule("R140", "C94")
def test_a_document_for_another_issuer_is_refused_with_both_shown(named: object) -> None:
    with pytest.raises(DiscoveryError) as caught:
        jwks_uri_of({"issuer": named, "jwks_uri": ISSUER + "/jwks"}, ISSUER, allow_http=False)
    assert caught.value.code == "issuer_mismatch"
    assert ISSUER in str(caught.value)
    if isinstance(named, str):
        assert named in str(caught.value)


@pytest.mark.rule("R197")
def test_a_foreign_issuer_is_shown_escaped_and_short() -> None:
    with pytest.raises(DiscoveryError) as caught:
        jwks_uri_of({"issuer": "x\n\x1b[31m" + "y" * 5000}, ISSUER, allow_http=False)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("uri", [None, 5, ["https://idp.example.com/jwks"], {}])
@pytest.mark.rule("R142")
def test_a_document_without_key_address_is_refused(uri: object) -> None:
    with pytest.raises(DiscoveryError, match="no jwks_uri"):
        jwks_uri_of({"issuer": ISSUER, "jwks_uri": uri}, ISSUER, allow_http=False)


@pytest.mark.parametrize(
    "uri",
    [
        "https://idp.example.com/jwks",
        "https://keys.example.net/jwks?tenant=1",
        "https://idp.example.com:8443/jwks",
        "https://8.8.8.8/jwks",
        "https://[2606:4700::1111]/jwks",
    ],
)
@pytest.mark.rule("R142")
def test_public_https_addresses_pass(uri: str) -> None:
    assert str(vet_jwks_uri(uri, URL(ISSUER), allow_http=False)) == uri


@pytest.mark.parametrize(
    "uri",
    [
        "http://idp.example.com/jwks",
        "file:///etc/passwd",
        "ftp://idp.example.com/jwks",
        "//idp.example.com/jwks",
        "/jwks",
        "",
        "https://",
        "https:///jwks",
        "https://u:p@idp.example.com/jwks",
        "https://u@idp.example.com/jwks",
        "https://@idp.example.com/jwks",
        "https://idp.example.com/jwks#a",
        "https://idp.example.com/jwks#",
        "https://idp.example.com\\@evil.test/jwks",
        "https://idp.example.com/jwks\r\nX: y",
        "https://idp.example.com/a b",
        "https://\u0661\u0662\u0667.0.0.1/",
        "https://idp.example.com:0/jwks",
        "https://idp.example.com:99999/jwks",
        "https://[::1/jwks",
        "https://169.254.169.254/latest/meta-data",
        "https://127.0.0.1/jwks",
        "https://127.1/jwks",
        "https://2130706433/jwks",
        "https://0177.0.0.1/jwks",
        "https://0/jwks",
        "https://0.0.0.0/jwks",
        "https://10.1.2.3/jwks",
        "https://172.16.0.1/jwks",
        "https://192.168.1.1/jwks",
        "https://100.64.0.1/jwks",
        "https://224.0.0.1/jwks",
        "https://localhost/jwks",
        "https://LOCALHOST./jwks",
        "https://a.localhost/jwks",
        "https://[::1]/jwks",
        "https://[::]/jwks",
        "https://[fe80::1]/jwks",
        "https://[fd00::1]/jwks",
        "https://[::ffff:10.0.0.1]/jwks",
        "https://[64:ff9b::7f00:1]/jwks",
        "https://[2002:7f00:1::]/jwks",
    ],
)
@pytest.mark.rule("R142")
def test_addresses_that_lead_inside_or_nowhere_are_refused(uri: str) -> None:
    """CWE-918."""
    with pytest.raises(DiscoveryError) as caught:
        vet_jwks_uri(uri, URL(ISSUER), allow_http=False)
    assert caught.value.code == "jwks_uri_refused"
    assert str(caught.value).isprintable()


@pytest.mark.rule("R196")
def test_userinfo_and_query_of_a_refused_address_are_not_shown() -> None:
    with pytest.raises(DiscoveryError) as caught:
        vet_jwks_uri("https://user:secret@idp.example.com/jwks?key=hidden", URL(ISSUER), allow_http=False)
    assert not {"user:", "secret", "hidden"} & set(str(caught.value).replace("@", " ").split())
    assert "secret" not in str(caught.value)
    assert "hidden" not in str(caught.value)


@pytest.mark.parametrize(
    ("issuer", "uri", "allow_http"),
    [
        ("http://127.0.0.1:1", "http://127.0.0.1:2/jwks", False),
        ("http://localhost:1", "http://127.0.0.1:2/jwks", False),
        ("http://[::1]:1", "http://[::1]:1/jwks", False),
        ("https://10.0.0.1", "https://10.0.0.2/jwks", False),
        ("http://idp.internal", "http://idp.internal/jwks", True),
        ("https://idp.example.com", "http://idp.example.com/jwks", True),
    ],
)
@pytest.mark.rule("R142")
def test_an_issuer_inside_may_name_an_address_inside(issuer: str, uri: str, allow_http: bool) -> None:
    """When the operator has said so."""
    assert str(vet_jwks_uri(uri, URL(issuer), allow_http=allow_http)) == uri


@pytest.mark.rule("R142")
def test_allow_http_opens_no_private_literal() -> None:
    """Plain HTTP is one thing, the metadata service another."""
    with pytest.raises(DiscoveryError, match="has a private address"):
        vet_jwks_uri("http://169.254.169.254/", URL("http://idp.internal"), allow_http=True)


@pytest.mark.parametrize(
    ("host", "local"), [(None, False), ("", False), ("idp.example.com", False), ("8.8.8.8", False), ("localhost", True)]
)
@pytest.mark.rule("R158")
def test_names_are_not_local_by_themselves(host: str | None, local: bool) -> None:
    """What a name leads to is looked at when it is looked up."""
    assert is_local(host) is local


class _FixedResolver(AbstractResolver):
    def __init__(self, *addresses: str) -> None:
        self.addresses = addresses
        self.closed = False

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        return [
            ResolveResult(hostname=host, host=address, port=port, family=family, proto=0, flags=0)
            for address in self.addresses
        ]

    async def close(self) -> None:
        self.closed = True


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "169.254.169.254", "::ffff:10.0.0.1", "10.0.0.1", "fe80::1%eth0", "::1", "64:ff9b::a00:1"]
)
@pytest.mark.rule("R158")
async def test_a_name_that_leads_inside_is_refused_on_connect(address: str) -> None:
    """DNS rebinding."""
    guard = GuardedResolver("idp.example.com", _FixedResolver(address))
    with pytest.raises(OSError, match="no public address"):
        await guard.resolve("keys.example.net", 443)


@pytest.mark.rule("R158")
async def test_public_addresses_and_the_issuers_own_host_pass_the_guard() -> None:
    inner = _FixedResolver("10.0.0.1", "8.8.8.8")
    guard = GuardedResolver("idp.example.com", inner)
    assert [found["host"] for found in await guard.resolve("keys.example.net", 443)] == ["8.8.8.8"]
    assert [found["host"] for found in await guard.resolve("idp.example.com", 443)] == ["10.0.0.1", "8.8.8.8"]
    await guard.close()
    assert inner.closed


@pytest.mark.rule("R158")
async def test_the_systems_resolver_is_guarded_too() -> None:
    """With the real look-up of a name."""
    guard = GuardedResolver("idp.example.com")
    await guard.close()
    with pytest.raises(OSError, match="no public address"):
        await guard.resolve("localhost", 443)
    await guard.close()


@pytest.mark.parametrize(
    ("address", "public"),
    [("8.8.8.8", True), ("2606:4700::1111", True), ("junk", False), ("2001:0:4136:e378:8000:63bf:f5ff:fffe", False)],
)
@pytest.mark.rule("R158")
def test_public_addresses(address: str, public: bool) -> None:
    """The last one is Teredo around 10.0.0.1."""
    assert is_global(address) is public
