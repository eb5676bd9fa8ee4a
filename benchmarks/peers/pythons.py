"""Other interpreters for this gateway: found where they usually are, with a virtual environment of their own.

Finds them and makes the environment. Nothing is downloaded but the pinned packages; where they cannot be
installed the rows that need them are skipped with the reason.
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
from pathlib import Path

from benchmarks.process import ROOT
from benchmarks.tokens import CACHE


def found(version: str) -> Path | None:
    """Return an interpreter of this version: on the path, of pyenv or of uv; else None."""
    name = f"python{version}"
    if on_path := shutil.which(name):
        return Path(on_path)
    root = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    if built := sorted(root.glob(f"versions/{version}*/bin/{name}")):
        return built[-1]
    if shutil.which("uv"):
        ended = subprocess.run(
            ["uv", "python", "find", "--no-python-downloads", version], capture_output=True, text=True, check=False
        )
        if ended.returncode == 0:
            return Path(ended.stdout.strip())
    return None


def interpreter(version: str, cache: Path = CACHE) -> Path:
    """Return where the interpreter of the virtual environment for this version is, or would be."""
    return cache / f"python{version}" / "bin" / "python"


@functools.cache
def unavailable(version: str, cache: Path = CACHE) -> str | None:
    """Make the virtual environment for this version, once; return why that cannot be, or None."""
    base = found(version)
    if base is None:
        return f"python{version} is not installed"
    python = interpreter(version, cache)
    mark = python.parents[1] / "installed"
    wanted = "".join((ROOT / name).read_text("utf-8") for name in ("setup.cfg", "constraints.txt"))
    if mark.exists() and mark.read_text("utf-8") == wanted:
        return None
    install: list[str | Path] = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    commands: tuple[list[str | Path], ...] = (
        [base, "-m", "venv", "--clear", python.parents[1]],
        [*install, "--constraint", ROOT / "constraints.txt", ROOT],
    )
    for command in commands:
        if subprocess.run(command, capture_output=True, check=False).returncode:
            return f"a virtual environment of python{version} could not be made"
    mark.write_text(wanted, "utf-8")
    return None
