"""The table ``[revocation]``: its forms in file and environment."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.settings.configs import SMALL, faults_of, load_text, toml


def test_nothing_is_said_by_default(tmp_path: Path) -> None:
    settings = load_text(tmp_path, toml(SMALL)).settings
    assert (settings.revocation.file, settings.revocation.redis, settings.revocation.admin_token_file) == ("", True, "")
    assert settings.routes[0].revocation_failure == "closed"


def test_the_environment_names_it(tmp_path: Path) -> None:
    file = tmp_path / "revoked.jsonl"
    file.write_text("")
    env = {"GATEWAY_REVOCATION_FILE": str(file), "GATEWAY_REVOCATION_REDIS": "false", "GATEWAY_REDIS_URL": "redis://r"}
    settings = load_text(tmp_path, toml(SMALL), env).settings
    assert (settings.revocation.file, settings.revocation.redis) == (str(file), False)


@pytest.mark.parametrize(("name", "value"), [("file", 5), ("redis", "no"), ("flie", "x")])
def test_wrong_values_and_names_are_faults(name: str, value: object, tmp_path: Path) -> None:
    (fault,) = faults_of(tmp_path, {**SMALL, "revocation": {name: value}})
    assert fault.startswith(f"revocation.{name}: ")
