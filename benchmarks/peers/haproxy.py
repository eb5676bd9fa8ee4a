"""HAProxy with jwt_verify, from the system's packages; one thread."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

from benchmarks.peers.base import Peer, Place, Setup, fill


class HAProxy(Peer):
    """It verifies each token anew: it has no token cache."""

    title = "HAProxy"
    logs_to_output = True

    def missing(self) -> str | None:
        return None if _binary() else "haproxy is not installed (on Debian and Ubuntu: apt install haproxy)"

    def version(self) -> str:
        ended = subprocess.run([_binary() or "haproxy", "-v"], capture_output=True, text=True, check=False)
        found = re.search(r"version (\S+)", ended.stdout)
        return found[1] if found else "unknown"

    def command(self, setup: Setup, place: Place) -> list[str | Path]:
        both = place.folder / "certificate.pem"
        both.write_bytes(place.certificate.cert.read_bytes() + place.certificate.key.read_bytes())
        file = fill(
            "haproxy.cfg",
            place.folder,
            PORT=place.port,
            UPSTREAM=place.upstream,
            ALGORITHM=setup.algorithm,
            PEM=place.keys.pem,
            TLS=f"ssl crt {both}" if setup.tls else "",
            LOG="log stdout len 4096 format raw local0" if setup.log else "",
            # Before anything else looks at the client's address.
            TRUSTED="http-request set-src hdr_ip(x-forwarded-for,-1) if { src 127.0.0.0/8 }" if setup.trusted else "",
            FORWARD_FOR="option forwardfor if-none" if setup.trusted else "option forwardfor",
        )
        return [_binary() or "haproxy", "-db", "-f", file]


def _binary() -> str | None:
    # Not on the path of ordinary users everywhere.
    return shutil.which("haproxy") or shutil.which("haproxy", path="/usr/sbin:/usr/local/sbin")
