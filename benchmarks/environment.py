"""Where a result was measured: what every result file says, so that it can be judged and repeated."""

from __future__ import annotations

import contextlib
import os
import platform
import subprocess
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).parents[1]


def describe(module: str, arguments: Sequence[str], packages: Iterable[str]) -> dict[str, Any]:
    """Return date, command, commit, machine and versions. Nothing in it names a host, a user or a path."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": " ".join(["python -m", module, *arguments]),
        "commit": commit(),
        "machine": {
            "cpu": cpu_model(),
            "cores": os.cpu_count(),
            "system": platform.system(),
            "kernel": platform.release(),
        },
        "versions": {"python": platform.python_version(), **{name: version(name) for name in packages}},
    }


def cpu_model() -> str:
    """Return the processor's name where the system tells it."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def commit() -> str:
    """Return the commit of the tree, with a mark when the measured code differs from it."""
    name = _git("rev-parse", "--short=12", "HEAD")
    if not name:
        return "unknown"
    changed = _git("status", "--porcelain", "--", "gateway", "benchmarks/*.py", "benchmarks/peers")
    return name + (", with changes" if changed else "")


def _git(*arguments: str) -> str:
    with contextlib.suppress(OSError):
        ended = subprocess.run(["git", *arguments], cwd=_ROOT, capture_output=True, text=True, check=False)
        if ended.returncode == 0:
            return ended.stdout.strip()
    return ""
