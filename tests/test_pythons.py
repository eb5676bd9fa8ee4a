"""On which Pythons the project runs: what its metadata says, and which one its scripts take."""

from __future__ import annotations

import configparser
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SUPPORTED = ["3.11", "3.12", "3.13", "3.14"]


def put(folder: Path, name: str, version: str) -> None:
    """Make an interpreter of a version; without one, of a Python that has no venv."""
    info = tuple(map(int, version.split("."))) if version else (3, 14)
    gone = "" if version else 'sys.modules["venv"] = None; '
    code = f"import sys; {gone}sys.version_info = {info}; exec(sys.argv[1])"
    (folder / name).write_text(f"#!/bin/sh\nexec {sys.executable} -c '{code}' \"$2\"\n")
    (folder / name).chmod(0o755)


def chosen(folder: Path, named: str = "") -> tuple[int, str, str]:
    """Let the scripts look for an interpreter in a folder; return exit code, choice and words."""
    for tool in ("dirname", "basename"):
        if not (folder / tool).exists():
            (folder / tool).symlink_to(str(shutil.which(tool)))
    command = ["/bin/sh", "-c", '. "$1" && find_python', "scripts/test", "scripts/environment.sh"]
    environment = {"PATH": str(folder), "PYTHON": named}
    ended = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=30, check=False)
    return ended.returncode, ended.stdout.strip().removeprefix(f"{folder}/"), ended.stderr


@pytest.mark.rule("C113", "C114")
def test_metadata_scripts_and_documents_name_the_same_pythons() -> None:
    """What is supported is said once, and the same everywhere."""
    metadata = configparser.ConfigParser()
    metadata.read(ROOT / "setup.cfg")
    assert re.findall(r"Python :: (3\.\d+)", metadata["metadata"]["classifiers"]) == SUPPORTED
    assert metadata["options"]["python_requires"] == f">={SUPPORTED[0]}"
    script = (ROOT / "scripts" / "environment.sh").read_text()
    assert re.findall(r"python(3\.\d+)", script) == SUPPORTED[::-1]
    said = f"{', '.join(SUPPORTED[:-1])} (and|or) {SUPPORTED[-1]}"
    for document in (ROOT / "README.md", ROOT / "docs" / "operations.md"):
        assert re.search(said, document.read_text()), document


@pytest.mark.parametrize(
    ("there", "choice"),
    [
        ({"python3.11": "3.11", "python3.12": "3.12", "python3": "3.11"}, "python3.12"),
        ({"python3.13": "3.13", "python3.14": "3.14", "python3": "3.13"}, "python3.14"),
        ({"python3.14": "", "python3.13": "3.13"}, "python3.13"),
        ({"python3": "3.13"}, "python3"),
        ({"python3": "3.15", "python": "3.11"}, "python"),
    ],
    ids=["newest", "newest-of-all", "without-venv", "nameless", "too-new"],
)
def test_the_newest_supported_python_that_works_is_taken(there: dict[str, str], choice: str, tmp_path: Path) -> None:
    """One without venv, older or newer than those that are tested is passed over."""
    for name, version in there.items():
        put(tmp_path, name, version)
    assert chosen(tmp_path) == (0, choice, "")


@pytest.mark.parametrize("version", ["3.10", "3.15", ""])
def test_without_a_python_the_scripts_say_what_to_do(version: str, tmp_path: Path) -> None:
    """No traceback of pip, and nothing is made."""
    put(tmp_path, "python3", version)
    code, choice, words = chosen(tmp_path)
    assert (code, choice) == (1, "")
    assert "test: no Python 3.11, 3.12, 3.13 or 3.14 with the modules venv and ensurepip" in words
    assert "PYTHON=/path/to/python3" in words


def test_a_python_that_is_named_is_taken_even_if_newer(tmp_path: Path) -> None:
    """One that is named is to be tried; one that cannot run the project is still refused."""
    put(tmp_path, "python3.14", "3.14")
    put(tmp_path, "mine", "3.15")
    put(tmp_path, "old", "3.10")
    assert chosen(tmp_path, "mine") == (0, "mine", "")
    code, choice, words = chosen(tmp_path, "old")
    assert (code, choice) == (1, "")
    assert "test: old is no Python 3.11 or newer" in words
