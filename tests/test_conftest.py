"""The harness itself: a left-over task fails a test, and CI=true turns a gap into a failure."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

_ROOT = Path(__file__).parent.parent

_LEAK = """
import asyncio
from gateway import tasks

async def test_that_leaves_a_task():
    tasks.spawn(asyncio.sleep(60), "left-over")

async def test_that_leaves_none():
    await tasks.spawn(asyncio.sleep(0), "ended")
    assert type(asyncio.get_running_loop()).__module__.startswith("uvloop")
"""

_GAP = """
from tests.conftest import require

def test_that_needs_something():
    require(False, "something is missing")

def test_that_has_it():
    require(True, "nothing is missing")
"""


def run_tests(folder: Path, text: str, ci: str) -> str:
    """Run a test file under this harness and return the summary's last line."""
    file = folder / "test_sample.py"
    file.write_text(text)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "tests.conftest", "-p", "no:cacheprovider"]
    ended = subprocess.run(
        [*command, "-c", _ROOT / "pyproject.toml", "--rootdir", folder, file],
        cwd=_ROOT,
        env={**os.environ, "CI": ci},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return ended.stdout.splitlines()[-1] if ended.stdout else ended.stderr


def test_a_task_left_behind_fails_the_test_that_left_it(tmp_path: Path) -> None:
    """Even though the test itself passed."""
    assert run_tests(tmp_path, _LEAK, "").startswith("2 passed, 1 error")


@pytest.mark.parametrize(("ci", "summary"), [("", "1 passed, 1 skipped"), ("true", "1 failed, 1 passed")])
def test_what_is_missing_skips_here_and_fails_in_ci(tmp_path: Path, ci: str, summary: str) -> None:
    """A suite that skips its real peers must not look green where they belong."""
    assert run_tests(tmp_path, _GAP, ci).startswith(summary)


_VARIABLES = """
import os

def test_that_sees_variables():
    assert not [name for name in os.environ if name.startswith("GATEWAY_")]
    assert os.environ["TEST_VECTORS"] == "somewhere"
"""


def test_options_of_the_machines_own_gateway_reach_no_test(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They would be options of every gateway that a test starts, and unknown ones are refused."""
    monkeypatch.setenv("GATEWAY_SERVER_LISTEN", "127.0.0.1:1")
    monkeypatch.setenv("GATEWAY_TEST_VECTORS", "somewhere")
    assert run_tests(tmp_path, _VARIABLES, "").startswith("1 passed")
