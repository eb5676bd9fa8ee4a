"""The command line: exit codes, what goes to which stream, and flags that are settings."""

from __future__ import annotations

import asyncio
import base64
import json
import signal
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from gateway import __version__
from gateway.cli import LIBRARIES, cli
from gateway.demo.identity_provider import IdentityProvider
from gateway.settings.loading.environment import options
from tests.settings.configs import SMALL, changed, toml
from tests.support.composed import Settings

SHORT = {
    "GATEWAY_ISSUER": "https://idp.test/",
    "GATEWAY_AUDIENCE": "api",
    "GATEWAY_UPSTREAM": "http://127.0.0.1:9000",
}


def _run(*arguments: str, env: dict[str, str] | None = None) -> Result:
    return CliRunner().invoke(cli, arguments, env=env, prog_name="gateway")


@pytest.fixture
def config(tmp_path: Path) -> Path:
    file = tmp_path / "gateway.toml"
    file.write_text(toml(SMALL))
    return file


def test_check_counts_what_it_found(config: Path) -> None:
    result = _run("check", "--config", str(config))
    assert (result.exit_code, result.stdout, result.stderr) == (0, "ok: 1 issuer, 1 upstream, 1 route\n", "")


@pytest.mark.rule("C92")
def test_check_prints_warnings_and_is_still_content(tmp_path: Path) -> None:
    """`account` as an audience admits every client of a Keycloak realm."""
    file = tmp_path / "gateway.toml"
    file.write_text(toml(changed("issuers", audience=["account", "api"])))
    result = _run("check", "--config", str(file))
    assert result.exit_code == 0
    assert result.stdout.startswith("ok: ")
    assert result.stderr.startswith("warning: issuers[0].audience: `account` is in the tokens of every client")


@pytest.mark.parametrize("command", ["check", "config", "run"])
@pytest.mark.rule("R381")
def test_every_fault_is_a_line_on_standard_error_and_the_exit_code_is_2(command: str, tmp_path: Path) -> None:
    file = tmp_path / "gateway.toml"
    file.write_text(toml(changed("routes", auth="requird", scope="a")))
    result = _run(command, "--config", str(file), "--server-drain-seconds", "soon", env={"GATEWAY_TOKENS_REALM": '"'})
    assert (result.exit_code, result.stdout) == (2, "")
    assert [line.partition(": ")[0] for line in result.stderr.splitlines()] == [
        "server.drain_seconds (--server-drain-seconds)",
        "tokens.realm (GATEWAY_TOKENS_REALM)",
        "routes[0].auth",
        "routes[0].scope",
    ]


def test_without_a_configuration_the_command_says_what_to_do() -> None:
    result = _run("check")
    assert result.exit_code == 2
    assert "name a file with --config, or set GATEWAY_ISSUER" in result.stderr


@pytest.mark.parametrize("arguments", [["--config"], ["--server-listn", "x"], ["extra"], ["--redis-uri", "x"]])
@pytest.mark.rule("C82")
def test_a_wrong_command_line_exits_with_2(arguments: list[str]) -> None:
    """A misspelt flag is refused, too."""
    result = _run("check", *arguments, env=SHORT)
    assert (result.exit_code, result.stdout) == (2, "")


def test_config_prints_toml_with_origins(config: Path) -> None:
    env = {"GATEWAY_SERVER_TRUSTED_PROXIES": "10.0.0.0/8,192.0.2.7"}
    result = _run("config", "--config", str(config), "--server-listen", "127.0.0.1:0", env=env)
    assert result.exit_code == 0
    assert 'listen = "127.0.0.1:0"  # from: flag (--server-listen)' in result.stdout
    assert (
        'trusted_proxies = ["10.0.0.0/8", "192.0.2.7/32"]  # from: env (GATEWAY_SERVER_TRUSTED_PROXIES)'
        in result.stdout
    )
    assert 'name = "main"  # from: file' in result.stdout
    assert "workers = 1  # from: default" in result.stdout
    assert Settings.model_validate(tomllib.loads(result.stdout)).server.listen == "127.0.0.1:0"


def test_config_prints_the_schema_without_a_configuration() -> None:
    result = _run("config", "--schema")
    assert result.exit_code == 0
    assert "routes" in json.loads(result.stdout)["properties"]


@pytest.mark.parametrize("arguments", [["version"], ["--version"]])
def test_version_names_python_and_the_libraries_that_matter(arguments: list[str]) -> None:
    lines = _run(*arguments).stdout.splitlines()
    assert lines[0] == f"gateway {__version__}"
    assert sys.version.split()[0] in lines[1]
    assert [line.split()[0] for line in lines[2:]] == list(LIBRARIES)
    assert all(line.split()[1][0].isdigit() for line in lines[2:])


def test_help_names_every_flag_with_its_default() -> None:
    text = _run("run", "--help").stdout
    for option in options(Settings):
        assert option.flag in text
    assert 'default: "0.0.0.0:8080"' in " ".join(text.split())


def _start(arguments: list[str]) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-m", "gateway", *arguments], stderr=subprocess.PIPE, text=True)


@pytest.fixture
def offline(tmp_path: Path) -> list[str]:
    """Arguments for a gateway that needs no network."""
    (tmp_path / "keys.json").write_text('{"keys": []}')
    file = tmp_path / "gateway.toml"
    file.write_text(toml(changed("issuers", jwks_file=str(tmp_path / "keys.json"))))
    return ["run", "--config", str(file), "--server-listen", "127.0.0.1:0", "--server-admin-listen", "127.0.0.1:0"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.rule("R370")
def test_run_serves_until_it_is_told_to_stop(number: signal.Signals, offline: list[str]) -> None:
    """Exit code 0 after a clean drain."""
    with _start(offline) as process:
        assert process.stderr is not None
        try:
            assert any("listening on 127.0.0.1:0" in line for line in process.stderr)
            process.send_signal(number)
            assert process.wait(timeout=20) == 0
        finally:
            process.kill()


def test_run_that_cannot_listen_exits_with_1(offline: list[str]) -> None:
    with _start([*offline, "--server-listen", "192.0.2.1:1"]) as process:
        _, errors = process.communicate(timeout=20)
    assert process.returncode == 1
    assert "cannot start" in errors


_WITH_A_FAULTY_FEATURE = """
import sys
from gateway.features import listed
from gateway.server.seam.feature import Feature
class Faulty(Feature):
    name = "faulty"
    {declared}
listed.FEATURES = (*listed.FEATURES, Faulty())
from gateway.__main__ import main
main()
"""


@pytest.mark.parametrize(
    ("declared", "said"),
    [
        ("def check(self, settings, sound): yield 1 / 0", "check failed: ZeroDivisionError at Faulty.check:"),
        ("def warnings(self, settings): yield 1 / 0", "warnings failed: ZeroDivisionError at Faulty.warnings:"),
        ("def weakness(self, *routes): return 1 / 0", "weakness failed: ZeroDivisionError at Faulty.weakness:"),
        ("def replaces_keys(self, *of): return 1 / 0", "replaces_keys failed: ZeroDivisionError at "),
        ("def calls_issuer(self, issuer): return 1 / 0", "calls_issuer failed: ZeroDivisionError at "),
        ("options = {'nothing': None}", "options for tables that the core does not have: nothing"),
    ],
)
def test_run_with_a_feature_whose_hook_fails_is_one_line_and_exit_code_1(
    declared: str, said: str, tmp_path: Path
) -> None:
    """Before there is a log: the features are composed, and the configuration is checked."""
    routes = [{"path": "/a", "upstream": "orders", "methods": ["GET"]}, {"path": "/", "upstream": "orders"}]
    file = tmp_path / "gateway.toml"
    file.write_text(toml({**SMALL, "routes": routes}))
    code = _WITH_A_FAULTY_FEATURE.format(declared=declared)
    given = [sys.executable, "-c", code, "run", "--config", str(file)]
    ended = subprocess.run(given, capture_output=True, text=True, timeout=20, check=False)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr.startswith(f'gateway: feature "faulty": {said}')
    assert ended.stderr.count("\n") == 1


def test_help_with_a_feature_whose_commands_fail_is_one_line_and_exit_code_1() -> None:
    """``gateway run`` asks no feature for commands."""
    code = _WITH_A_FAULTY_FEATURE.format(declared="def commands(self, model): return 1 / 0")
    ended = subprocess.run(
        [sys.executable, "-c", code, "--help"], capture_output=True, text=True, timeout=20, check=False
    )
    assert (ended.returncode, ended.stdout) == (1, "")
    said = "commands failed: ZeroDivisionError at Faulty.commands:"
    assert ended.stderr.startswith(f'gateway: feature "faulty": {said}')
    assert ended.stderr.count("\n") == 1


async def test_token_asks_the_demo_provider() -> None:
    async with IdentityProvider() as provider:
        arguments = ("token", "--issuer", provider.issuer, "--claim", "role=admin", "--claim", 'n={"a": [1]}')
        result = await asyncio.to_thread(_run, *arguments, "--claim", "text=a=b", "--expires-in", "60")
    assert (result.exit_code, result.stderr) == (0, "")
    claims = _claims(result.stdout.strip())
    assert (claims["role"], claims["n"], claims["text"]) == ("admin", {"a": [1]}, "a=b")
    assert claims["exp"] - claims["iat"] == 60


def test_token_without_a_provider_exits_with_1() -> None:
    result = _run("token", "--issuer", "http://127.0.0.1:1")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "is `gateway demo` running?" in result.stderr


@pytest.mark.parametrize("claim", ["role", "=admin", ""])
def test_a_claim_without_name_or_value_is_a_wrong_command_line(claim: str) -> None:
    result = _run("token", "--claim", claim)
    assert result.exit_code == 2
    assert "must be name=value" in result.stderr


def test_demo_shows_its_three_results_and_ends() -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "gateway", "demo", "--once", "--port", "0"], stdout=subprocess.PIPE, text=True
    ) as process:
        output, _ = process.communicate(timeout=30)
    assert process.returncode == 0, output
    assert output.count("as it should be") == 3


def _claims(token: str) -> dict[str, Any]:
    payload = token.split(".")[1]
    value = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    assert isinstance(value, dict)
    return value
