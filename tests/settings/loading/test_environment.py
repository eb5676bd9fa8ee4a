"""Variables and flags: derived names, texts that become values, and names that mean nothing."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.configuration import GatewaySettings
from gateway.features.abuse_watch.options import Watch
from gateway.features.rate_limits.options import Limits
from gateway.features.revocation.options import Revocation
from gateway.settings.loading.environment import (
    CONFIG,
    SHORT_NAMES,
    options,
    read_environment,
    read_flags,
    read_short_names,
    table_names,
)
from gateway.settings.tables.dpop import Dpop
from gateway.settings.tables.redis import Redis
from gateway.settings.tables.server import Server
from tests.support.composed import Settings, Tokens

SHORT = {
    "GATEWAY_ISSUER": "https://idp.test/",
    "GATEWAY_AUDIENCE": "api, other,",
    "GATEWAY_UPSTREAM": "http://127.0.0.1:9000,http://127.0.0.1:9001",
}


def test_every_option_of_the_single_tables_has_a_variable_and_a_flag_of_its_name() -> None:
    names = {(option.variable, option.flag) for option in options(GatewaySettings)}
    assert ("GATEWAY_SERVER_LISTEN", "--server-listen") in names
    assert ("GATEWAY_TOKENS_INVALID_TOKEN_STATUS", "--tokens-invalid-token-status") in names
    tables = (Server, Tokens, Dpop, Redis, Revocation, Limits, Watch)
    assert len(names) == sum(len(table.model_fields) for table in tables)
    assert {"server", "tokens", "dpop", "redis", "revocation", "limits", "watch", *table_names(GatewaySettings)} == set(
        Settings.model_fields
    )


@pytest.mark.parametrize(
    ("variable", "text", "path", "value"),
    [
        ("GATEWAY_SERVER_LISTEN", "[::]:8080", ("server", "listen"), ["[::]:8080"]),
        ("GATEWAY_SERVER_LISTEN", "[::]:80, unix:/a", ("server", "listen"), ["[::]:80", "unix:/a"]),
        ("GATEWAY_SERVER_LISTEN", '["[::]:80", "unix:/a"]', ("server", "listen"), ["[::]:80", "unix:/a"]),
        ("GATEWAY_SERVER_WORKERS", "1", ("server", "workers"), 1),
        ("GATEWAY_SERVER_WORKERS", "auto", ("server", "workers"), "auto"),
        ("GATEWAY_SERVER_DRAIN_SECONDS", "2.5", ("server", "drain_seconds"), 2.5),
        ("GATEWAY_SERVER_MAX_BODY_BYTES", " 10 ", ("server", "max_body_bytes"), 10),
        ("GATEWAY_SERVER_TLS_CERT", "", ("server", "tls_cert"), ""),
        ("GATEWAY_SERVER_LOG_LEVEL", "debug", ("server", "log_level"), "debug"),
        ("GATEWAY_SERVER_TRUSTED_PROXIES", "10.0.0.0/8, 192.0.2.7", ("server", "trusted_proxies"), None),
        ("GATEWAY_SERVER_TRUSTED_PROXIES", ' ["10.0.0.0/8","192.0.2.7"]', ("server", "trusted_proxies"), None),
        ("GATEWAY_SERVER_TRUSTED_PROXIES", "", ("server", "trusted_proxies"), []),
        ("GATEWAY_TOKENS_INVALID_TOKEN_STATUS", "403", ("tokens", "invalid_token_status"), 403),
        ("GATEWAY_TOKENS_REALM", "12", ("tokens", "realm"), "12"),
        ("GATEWAY_TOKENS_REALM", "true", ("tokens", "realm"), "true"),
    ],
)
def test_texts_become_values_of_the_options_type(variable: str, text: str, path: tuple[str, str], value: Any) -> None:
    expected = ["10.0.0.0/8", "192.0.2.7"] if value is None else value
    reading = read_environment(GatewaySettings, {variable: text})
    assert reading.faults == []
    assert reading.data == {path[0]: {path[1]: expected}}
    assert type(reading.data[path[0]][path[1]]) is type(expected)
    assert reading.origins == {path: variable}


@pytest.mark.parametrize("text", ["", "x", "1_000x", "NaN", "Infinity", "[1]", '"1"', "1e400"])
def test_a_text_of_another_type_stays_what_it_is_for_validation_to_refuse(text: str) -> None:
    value = read_environment(GatewaySettings, {"GATEWAY_SERVER_MAX_BODY_BYTES": text}).data["server"]["max_body_bytes"]
    assert not isinstance(value, int)


def test_a_number_out_of_bounds_is_still_a_number() -> None:
    """So that the fault is about the bound."""
    assert read_environment(GatewaySettings, {"GATEWAY_SERVER_MAX_HEAD_BYTES": "7"}).data == {
        "server": {"max_head_bytes": 7}
    }


def test_the_users_own_tables_are_json() -> None:
    issuers = [{"name": "a", "issuer": "https://a.test", "audience": ["x"], "claims": {"TokenUse": "access"}}]
    identity = {"X-User-Id": ["nested", "claim"]}
    reading = read_environment(
        GatewaySettings, {"GATEWAY_ISSUERS": json.dumps(issuers), "GATEWAY_IDENTITY": json.dumps(identity)}
    )
    assert reading.faults == []
    assert reading.data == {"issuers": issuers, "identity": identity}


# fmt: off
@pytest.mark.parametrize(
    ("text", "problem"),
    [("{", "character 2"), ("", "character 1"), ("[NaN]", "NaN is not a JSON number"), ("[" * 100_000, "nested too"),
     ('[{"name": "a", "name": "b"}]', "duplicate key name"), ("[1] s3cret", "character 5")],
)
@pytest.mark.rule("R384")
def test_broken_json_is_a_fault_without_its_text(text: str, problem: str) -> None:
    """And a duplicate key is refused as in TOML."""
    (fault,) = read_environment(GatewaySettings, {"GATEWAY_ROUTES": text}).faults
    assert (fault.path, fault.origin) == ("routes", "GATEWAY_ROUTES")
    assert fault.message.startswith("is not JSON")
    assert problem in fault.message
    assert "s3cret" not in str(fault)
# fmt: on


def test_a_list_that_begins_like_json_must_be_json() -> None:
    (fault,) = read_environment(GatewaySettings, {"GATEWAY_TOKENS_SCOPE_CLAIMS": "[scope"}).faults
    assert str(fault).startswith("tokens.scope_claims (GATEWAY_TOKENS_SCOPE_CLAIMS): is not JSON")


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("GATEWAY_SERVER_LISTN", "GATEWAY_SERVER_LISTEN"),
        ("GATEWAY_AUDIANCE", "GATEWAY_AUDIENCE"),
        ("GATEWAY_ROUTE", "GATEWAY_ROUTES"),
        ("GATEWAY_server_listen", None),
        ("GATEWAY_SERVER", None),
        ("GATEWAY_IDENTITY_X_USER_ID", None),
        ("GATEWAY_REDIS_URI", "GATEWAY_REDIS_URL"),
        ("GATEWAY_", None),
    ],
)
@pytest.mark.rule("C82")
def test_a_misspelt_variable_is_a_fault(name: str, meant: str | None) -> None:
    """What would be ignored elsewhere stops the start."""
    (fault,) = read_environment(GatewaySettings, {name: "x"}).faults
    assert fault.path == name
    assert fault.message.startswith("unknown variable")
    if meant:
        assert f"did you mean `{meant}`?" in fault.message


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("GATEWAY_SERVICE_HOST", "10.0.0.1"),
        ("GATEWAY_SERVICE_PORT", "80"),
        ("GATEWAY_SERVICE_PORT_HTTP_ADMIN", "9090"),
        ("GATEWAY_PORT", "tcp://10.0.0.1:80"),
        ("GATEWAY_PORT_80_TCP", "tcp://10.0.0.1:80"),
        ("GATEWAY_PORT_80_TCP_PROTO", "tcp"),
        ("GATEWAY_PORT_80_TCP_PORT", "80"),
        ("GATEWAY_PORT_80_UDP_ADDR", "10.0.0.1"),
        ("GATEWAY_ADMIN_SERVICE_HOST", "10.0.0.2"),
        ("GATEWAY_ADMIN_PORT_9090_TCP_ADDR", "10.0.0.2"),
        ("GATEWAY_INTERFACE", "CGI/1.1"),
        ("GATEWAYS", "x"),
        ("MY_GATEWAY_PORT", "x"),
    ],
)
def test_variables_of_others_are_left_alone(name: str, text: str) -> None:
    """Kubernetes tells every pod about a Service called `gateway` in variables with our prefix."""
    reading = read_environment(GatewaySettings, {name: text})
    assert (reading.faults, reading.data) == ([], {})


@pytest.mark.parametrize("name", ["GATEWAY_PORT", "GATEWAY_PORT_80", "GATEWAY_SERVICE", "GATEWAY_PORT_80_TCP_NAME"])
def test_nothing_else_passes_as_kubernetes(name: str) -> None:
    """A number in GATEWAY_PORT is meant to set the port."""
    assert [fault.path for fault in read_environment(GatewaySettings, {name: "8080"}).faults] == [name]


def test_flags_mean_what_variables_mean() -> None:
    reading = read_flags(GatewaySettings, {"--server-trusted-proxies": "10.0.0.0/8", "--tokens-cache-size": "5"})
    assert reading.data == {"server": {"trusted_proxies": ["10.0.0.0/8"]}, "tokens": {"cache_size": 5}}
    assert reading.origins[("tokens", "cache_size")] == "--tokens-cache-size"
    (fault,) = read_flags(GatewaySettings, {"--server-trusted-proxies": "[10"}).faults
    assert str(fault).startswith("server.trusted_proxies (--server-trusted-proxies): is not JSON")


def test_short_names_make_one_of_each() -> None:
    reading = read_short_names(SHORT, {})
    assert reading.faults == []
    assert reading.data == {
        "issuers": [{"name": "default", "issuer": "https://idp.test/", "audience": ["api", "other"]}],
        "upstreams": [{"name": "default", "urls": ["http://127.0.0.1:9000", "http://127.0.0.1:9001"]}],
        "routes": [{"path": "/", "upstream": "default"}],
    }
    with_keys = read_short_names({**SHORT, "GATEWAY_JWKS_URL": "https://keys.test"}, {})
    assert with_keys.data["issuers"][0]["jwks_url"] == "https://keys.test"
    assert with_keys.origins[("issuers", 0, "jwks_url")] == "GATEWAY_JWKS_URL"


def test_short_names_that_are_empty_are_not_set() -> None:
    """As `GATEWAY_JWKS_URL=${JWKS_URL:-}` in a compose file leaves them."""
    assert read_short_names(dict.fromkeys(SHORT_NAMES, " "), {}).data == {}
    assert read_short_names({**SHORT, "GATEWAY_JWKS_URL": ""}, {}) == read_short_names(SHORT, {})


@pytest.mark.parametrize("name", SHORT)
def test_a_short_name_that_is_missing_is_named(name: str) -> None:
    given = {other: text for other, text in SHORT.items() if other != name}
    (fault,) = read_short_names(given, {}).faults
    assert str(fault) == f"{name}: is needed together with {next(iter(given))}"


@pytest.mark.parametrize("table", ["issuers", "upstreams", "routes"])
def test_short_names_beside_tables_are_refused(table: str) -> None:
    """It would not be clear which of the two was meant."""
    reading = read_short_names(SHORT, {"server": {}, table: []})
    assert reading.data == {}
    assert [fault.path for fault in reading.faults] == list(SHORT)
    assert f"this one has {table}" in reading.faults[0].message


def test_short_names_and_the_files_name_are_known_names() -> None:
    reading = read_environment(GatewaySettings, {**SHORT, CONFIG: "gateway.toml"})
    assert (reading.faults, reading.data) == ([], {})
