"""The plainest Python proxy, as a peer: a limit for this gateway; the proxy itself is ``plain_proxy.py``."""

from __future__ import annotations

import sys
from importlib.metadata import version
from pathlib import Path

from benchmarks.peers.base import Peer, Place, Setup, Work


class Plain(Peer):
    """uvloop protocols on both sides; it finds where messages end, and that is all."""

    title = "plainest Python proxy, no authentication"
    work = Work.NOTHING

    def missing(self) -> str | None:
        return None

    def version(self) -> str:
        return f"uvloop {version('uvloop')}"

    def command(self, setup: Setup, place: Place) -> list[str | Path]:
        log = [place.access_log] if setup.log else []
        arguments = map(str, (place.port, place.upstream, *log))
        return [sys.executable, "-m", "benchmarks.peers.plain_proxy", *arguments]

    def offers(self, setup: Setup) -> str | None:
        return "it speaks no TLS" if setup.tls else None
