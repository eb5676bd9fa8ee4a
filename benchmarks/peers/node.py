"""The Node.js gateway as people write it, as a peer; the gateway itself is ``node/server.mjs``."""

from __future__ import annotations

import functools
import json
import shutil
import subprocess
from pathlib import Path

from benchmarks.peers.base import Peer, Place, Setup

FOLDER = Path(__file__).with_name("node")


class Node(Peer):
    """Express with jsonwebtoken and http-proxy: each token is verified anew."""

    title = "Node.js Express"

    def missing(self) -> str | None:
        return _installed()

    def version(self) -> str:
        ended = subprocess.run(["node", "--version"], capture_output=True, text=True, check=False)
        packages = json.loads((FOLDER / "package.json").read_text("utf-8"))["dependencies"]
        return f"Node.js {ended.stdout.strip()}, " + ", ".join(f"{name} {what}" for name, what in packages.items())

    def command(self, setup: Setup, place: Place) -> list[str | Path]:
        tls = [place.certificate.cert, place.certificate.key] if setup.tls else []
        log = place.access_log if setup.log else ""
        arguments = (place.port, place.upstream, place.keys.pem, setup.algorithm, log, *tls)
        return ["node", FOLDER / "server.mjs", *map(str, arguments)]

    def offers(self, setup: Setup) -> str | None:
        return "it believes no proxy" if setup.trusted else None

    def environment(self, place: Place) -> dict[str, str]:
        return {"NODE_ENV": "production"}


@functools.cache
def _installed() -> str | None:
    """Install the packages of the lock file, once; return what is missing."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        return "Node.js with npm is not installed"
    lock, mark = FOLDER / "package-lock.json", FOLDER / "node_modules" / "installed-lock.json"
    if mark.exists() and mark.read_bytes() == lock.read_bytes():
        return None
    command = ["npm", "ci", "--no-audit", "--no-fund", "--loglevel=error"]
    ended = subprocess.run(command, cwd=FOLDER, capture_output=True, text=True, check=False)
    if ended.returncode:
        return "its packages could not be installed with npm"
    mark.write_bytes(lock.read_bytes())
    return None
