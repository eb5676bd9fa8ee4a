"""The proxy that is written in an afternoon, as a peer; the proxy itself is ``naive_proxy.py``."""

from __future__ import annotations

import sys
from importlib.metadata import version
from pathlib import Path

from benchmarks.peers.base import Peer, Place, Setup


class Naive(Peer):
    """aiohttp's server and client with PyJWT and a dict of verified tokens."""

    title = "naive aiohttp proxy"

    def missing(self) -> str | None:
        return None

    def version(self) -> str:
        return f"aiohttp {version('aiohttp')}, PyJWT {version('PyJWT')}"

    def command(self, setup: Setup, place: Place) -> list[str | Path]:
        tls = [place.certificate.cert, place.certificate.key] if setup.tls else []
        log = place.access_log if setup.log else ""
        arguments = (place.port, place.upstream, place.keys.pem, setup.algorithm, setup.cache_size, log, *tls)
        return [sys.executable, "-m", "benchmarks.peers.naive_proxy", *map(str, arguments)]

    def offers(self, setup: Setup) -> str | None:
        return "it believes no proxy" if setup.trusted else None
