"""The service behind the demo's gateway: it answers with what it received, and adds nothing.

Echoes requests and does nothing else. It reads them below aiohttp's routing, so
that the target and the header fields are shown byte for byte.
"""

from __future__ import annotations

import hashlib
from typing import Any

from aiohttp import hdrs, web

from gateway.demo.loopback import LoopbackServer

#: The gateway's limits are what the demo shows, so this server's own are out of the way.
_MAX_LINE = 1 << 20


class EchoUpstream(LoopbackServer):
    """An HTTP server on a loopback port of its own; ``async with`` starts and stops it.

    Every request is answered 200 with JSON: ``method``, ``target``, ``headers``
    (name and value pairs, in order) and ``body`` (``length`` in bytes and
    ``sha256`` in hex). Bytes that are not ASCII stand as Latin-1.

    Args:
        port: where to listen; 0 lets the system pick.

    Attributes:
        url: its base URL, once it listens.
    """

    def __init__(self, port: int = 0) -> None:
        super().__init__(port)
        self.url = ""

    async def start(self) -> None:
        self.url = await self._listen()

    def _make_runner(self) -> web.BaseRunner:
        server = web.Server(
            echo,
            access_log=None,
            auto_decompress=False,
            max_line_size=_MAX_LINE,
            max_field_size=_MAX_LINE,
        )
        return web.ServerRunner(server)


async def echo(request: web.BaseRequest) -> web.Response:
    """Answer with what was received, once all of it was."""
    if request.headers.get(hdrs.EXPECT, "").lower() == "100-continue":
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")  # below routing aiohttp does not send it
    length, digest = 0, hashlib.sha256()
    async for chunk in request.content.iter_any():
        length += len(chunk)
        digest.update(chunk)
    shown: dict[str, Any] = {
        "method": request.method,
        "target": request.raw_path.encode("utf-8", "surrogateescape").decode("latin-1"),
        "headers": [(name.decode("latin-1"), value.decode("latin-1")) for name, value in request.raw_headers],
        "body": {"length": length, "sha256": digest.hexdigest()},
    }
    return web.json_response(shown)
