"""``gateway revoke``: what is written where, its exit codes, and what it says."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from gateway.cli import cli
from tests.settings.configs import SMALL, toml
from tests.support.stores.redis import RedisServer


def revoke(*arguments: str, env: dict[str, str] | None = None) -> Result:
    return CliRunner().invoke(cli, ["revoke", *arguments], env=env or {})


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "revoked.jsonl"


@pytest.fixture
def config(tmp_path: Path, file: Path) -> str:
    path = tmp_path / "gateway.toml"
    path.write_text(toml({**SMALL, "revocation": {"file": str(file)}}))
    return str(path)


def test_each_kind_becomes_a_line_with_an_end(config: str, file: Path) -> None:
    now = time.time()
    for arguments in (
        ("--jti", "a"),
        ("--sid", "b", "--issuer", "https://idp.test/"),
        ("--sub", "c", "--before", "2027-01-31T00:00:00Z", "--expires", "never"),
        ("--issuer", "https://idp.test/", "--before", "1800000000.5", "--expires", "1900000000"),
    ):
        result = revoke("--config", config, *arguments)
        assert (result.exit_code, result.stderr) == (0, "")
        assert result.stdout.startswith("revoked, ")
        assert result.stdout.endswith("; written to file\n")
    first, second, third, fourth = map(json.loads, file.read_text().splitlines())
    assert first.pop("expires") == pytest.approx(now + 86460, abs=30)
    assert first == {"jti": "a"}
    assert (second["sid"], second["issuer"]) == ("b", "https://idp.test/")
    assert third == {"sub": "c", "before": 1801353600.0, "expires": "never"}
    assert fourth == {"issuer": "https://idp.test/", "before": 1800000000.5, "expires": 1900000000}


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((), "the revocation must have jti, sub or sid, or issuer and before"),
        (("--jti", "a", "--sub", "b"), "the revocation has jti and sub: an entry is about one thing"),
        (("--jti", "a", "--before", "5"), "the revocation before has no meaning with jti"),
        (("--jti", ""), "the revocation jti must be a non-empty string"),
        (("--issuer", "https://idp.test/"), "the revocation must have jti, sub or sid, or issuer and before"),
        (("--sub", "a", "--before", "yesterday"), "the revocation before must be a date-time"),
        (("--sub", "a", "--before", "nan"), "the revocation before must be seconds"),
        (("--jti", "a", "--expires", "5"), "the revocation has expires in the past"),
    ],
)
def test_what_is_not_understood_exits_with_2(arguments: tuple[str, ...], text: str, config: str, file: Path) -> None:
    result = revoke("--config", config, *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith(text)
    assert not file.exists()


def test_an_issuer_that_nobody_configured_is_a_warning(config: str, file: Path) -> None:
    result = revoke("--config", config, "--jti", "a", "--issuer", "https://idp.test")
    assert result.exit_code == 0
    assert result.stderr == "warning: --issuer: no configured issuer has this value\n"
    assert file.exists()


def test_without_a_place_to_write_to_it_exits_with_2(tmp_path: Path) -> None:
    path = tmp_path / "gateway.toml"
    path.write_text(toml(SMALL))
    result = revoke("--config", str(path), "--jti", "a")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "neither revocation.file nor redis.url is set" in result.stderr


def test_a_place_that_cannot_be_written_exits_with_1(tmp_path: Path) -> None:
    path = tmp_path / "gateway.toml"
    path.write_text(toml({**SMALL, "revocation": {"file": str(tmp_path / "no" / "file")}}))
    result = revoke("--config", str(path), "--jti", "a")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "nothing was revoked: the file cannot be written: no such file" in result.stderr
    result = revoke("--config", str(path), "--jti", "a", "--redis-url", "redis://:hunter2@127.0.0.1:1")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "nothing was revoked: Redis" in result.stderr
    assert "hunter2" not in result.stderr


async def test_redis_gets_it_where_there_is_one(config: str, tmp_path: Path) -> None:
    async with RedisServer(tmp_path / "redis") as server:
        result = await asyncio.to_thread(revoke, "--config", config, "--sid", "s", "--redis-url", server.url)
        assert (result.exit_code, result.stdout[-17:]) == (0, "written to redis\n")
        assert server.run("ZCOUNT", "gateway:{revocation}:log", "(0", "+inf") == 1
    assert not (tmp_path / "revoked.jsonl").exists()
