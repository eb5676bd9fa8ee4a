"""API keys in a configuration: what of keys, file and routes fits together."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from tests.settings.configs import SMALL, faults_of, load_text, toml, warnings_of
from tests.support.tokens.api_keys import KEY, OTHER, entry, write_keys


def config(*keys: dict[str, Any], **route: Any) -> dict[str, Any]:
    """Return a small configuration with keys, whose one route has these options."""
    made = copy.deepcopy(SMALL)
    made["routes"][0].update({"credentials": ["api_key"], **route})
    return {**made, "api_keys": list(keys)} if keys else made


def with_file(file: Path, *keys: dict[str, Any], **route: Any) -> dict[str, Any]:
    return {**config(*keys, **route), "tokens": {"api_keys_file": str(file)}}


def test_keys_alone_are_enough(tmp_path: Path) -> None:
    """No issuer is needed where tokens are not looked at."""
    made = config(entry(expires="2027-01-01T00:00:00Z"))
    del made["issuers"]
    settings = load_text(tmp_path, toml(made)).settings
    assert (settings.api_keys[0].id, settings.routes[0].credentials) == ("partner", ["api_key"])
    assert warnings_of(tmp_path, made) == []


def test_issuers_are_needed_where_tokens_are_taken_too(tmp_path: Path) -> None:
    made = config(entry(), credentials=["api_key", "jwt"])
    del made["issuers"]
    (fault,) = faults_of(tmp_path, made)
    assert fault.startswith("issuers: is empty, but routes[0] looks at tokens")


FAULTS = [
    pytest.param(config(), "api_keys: is empty, but routes[0] takes API keys; make one with `gateway", id="no-keys"),
    pytest.param(config(entry(), entry(OTHER)), "api_keys[1].id: is also the id of api_keys[0]", id="same-id"),
    pytest.param(config(entry(), entry(KEY, "b")), "api_keys[1].hash: is also the hash of api_keys[0]", id="same-hash"),
    pytest.param(config(entry(claims={"role": "a\rb"})), "api_keys[0].claims: cannot be sent to services", id="claim"),
    pytest.param(config(entry(owner="a\tb")), "api_keys[0].owner: cannot be sent to services", id="owner"),
    pytest.param(
        config(entry(), auth="public"),
        'routes[0].credentials: can never apply: with auth = "public" credentials are not looked at',
        id="public",
    ),
    pytest.param(
        config(entry(), credentials=["jwt"], auth="public", api_key_header="x-key"),
        'routes[0].api_key_header: can never apply: with auth = "public"',
        id="public-header",
    ),
    pytest.param(
        config(entry(), credentials=["jwt"], api_key_header="x-key"),
        'routes[0].api_key_header: has no effect without "api_key" in `credentials`',
        id="header-without",
    ),
    pytest.param(
        config(entry(), api_key_header="X_User.Id"),
        "routes[0].api_key_header: is an identity header, which no client can send",
        id="identity-header",
    ),
    pytest.param(
        config(entry(), issuers=["main"]),
        'routes[0].issuers: has no effect without "jwt" or "opaque" in `credentials`',
        id="issuers",
    ),
    pytest.param(
        config(entry(), websocket_protocol_token=True),
        'routes[0].websocket_protocol_token: has no effect without "jwt" or "opaque" in `credentials`',
        id="protocol-token",
    ),
    pytest.param(
        config(entry(), forward_authorization=True),
        "routes[0].forward_authorization: has no effect: Authorization beside an API key is refused",
        id="authorization",
    ),
    pytest.param(config(entry(), credentials=[]), "routes[0].credentials: must not be empty", id="none"),
    pytest.param(
        config(entry(), credentials=["mtls"]),
        'routes[0].credentials[0]: must be "jwt", "opaque" or "api_key"',
        id="another-kind",
    ),
    pytest.param(config(entry(), credentials="api_key"), "routes[0].credentials: must be a list", id="text"),
    pytest.param(
        config(entry(), api_key_header="Cookie"), "routes[0].api_key_header: HTTP or the gateway itself", id="cookie"
    ),
]


@pytest.mark.parametrize(("made", "fault"), FAULTS)
@pytest.mark.rule("C82", "R381")
def test_what_has_no_effect_or_two_meanings_stops_the_start(made: dict[str, Any], fault: str, tmp_path: Path) -> None:
    """Named by the path of its key."""
    (found,) = faults_of(tmp_path, made)
    assert found.startswith(fault)


def test_options_that_have_an_effect_elsewhere_are_no_faults(tmp_path: Path) -> None:
    for options in (
        {"auth": "optional", "forward_authorization": True},
        {"observe": True, "forward_authorization": True},
        {"credentials": ["jwt", "api_key"], "issuers": ["main"], "websocket_protocol_token": True},
        {"credentials": ["jwt", "api_key"], "forward_authorization": True},
    ):
        assert faults_of(tmp_path, config(entry(), **options)) == []


@pytest.mark.rule("R381")
def test_faults_of_the_file_are_faults_of_the_configuration(tmp_path: Path) -> None:
    """Beside all others, with file, line and key."""
    file = tmp_path / "keys.jsonl"
    write_keys(file, "{", {"id": "b"}, entry(KEY, "c"))
    made = with_file(file, entry(), {"id": "x", "hash": "y"})
    found = [line.replace(str(file), "FILE") for line in faults_of(tmp_path, made)]
    assert [line.partition(": is")[0].partition(": must")[0] for line in found] == [
        "tokens.api_keys_file: FILE, line 1",
        "tokens.api_keys_file: FILE, line 2, hash",
        "tokens.api_keys_file: FILE, line 3, hash",
        "api_keys[1].hash",
    ]


def test_missing_file_stops_the_start(tmp_path: Path) -> None:
    assert faults_of(tmp_path, with_file(tmp_path / "none")) == [
        "tokens.api_keys_file: this file cannot be read: no such file or directory"
    ]


def test_file_is_enough_even_when_it_is_empty(tmp_path: Path) -> None:
    write_keys(tmp_path / "keys.jsonl")
    assert faults_of(tmp_path, with_file(tmp_path / "keys.jsonl")) == []


def test_keys_come_from_the_environment_too(tmp_path: Path) -> None:
    env = {"GATEWAY_API_KEYS": '[{"id": "a", "hash": "sha256:' + "0" * 64 + '"}]'}
    assert load_text(tmp_path, toml(config()), env).settings.api_keys[0].id == "a"
    assert faults_of(tmp_path, config(), {"GATEWAY_API_KEYS": '[{"id": "a"}]'}) == [
        "api_keys[0].hash (GATEWAY_API_KEYS): is required"
    ]


def test_keys_that_no_route_takes_are_a_warning(tmp_path: Path) -> None:
    write_keys(tmp_path / "keys.jsonl", entry(OTHER, "other"))
    made = with_file(tmp_path / "keys.jsonl", entry(), credentials=["jwt"])
    text = "no route takes API keys: none has them in its `credentials`"
    assert warnings_of(tmp_path, made) == [f"api_keys: {text}", f"tokens.api_keys_file: {text}"]


def test_pages_that_cannot_send_a_key_are_a_warning(tmp_path: Path) -> None:
    cors = {"cors_origins": ["https://a.test"], "credentials": ["api_key", "jwt"]}
    made = config(entry(), **cors, cors_headers=["authorization"])
    assert warnings_of(tmp_path, made) == [
        "routes[0].cors_headers: without `x-api-key` pages cannot send an API key",
    ]
    assert warnings_of(tmp_path, config(entry(), **cors, cors_headers=["authorization", "x-api-key"])) == []


def test_issuer_whose_tokens_no_route_takes_is_a_warning(tmp_path: Path) -> None:
    assert warnings_of(tmp_path, config(entry(), credentials=["jwt", "api_key"], issuers=["main"])) == []
    assert warnings_of(tmp_path, config(entry())) == ["issuers[0].name: no route accepts tokens of this issuer"]
