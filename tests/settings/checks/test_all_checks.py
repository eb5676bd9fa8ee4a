"""Checks between options: what contradicts itself is a fault."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from tests.settings.configs import SMALL, changed, faults_of
from tests.support.certificates import authority

# fmt: off
CONTRADICTIONS: dict[str, tuple[str, dict[str, Any], str]] = {
    "an upstream that does not exist": (
        "routes", {"upstream": "order"}, "routes[0].upstream: is the name of no upstream; did you mean `orders`?"),
    "an issuer that does not exist": (
        "routes", {"issuers": ["main", "mian"]},
        "routes[0].issuers[1]: is the name of no issuer; did you mean `main`?"),
    "keys from two places": (
        "issuers", {"jwks_url": "https://idp.test/keys", "jwks_file": "keys.json"},
        "issuers[0].jwks_file: excludes `jwks_url`: the keys come from one place"),
    "a key without a certificate": ("server", {"tls_key": "key.pem"}, "server.tls_cert: is required with `tls_key`"),
    "a certificate without a key": ("server", {"tls_cert": "cert.pem"}, "server.tls_key: is required with `tls_cert`"),
    "client certificates without TLS": (
        "server", {"tls_client_ca": "ca.pem"}, "server.tls_client_ca: has no effect without `tls_cert` and `tls_key`"),
    "the admin port on the public port": (
        "server", {"listen": "127.0.0.1:9090"},
        "server.admin_listen: is the address of `listen`; the admin port is a port of its own"),
    "the admin port under a wildcard": (
        "server", {"listen": "0.0.0.0:9090"},
        "server.admin_listen: is the address of `listen`; the admin port is a port of its own"),
    "the admin port on one of several": (
        "server", {"listen": ["127.0.0.1:1", "127.0.0.1:9090"]},
        "server.admin_listen: is the address of `listen`; the admin port is a port of its own"),
    "an address twice": (
        "server", {"listen": ["127.0.0.1:1", "unix:/a", "127.0.0.1:1"]},
        "server.listen[2]: is also listen[0]: each address is listened on once"),
    "an address under a wildcard": (
        "server", {"listen": ["0.0.0.0:1", "127.0.0.1:1"]},
        "server.listen[1]: is a part of, or holds, listen[0]: each address is listened on once"),
    "a name under a wildcard of either family": (
        "server", {"listen": ["localhost:1", "[::]:1"]},
        "server.listen[1]: is a part of, or holds, listen[0]: each address is listened on once"),
    "no address": ("server", {"listen": []}, "server.listen: must not be empty"),
    "a wrong address among several": (
        "server", {"listen": ["127.0.0.1:1", "nowhere"]},
        "server.listen[1]: must be host:port, [v6]:port or unix:/path, with a port up to 65535"),
    "scopes on a public route": (
        "routes", {"auth": "public", "scopes": ["a"]},
        'routes[0].scopes: can never apply: with auth = "public" tokens are not looked at'),
    "claims on a public route": (
        "routes", {"auth": "public", "claims": {"role": "admin"}},
        'routes[0].claims: can never apply: with auth = "public" tokens are not looked at'),
    "issuers on a public route": (
        "routes", {"auth": "public", "issuers": ["main"]},
        'routes[0].issuers: can never apply: with auth = "public" tokens are not looked at'),
    "observing a public route": (
        "routes", {"auth": "public", "observe": True},
        'routes[0].observe: has a meaning with auth = "required" only'),
    "observing an optional token": (
        "routes", {"auth": "optional", "observe": True},
        'routes[0].observe: has a meaning with auth = "required" only'),
    "a token among the subprotocols of a public route": (
        "routes", {"auth": "public", "websocket_protocol_token": True},
        'routes[0].websocket_protocol_token: can never apply: with auth = "public" tokens are not looked at'),
    "a token among the subprotocols of no WebSocket": (
        "routes", {"websocket": False, "websocket_protocol_token": True},
        "routes[0].websocket_protocol_token: has no effect with `websocket = false`"),
    "ending with a token that is not looked at": (
        "routes", {"auth": "public", "end_at_expiry": True},
        'routes[0].end_at_expiry: can never apply: with auth = "public" tokens are not looked at'),
    "CORS options without origins": (
        "routes", {"cors_credentials": True}, "routes[0].cors_credentials: has no effect without `cors_origins`"),
    "CORS for a method that the route does not serve": (
        "routes", {"methods": ["GET"], "cors_origins": ["https://app.test"], "cors_methods": ["GET", "PUT"]},
        "routes[0].cors_methods: has a method that is none of this route's `methods`"),
    "every origin with credentials": (
        "routes", {"cors_origins": ["*"], "cors_credentials": True},
        'routes[0].cors_credentials: with "*" every page could act for its visitors: list the origins'),
    "every origin and another": (
        "routes", {"cors_origins": ["*", "https://app.test"]},
        'routes[0].cors_origins: "*" is every origin: it stands alone'),
    "stripping a pattern": (
        "routes", {"path": "/a.*", "match": "regex", "strip_prefix": True},
        'routes[0].strip_prefix: has no meaning with match = "regex"'),
}
# fmt: on


@pytest.mark.parametrize("case", CONTRADICTIONS)
def test_a_contradiction_is_a_fault_at_its_key(case: str, tmp_path: Path) -> None:
    """R381, R383: what can never apply or points nowhere stops the start."""
    table, options, fault = CONTRADICTIONS[case]
    assert faults_of(tmp_path, changed(table, **options)) == [fault]


@pytest.mark.parametrize(
    "listen",
    [
        *("127.0.0.1:8080", "unix:/run/gateway.sock", "127.0.0.1:0", "[::1]:9090", "[::]:9090"),
        ["0.0.0.0:8080", "[::]:8080", "unix:/run/gateway.sock"],
        ["127.0.0.1:1", "127.0.0.1:2", "[::]:1"],
        ["127.0.0.1:0", "127.0.0.1:0"],
    ],
)
def test_different_addresses_are_no_contradiction(listen: str | list[str], tmp_path: Path) -> None:
    """Port 0 is another port each time; a v4 and a v6 address are two."""
    admin = "127.0.0.1:0" if listen == "127.0.0.1:0" else "127.0.0.1:9090"
    assert faults_of(tmp_path, changed("server", listen=listen, admin_listen=admin)) == []


def test_a_certificate_without_a_tcp_address_is_a_fault(tmp_path: Path) -> None:
    """C111: a Unix socket stays plain, which the options must not hide."""
    own = authority(tmp_path).sign("own", "localhost")
    config = changed("server", listen="unix:/run/g.sock", tls_cert=str(own.cert), tls_key=str(own.key))
    (fault,) = faults_of(tmp_path, config)
    assert fault.startswith("server.tls_cert: has no effect: `listen` has no TCP address")


def test_one_socket_file_cannot_serve_both(tmp_path: Path) -> None:
    config = changed("server", listen="unix:/run/g.sock", admin_listen="unix:/run/g.sock")
    assert [line.partition(":")[0] for line in faults_of(tmp_path, config)] == ["server.admin_listen"]


def test_names_and_issuer_values_belong_to_one_entry(tmp_path: Path) -> None:
    """R381."""
    config = copy.deepcopy(SMALL)
    config["issuers"].append({"name": "main", "issuer": ["https://b.test", "https://idp.test/"], "audience": ["b"]})
    config["upstreams"].append({"name": "orders", "urls": ["http://127.0.0.1:9001"]})
    assert faults_of(tmp_path, config) == [
        "issuers[1].name: is also the name of issuers[0]",
        "issuers[1].issuer: a value of it also belongs to issuers[0]",
        "upstreams[1].name: is also the name of upstreams[0]",
    ]


@pytest.mark.parametrize("auth", ["required", "optional"])
def test_a_route_that_looks_at_tokens_needs_an_issuer(auth: str, tmp_path: Path) -> None:
    """R382: without `auth` a route requires a token, so no issuer is no open door."""
    config = changed("routes", auth=auth)
    del config["issuers"]
    assert faults_of(tmp_path, config) == [
        'issuers: is empty, but routes[0] looks at tokens; name an issuer, or write auth = "public"'
    ]
    config["routes"][0]["auth"] = "public"
    assert faults_of(tmp_path, config) == []


@pytest.mark.parametrize("url", ["http://idp.internal/", "http://10.0.0.1:8080", "http://127.0.0.1.example/"])
@pytest.mark.parametrize("key", ["issuer", "jwks_url"])
def test_keys_over_http_must_be_allowed(key: str, url: str, tmp_path: Path) -> None:
    """R141, R381: an http:// issuer whose keys are fetched from there."""
    (fault,) = faults_of(tmp_path, changed("issuers", **{key: url}))
    assert fault.startswith(f"issuers[0].{key}: keys over http:// can be replaced")
    assert faults_of(tmp_path, changed("issuers", allow_http=True, **{key: url})) == []


@pytest.mark.parametrize(
    "url", ["http://localhost:8080/", "http://127.0.0.1:9", "http://[::1]:9/x", "https://idp.test"]
)
def test_keys_over_loopback_or_https_need_no_permission(url: str, tmp_path: Path) -> None:
    assert faults_of(tmp_path, changed("issuers", issuer=url)) == []
    assert faults_of(tmp_path, changed("issuers", issuer="any text", jwks_url=url)) == []


def test_an_issuer_that_is_no_url_needs_a_place_for_its_keys(tmp_path: Path) -> None:
    """R141: discovery starts from the first issuer value."""
    (fault,) = faults_of(tmp_path, changed("issuers", issuer=["accounts.test", "https://accounts.test"]))
    assert fault.startswith("issuers[0].issuer: keys are looked for at this address by discovery, but it must begin")
    (fault,) = faults_of(tmp_path, changed("issuers", issuer="https://idp.test/?tenant=a"))
    assert fault.startswith("issuers[0].issuer: has a query")
    assert faults_of(tmp_path, changed("issuers", issuer="accounts.test", jwks_file="keys.pem")) == []


def test_two_identity_headers_that_services_fold_together_are_one(tmp_path: Path) -> None:
    """R341, R359: and names that differ in case only are not lost silently."""
    config = {**SMALL, "identity": {"X-User-Id": "sub", "x_user_id": "email", "x-user-id": "name"}}
    assert faults_of(tmp_path, config) == [
        "identity.x_user_id: is the same header as X-User-Id for services that fold names",
        "identity.x-user-id: is the same header as X-User-Id for services that fold names",
    ]


def test_a_faulty_option_causes_no_second_fault_elsewhere(tmp_path: Path) -> None:
    """An issuer without a sound name is not also "the name of no issuer"; `auth = "requird"` is not also observed."""
    config = changed("routes", auth="requird", observe=True, issuers=["b b"], path=5)
    config["routes"].append({"path": "/orders", "upstream": "orders"})
    config["issuers"][0].update(name="b b", jwks_url="ftp://x", jwks_file="keys.json", issuer=["x"])
    config["server"] = {"listen": "nowhere", "admin_listen": "0.0.0.0:8080", "tls_cert": 1, "tls_key": "x"}
    assert [line.partition(":")[0] for line in faults_of(tmp_path, config)] == [
        "server.listen",
        "server.tls_cert",
        "issuers[0].name",
        "issuers[0].jwks_url",
        "routes[0].path",
        "routes[0].auth",
    ]


def test_a_faulty_name_does_not_hide_a_misspelt_one(tmp_path: Path) -> None:
    """R381: what cannot be the faulty one is still told; what may be it is not told twice."""
    config = copy.deepcopy(SMALL)
    config["issuers"].append({**config["issuers"][0], "name": "not a name", "issuer": "https://other.test/"})
    name_fault = (
        "issuers[1].name: must be up to 64 letters, digits, dots, hyphens and underscores, and begin with a letter"
        " or digit"
    )
    config["routes"][0]["issuers"] = ["main", "mian"]
    hinted = "routes[0].issuers[1]: is the name of no issuer; did you mean `main`?"
    assert faults_of(tmp_path, config) == [name_fault, hinted]
    config["routes"][0]["issuers"] = ["other"]
    assert faults_of(tmp_path, config) == [name_fault]
    config["routes"][0]["issuers"] = ["other", "third"]
    assert len(faults_of(tmp_path, config)) == 3
