"""This gateway, started as its users start it."""

from __future__ import annotations

import sys
from pathlib import Path

from benchmarks.peers.base import Peer, Place, Setup, fill
from benchmarks.process import free_port
from gateway import __version__
from gateway.settings.faults import ConfigError
from gateway.settings.load import load


class Gateway(Peer):
    """Args:
    express: whether the express lane is on, as it is by default.
    """

    def __init__(self, *, express: bool) -> None:
        self.title = "this gateway" if express else "this gateway, express off"
        self._express = express

    def missing(self) -> str | None:
        return None

    def version(self) -> str:
        return __version__

    def command(self, setup: Setup, place: Place) -> list[str | Path]:
        paths = ["/", *(f"/r{number}" for number in range(setup.routes - 1))]
        file = fill(
            "gateway.toml",
            place.folder,
            PORT=place.port,
            ADMIN=free_port(),
            WORKERS=setup.workers,
            EXPRESS=str(self._express).lower(),
            CERT=place.certificate.cert if setup.tls else "",
            KEY=place.certificate.key if setup.tls else "",
            CACHE_SIZE=setup.cache_size,
            JWKS=place.keys.jwks,
            ALGORITHM=setup.algorithm,
            UPSTREAM=place.upstream,
            ROUTES="".join(f'\n[[routes]]\npath = "{path}"\nupstream = "service"\n' for path in paths),
        )
        return [sys.executable, "-m", "gateway", "run", "--config", file]

    def offers(self, setup: Setup) -> str | None:
        if setup.workers == 1:
            return None
        try:
            load(
                None,
                {
                    "GATEWAY_ISSUER": "https://idp.test/",
                    "GATEWAY_AUDIENCE": "api",
                    "GATEWAY_UPSTREAM": "http://127.0.0.1:1",
                },
                {"--server-workers": str(setup.workers)},
            )
        except ConfigError:
            return "this version runs one worker"
        return None
