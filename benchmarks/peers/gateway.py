"""This gateway, started as its users start it."""

from __future__ import annotations

import sys
from pathlib import Path

from benchmarks.peers.base import Peer, Place, Setup, fill
from benchmarks.peers.pythons import interpreter, unavailable
from gateway import __version__
from gateway.configuration import GatewaySettings
from gateway.settings.faults import ConfigError
from gateway.settings.loading.load import load
from tests.support.ports import free_port


class Gateway(Peer):
    """Args:
    express: whether the express lane is on, as it is by default.
    python: the version of another interpreter, such as "3.14"; empty = the one that runs this.
    """

    logs_to_output = True

    def __init__(self, *, express: bool, python: str = "") -> None:
        self.title = "this gateway" + ("" if express else ", express off") + (f", Python {python}" if python else "")
        self._express, self._python = express, python

    def missing(self) -> str | None:
        return unavailable(self._python) if self._python else None

    def version(self) -> str:
        return __version__

    def command(self, setup: Setup, place: Place) -> list[str | Path]:
        paths = ["/", *setup.paths, *(f"/r{number}" for number in range(setup.routes - 1))]
        file = fill(
            "gateway.toml",
            place.folder,
            PORT=place.port,
            ADMIN=free_port(),
            WORKERS=setup.workers,
            EXPRESS=str(self._express).lower(),
            LOG="json" if setup.log else "off",
            TRUSTED='["127.0.0.0/8"]' if setup.trusted else "[]",
            CERT=place.certificate.cert if setup.tls else "",
            KEY=place.certificate.key if setup.tls else "",
            CACHE_SIZE=setup.cache_size,
            JWKS=place.keys.jwks,
            ALGORITHM=setup.algorithm,
            UPSTREAM=place.upstream,
            ROUTES="".join(f'\n[[routes]]\npath = "{path}"\nupstream = "service"\n' for path in paths)
            + (_opaque(place) if setup.opaque else ""),
        )
        python = interpreter(self._python) if self._python else sys.executable
        return [python, "-m", "gateway", "run", "--config", file]

    def offers(self, setup: Setup) -> str | None:
        if setup.workers == 1:
            return None
        try:
            load(
                GatewaySettings,
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


def _opaque(place: Place) -> str:
    """Return a further issuer, which is asked about its tokens, and a route that takes them beside JWTs."""
    secret = place.folder / "client-secret"
    secret.write_text("secret", "ascii")
    return f"""
[[issuers]]
name = "asked"
issuer = "https://asked.test/"
audience = ["api"]
jwks_file = "{place.keys.jwks}"
introspection_url = "http://127.0.0.1:{place.upstream}/introspect"
introspection_client_id = "gateway"
introspection_client_secret_file = "{secret}"

[[routes]]
path = "/either"
upstream = "service"
credentials = ["jwt", "opaque"]
"""
