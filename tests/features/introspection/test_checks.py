"""Opaque tokens in a configuration: what of issuers, clients and routes fits together."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
from joserfc.jwk import ECKey

from tests.settings.configs import SMALL, faults_of, load_text, toml, warnings_of

SECRET, KEY = "secret", "key"


def config(folder: Path, *, route: dict[str, Any] | None = None, **options: Any) -> dict[str, Any]:
    """Return a configuration whose one issuer is asked about tokens; an option that is None is left out."""
    (folder / SECRET).write_text("s3cr3t")
    (folder / KEY).write_bytes(ECKey.generate_key("P-256").as_pem(private=True))
    made = copy.deepcopy(SMALL)
    issuer = {
        "introspection_url": "https://idp.test/introspect",
        "introspection_client_id": "gateway",
        "introspection_client_secret_file": SECRET,
        **options,
    }
    for name in ("introspection_client_secret_file", "introspection_private_key_file"):
        if issuer.get(name):
            issuer[name] = str(folder / issuer[name])
    made["issuers"][0].update({name: value for name, value in issuer.items() if value is not None})
    made["routes"][0].update({"credentials": ["opaque"], **(route or {})})
    return made


def test_issuer_that_is_asked_needs_no_address_of_keys(tmp_path: Path) -> None:
    made = config(tmp_path, issuer="urn:as")
    issuer = load_text(tmp_path, toml(made)).settings.issuers[0]
    assert (issuer.introspect, issuer.introspection_auth) == ("opaque", "client_secret_basic")
    assert (issuer.introspection_cache_seconds, issuer.introspection_inactive_cache_seconds) == (30, 5)
    assert warnings_of(tmp_path, made) == []


VALID = [
    pytest.param({"introspection_url": "http://127.0.0.1:9/x"}, id="loopback"),
    pytest.param({"introspection_url": "http://as.internal/x", "allow_http": True}, id="private-network"),
    pytest.param({"introspection_auth": "client_secret_post"}, id="post"),
    pytest.param(
        {
            "introspection_auth": "private_key_jwt",
            "introspection_client_secret_file": None,
            "introspection_private_key_file": KEY,
            "introspection_assertion_audience": "https://idp.test/token",
        },
        id="private_key_jwt",
    ),
    pytest.param({"route": {"credentials": ["jwt", "opaque"]}, "jwks_url": "https://idp.test/jwks"}, id="both"),
    pytest.param({"route": {"issuers": ["main"], "websocket_protocol_token": True}}, id="options-of-tokens"),
    pytest.param({"route": {"credentials": ["opaque"], "forward_authorization": True}}, id="forwarded"),
]


@pytest.mark.parametrize("options", VALID)
def test_valid(options: dict[str, Any], tmp_path: Path) -> None:
    assert faults_of(tmp_path, config(tmp_path, **options)) == []


FAULTS = [
    pytest.param(
        {"introspection_url": "http://as.test/x"},
        "issuers[0].introspection_url: tokens and the client's secret over http://",
        id="http",
    ),
    pytest.param({"introspection_url": "ftp://as.test"}, "issuers[0].introspection_url: ", id="ftp"),
    pytest.param({"introspection_client_id": None}, "issuers[0].introspection_client_id: is required with", id="id"),
    pytest.param(
        {"introspection_client_secret_file": None},
        'issuers[0].introspection_client_secret_file: is required with introspection_auth = "client_secret_basic"',
        id="secret",
    ),
    pytest.param(
        {"introspection_client_secret_file": "missing"},
        "issuers[0].introspection_client_secret_file: this file cannot be read",
        id="secret-missing",
    ),
    pytest.param(
        {"introspection_private_key_file": KEY},
        'issuers[0].introspection_private_key_file: has no effect with introspection_auth = "client_secret_basic"',
        id="key-unused",
    ),
    pytest.param(
        {"introspection_assertion_audience": "x"},
        "issuers[0].introspection_assertion_audience: has no effect with",
        id="audience-unused",
    ),
    pytest.param(
        {"introspection_auth": "private_key_jwt", "introspection_private_key_file": KEY},
        'issuers[0].introspection_client_secret_file: has no effect with introspection_auth = "private_key_jwt"',
        id="secret-unused",
    ),
    pytest.param(
        {"introspection_auth": "private_key_jwt", "introspection_client_secret_file": None},
        "issuers[0].introspection_private_key_file: is required with",
        id="key",
    ),
    pytest.param(
        {
            "introspection_auth": "private_key_jwt",
            "introspection_client_secret_file": None,
            "introspection_private_key_file": SECRET,
        },
        "issuers[0].introspection_private_key_file: this file holds no private key",
        id="no-key",
    ),
    pytest.param(
        {"introspection_url": "http://127.0.0.1/x", "introspection_ca_file": "x"},
        "issuers[0].introspection_ca_file: has no effect: `introspection_url` is http://",
        id="ca-unused",
    ),
    pytest.param(
        {"introspection_ca_file": "/none"}, "issuers[0].introspection_ca_file: this file cannot be read", id="ca"
    ),
    pytest.param(
        {"jwks_url": "https://idp.test/jwks"},
        "issuers[0].jwks_url: has no effect: no route verifies JWTs of this issuer by its keys",
        id="keys-unused",
    ),
    pytest.param(
        {"route": {"credentials": ["jwt"]}},
        "issuers[0].introspection_url: is never used: no route that accepts this issuer",
        id="never-asked",
    ),
    pytest.param(
        {"introspection_url": None, "introspection_client_secret_file": None},
        "issuers[0].introspection_client_id: has no effect without `introspection_url`",
        id="no-url",
    ),
    pytest.param(
        {"route": {"credentials": ["opaque"], "auth": "public"}},
        'routes[0].credentials: can never apply: with auth = "public" credentials are not looked at',
        id="public",
    ),
]


@pytest.mark.parametrize(("options", "fault"), FAULTS)
def test_what_cannot_be_meant_stops_the_start(options: dict[str, Any], fault: str, tmp_path: Path) -> None:
    found = faults_of(tmp_path, config(tmp_path, **options))
    assert [text for text in found if text.startswith(fault)]
    assert not [text for text in found if "s3cr3t" in text]


def test_opaque_tokens_need_somebody_to_ask(tmp_path: Path) -> None:
    made = copy.deepcopy(SMALL)
    made["routes"][0]["credentials"] = ["jwt", "opaque"]
    (fault,) = faults_of(tmp_path, made)
    assert fault == 'routes[0].credentials: has "opaque", but no issuer of this route has an `introspection_url`'


def two(folder: Path, second: dict[str, Any], **route: Any) -> dict[str, Any]:
    made = config(folder, route=route)
    other = {**made["issuers"][0], "name": "other", "issuer": "https://other.test/", **second}
    made["issuers"].append(other)
    return made


@pytest.mark.rule("R118")
def test_nobody_guesses_whose_a_token_is(tmp_path: Path) -> None:
    """One route, two servers that could be asked."""
    (fault,) = faults_of(tmp_path, two(tmp_path, {}))
    assert fault.startswith("routes[0].issuers: leaves open which of `main` and `other` introspects tokens")
    assert faults_of(tmp_path, two(tmp_path, {"introspect": "jwt"})) == []
    one_each = two(tmp_path, {}, issuers=["main"])
    one_each["routes"].append({**one_each["routes"][0], "path": "/other", "issuers": ["other"]})
    assert faults_of(tmp_path, one_each) == []


def test_http_in_a_private_network_is_told(tmp_path: Path) -> None:
    made = config(tmp_path, introspection_url="http://as.internal/x", allow_http=True)
    (warning,) = warnings_of(tmp_path, made)
    assert warning.startswith("issuers[0].allow_http: tokens and the client's secret go over http://")
    (tmp_path / "jwks.json").write_text("{}")
    made = config(
        tmp_path,
        introspection_url="http://as.internal/x",
        allow_http=True,
        jwks_file=str(tmp_path / "jwks.json"),
        route={"credentials": ["jwt", "opaque"]},
    )
    assert len(warnings_of(tmp_path, made)) == 1


def test_faults_elsewhere_make_no_false_ones_here(tmp_path: Path) -> None:
    made = config(tmp_path, introspection_url="nonsense")
    assert [text.partition(":")[0] for text in faults_of(tmp_path, made)] == ["issuers[0].introspection_url"]
    made = config(tmp_path, route={"credentials": ["nonsense"]})
    assert [text.partition(":")[0] for text in faults_of(tmp_path, made)] == ["routes[0].credentials[0]"]
