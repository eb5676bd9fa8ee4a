"""Fixtures of the tests that start workers."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the processes of these tests share what they compile."""
    return tmp_path_factory.mktemp("pycache")


@pytest.fixture
def loading(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let workers of a supervisor in this process load what others have compiled."""
    monkeypatch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
    monkeypatch.setenv("PYTHONPYCACHEPREFIX", str(cache))
