"""Joining file, environment, flags and defaults, and finding everything that is wrong in one go."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from gateway.settings.faults import ConfigError, Fault
from gateway.settings.loading.load import ValueOrigin
from gateway.settings.tables.root import DEFAULT_IDENTITY
from gateway.settings.tables.server import Server
from tests.settings.configs import SMALL, changed, faults_of, load_text, toml
from tests.support.composed import Settings, load

SHORT = {
    "GATEWAY_ISSUER": "https://idp.test/",
    "GATEWAY_AUDIENCE": "api",
    "GATEWAY_UPSTREAM": "http://127.0.0.1:9000",
}


def _faults(file: Path | None, env: dict[str, str], flags: dict[str, str] | None = None) -> tuple[Fault, ...]:
    with pytest.raises(ConfigError) as caught:
        load(file, env, flags or {})
    return caught.value.faults


def test_flag_beats_environment_beats_file_beats_default(tmp_path: Path) -> None:
    text = toml(changed("server", listen="127.0.0.1:1", admin_listen="127.0.0.1:2", drain_seconds=3))
    env = {"GATEWAY_SERVER_LISTEN": "127.0.0.1:11", "GATEWAY_SERVER_ADMIN_LISTEN": "127.0.0.1:12"}
    loaded = load_text(tmp_path, text, env, server_listen="127.0.0.1:21")
    server = loaded.settings.server
    assert (server.listen, server.admin_listen, server.drain_seconds) == ("127.0.0.1:21", "127.0.0.1:12", 3)
    assert server.max_connections == Server().max_connections
    assert [
        str(loaded.origin(("server", name))) for name in ("listen", "admin_listen", "drain_seconds", "workers")
    ] == [
        "flag (--server-listen)",
        "env (GATEWAY_SERVER_ADMIN_LISTEN)",
        "file",
        "default",
    ]


def test_tables_from_the_environment_replace_those_of_the_file(tmp_path: Path) -> None:
    env = {
        "GATEWAY_ROUTES": json.dumps([{"path": "/new", "upstream": "orders"}, {"path": "/x", "upstream": "orders"}]),
        "GATEWAY_IDENTITY": '{"x-sub": "sub"}',
    }
    loaded = load_text(tmp_path, toml({**SMALL, "identity": {"x-user-id": "sub"}}), env)
    assert [route.path for route in loaded.settings.routes] == ["/new", "/x"]
    assert loaded.settings.identity == {"x-sub": "sub"}
    assert loaded.origin(("routes", 1, "path")) == ValueOrigin("env", "GATEWAY_ROUTES")
    assert loaded.origin(("routes", 1, "auth")) == ValueOrigin("default")
    assert loaded.origin(("identity", "x-sub")) == ValueOrigin("env", "GATEWAY_IDENTITY")
    assert loaded.origin(("issuers", 0, "name")) == ValueOrigin("file")


@pytest.mark.rule("R382", "R383")
def test_the_smallest_configuration_is_the_secure_one(tmp_path: Path) -> None:
    """A route without a word about it requires a token of any configured issuer."""
    settings = load_text(tmp_path, toml(SMALL)).settings
    assert settings.routes[0].auth == "required"
    assert not settings.routes[0].forward_authorization
    assert not settings.routes[0].observe
    assert settings.issuers[0].required_claims == ["exp", "sub"]
    assert settings.issuers[0].algorithms == ["RS256", "ES256"]
    assert settings.server.admin_listen == "127.0.0.1:9090"
    assert settings.server.trusted_proxies == []
    assert settings.identity == DEFAULT_IDENTITY
    assert settings == Settings.model_validate(SMALL)


def test_four_variables_are_enough() -> None:
    loaded = load(None, {**SHORT, "GATEWAY_SERVER_LISTEN": "127.0.0.1:0"}, {})
    (issuer,), (upstream,), (route,) = loaded.settings.issuers, loaded.settings.upstreams, loaded.settings.routes
    assert (issuer.name, issuer.issuer, issuer.audience) == ("default", "https://idp.test/", ["api"])
    assert (upstream.name, upstream.urls) == ("default", ["http://127.0.0.1:9000"])
    assert (route.path, route.match, route.auth, route.upstream) == ("/", "prefix", "required", "default")
    assert loaded.origin(("issuers", 0, "issuer")) == ValueOrigin("env", "GATEWAY_ISSUER")
    assert loaded.origin(("routes", 0, "path")) == ValueOrigin("env", "GATEWAY_UPSTREAM")
    assert loaded.origin(("routes", 0, "auth")) == ValueOrigin("default")
    assert loaded.warnings == ()


def test_four_variables_go_with_a_file_about_other_things(tmp_path: Path) -> None:
    loaded = load_text(tmp_path, "[server]\ndrain_seconds = 1\n", SHORT)
    assert loaded.settings.server.drain_seconds == 1
    assert loaded.settings.upstreams[0].name == "default"


def test_four_variables_beside_the_files_own_tables_are_faults(tmp_path: Path) -> None:
    lines = faults_of(tmp_path, SMALL, SHORT)
    assert [line.partition(":")[0] for line in lines] == list(SHORT)


def test_faults_of_short_names_name_the_variable() -> None:
    env = {**SHORT, "GATEWAY_ISSUER": "idp", "GATEWAY_UPSTREAM": "127.0.0.1:9000"}
    lines = [str(fault) for fault in _faults(None, env)]
    assert lines[0].startswith("issuers[0].issuer (GATEWAY_ISSUER): keys are discovered")
    assert lines[1:] == ["upstreams[0].urls[0] (GATEWAY_UPSTREAM): must begin with http:// or https://"]


def test_a_missing_short_name_is_one_fault_beside_the_others() -> None:
    lines = [str(fault) for fault in _faults(None, {"GATEWAY_ISSUER": "https://a.test", "GATEWAY_JWKS_URL": "x"})]
    assert lines == [
        "GATEWAY_AUDIENCE: is needed together with GATEWAY_ISSUER",
        "GATEWAY_UPSTREAM: is needed together with GATEWAY_ISSUER",
        "issuers[0].jwks_url (GATEWAY_JWKS_URL): must begin with http:// or https://",
    ]


def test_without_any_configuration_the_fault_says_what_to_do() -> None:
    lines = [str(fault) for fault in _faults(None, {})]
    assert [line.partition(":")[0] for line in lines] == ["upstreams", "routes"]
    assert "--config" in lines[0]
    assert "GATEWAY_ISSUER, GATEWAY_AUDIENCE and GATEWAY_UPSTREAM" in lines[0]


def test_the_file_may_be_named_by_a_variable_and_a_flag_wins(tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    file.write_text(toml(SMALL))
    assert load(None, {"GATEWAY_CONFIG": str(file)}, {}).settings.routes[0].path == "/orders"
    assert load(file, {"GATEWAY_CONFIG": "/nowhere"}, {}).settings.routes[0].path == "/orders"
    assert load(None, {**SHORT, "GATEWAY_CONFIG": ""}, {}).settings.routes[0].path == "/"


def test_a_file_that_cannot_be_read_is_one_fault(tmp_path: Path) -> None:
    """Not also a missing upstream; but a fault of the environment is still named."""
    missing = tmp_path / "missing.toml"
    faults = _faults(missing, {"GATEWAY_TOKENS_CACHE_SIZE": "many"})
    assert [str(fault) for fault in faults] == [
        f"{missing}: cannot be read: no such file or directory",
        "tokens.cache_size (GATEWAY_TOKENS_CACHE_SIZE): must be a whole number",
    ]
    (fault,) = _faults(tmp_path, {})
    assert fault.message == "cannot be read: is a directory"


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b'[server]\nlisten = "s3cret\n', "is not TOML: "),
        (b"[server]\n[server]\n", "is not TOML: "),
        (b"[server]\ndrain_seconds = 1\ndrain_seconds = 2\n", "is not TOML: "),
        (b"# \xff", "is not UTF-8 text, at byte 2"),
        (b"x = " + b"[" * 100_000, "is not TOML that can be read: nested too deeply"),
    ],
)
def test_a_file_that_is_no_toml_is_one_fault_with_its_line(content: bytes, problem: str, tmp_path: Path) -> None:
    file = tmp_path / "gateway.toml"
    file.write_bytes(content)
    (fault,) = _faults(file, {})
    assert fault.path == str(file)
    assert fault.message.startswith(problem)
    assert ("line" in fault.message) == (problem == "is not TOML: ")
    assert "s3cret" not in fault.message


@pytest.mark.rule("R381", "C82")
def test_all_faults_come_at_once_in_the_order_of_the_file(tmp_path: Path) -> None:
    """Field faults and cross faults of all tables, and of the environment, in one run."""
    text = """
    verbose = true
    [server]
    listn = "127.0.0.1:8080"
    tls_cert = "cert.pem"
    [tokens]
    max_bytes = 1
    [[issuers]]
    name = "a"
    issuer = "http://idp.internal"
    audience = []
    [[issuers]]
    name = "a"
    issuer = "https://b.test"
    audience = ["b"]
    algorithms = ["HS256"]
    [[upstreams]]
    name = "u"
    urls = []
    [[routes]]
    path = "/a"
    upstream = "v"
    auth = "public"
    scopes = ["x"]
    [[routes]]
    path = "/a"
    upstream = "u"
    required_scope = ["x"]
    [identity]
    "Content-Length" = "sub"
    """
    env = {"GATEWAY_SERVER_WORKERS": "0", "GATEWAY_TOKEN_REALM": "x"}
    lines = faults_of(tmp_path, text, env)
    assert [line.partition(": ")[0] for line in lines] == [
        "GATEWAY_TOKEN_REALM",
        "verbose",
        "server.workers (GATEWAY_SERVER_WORKERS)",
        "server.listn",
        "server.tls_key",
        "tokens.max_bytes",
        "issuers[0].audience",
        "issuers[0].issuer",
        "issuers[1].algorithms[0]",
        "issuers[1].name",
        "upstreams[0].urls",
        "routes[0].upstream",
        "routes[0].scopes",
        "routes[1].required_scope",
        "routes[1].path",
        "identity.Content-Length",
    ]


def test_broken_json_in_a_variable_does_not_hide_the_rest(tmp_path: Path) -> None:
    env = {"GATEWAY_ISSUERS": "[", "GATEWAY_ROUTES": '[{"path": "x", "upstream": "orders"}]'}
    config = {"upstreams": SMALL["upstreams"]}
    assert [line.partition(": ")[0] for line in faults_of(tmp_path, config, env)] == [
        "issuers (GATEWAY_ISSUERS)",
        "routes[0].path (GATEWAY_ROUTES)",
    ]


def test_text_that_is_not_unicode_is_refused() -> None:
    """JSON can spell half a character, which could be neither compared with a claim nor printed."""
    env = {**SHORT, "GATEWAY_IDENTITY": '{"x-a": "\\ud800"}'}
    assert [str(fault) for fault in _faults(None, env)] == [
        "identity (GATEWAY_IDENTITY): is not JSON: it has half a surrogate pair"
    ]
    for name in ("GATEWAY_TOKENS_REALM", "GATEWAY_AUDIENCE"):
        faults = _faults(None, {**SHORT, name: os.fsdecode(b"a\xff")})
        assert "is not UTF-8 text" in str(faults[0])


def test_flags_are_named_in_their_faults() -> None:
    (fault,) = _faults(None, SHORT, {"--server-drain-seconds": "soon"})
    assert str(fault) == "server.drain_seconds (--server-drain-seconds): must be a number"


@pytest.mark.rule("C109", "R381")
def test_a_file_with_a_byte_order_mark_is_read(tmp_path: Path) -> None:
    file = tmp_path / "gateway.toml"
    file.write_bytes(b"\xef\xbb\xbf" + toml(SMALL).encode())
    assert load(file, {}, {}).settings.routes[0].path == "/orders"


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.rule("C109")
def test_a_file_in_another_unicode_encoding_is_one_fault_that_says_so(encoding: str, tmp_path: Path) -> None:
    """What PowerShell's `>` writes."""
    file = tmp_path / "gateway.toml"
    file.write_bytes(toml(SMALL).encode(encoding))
    with pytest.raises(ConfigError) as caught:
        load(file, {}, {})
    assert [str(fault) for fault in caught.value.faults] == [f"{file}: is text in UTF-16 or UTF-32: save it as UTF-8"]
