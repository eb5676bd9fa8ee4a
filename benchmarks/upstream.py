"""The service behind every gateway: nginx with fixed answers, and an echo of what matters."""

from __future__ import annotations

from pathlib import Path

from benchmarks.mixed import PATHS
from benchmarks.peers.base import fill, nginx_binary
from benchmarks.process import Process, accepts
from tests.support.ports import free_port

#: The small answer: 123 bytes.
SMALL = '{"id":1,"name":"abcdefghijklmnopqrstuvwxyz","data":"' + "0123456789" * 6 + '123456789"}'
#: What every answer below the paths of real traffic says, besides what varies.
_VARYING = """location {path} {{
            add_header ETag '"$request_id"';
            add_header Set-Cookie $visit;
            add_header Cache-Control "private, max-age=0";
            add_header X-Caller $http_x_user_id;
            add_header X-Received $content_length;
            return 200 '{{"id":1,$item}}';
        }}"""
SIZES = {"10k": 10 << 10, "1m": 1 << 20}


class Upstream:
    """nginx on two loopback ports; it runs until ``stop``.

    Attributes:
        port: answers come with a Content-Length.
        chunked_port: answers come in chunks.

    Args:
        folder: for everything that it writes.
        core: None = not pinned.
    """

    def __init__(self, folder: Path, core: int | None) -> None:
        self.port, self.chunked_port = free_port(), free_port()
        folder.mkdir()
        for name, size in SIZES.items():
            (folder / name).write_bytes(b"x" * size)
        fill(
            "upstream.conf",
            folder,
            FOLDER=folder,
            PORT=self.port,
            CHUNKED_PORT=self.chunked_port,
            SMALL=SMALL,
            VARYING="\n        ".join(_VARYING.format(path=path) for path in PATHS),
        )
        command: list[str | Path] = [
            nginx_binary(),
            "-p",
            folder,
            "-e",
            folder / "error.log",
            "-c",
            folder / "upstream.conf",
        ]
        self._process = Process(command, folder / "out", core)
        try:
            self._process.wait_until(lambda: accepts(self.port))
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        self._process.stop()
